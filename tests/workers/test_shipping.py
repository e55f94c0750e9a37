"""Networks of users' own files reach workers that cannot import those files."""

import importlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from cloudpickle import list_registry_pickle_by_value

from parity.errors import ParityError
from parity.workers.shipping import Shipped, ship

LOAD_AND_RUN = """
import pickle, sys
print(pickle.loads(sys.stdin.buffer.read())([3, 4]), "torch" in sys.modules)
"""


def in_another_process(data: bytes, folder: Path) -> str:
    """Load work where only installed packages can be imported, and run it on 3 and 4."""
    command = [sys.executable, "-c", LOAD_AND_RUN]
    done = subprocess.run(command, input=data, cwd=folder, capture_output=True, check=False, timeout=300)
    return done.stdout.decode() + done.stderr.decode()


def test_a_class_of_a_users_file_travels_with_what_it_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, elsewhere = tmp_path / "files", tmp_path / "elsewhere"
    files.mkdir()
    elsewhere.mkdir()
    files.joinpath("helper_of_mine.py").write_text("def twice(number):\n    return 2 * number\n")
    files.joinpath("network_of_mine.py").write_text(
        "import math\n"
        "import helper_of_mine\n"
        "from helper_of_mine import twice\n"
        "class Base:\n"
        "    def __call__(self, numbers):\n"
        "        return [twice(number) + math.floor(0.5) for number in numbers]\n"
        "class Network(Base):\n"
        "    def __call__(self, numbers):\n"
        "        return [helper_of_mine.twice(number) for number in super().__call__(numbers)]\n"
    )
    monkeypatch.syspath_prepend(files)
    network = importlib.import_module("network_of_mine").Network()
    registered = list_registry_pickle_by_value()
    assert in_another_process(ship(network), elsewhere) == "[12, 16] False\n"
    assert list_registry_pickle_by_value() == registered


def test_installed_packages_are_imported_and_do_not_travel() -> None:
    layer = torch.nn.Linear(2, 2)
    assert len(ship(layer)) < 4000
    assert torch.equal(Shipped(ship(layer), threads=1)(torch.ones(1, 2)), layer(torch.ones(1, 2)))


def test_work_that_cannot_be_pickled_is_refused_in_a_sentence() -> None:
    with pytest.raises(ParityError, match=r"cannot be sent to workers in other processes .*lock"):
        ship(threading.Lock())


def test_what_runs_in_a_worker_imports_no_torch(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    code = f"import sys; sys.path.insert(0, {str(root)!r}); import parity.workers.child, parity.workers.actor; "
    code += "print([name for name in ('torch', 'ray') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
