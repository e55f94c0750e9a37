"""A config file is read on its own: what it imports is its data set's, or shared by all."""

import ast
import re
from pathlib import Path

import pytest

from parity import experiments
from parity.experiments import catalogue

ROOT = Path(experiments.__file__).parent
FILES = sorted(ROOT.glob("*/*/experiment_parameters.py"))

SHARED = ("parity.coders", "parity.models", "parity.training", "parity.data", "parity.experiments.config")


def imported(file: Path) -> list[str]:
    modules = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            modules.append(node.module or "")
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    return [module for module in modules if module.startswith("parity")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: "-".join(file.parts[-3:-1]))
def test_a_config_file_imports_no_other_data_sets_configs(file: Path) -> None:
    allowed = (*SHARED, "parity.experiments.recipes", f"parity.experiments.{file.parts[-3]}.")
    assert imported(file)
    assert [module for module in imported(file) if not module.startswith(allowed)] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: "-".join(file.parts[-3:-1]))
def test_a_config_file_opens_with_one_whole_defaults(file: Path) -> None:
    tree = ast.parse(file.read_text())
    docstring = ast.get_docstring(tree) or ""
    assert f"python train.py --dataset {file.parts[-3]} --experiment_name" in docstring
    assert "--print_config" in docstring
    dicts = [
        node
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "dict"
    ]
    assert ast.unparse(dicts[0].targets[0]) == "DEFAULTS"
    assert isinstance(dicts[0].value, ast.Call)
    keys = {keyword.arg for keyword in dicts[0].value.keywords}
    assert {"data", "model", "code", "loss", "optimizer", "trainer"} <= keys


@pytest.mark.parametrize("file", FILES, ids=lambda file: "-".join(file.parts[-3:-1]))
def test_a_config_file_states_what_it_reaches_in_what_time_by_which_command(file: Path) -> None:
    docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
    result, time = re.search(r"\b0\.\d{3}", docstring), re.search(r"\b(s|seconds?|minutes?|hours?)\b", docstring)
    assert (result and time) or re.search("not run", docstring, re.IGNORECASE)
    commands = re.findall(r"--dataset (\S+) --experiment_name (\S+)", docstring)
    assert commands
    for dataset, names in commands:
        assert catalogue.matching(dataset, [names.strip("'")])
