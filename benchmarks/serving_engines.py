"""What an engine costs: the same sleeping workers as threads, processes and Ray actors.

    python benchmarks/serving_engines.py [--seconds 60]

8 base workers and 4 parity workers that sleep for 100 ms, a (2, 1) code, 40 queries a second at random (half of what
the base workers can do), one engine after another, repeated. Reported for each: median and p99, the ratio of the median
to that of threads in the same repeat, and the CPU time of the frontend's process. Writes
benchmarks/results/serving_engines.json.
"""

import argparse
import asyncio
import random
import statistics
import time

import store
import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.serving import CodedServer, Policy, make_pool
from parity.serving.pools import ENGINES

WORKERS, SERVICE, RATE = 8, 0.1, 40.0
QUERY, PREDICTION = (1, 28, 28), (10,)


def sleep(stack: Tensor) -> Tensor:
    """Answer after the service time."""
    time.sleep(SERVICE)
    return stack.flatten(1)[:, : PREDICTION[0]]


def coded_model() -> CodedModel:
    """Return a (2, 1) code, whose networks are not used."""
    return CodedModel(nn.Identity(), LinearEncoder(2, 1, QUERY), [nn.Identity()], LinearDecoder(2, 1, PREDICTION))


async def measure(engine: str, seconds: float, seed: int) -> dict[str, float]:
    """Return latencies in milliseconds, and the cores that the frontend used."""
    model, arrivals = coded_model(), random.Random(seed)
    latencies: list[float] = []

    async def ask(due: float) -> None:
        await server.ask(torch.rand(QUERY))
        latencies.append(time.monotonic() - due)

    policy = Policy(patience=1.5 * SERVICE, group_timeout=SERVICE)
    async with CodedServer(model, policy, make_pool(engine, model, WORKERS, work=[sleep, sleep])) as server:
        began, cpu = time.monotonic(), time.process_time()
        due, asked = began, []
        while (due := due + arrivals.expovariate(RATE)) < began + seconds:
            await asyncio.sleep(due - time.monotonic())
            asked.append(asyncio.create_task(ask(due)))
        await asyncio.gather(*asked)
        cores = (time.process_time() - cpu) / (time.monotonic() - began)
    cuts = statistics.quantiles(latencies, n=100)
    return {"p50_ms": 1000 * cuts[49], "p99_ms": 1000 * cuts[98], "frontend_cores": cores}


def main(args: argparse.Namespace) -> None:
    """Measure each engine in each repeat, and print the medians."""
    torch.set_num_threads(1)
    rows: dict[str, list[dict[str, float]]] = {engine: [] for engine in args.engines}
    for repeat in range(args.repeats):
        for engine in args.engines:
            row = asyncio.run(measure(engine, args.seconds, seed=repeat))
            rows[engine].append(row)
            row["p50_ratio"] = row["p50_ms"] / rows["threads"][repeat]["p50_ms"]
    medians = [
        {"engine": engine, **{name: round(statistics.median(row[name] for row in found), 3) for name in found[0]}}
        for engine, found in rows.items()
    ]
    for each in medians:
        print(each)
    about = "Sleeping workers of 100 ms, 8 base and 4 parity ones, 40 queries a second: medians of the repeats"
    store.write("serving_engines", about, medians, seeds=range(args.repeats))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), help="threads come first")
    main(parser.parse_args())
