"""Many simulations: every policy in every cell of a grid, with several seeds, in several processes if asked."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pandas as pd

from parity.errors import ParityError, did_you_mean
from parity.serving.commands import Source
from parity.serving.simulation.arms import HEDGED, Setting, arms
from parity.serving.simulation.cluster import Cluster
from parity.serving.simulation.engine import simulate
from parity.serving.simulation.tuning import tuned_hedge_delay

PERCENTILES = (50.0, 99.0, 99.5, 99.9)

Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """A service, its load and what happens to it.

    Attributes:
        setting: size and times.
        fault: name of the cluster's disturbance.
        faulty: workers that it concerns, or their share.
        cluster: the workers.
        load: of the base pool.
    """

    setting: Setting
    fault: str
    faulty: float
    cluster: Cluster
    load: float

    @property
    def rate(self) -> float:
        """Queries a second."""
        return self.load * self.setting.workers / self.setting.service

    def names(self) -> Row:
        """Return what distinguishes the cell from others, as columns of a table."""
        setting = self.setting
        return {
            "workers": setting.workers, "k": setting.k, "r": setting.r,
            "fault": self.fault, "faulty": self.faulty, "load": self.load,
        }  # fmt: skip


CELL = ("workers", "k", "r", "fault", "faulty", "load")
"""Columns that name a cell."""


@dataclass(frozen=True)
class Sweep:
    """What is simulated in each cell.

    Args:
        policies: names of arms.
        queries: of each simulation.
        seeds: of the simulations; a cell's policies meet the same queries with the same seed.
        tune: choose each cell's hedge delay, in place of its setting's, so that this percentile is low.
    """

    policies: tuple[str, ...]
    queries: int
    seeds: tuple[int, ...]
    tune: float | None = None

    def __post_init__(self) -> None:
        known = arms(Setting())
        for name in self.policies:
            if name not in known:
                raise ParityError(f"there is no policy '{name}': {did_you_mean(name, known)}")
        if not self.seeds:
            raise ParityError("a sweep needs at least 1 seed.")


def run(
    sweep: Sweep, cells: Sequence[Cell], jobs: int = 1, advance: Callable[[], None] = lambda: None
) -> list[list[Row]]:
    """Simulate all cells; return the rows of each.

    Args:
        sweep: what is simulated.
        cells: where.
        jobs: processes.
        advance: called after each cell.
    """
    if jobs == 1:
        results = {}
        for index, cell in enumerate(cells):
            results[index] = list(simulate_cell(sweep, cell))
            advance()
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context) as executor:
            futures = {executor.submit(_rows, sweep, cell): index for index, cell in enumerate(cells)}
            results = {}
            for future in as_completed(futures):
                results[futures[future]] = future.result()
                advance()
    return [results[index] for index in range(len(cells))]


def _rows(sweep: Sweep, cell: Cell) -> list[Row]:
    return list(simulate_cell(sweep, cell))


def simulate_cell(sweep: Sweep, cell: Cell) -> Iterator[Row]:
    """Yield a row for each policy and seed."""
    if sweep.tune is not None and set(sweep.policies) & set(HEDGED):
        delay = tuned_hedge_delay(
            cell.setting, cell.cluster, cell.rate, min(sweep.queries, 5000), sweep.seeds[0], percent=sweep.tune
        )
        cell = replace(cell, setting=replace(cell.setting, hedge_delay=delay))
    known = arms(cell.setting)
    for name, seed in product(sweep.policies, sweep.seeds):
        result = simulate(known[name], cell.cluster, cell.rate, sweep.queries, seed)
        yield {
            **cell.names(),
            "policy": name,
            "seed": seed,
            "all_workers": sum(known[name].workers),
            "hedge_delay": cell.setting.hedge_delay,
            **{f"p{percent:g}": 1000 * result.percentile(percent) for percent in PERCENTILES},
            "rebuilt": result.share(Source.REBUILT),
            "hedged": result.share(Source.HEDGE),
            "failed": result.failures.total() / result.queries,
            "work": result.work_per_query,
        }


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """Return rows as a table."""
    return pd.DataFrame(list(rows))


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Return medians over seeds, with the lowest and highest p99 and p99.9 beside them, in the order of the rows."""
    groups = rows.groupby([*CELL, "policy"], sort=False)
    found = groups.median(numeric_only=True).drop(columns="seed")
    for measure in ("p99", "p99.9"):
        found[f"{measure} from"], found[f"{measure} to"] = groups[measure].min(), groups[measure].max()
    return found.reset_index()


def ratios(rows: pd.DataFrame, policy: str, to: str, measure: str) -> pd.DataFrame:
    """Return by how much a measure of one policy is that of another: median, lowest and highest over seeds."""
    by_policy = rows.pivot_table(measure, [*CELL, "seed"], "policy", sort=False)
    ratio = (by_policy[policy] / by_policy[to]).rename("ratio").reset_index()
    groups = ratio.groupby(list(CELL), sort=False)["ratio"]
    return pd.DataFrame({"ratio": groups.median(), "from": groups.min(), "to": groups.max()}).reset_index()
