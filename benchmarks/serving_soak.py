"""Kill and stop workers of a service again and again: is every query answered once, and right?

    python benchmarks/serving_soak.py [--faults 200] [--engine ray]

Serves a (2, 1) code over small networks on 4 base workers and 2 parity workers, a process each, while queries keep
coming. One worker after another, of the parity model too, is

- killed with SIGKILL;
- stopped with SIGSTOP, until the service notices, kills and replaces it;
- stopped for a second, and continued;

each time followed by a wait for full strength: every worker there, warm and answering. No query may be lost, fail or be
answered twice. What comes from the base model must be what it predicts here, bit by bit; what is rebuilt must be
``CodedModel``'s reconstruction from the other query of the group, to 1e-5. About 25 minutes for 200 faults on 2 cores.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.serving import CodedServer, Policy, Source, Supervision, WorkerState, make_pool
from parity.serving.commands import BASE
from parity.serving.pools import Pool
from parity.serving.pools.protocol import Listener, WorkerHealth

KINDS = ("killed", "stopped", "stopped for a second")
QUERY, CLASSES = (1, 8, 8), 10
TOLERANCE = 1e-5


def network() -> nn.Module:
    """Return a small network, untrained: what matters is that it is not linear."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def coded_model() -> CodedModel:
    """Return a (2, 1) code; its reconstructions are far from the predictions, so that none passes for one."""
    return CodedModel(network(), LinearEncoder(2, 1, QUERY), [network()], LinearDecoder(2, 1, (CLASSES,)))


class Recorded:
    """A pool that remembers which queries are in a group together.

    Args:
        pool: does the work.
    """

    def __init__(self, pool: Pool[Tensor, Tensor]) -> None:
        self._pool = pool
        self.faults = pool.faults
        self.group_of: dict[bytes, int] = {}
        self.members: dict[int, list[bytes]] = {}

    def start(self, listener: Listener[Tensor]) -> None:
        self._pool.start(listener)

    def submit(self, task: int, pool: int, payload: Tensor, group: int) -> None:
        if pool == BASE and payload.any() and (name := name_of(payload)) not in self.group_of:
            self.group_of[name] = group
            self.members.setdefault(group, []).append(name)
        self._pool.submit(task, pool, payload, group)

    def abandon(self, task: int) -> None:
        self._pool.abandon(task)

    def health(self) -> list[WorkerHealth]:
        return self._pool.health()

    def queued(self) -> list[int]:
        return self._pool.queued()

    def drain(self, timeout: float) -> bool:
        return self._pool.drain(timeout)


def name_of(query: Tensor) -> bytes:
    """Return what distinguishes a query from the others."""
    return query.numpy().tobytes()


@dataclass
class Found:
    """What became of the queries and the workers.

    Attributes:
        latencies: of all queries, in seconds.
        sources: how many answers came from where.
        wrong: what is not as it must be, a line each.
        recoveries: seconds to full strength, by kind of fault.
        pools: faults by pool.
    """

    latencies: list[float] = field(default_factory=list)
    sources: Counter[Source] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    recoveries: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    pools: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    seconds: float = 0.0

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        cuts = statistics.quantiles(self.latencies, n=1000)
        return {
            "faults": sum(map(len, self.recoveries.values())),
            "kinds": {kind: len(seconds) for kind, seconds in self.recoveries.items()},
            "pools": dict(self.pools),
            "queries": self.asked,
            "answered": len(self.latencies),
            "sources": {source.value: count for source, count in self.sources.items()},
            "wrong": len(self.wrong),
            "median_ms": round(1000 * cuts[499], 1),
            "p99_ms": round(1000 * cuts[989], 1),
            "longest_ms": round(1000 * max(self.latencies), 1),
            "seconds_to_full_strength": {
                kind: {"median": round(statistics.median(seconds), 1), "longest": round(max(seconds), 1)}
                for kind, seconds in self.recoveries.items()
                if seconds
            },
            "minutes": round(self.seconds / 60, 1),
        }


