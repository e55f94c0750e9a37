"""``import parity``: light, and with the names that users need."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import parity

ROOT = Path(__file__).parents[1]


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "('torch', 'numpy', 'pandas', 'pytorch_lightning', 'matplotlib')"
    assert run(f"import sys, parity; parity.__version__; print([n for n in {heavy} if n in sys.modules])") == "[]\n"


def test_names_are_there_whatever_was_imported_before() -> None:
    imports = "import parity.protection.protect, parity.evaluation.evaluate"
    program = f"{imports}; print(callable(parity.protect), callable(parity.evaluate))"
    assert run(program) == "True True\n"
    assert {"protect", "load", "evaluate", "CodedModel", "zoo", "__version__"} <= set(dir(parity))


def test_what_messages_and_pages_name_in_full_needs_no_other_import() -> None:
    names = "parity.data.Scaling, parity.tasks.Classification, parity.protection.Recipe, parity.coders.LinearEncoder"
    assert run(f"import parity; print(all(map(callable, ({names}))))") == "True\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'protekt'"):
        parity.protekt  # noqa: B018


def as_makefile_installs() -> dict[str, str]:
    """Return the options with which ``make setup`` installs a clone."""
    return dict(re.findall(r"pip install .*--config-settings (\w+)=(\w+) -e \.", (ROOT / "Makefile").read_text()))


def install(clone: Path, site: Path, options: dict[str, str]) -> None:
    """Install a clone for editing, into a folder of its own."""
    program = f"import setuptools.build_meta as b; print(b.build_editable({str(site)!r}, {options!r}))"
    site.mkdir()
    done = subprocess.run([sys.executable, "-c", program], cwd=clone, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(site / done.stdout.split()[-1]) as wheel:
        wheel.extractall(site)


def run_beside(tmp_path: Path, beside: str, options: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script that imports an installed clone, beside the clone or beside runs."""
    clone = tmp_path / "parity"  # what git clone calls it
    package = clone / "parity"
    package.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    (package / "__init__.py").write_text("HERE = True\n")
    shutil.copy(ROOT / "parity" / "versions.py", package)
    (package / "experiments").mkdir()
    (package / "experiments" / "__init__.py").write_text("HERE = True\n")
    install(clone, tmp_path / "site", options)
    work = tmp_path if beside == "the clone" else tmp_path / "work"
    (work / "experiments" / "MNIST").mkdir(parents=True)
    (work / "script.py").write_text(
        f"import site; site.addsitedir({str(tmp_path / 'site')!r})\n"
        "import parity, parity.experiments\nprint(parity.HERE, parity.experiments.HERE)\n"
    )
    # Without what this environment has installed itself: the test's own copy of the package is looked for.
    return subprocess.run(
        [sys.executable, "-S", "script.py"], cwd=work, capture_output=True, text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip


@pytest.mark.parametrize("beside", ["the clone", "runs"])
def test_folders_beside_a_script_do_not_shadow_the_package(tmp_path: Path, beside: str) -> None:
    done = run_beside(tmp_path, beside, as_makefile_installs())
    assert done.stdout == "True True\n", done.stderr


def test_with_an_editable_install_of_the_usual_mode_a_clone_beside_the_script_would_be_imported(tmp_path: Path) -> None:
    """Why there is a mode at all: without it, the test above fails."""
    assert as_makefile_installs()
    assert "module 'parity' has no attribute 'HERE'" in run_beside(tmp_path, "the clone", {}).stderr
