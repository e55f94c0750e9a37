"""Which policy answers on time when a worker is late? Real pools, simulated clusters, and one held against the other.

    python benchmarks/serving.py --quick                    minutes: little of everything, for a look
    python benchmarks/serving.py pools                      hours: 10,000 queries for each arm, three repeats
    python benchmarks/serving.py pools --engine ray --load 0.5 --k 2
    python benchmarks/serving.py simulated --jobs 2
    python benchmarks/serving.py validation
    python benchmarks/serving.py --show                     lists what is there, and fills the docs' page with it

Every arm but ``none`` has as many workers: m = 8 for the base model and m / k more. Arms meet the same queries at the
same times and the same faults: those whose workers sleep (100 ms, lognormal, sigma 0.05) run at the same time, those
that compute in turn. Hedging's delay is tuned on runs of its own. The queries are MNIST's test images, the base model
the published one, the codes ``mlp_k<k>_cells_kl``, trained if they are not there (minutes; at --quick for two epochs).
Each measured cell is a file under ``results/serving``: the same command again fills the gaps. What the docs show of
them is kept as ``results/serving_*.json``.
"""

import argparse
import asyncio
import itertools
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import serving_results
import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.command_line import run_command
from parity.data import GroupDataModule
from parity.errors import ParityError
from parity.experiments import Experiment
from parity.runs.training import RunOptions, run_training
from parity.serving.disturbances import Disturbance, Frozen, Killed, Slow, Tenant, Transfers
from parity.serving.load import linear_networks
from parity.serving.measuring.contest import Contender, Load, Outcome, apart, in_turn
from parity.serving.measuring.faults import hush
from parity.serving.measuring.open_loop import due_times, load_is_offered
from parity.serving.measuring.services import Networks, service
from parity.serving.measuring.traced_pool import TracedPool
from parity.serving.measuring.workers import Computing, Sleeping
from parity.serving.pools import ENGINES
from parity.serving.simulation import Cluster, Setting, arms, choice, figures, simulate, sweep
from parity.storage.files import write_json, write_text
from parity.training import Hardware

_log = logging.getLogger("parity")

M, SERVICE, SIGMA = 8, 0.1, 0.05
ARMS = ("none", "equal", "hedged", "backup", "coded")
FAULTS: dict[str, Disturbance | None] = {"none": None, "slow": Slow(), "frozen": Frozen(), "killed": Killed()}
DELAYS = (1.1, 1.2, 1.3, 1.5, 2.0)
"""Candidates for hedging, in service times."""

FOR_P99, FOR_P999 = 3_000, 10_000
"""Queries from which these percentiles are reported."""

EVERY_PERCENTILE = ("p50", "p99", "p99.5", "p99.9")

Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """A run of all arms on real pools."""

    engine: str
    k: int
    load: float
    fault: str
    repeat: int

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"{self.engine}_k{self.k}_load{self.load:.0%}_{self.fault}_{self.repeat}".replace("%", "")


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    queries: int
    tuning_queries: int
    repeats: int
    epochs: int | None

    @property
    def name(self) -> str:
        """The folder of its results."""
        return f"queries{self.queries}"


FULL = Extent(queries=FOR_P999, tuning_queries=1_000, repeats=3, epochs=None)
QUICK = Extent(queries=600, tuning_queries=200, repeats=1, epochs=2)


def trained(args: argparse.Namespace, k: int) -> Experiment:
    """Return the experiment of a code; train it if that was not done."""
    overrides = {} if args.extent.epochs is None else {"trainer.max_epochs": args.extent.epochs}
    runs = args.runs / args.extent.name
    experiment = Experiment("MNIST", f"mlp_k{k}_cells_kl", base_directory=runs, overrides=overrides)
    if not (experiment.save_dir / "test_metrics.json").exists():
        run_training(experiment, RunOptions(hardware=Hardware("cpu")), args.base_weights)
    return experiment