class Soak:
    """One service under faults.

    Args:
        engine: that the workers run on.
        address: of the Ray cluster to join.
        rate: queries a second.
        seed: of faults and queries.
        patience: seconds that the wait for full strength may take.
    """

    def __init__(self, engine: str, address: str | None, rate: float, seed: int, patience: float) -> None:
        torch.manual_seed(seed)
        self._random, self._rate, self._patience = random.Random(seed), rate, patience
        self._model = coded_model()
        supervision = Supervision(silent_after=0.5, replace_after=1.0, start_timeout=patience)
        self._pool = Recorded(make_pool(engine, self._model, 4, address=address, supervision=supervision))
        self.found = Found()
        self._victims: list[int] = []
        self._over = False

    async def run(self, faults: int) -> Found:
        """Serve until all faults are over."""
        began = time.monotonic()
        policy = Policy(patience=0.2, deadline=60.0)
        async with CodedServer(self._model, policy, self._pool) as server:
            stream = asyncio.create_task(self._stream(server))
            for number in range(faults):
                await self._fault(KINDS[number % len(KINDS)])
            self._over = True
            await stream
            if server.waiting:
                self.found.wrong.append(f"{server.waiting} queries wait although all are answered")
        self.found.seconds = time.monotonic() - began
        return self.found

    async def _stream(self, server: CodedServer) -> None:
        """Ask, at times that do not depend on the answers."""
        asking: set[asyncio.Task[None]] = set()
        while not self._over:
            task = asyncio.create_task(self._ask(server, torch.rand(QUERY)))
            asking.add(task)
            task.add_done_callback(asking.discard)
            await asyncio.sleep(self._random.expovariate(self._rate))
        await asyncio.gather(*asking)

    async def _ask(self, server: CodedServer, query: Tensor) -> None:
        found, began = self.found, time.monotonic()
        found.asked += 1
        try:
            reply = await server.ask(query)
        except Exception as error:
            found.wrong.append(f"query {found.asked}: {type(error).__name__}: {error}")
            return
        found.latencies.append(time.monotonic() - began)
        found.sources[reply.source] += 1
        expected = self._rebuilt(query) if reply.source is Source.REBUILT else self._own(query)
        exact = reply.source is not Source.REBUILT
        if not (torch.equal if exact else _close)(reply.prediction, expected):
            found.wrong.append(
                f"query {found.asked}, {reply.source}: off by {(reply.prediction - expected).abs().max()}"
            )

    @torch.inference_mode()
    def _own(self, query: Tensor) -> Tensor:
        return self._model.base_model(query[None])[0]

    @torch.inference_mode()
    def _rebuilt(self, query: Tensor) -> Tensor:
        """Return the reconstruction of a query from the rest of its group; blanks fill a partial one."""
        members = self._pool.members[self._pool.group_of[name_of(query)]]
        queries = [torch.frombuffer(bytearray(name), dtype=query.dtype).reshape(QUERY) for name in members]
        queries += [torch.zeros(QUERY)] * (2 - len(queries))
        index = members.index(name_of(query))
        available = torch.tensor([[worker != index for worker in range(3)]])
        return self._model(torch.stack(queries)[None], available)[0, index]

    async def _fault(self, kind: str) -> None:
        """Do it to a worker, and wait for full strength."""
        faults, victim = self._pool.faults, self._next_victim()
        self.found.pools["parity" if victim.pool else "base"] += 1
        began = time.monotonic()
        if kind == "killed":
            faults.kill(victim.worker)
        else:
            faults.stall(victim.worker)
        if kind == "stopped for a second":
            await asyncio.sleep(1.0)
            faults.release(victim.worker)
        else:
            await self._wait(lambda workers: workers[victim.worker].restarts > victim.restarts, f"{kind}: not noticed")
        await self._wait(_at_full_strength, f"{kind}: not at full strength")
        self.found.recoveries[kind].append(time.monotonic() - began)

    def _next_victim(self) -> WorkerHealth:
        """Return one worker after another, in a random order, so that all of them have their turn."""
        workers = self._pool.health()
        self._victims = self._victims or self._random.sample(range(len(workers)), len(workers))
        return workers[self._victims.pop()]

    async def _wait(self, condition: Any, otherwise: str) -> None:
        until = time.monotonic() + self._patience
        while not condition(self._pool.health()):
            if time.monotonic() > until:
                self.found.wrong.append(otherwise)
                return
            await asyncio.sleep(0.05)


def _close(prediction: Tensor, expected: Tensor) -> bool:
    return torch.allclose(prediction, expected, rtol=0, atol=TOLERANCE)


def _at_full_strength(workers: Sequence[WorkerHealth]) -> bool:
    return all(worker.state in (WorkerState.IDLE, WorkerState.BUSY) for worker in workers)


def soak(
    faults: int,
    engine: str = "ray",
    address: str | None = None,
    rate: float = 20.0,
    seed: int = 0,
    patience: float = 300.0,
) -> Found:
    """Serve, and do so many faults."""
    return asyncio.run(Soak(engine, address, rate, seed, patience).run(faults))


def main(args: argparse.Namespace) -> None:
    """Do it, print what was found, and fail if something is wrong."""
    torch.set_num_threads(1)
    found = soak(args.faults, args.engine, args.address, args.rate, args.seed)
    row = json.dumps({"engine": args.engine, **found.row()}, indent=2)
    print(row)
    if args.results:
        args.results.write_text(row + "\n")
    if found.wrong:
        raise SystemExit("\n".join(found.wrong))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200, help="number of faults (default: %(default)s)")
    parser.add_argument("--engine", default="ray", help="threads, processes or ray (default: %(default)s)")
    parser.add_argument("--address", help="Ray cluster to join (default: one that is started here)")
    parser.add_argument("--rate", type=float, default=20.0, help="queries a second (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="JSON file to write the table to")
    main(parser.parse_args())
