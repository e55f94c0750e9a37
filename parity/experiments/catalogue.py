"""Finds experiments: in this package and in a user's own folders, all in the layout <Dataset>/<collection>/."""

import fnmatch
import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from torch import nn

from parity import settings
from parity.errors import ParityError, did_you_mean
from parity.experiments.config import Config, frozen
from parity.experiments.imports import add_to_path, import_file
from parity.settings import user_path

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
    """``get_model`` of the collection's model.py, called with (config, query_shape, prediction_shape).

    It reads every key of the config's ``model``: one that it never asks for would be ignored, and is refused."""


def add_experiments_path(folder: str | Path) -> None:
    """Also find experiments in this folder, and let its modules be imported by name.

    Raises:
        ParityError: the folder does not exist.
    """
    folder = user_path(folder).resolve()
    if not folder.is_dir():
        raise ParityError(
            f"{folder} is not a folder: what --experiments_path or PARITY_EXPERIMENTS names should hold "
            f"<Dataset>/<collection>/{_PARAMETERS}."
        )
    if folder not in _added_paths:
        _added_paths.append(folder)
    add_to_path(folder)


def given_paths() -> list[Path]:
    """Return the folders that were added, but for those that the environment names."""
    of_environment = {user_path(folder).resolve() for folder in settings.EXPERIMENTS_PATHS}
    return [folder for folder in _added_paths if folder not in of_environment]


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
    defining = _import_datamodule(dataset)
    entries: dict[str, Entry] = {}
    files: dict[str, Path] = {}
    for folder in _folders():
        for parameters in sorted(folder.glob(f"{dataset}/*/{_PARAMETERS}")):
            module = _import(folder, parameters)
            defining += [parameters] if _defines_data(module, dataset) else []
            configs = getattr(module, "CONFIGS", None)
            if not isinstance(configs, dict):
                raise ParityError(f"{parameters} has no CONFIGS, a dict of configs by the experiments' names.")
            model = parameters.with_name("model.py")
            get_network = getattr(_import(folder, model), "get_model", None) if model.exists() else None
            for name, config in configs.items():
                if not isinstance(name, str) or not isinstance(config, Mapping):
                    raise ParityError(
                        f"CONFIGS of {parameters} holds configs, dicts, by the experiments' names, and not "
                        f"{name!r:.40}: {config!r:.60}."
                    )
                if name in entries:
                    raise ParityError(
                        f"experiment '{name}' of {dataset} is in two files, {files[name]} and {parameters}: rename "
                        "one, names are unique within a data set."
                    )
                files[name] = parameters
                entries[name] = Entry(dataset, parameters.parent.name, name, frozen(config), get_network)
    _check_one(dataset, defining)
    return list(entries.values())


def _check_one(dataset: str, files: list[Path]) -> None:
    if len(files) > 1:
        raise ParityError(f"data set '{dataset}' is in two files, {files[0]} and {files[1]}: rename one of them.")


def _defines_data(module: ModuleType, dataset: str) -> bool:
    """Return whether the datamodule of a data set is written in this module, and not imported by it."""
    found = getattr(module, f"{dataset}DataModule", None)
    return getattr(found, "__module__", None) == module.__name__


def _import_datamodule(dataset: str) -> list[Path]:
    """Import a user's datamodule, and return its file; folders may hold copies of it, and not two of them."""
    found = {folder: folder / dataset / "datamodule.py" for folder in _folders()[1:]}
    files = [(folder, file) for folder, file in found.items() if file.exists()]
    for folder, file in files[:1]:
        _check_one(dataset, [file, *(copy for _, copy in files if copy.read_bytes() != file.read_bytes())])
        import_file(folder, file)
    return [file for _, file in files[:1]]


def _import(folder: Path, file: Path) -> ModuleType:
    if folder == _OWN_FOLDER:
        return importlib.import_module(
            ".".join(["parity", "experiments", *file.relative_to(folder).with_suffix("").parts])
        )
    return import_file(folder, file)


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
    """Return the names that names and globs stand for, in the order of the patterns, each once.

    Raises:
        ParityError: a name or a glob that stands for none.
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
