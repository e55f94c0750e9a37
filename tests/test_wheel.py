"""The wheel is enough: built, unpacked where no checkout is, it trains, evaluates and writes a report."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(["git", "ls-files", "-z", "parity", "pyproject.toml", "README.md", "LICENSE"], cwd=ROOT,
                           capture_output=True, check=True).stdout.decode().split("\0")[:-1]  # fmt: skip
    for name in files:  # a copy: building writes beside the sources
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_trains_and_reports_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    site = next((tmp_path / "env").glob("lib/python*/site-packages"))
    # What parity depends on is taken from here, without the checkout that an editable install names.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps"]
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([*install, "--python", str(python), str(wheel)], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = "1"
    work = tmp_path / "work"
    work.mkdir()

    def run(*arguments: str) -> str:
        done = subprocess.run(arguments, cwd=work, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = run(str(python), "-c", "import parity; print(parity.__file__)").strip()
    assert Path(where).is_relative_to(tmp_path)
    parity = str(tmp_path / "env" / "bin" / "parity")
    digits = ("--dataset", "Digits", "--accelerator", "cpu")
    for name in ("mlp_base", "mlp_k2_add"):
        run(parity, "train", *digits, "--experiment_name", name, "--set", "trainer.max_epochs=1")
    run(parity, "evaluate", *digits, "--compare", "mlp_k2_add", "--report", "report")
    assert (work / "report" / "report.html").stat().st_size > 1000
    assert "mlp_k2_add" in run(parity, "train", "--list", "--dataset", "Digits")


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(["git", "ls-files", "parity"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(listed.stdout.splitlines()) - held == set()
    assert not [name for name in held if name.startswith(("tests", "benchmarks", "docs"))]
