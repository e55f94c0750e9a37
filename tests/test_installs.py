"""Ways to install: the Dockerfile's steps in a Debian of their own, conda's file, and each Python that is named."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.conftest import ROOT, need

PYTHONS = ("3.11", "3.12", "3.13")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_pythons_that_are_named_are_those_of_the_project() -> None:
    asked = SpecifierSet(PROJECT["requires-python"])
    assert [minor for minor in range(8, 20) if f"3.{minor}" in asked] == [11, 12, 13]
    prefix = "Programming Language :: Python :: "
    assert [each.removeprefix(prefix) for each in PROJECT["classifiers"] if each.startswith(prefix)] == list(PYTHONS)


def test_condas_file_asks_for_a_python_of_the_project_and_installs_the_lock() -> None:
    """Conda itself cannot be had from PyPI or Debian, nor its channels be reached, where these tests run."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, lines = environment["dependencies"]
    assert python.removeprefix("python=") in PYTHONS
    assert pip == "pip"
    requirements, editable = lines["pip"]
    lock = (ROOT / requirements.removeprefix("-r ")).read_text().splitlines()
    locked = {Requirement(line).name: Requirement(line).specifier for line in lock}
    for asked in map(Requirement, PROJECT["dependencies"]):
        [exact] = locked[asked.name]
        assert exact.version in asked.specifier, asked
    assert editable == "-e ."


def steps(build_arguments: dict[str, str]) -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions and their values, with its arguments put in."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, value.replace("$TORCH_INDEX", build_arguments["TORCH_INDEX"])) for name, value in found]


def in_root(root: Path, command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a shell command in a Debian of its own; what is mounted for it is gone with it."""
    mounts = "; ".join(f"mount --rbind /{each} {root}/{each}" for each in ("proc", "dev", "sys"))
    inside = f"{mounts}; exec chroot {root} /usr/bin/env -i {shlex.join(f'{k}={v}' for k, v in environment.items())} "
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", inside + f"sh -c {shlex.quote(command)}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_steps_of_the_dockerfile_give_a_command_that_trains(tmp_path: Path) -> None:
    """In Debian's Python in place of the image's, with torch from PyPI, which is its build for GPUs."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        need(Path("/usr/sbin/debootstrap"), "this needs root and debootstrap: apt-get install debootstrap")
    root = tmp_path / "root"
    packages = "python3,python3-pip,python-is-python3,ca-certificates"
    base = ["debootstrap", "--variant=minbase", f"--include={packages}", "stable", str(root)]
    subprocess.run([*base, "http://deb.debian.org/debian"], check=True, capture_output=True)
    for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()  # Debian's; the image has none
    for file in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"):
        shutil.copy(f"/{file}", root / file)
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root", "OMP_NUM_THREADS": "1"}
    environment["SSL_CERT_FILE"] = "/etc/ssl/certs/ca-certificates.crt"  # this machine's, for uv
    folder = "/"
    for name, value in steps({"TORCH_INDEX": "https://pypi.org/simple"}):
        if name == "COPY":
            source, target = value.split()
            names = ["."] if source == "." else [source]
            listed = subprocess.run(["git", "ls-files", "-z", *names], cwd=ROOT, capture_output=True, check=True)
            for each in listed.stdout.decode().split("\0")[:-1]:
                to = root / target.strip("/") / each
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / each, to, follow_symlinks=False)
        elif name == "RUN":
            done = in_root(root, f"cd {folder} && {value}", environment)
            assert done.returncode == 0, done.stdout + done.stderr
        elif name == "ENV":
            key, _, text = value.partition("=")
            environment[key] = text
        elif name == "WORKDIR":
            folder = value
            (root / value.strip("/")).mkdir(parents=True, exist_ok=True)
        elif name in ("ENTRYPOINT", "CMD"):
            environment[name] = shlex.join(json.loads(value))
        else:
            assert name in ("FROM", "ARG")
    entry, default = environment.pop("ENTRYPOINT"), environment.pop("CMD")
    for arguments in (default, "--version", "train --dataset Digits --experiment_name mlp_k2_add --fast_dev_run"):
        done = in_root(root, f"cd {folder} && {entry} {arguments}", environment)
        assert done.returncode == 0, done.stdout + done.stderr


def interpreter(version: str) -> str | None:
    """Return a Python of a version that runs, if this machine has one."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for candidate in (*map(str, pyenv), shutil.which(f"python{version}")):
        if candidate and subprocess.run([candidate, "-c", "0"], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("version", PYTHONS)
def test_each_python_installs_the_lock_lists_and_trains(version: str, tmp_path: Path) -> None:
    python = interpreter(version)
    if python is None:
        need(Path(f"/usr/bin/python{version}"), f"there is no Python {version} on this machine")
    subprocess.run([str(python), "-m", "venv", str(tmp_path / "env")], check=True)
    own = str(tmp_path / "env" / "bin" / "python")
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", own]
    subprocess.run([*install, "-r", str(ROOT / "requirements.lock")], check=True)
    work = tmp_path / "work"
    work.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [own, "-m", "parity", "train", "--accelerator", "cpu", "--dataset", "Digits"]
    for options in (("--list",), ("--experiment_name", "mlp_k2_add", "--fast_dev_run")):
        done = subprocess.run(
            [*command, *options], cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
