"""``import parity``: light, and with the names that users need."""

import subprocess
import sys

import pytest

import parity


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
