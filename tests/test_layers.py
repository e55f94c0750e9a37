"""Imports go one way: the contracts in pyproject.toml hold, and each is broken by what it forbids.

Layers are of rooms, the packages and modules directly under ``parity``, and of all that one reaches by way of others.
Circles are looked for twice: between the rooms of each room, each with all that it holds, and between modules, where a
package's ``__init__`` is a module like any other: it may re-export its submodules, and these may not import from it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import networkx
import pytest

ROOT = Path(__file__).parents[1]
DATASETS = sorted({".".join(path.parts[-5:-2]) for path in ROOT.glob("parity/experiments/*/*/*.py")})
"""Folders of configs, which have no ``__init__`` of their own."""

_LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the package in a folder against the contracts in it."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", _LINT]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package and of the contracts, to be spoilt."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "parity", tmp_path / "parity", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_package_keeps_its_layers() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("serving", "parity.training", "never reaches training"),
        ("export", "parity.training.objectives.losses", "never reaches training"),
        ("coders/late", "parity.training", "never reaches training"),
        ("evaluation/late", "parity.training.loop.fit", "never reaches training"),
        ("training/late", "parity.evaluation", "training never reaches"),
        ("coders/late", "parity.models", "imports go down"),
        ("tasks_too", "parity.errors", "imports go down"),  # a room without a layer
        ("errors", "parity.settings", "imports go down"),
        ("training/loop/late", "parity.training.defaults", "knows none of what is built on it"),
        ("training/objectives/late", "parity.training.loop.fit", "no circles"),
    ],
)
def test_an_import_that_goes_up_or_aside_is_found(package: Path, module: str, imported: str, contract: str) -> None:
    path = package / "parity" / f"{module}.py"
    path.write_text(f"import {imported}\n")
    done = lint(package)
    assert done.returncode == 1
    assert any(contract in line and "BROKEN" in line for line in done.stdout.splitlines())


def test_training_reached_by_way_of_another_room_is_found(package: Path) -> None:
    (package / "parity" / "wandb_server.py").write_text("def later():\n    import parity.training.loop.fit\n")
    (package / "parity" / "serving").mkdir(exist_ok=True)
    (package / "parity" / "serving" / "__init__.py").write_text("from parity import wandb_server\n")
    done = lint(package)
    assert done.returncode == 1
    assert "what is deployed or measured never reaches training BROKEN" in done.stdout


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("parity", *DATASETS, cache_dir=None)
    assert "parity.experiments.MNIST.original.experiment_parameters" in graph.modules
    assert list(circles(graph)) == []


def test_a_circle_between_the_rooms_of_a_room_is_found(package: Path) -> None:
    (package / "parity" / "evaluation" / "late.py").write_text("import parity.evaluation.report.report\n")
    (package / "parity" / "evaluation" / "report" / "late.py").write_text("import parity.evaluation.late\n")
    done = lint(package)
    assert done.returncode == 1
    assert "No cycles are allowed in parity.evaluation." in done.stdout


def test_a_circle_between_modules_is_found() -> None:
    graph = grimp.ImportGraph()
    for importer, imported in (("a", "a.b"), ("a.b", "a.c"), ("a.c", "a"), ("d", "a")):
        graph.add_import(importer=importer, imported=imported)
    assert list(circles(graph)) == [["a", "a.b", "a.c"]]


def circles(graph: grimp.ImportGraph) -> Iterator[list[str]]:
    """Yield the modules of each circle."""
    imports = networkx.DiGraph()
    imports.add_edges_from(
        (module, found) for module in graph.modules for found in graph.find_modules_directly_imported_by(module)
    )
    for component in networkx.strongly_connected_components(imports):
        if len(component) > 1:
            yield sorted(component)
