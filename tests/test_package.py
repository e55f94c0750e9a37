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


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'protekt'"):
        parity.protekt  # noqa: B018


def as_makefile_installs(clone: Path, site: Path) -> None:
    """Install a clone as ``make setup`` does, into a folder of its own."""
    options = re.findall(r"pip install .*--config-settings (\w+)=(\w+) -e \.", (ROOT / "Makefile").read_text())
    program = f"import setuptools.build_meta as b; print(b.build_editable({str(site)!r}, {dict(options)!r}))"
    site.mkdir()
    done = subprocess.run([sys.executable, "-c", program], cwd=clone, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(site / done.stdout.split()[-1]) as wheel:
        wheel.extractall(site)


@pytest.mark.parametrize("beside", ["the clone", "runs"])
def test_folders_beside_a_script_do_not_shadow_the_package(tmp_path: Path, beside: str) -> None:
    clone = tmp_path / "parity"  # what git clone calls it
    package = clone / "parity"
    package.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    (package / "__init__.py").write_text("HERE = True\n")
    shutil.copy(ROOT / "parity" / "versions.py", package)
    (package / "experiments").mkdir()
    (package / "experiments" / "__init__.py").write_text("HERE = True\n")
    as_makefile_installs(clone, tmp_path / "site")
    work = tmp_path if beside == "the clone" else tmp_path / "work"
    (work / "experiments" / "MNIST").mkdir(parents=True)
    (work / "script.py").write_text(
        f"import site; site.addsitedir({str(tmp_path / 'site')!r})\n"
        "import parity, parity.experiments\nprint(parity.HERE, parity.experiments.HERE)\n"
    )
    # Without what this environment has installed itself: the test's own copy of the package is looked for.
    done = subprocess.run(
        [sys.executable, "-S", "script.py"], cwd=work, capture_output=True, text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    assert done.stdout == "True True\n", done.stderr