def test_data(datamodule: GroupDataModule) -> tuple[Tensor, Tensor]:
    """Return the test queries (N, *Q) and their classes (N,)."""
    batches = [(queries.flatten(0, 1), targets.flatten()) for queries, targets, _ in datamodule.loader("test")]
    queries, labels = zip(*batches, strict=True)
    return torch.cat(queries), torch.cat(labels)


def small_network(datamodule: GroupDataModule, k: int) -> nn.Module:
    """Return a network of 1 / k of the base model's multiply-adds, trained for three epochs: the cheap backup."""
    torch.manual_seed(0)
    first, second = {2: (105, 50), 4: (54, 25)}[k]
    hidden = [nn.Linear(784, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU()]
    network = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(second, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(3):
        for queries, targets, _ in datamodule.loader("train"):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(queries.flatten(0, 1)), targets.flatten()).backward()
            optimizer.step()
    return network.eval()


Served = tuple[Tensor, Tensor, Networks]
"""Test queries, their classes, and what workers run."""


def data_and_networks(args: argparse.Namespace, k: int) -> Served:
    """Return the test queries, their classes, and what workers run."""
    experiment = trained(args, k)
    model = experiment.load_trained_model("best")
    assert isinstance(model, CodedModel)
    datamodule = experiment.get_datamodule()
    return *test_data(datamodule), Networks(model.eval(), small_network(datamodule, k))


def sleeping(network: nn.Module, cost: float) -> Callable[[Tensor], Tensor]:
    """Let a worker sleep."""
    return Sleeping(network, SERVICE * cost, SIGMA)


@dataclass(frozen=True)
class Making:
    """Makes contenders, here or in another process.

    Attributes:
        engine: of the pools.
        settings: of each contender, by its name.
        arms: of each contender, by its name.
        networks: what workers run.
    """

    engine: str
    settings: dict[str, Setting]
    arms: dict[str, str]
    networks: Networks

    def __call__(self, name: str) -> Contender:
        """Return a contender."""
        arm = arms(self.settings[name])[self.arms[name]]
        model, pool = service(self.engine, self.arms[name], arm, self.networks, sleeping)
        return Contender(model, arm.policy, pool, arm.costs)

    def run(self, load: Load) -> dict[str, Outcome]:
        """Offer the load to all: at the same time if their workers are threads that sleep, else in turn."""
        names = list(self.arms)
        if self.engine == "threads":
            return apart(self, names, load)
        outcomes = {name: Outcome() for name in names}
        asyncio.run(in_turn({name: self(name) for name in names}, load, outcomes))
        return outcomes


def tuned_delay(args: argparse.Namespace, cell: Cell, networks: Networks, queries: Tensor) -> float:
    """Return hedging's best delay, in service times, found by runs of its own with other seeds."""
    file = args.results / args.extent.name / "tuning" / f"{replace(cell, repeat=0).name}.json"
    if not file.exists():
        due = due_times(cell.load * M / SERVICE, args.extent.tuning_queries, seed=9_000)
        settings = {str(delay): Setting(M, cell.k, hedge_delay=delay) for delay in DELAYS}
        making = Making(cell.engine, settings, dict.fromkeys(settings, "hedged"), networks)
        outcomes = making.run(Load(queries, due, None, FAULTS[cell.fault], 9_000))
        write_json(file, {"p99": {delay: found.record.all.percentile(99) for delay, found in outcomes.items()}})
    found = json.loads(file.read_text())["p99"]
    return float(min(found, key=found.__getitem__))


def measured(args: argparse.Namespace, cell: Cell, served: Served) -> None:
    """Run a cell and keep it."""
    queries, labels, networks = served
    delay = tuned_delay(args, cell, networks, queries)
    seed = 1 + cell.repeat
    due = due_times(cell.load * M / SERVICE, args.extent.queries, seed)
    settings = dict.fromkeys(ARMS, Setting(M, cell.k, hedge_delay=delay))
    making = Making(cell.engine, settings, {name: name for name in ARMS}, networks)
    outcomes = making.run(Load(queries, due, labels, FAULTS[cell.fault], seed))
    for name, outcome in outcomes.items():
        if (warning := load_is_offered(outcome.record, len(due) / due[-1])) is not None:
            _log.warning("%s: %s", name, warning)
    results = {name: outcome.summary() for name, outcome in outcomes.items()}
    write_json(cell_file(args, cell), {"hedge_delay": delay, "arms": results})


def cell_file(args: argparse.Namespace, cell: Cell) -> Path:
    """Return where a cell's results lie."""
    file: Path = args.results / args.extent.name / "pools" / f"{cell.name}.json"
    return file


def grid(args: argparse.Namespace) -> list[Cell]:
    """Return all cells of real pools, repeat by repeat, so that what is there early is of everything."""
    return [
        Cell(args.engine, k, load, fault, repeat)
        for repeat in range(args.extent.repeats)
        for k, load, fault in itertools.product(args.k, args.load, args.fault)
    ]


def pools(args: argparse.Namespace) -> None:
    """Measure the cells that are missing."""
    missing = [cell for cell in grid(args) if not cell_file(args, cell).exists()]
    served = {k: data_and_networks(args, k) for k in sorted({cell.k for cell in missing})}
    for number, cell in enumerate(missing):
        turns = len(ARMS) if cell.engine != "threads" else 1
        left = sum(args.extent.queries / (other.load * M / SERVICE) * turns for other in missing[number:])
        _log.info("%s: cell %d of %d, about %.0f min left", cell.name, number + 1, len(missing), left / 60)
        measured(args, cell, served[cell.k])


def medians(args: argparse.Namespace, cell: Cell) -> dict[str, Any] | None:
    """Return the medians over the repeats of a cell, of values and of ratios; None if none is there."""
    files = [cell_file(args, replace(cell, repeat=repeat)) for repeat in range(args.extent.repeats)]
    runs = [json.loads(file.read_text())["arms"] for file in files if file.exists()]
    if not runs:
        return None
    values = {
        arm: {
            **{name: median(run[arm]["all"][name] for run in runs) for name in EVERY_PERCENTILE},
            "rebuilt": median(
                run[arm]["sources"].get("rebuilt", {"count": 0})["count"] / run[arm]["queries"] for run in runs
            ),
            "accuracy": median(run[arm]["accuracy"] for run in runs),
            "work": median(run[arm]["work"] for run in runs),
        }
        for arm in ARMS
    }

    def ratio(measure: str, to: str, to_measure: str | None = None, of: str = "coded") -> float:
        return median(run[of]["all"][measure] / run[to]["all"][to_measure or measure] for run in runs)

    found = {
        "p99 / p50": ratio("p99", "coded", "p50"),
        "p99.9 / p50": ratio("p99.9", "coded", "p50"),
        "p50 / none": ratio("p50", "none"),
        "p99 / none": ratio("p99", "none"),
        "p99 / equal": ratio("p99", "equal"),
        "p99 / hedged": ratio("p99", "hedged"),
        "p99.9 / hedged": ratio("p99.9", "hedged"),
    }
    return {"runs": len(runs), "arms": values, "ratios": found}


def reaches(cell: Cell) -> dict[str, float]:
    """Return the most that ratios of coded service may be in a cell."""
    if cell.load != 0.5 or cell.fault == "killed":
        return {}
    if cell.fault == "none":
        return {"p99 / none": 1.2}
    if cell.k == 4:
        return {"p99 / p50": 2.2}
    return {"p99 / p50": 2.0, "p50 / none": 1.1, "p99 / hedged": 0.85, "p99 / equal": 0.4, "p99.9 / p50": 2.5}


def report(args: argparse.Namespace) -> str:
    """Return the tables of what was measured on real pools, and the list of what was not."""
    queries = args.extent.queries
    enough = "" if queries >= FOR_P999 else f", of {queries} queries each: p99 needs {FOR_P99}, p99.9 needs {FOR_P999}"
    lines = [f"Milliseconds, medians of runs{enough}.", "", "| pools | arm | p50 | p99 | p99.5 | p99.9 | rebuilt |"]
    lines[-1] += " accuracy | tasks sent a query |"
    lines += ["| --- " * 9 + "|"]
    ratios, open_ = ["| pools | ratio of coded | median | at most |", "| --- " * 4 + "|"], []
    for cell in [cell for cell in grid(args) if cell.repeat == 0]:
        found = medians(args, cell)
        what = f"{cell.engine}, k = {cell.k}, {cell.load:.0%}, {cell.fault}"
        if found is None or found["runs"] < args.extent.repeats:
            open_.append(f"{what}: {found['runs'] if found else 0} of {args.extent.repeats} runs")
        if found is None:
            continue
        for arm, values in found["arms"].items():
            times = " | ".join(f"{values[name]:.0f}" for name in EVERY_PERCENTILE)
            shares = f"{values['rebuilt']:.1%} | {values['accuracy']:.4f} | {values['work']:.2f}"
            lines.append(f"| {what} | {arm} | {times} | {shares} |")
        most = reaches(cell)
        for name, value in found["ratios"].items():
            reach = f"{most[name]}{'' if value <= most[name] else ', missed'}" if name in most else ""
            ratios.append(f"| {what} | {name} | {value:.2f} | {reach} |")
    rest = ["Not measured:", "", *(f"- {line}" for line in open_)] if open_ else []
    return "\n".join([*lines, "", *ratios, "", *rest])


def condensed(args: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """Return what was measured on real pools with every engine: a row for each arm, and one for each ratio."""
    rows: list[Row] = []
    ratios: list[Row] = []
    for engine in ENGINES:
        for cell in [cell for cell in grid(argparse.Namespace(**{**vars(args), "engine": engine})) if not cell.repeat]:
            if (found := medians(args, cell)) is None:
                continue
            names = {"engine": engine, "k": cell.k, "load": cell.load, "fault": cell.fault, "runs": found["runs"]}
            rows += [{**names, "arm": arm, **values} for arm, values in found["arms"].items()]
            most = reaches(cell)
            ratios += [
                {**names, "ratio": name, "median": round(value, 3), "at_most": most.get(name)}
                for name, value in found["ratios"].items()
            ]
    return rows, ratios


def fill_page(args: argparse.Namespace) -> None:
    """Keep what the docs show of all that is there, draw it, and fill the pages."""
    import tables

    folder = args.results / args.extent.name
    rows, ratios = condensed(args)
    if rows:
        serving_results.keep_pools(rows, ratios, seeds=range(1, 1 + args.extent.repeats))
    read = [json.loads(file.read_text()) for file in sorted((folder / "simulated").glob("*.json"))]
    if read:
        serving_results.keep_simulated([row for part in read for row in part["rows"]])
    if found := [json.loads(file.read_text()) for file in sorted((folder / "validation").glob("*.json"))]:
        serving_results.keep_validation(found)
    serving_results.draw_pools()
    serving_results.draw_simulated()
    tables.main()


# Straggler rates are shares, as one slow worker of a thousand is nothing.
SIMULATED_FAULTS: dict[str, tuple[Disturbance | None, float]] = {
    "none": (None, 0),
    "slow": (Slow(faulty=0.08), 0.08),
    "slow_pairs": (Slow(faulty=0.16), 0.16),
    "frozen": (Frozen(faulty=0.08), 0.08),
    "transfers": (Transfers(faulty=0.25), 0.25),
    "tenant": (Tenant(), 1 / 9),
}
SIMULATED_ARMS = ("none", "equal", "hedged", "backup", "coded", "positional")


def simulated_cells(quick: bool) -> list[sweep.Cell]:
    """Return the cells of the simulated comparison."""
    sizes = (8,) if quick else (4, 8, 24, 96, 1_000)
    loads = (0.3, 0.5, 0.7, 0.9) if quick else (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    faults = ("slow",) if quick else tuple(SIMULATED_FAULTS)
    found = []
    for fault, workers, k, load in itertools.product(faults, sizes, (2,) if quick else (2, 4, 8), loads):
        if workers % k == 0:
            disturbance, faulty = SIMULATED_FAULTS[fault]
            found.append(sweep.Cell(Setting(workers, k), fault, faulty, Cluster(disturbance=disturbance), load))
    return found


def simulated(args: argparse.Namespace) -> None:
    """Simulate what is missing, a few cells at a time; write rows, table and figures."""
    folder = args.results / args.extent.name / "simulated"
    queries, seeds = (4_000, (0,)) if args.quick else (20_000, (0, 1, 2))
    plan = sweep.Sweep(SIMULATED_ARMS, queries, seeds, tune=99)
    groups = itertools.groupby(simulated_cells(args.quick), key=lambda cell: (cell.fault, cell.setting.workers))
    rows: list[Row] = []
    for (fault, workers), cells in groups:
        file = folder / f"{fault}_m{workers}.json"
        if not file.exists():
            started = time.monotonic()
            found = sweep.run(plan, list(cells), args.jobs)
            write_json(file, {"rows": [row for cell in found for row in cell]})
            _log.info("%s, m = %d: simulated in %.0f s", fault, workers, time.monotonic() - started)
        rows += json.loads(file.read_text())["rows"]
    table = sweep.table(rows)
    write_text(folder / "choice.md", choice.markdown(table) + "\n")
    for name, figure in figures.figures(table):
        figures.save(figure, folder, name)


@dataclass(frozen=True)
class Validation:
    """A real pool that the simulator is held against.

    Attributes:
        name: of the workers: sleeping or computing.
        engine: of the pool.
        workers: of the base pool.
        load: of it.
        k: queries in a coding group.
    """

    name: str
    engine: str
    workers: int
    load: float
    k: int = 2


VALIDATIONS = (
    Validation("sleeping", "threads", 8, 0.5),
    Validation("sleeping", "threads", 8, 0.7),
    Validation("computing", "processes", 2, 0.3),
)


def validated(validation: Validation, queries: int, fault: Disturbance | None, name: str, seed: int = 1) -> Row:
    """Return p99 / p50 of an arm on a real pool, and simulated with service times of that pool without faults."""
    wrap = sleeping if validation.name == "sleeping" else computing
    networks = Networks(linear_networks(validation.k, 1))
    shape = networks.coded.encoder.query_shape
    asked = torch.randn(64, *shape, generator=torch.Generator().manual_seed(0))

    def real(setting: Setting, disturbance: Disturbance | None, arm: str, count: int) -> tuple[Outcome, TracedPool]:
        known = arms(setting)[arm]
        model, workers = service(validation.engine, arm, known, networks, wrap)
        pool: TracedPool[Tensor, Tensor] = TracedPool(workers)
        rate = validation.load * setting.workers / setting.service
        load = Load(asked, due_times(rate, count, seed), None, disturbance, seed)
        outcome = Outcome()
        asyncio.run(in_turn({arm: Contender(model, known.policy, pool)}, load, {arm: outcome}))
        return outcome, pool

    alone = SERVICE if validation.name == "sleeping" else alone_time(networks)
    setting = Setting(validation.workers, validation.k, service=alone)
    _, pool = real(setting, None, name, max(200, queries // 4))
    trace = pool.trace()
    setting = replace(setting, service=trace.mean)
    outcome, _ = real(setting, fault, name, queries)
    times = outcome.record.all
    rate = validation.load * setting.workers / setting.service
    result = simulate(arms(setting)[name], Cluster(trace, fault), rate, queries, seed)
    measured_ratio, simulated_ratio = (found.percentile(99) / found.percentile(50) for found in (times, result))
    return {
        "workers": validation.name,
        "load": validation.load,
        "arm": name,
        "fault": type(fault).__name__.lower() if fault else "none",
        "p50": 1000 * times.percentile(50),
        "measured": measured_ratio,
        "simulated": simulated_ratio,
        "off": simulated_ratio / measured_ratio - 1,
    }


def computing(network: nn.Module, cost: float) -> Callable[[Tensor], Tensor]:
    """Let a worker compute for some tens of milliseconds."""
    return Computing(network, width=1024, layers=max(1, round(60 * cost)))


def alone_time(networks: Networks) -> float:
    """Return how long a computing worker takes, in seconds, with the machine as it is."""
    work, times = computing(networks.coded.base_model, 1.0), []
    for _ in range(15):
        begun = time.perf_counter()
        work(torch.zeros(1, *networks.coded.encoder.query_shape))
        times.append(time.perf_counter() - begun)
    return median(times)


def validations(quick: bool) -> Iterator[tuple[Validation, str, Disturbance | None]]:
    """Yield what is held against the simulator."""
    for validation in VALIDATIONS[::2] if quick else VALIDATIONS:
        for name, fault in (("none", None), ("hedged", Slow()), ("coded", Slow()), ("coded", Frozen())):
            yield validation, name, fault


def validation(args: argparse.Namespace) -> None:
    """Hold the simulator against real pools."""
    rows = []
    for case, name, fault in validations(args.quick):
        what = f"{case.name}_{case.load:g}_{name}_{type(fault).__name__.lower() if fault else 'none'}"
        file = args.results / args.extent.name / "validation" / f"{what}.json"
        if not file.exists():
            _log.info("validating %s", what)
            write_json(file, validated(case, 600 if args.quick else FOR_P99, fault, name))
        rows.append(json.loads(file.read_text()))
    head = "| workers | load | arm | fault | p50, ms | p99 / p50 measured | simulated | off |"
    lines = [
        f"| {row['workers']} | {row['load']:.0%} | {row['arm']} | {row['fault']} | {row['p50']:.0f} | "
        f"{row['measured']:.2f} | {row['simulated']:.2f} | {row['off']:+.0%} |"
        for row in rows
    ]
    text = "\n".join([head, "| --- " * 8 + "|", *lines])
    print(text)
    write_text(args.results / args.extent.name / "validation.md", text + "\n")


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "pools": pools,
    "simulated": simulated,
    "validation": validation,
}


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="little of everything: k = 2 at 50 %% load, 600 queries")
    parser.add_argument(
        "--show", action="store_true", help="measure nothing; fill the docs' page, unless --quick is there"
    )
    parser.add_argument("--engine", choices=ENGINES, default="threads", help="of the pools (default: %(default)s)")
    parser.add_argument("--k", type=int, nargs="+", choices=(2, 4), help="(default: 2 4)")
    parser.add_argument("--load", type=float, nargs="+", help="of the base pool (default: 0.5 0.7)")
    parser.add_argument("--fault", nargs="+", choices=FAULTS, default=list(FAULTS), help="(default: all)")
    parser.add_argument("--queries", type=int, help="of each arm (default: 10,000; with --quick 600)")
    parser.add_argument("--repeats", type=int, help="(default: 3; with --quick 1)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that simulate (default: %(default)s)")
    parser.add_argument("--base_weights", type=Path, default=Path("../shared/weights/mnist-base-mlp.t7"))
    parser.add_argument("--runs", type=Path, default=Path("experiments/serving"), help="where codes are trained")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "serving")
    return parser


def main(args: argparse.Namespace) -> None:
    """Measure what is missing, print and keep the tables."""
    for part in args.parts:
        if part not in PARTS:
            raise ParityError(f"there is no part '{part}': there is {', '.join(PARTS)}.")
    args.extent = QUICK if args.quick else FULL
    args.extent = replace(
        args.extent, queries=args.queries or args.extent.queries, repeats=args.repeats or args.extent.repeats
    )
    args.k = args.k or ([2] if args.quick else [2, 4])
    args.load = args.load or ([0.5] if args.quick else [0.5, 0.7])
    torch.set_num_threads(1)
    hush()
    if not args.show:
        for part in args.parts or PARTS:
            PARTS[part](args)
    text = report(args)
    print(text)
    write_text(args.results / args.extent.name / f"pools_{args.engine}.md", text + "\n")
    if args.show and not args.quick:
        fill_page(args)


if __name__ == "__main__":
    raise SystemExit(run_command(main, get_parser().parse_args()))
