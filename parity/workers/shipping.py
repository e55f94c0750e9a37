"""How work gets to workers in other processes."""

import contextlib
import pickle
import site
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from parity.errors import ParityError, cause


def ship(work: object) -> bytes:
    """Return what a worker does as bytes that another process, or another machine, can load.

    Classes of a user's own modules (a script, a notebook, experiments below ``--experiments_path``) travel with it by
    value: those modules cannot be imported there. Installed packages are imported there.

    Raises:
        ParityError: it cannot be pickled.
    """
    with _by_value(_own_modules()):
        try:
            return cloudpickle.dumps(work)
        except Exception as error:  # whatever the __reduce__ of a user's class raises
            raise ParityError(
                f"the networks cannot be sent to workers in other processes ({cause(error)}): "
                f"let them hold nothing but tensors, numbers and functions, or use the engine 'threads'."
            ) from error


def _own_modules() -> list[ModuleType]:
    """Return the modules that only this process can import: all that are not installed."""
    paths = sysconfig.get_paths()
    installed = [paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], *site.getsitepackages()]
    installed += [site.getusersitepackages(), str(Path(__file__).parents[1])]
    folders = tuple(f"{Path(folder).resolve()}/" for folder in installed)
    known = [module for name, module in list(sys.modules.items()) if name != "__main__"]
    return [module for module in known if (file := _file(module)) is not None and not file.startswith(folders)]


def _file(module: ModuleType) -> str | None:
    file = getattr(module, "__file__", None)
    return str(Path(file).resolve()) if isinstance(file, str) else None


@contextlib.contextmanager
def _by_value(modules: list[ModuleType]) -> Iterator[None]:
    before = cloudpickle.list_registry_pickle_by_value()
    added = [module for module in modules if module.__name__ not in before and module.__name__ in sys.modules]
    for module in added:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in added:
            cloudpickle.unregister_pickle_by_value(module)


class Shipped:
    """What a worker does, loaded with the first batch, so that what cannot be loaded is an answer and not a crash.

    Args:
        data: what ``ship`` returned.
        threads: that torch computes with in this process.
    """

    def __init__(self, data: bytes, threads: int) -> None:
        self._data, self._threads = data, threads
        self._work: Any = None

    def __call__(self, payloads: Sequence[Any]) -> Any:
        """Do it."""
        if self._work is None:
            self._work = pickle.loads(self._data)
            if "torch" in sys.modules:
                sys.modules["torch"].set_num_threads(self._threads)
        return self._work(payloads)
