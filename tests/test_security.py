"""Nothing that runs code out of data comes into the package, and what others ship is listed and locked."""

import ast
import importlib.util
import re
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

PACKAGE = sorted((ROOT / "parity").rglob("*.py"))

RUNS_CODE = {"eval", "exec", "compile", "os.system", "os.popen", "marshal.load", "marshal.loads", "shelve.open",
             "pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads", "dill.load",
             "dill.loads", "joblib.load", "yaml.load", "DelayedSubmission.load", "torch.jit.load", "pd.read_pickle",
             "np.load", "torch.load"}  # fmt: skip

ALLOWED = {
    "black_boxes/programs.py": {"torch.jit.load"},  # TorchScript that a user asks to have protected; SECURITY.md
    "workers/shipping.py": {"pickle.loads"},  # what this very service has sent to its own worker
    "workers/wire.py": {"pickle.loads"},  # messages over the pipe or socket to it
    "cluster/slurm_job.py": {"DelayedSubmission.load"},  # of a folder that its owner alone writes into
}
HARMLESS = {"np.load": ("allow_pickle", False), "torch.load": ("weights_only", True)}
"""Calls that are harmless with this argument, written out."""
NEVER = {"shell": True, "weights_only": False, "allow_pickle": True, "trust_remote_code": True}


def dangers(source: str) -> Iterator[str]:
    """Yield what in a source text may run code that is data."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
        yield from (f"{called}({name}={value})" for name, value in NEVER.items() if given.get(name) is value)
        if called in RUNS_CODE:
            name, value = HARMLESS.get(called, ("", None))
            if given.get(name) is not value or not name:
                yield called


def test_nothing_runs_code_out_of_data() -> None:
    found = {str(path.relative_to(ROOT / "parity")): set(dangers(path.read_text())) for path in PACKAGE}
    assert {path: calls for path, calls in found.items() if calls} == ALLOWED


@pytest.mark.parametrize(
    "source",
    ["eval(x)", "exec('x')", "pickle.load(f)", "subprocess.run(x, shell=True)", "torch.load(f)", "np.load(f)",
     "torch.load(f, weights_only=False)", "torch.load(f, weights_only=flag)", "trainer.fit(m, weights_only=False)"],
)  # fmt: skip
def test_what_would_be_found(source: str) -> None:
    assert list(dangers(source))
    assert not list(dangers("model.eval(); np.load(f, allow_pickle=False); torch.load(f, weights_only=True)"))


def test_the_hashed_lock_has_the_versions_of_the_plain_one_and_no_address() -> None:
    plain, hashed = ((ROOT / name).read_text() for name in ("requirements.lock", "requirements-hashed.lock"))
    versions = re.compile(r"^([a-z0-9][\w.-]*==[^ \\\n;]+)", re.MULTILINE)
    assert set(versions.findall(hashed)) == set(versions.findall(plain))
    entries = re.split(r"\n(?=\S)", hashed.strip())
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", plain + hashed)


def test_the_list_of_dependencies_names_each_with_its_licence() -> None:
    spec = importlib.util.spec_from_file_location("sbom", ROOT / ".ci" / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.bill_of_materials()
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    by_name = {entry["name"]: entry for entry in made["components"]}
    assert len(by_name) == len(made["components"]) > 50
    assert by_name["torch"]["purl"] == f"pkg:pypi/torch@{by_name['torch']['version']}"
    assert by_name["numpy"]["licenses"]
    assert all(len(str(entry.get("licenses", ""))) < 1000 for entry in made["components"])
