"""Runs of one experiment that differ by a seed or by what is swept, and runs by the names of their folders."""

import glob
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from parity.errors import ParityError
from parity.experiments import catalogue
from parity.experiments.experiment import BASE_DIRECTORY, Experiment
from parity.plain import to_plain
from parity.settings import user_path
from parity.training.loop.run_folder import CONFIG_FILE

Point = Mapping[str, str]
"""Overrides of a config, as ``--set`` takes them: {'code.k': '3'}."""


def sweep_points(texts: Sequence[str]) -> list[Point]:
    """Turn ['code.k=2,3', 'optimizer.lr=0.1'] into the overrides of each combination; one without any if empty.

    Raises:
        ParityError: a text is not KEY.PATH=VALUE,VALUE, or has a value twice, or two have one key.
    """
    swept: dict[str, list[str]] = {}
    for text in texts:
        path, equals, joined = text.partition("=")
        values = [value.strip() for value in joined.split(",")]
        if not path or not equals or not all(values):
            raise ParityError(f"--sweep takes KEY.PATH=VALUE,VALUE,..., e.g. code.k=2,3,4, not '{text}'.")
        if path in swept or len(set(values)) < len(values):
            raise ParityError(f"--sweep takes each key once and different values, unlike '{path}={joined}'.")
        swept[path] = values
    return [dict(zip(swept, point, strict=True)) for point in itertools.product(*swept.values())]


def variants(
    dataset: str,
    name: str,
    *,
    collection: str | None = None,
    base_directory: str | Path = BASE_DIRECTORY,
    run_name: str | None = None,
    seeds: Sequence[int | None] = (None,),
    points: Sequence[Point] = ({},),
    overrides: Point = {},  # noqa: B006  # never changed
) -> list[Experiment]:
    """Return an experiment with every seed at every point of a sweep; several are named by what differs.

    Args:
        dataset, name, collection, base_directory, run_name: of ``Experiment``.
        seeds: None for the default one.
        points: of a sweep.
        overrides: of all of them.

    Raises:
        ParityError: there is no such experiment, several runs would have one name or be one, or a key is swept and
            overridden.
    """
    if both := sorted(overrides.keys() & points[0].keys()):
        raise ParityError(f"'{both[0]}' is in --sweep and in --set: leave one out.")
    if run_name is not None and len(seeds) * len(points) > 1:
        raise ParityError("--run_name is for one run, and --seeds and --sweep make several: leave it out.")
    made = []
    for point, seed in itertools.product(points, seeds):
        swept = "".join(f"-{path}={value.replace('/', '_')}" for path, value in point.items())
        seeded = "" if seed is None else f"-seed={seed}"
        named = run_name or (f"{name}{swept}{seeded}" if point else None)
        made.append(
            Experiment(
                dataset, name, collection=collection, base_directory=base_directory, run_name=named, seed=seed,
                overrides={**overrides, **point},
            )
        )  # fmt: skip
    if len(points) > 1:
        _check_different(made, points[0])
    return made


def _check_different(experiments: Sequence[Experiment], swept: Iterable[str]) -> None:
    """Refuse values that are written differently and are the same, as 0.1 and 0.10."""
    found: dict[str, Experiment] = {}
    for experiment in experiments:
        other = found.setdefault(json.dumps([experiment.seed, to_plain(experiment.config)]), experiment)
        if other is not experiment:
            pair = [", ".join(f"{path}={each.overrides[path]}" for path in swept) for each in (other, experiment)]
            raise ParityError(
                f"--sweep takes different values, and {pair[0]} and {pair[1]} are the same: leave one out."
            )


def run_by_name(dataset: str, name: str, base_directory: str | Path = BASE_DIRECTORY) -> Experiment | None:
    """Return the run that a folder, or the name of a run's folder, is of; None where there is none.

    Raises:
        ParityError: runs of several collections have the name.
    """
    folders = [user_path(name)] if "/" in name or (user_path(name) / CONFIG_FILE).is_file() else []
    folders += sorted((user_path(base_directory) / dataset).glob(f"*/{glob.escape(name)}")) if "/" not in name else []
    runs = list({folder.resolve(): folder for folder in reversed(folders) if (folder / CONFIG_FILE).is_file()}.values())
    if len(runs) > 1:
        raise ParityError(f"several runs are called {name}: name the folder, {' or '.join(map(str, runs))}.")
    return Experiment(runs[0]) if runs else None


def is_in_catalogue(dataset: str, name: str, collection: str | None) -> bool:
    """Return whether a name is an experiment's, and not that of a run's folder alone."""
    return any(e.name == name and collection in (None, e.collection) for e in catalogue.experiments(dataset))
