"""Finds experiments: in this package and in folders of a user's own, all in the layout <Dataset>/<collection>/."""

import fnmatch
import importlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from torch import nn

from parity import settings
from parity.errors import ParityError, did_you_mean
from parity.experiments.config import Config, frozen

_PARAMETERS = "experiment_parameters.py"
_OWN_FOLDER = Path(__file__).parent

_added_paths: list[Path] = []


class Entry(NamedTuple):
    """One experiment of the catalogue."""

    dataset: str
    collection: str
    name: str
    config: Config
    get_network: Callable[..., nn.Module] | None
    """``get_model`` of the collection's model.py, called with (config, query_shape, prediction_shape)."""


def add_experiments_path(folder: str | Path) -> None:
    """Also find experiments in this folder, and let its modules be imported by name.

    Raises:
        ParityError: there is no such folder.
    """
    folder = Path(folder).expanduser().resolve()
    if not folder.is_dir():
        raise ParityError(
            f"--experiments_path {folder} is no folder: it should hold <Dataset>/<collection>/{_PARAMETERS}."
        )
    if folder not in _added_paths:
        _added_paths.append(folder)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _folders() -> list[Path]:
    for folder in settings.EXPERIMENTS_PATHS:
        add_experiments_path(folder)
    return [_OWN_FOLDER, *_added_paths]


def datasets() -> list[str]:
    """Return the names of all data sets that have experiments."""
    return sorted({path.parts[-3] for folder in _folders() for path in folder.glob(f"*/*/{_PARAMETERS}")})


def experiments(dataset: str) -> list[Entry]:
    """Return all experiments of a data set.

    Raises:
        ParityError: no such data set, or two experiments of one name.
    """
    if dataset not in datasets():
        raise ParityError(f"there are no experiments for data set '{dataset}': {did_you_mean(dataset, datasets())}")
    entries: dict[str, Entry] = {}
    for folder in _folders():
        package = "parity.experiments." if folder == _OWN_FOLDER else ""
        if package == "" and (folder / dataset / "datamodule.py").exists():
            _import(f"{dataset}.datamodule", folder / dataset / "datamodule.py")
        for parameters in sorted(folder.glob(f"{dataset}/*/{_PARAMETERS}")):
            collection = parameters.parent.name
            module = _import(f"{package}{dataset}.{collection}.experiment_parameters", parameters)
            if not isinstance(getattr(module, "CONFIGS", None), dict):
                raise ParityError(f"{parameters} has no CONFIGS, a dict of configs by the experiments' names.")
            get_network = None
            if (parameters.parent / "model.py").exists():
                model = parameters.with_name("model.py")
                get_network = getattr(_import(f"{package}{dataset}.{collection}.model", model), "get_model", None)
            for name, config in module.CONFIGS.items():
                if name in entries:
                    raise ParityError(
                        f"experiment '{name}' of {dataset} is in two collections, {entries[name].collection} and "
                        f"{collection} ({parameters}): rename one, names are unique within a data set."
                    )
                entries[name] = Entry(dataset, collection, name, frozen(config), get_network)
    return list(entries.values())


def _import(name: str, file: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever a user's file leads to
        raise ParityError(f"{file} cannot be imported ({type(error).__name__}: {error}).") from error


def find(dataset: str, name: str, collection: str | None = None) -> Entry:
    """Return one experiment.

    Raises:
        ParityError: there is none of this name; the closest one is in the message.
    """
    known = {entry.name: entry for entry in experiments(dataset) if collection in (None, entry.collection)}
    if name not in known:
        where = f"{dataset}/{collection}" if collection else dataset
        raise ParityError(f"there is no experiment '{name}' in {where}: {did_you_mean(name, known)}")
    return known[name]


def matching(dataset: str, patterns: Iterable[str], collection: str | None = None) -> list[str]:
    """Return the names that are meant by names and globs, in the order of the patterns, each once.

    Raises:
        ParityError: a name or a glob that means nothing.
    """
    names: dict[str, None] = {}
    for pattern in patterns:
        if any(mark in pattern for mark in "*?["):
            known = [entry.name for entry in experiments(dataset) if collection in (None, entry.collection)]
            found = fnmatch.filter(known, pattern)
            if not found:
                raise ParityError(f"no experiment of {dataset} matches '{pattern}': {did_you_mean(pattern, known)}")
            names |= dict.fromkeys(found)
        else:
            names[find(dataset, pattern, collection).name] = None
    return list(names)
