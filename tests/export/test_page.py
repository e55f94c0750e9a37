"""docs/export.md is right: its blocks run, one after the other, and return the same numbers in every way."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parity import zoo
from tests.export.codes import Exported

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.fixture(scope="module")
def spoken(exported: Callable[..., Exported], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that the page's Python blocks leave behind."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(exported("cells", onnx=True).folder, folder / "mine")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    before = Path.cwd()
    os.chdir(folder)
    try:
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
    finally:
        os.chdir(before)
    return names | {"folder": folder}


def test_every_way_to_load_it_returns_the_same(spoken: dict[str, Any]) -> None:
    assert torch.equal(spoken["rebuilt"], spoken["predictions"])
    assert spoken["there"].all()
    assert np.abs(spoken["with_onnx"] - spoken["predictions"].numpy()).max() < 1e-5


def test_it_saves_what_it_shows(spoken: dict[str, Any]) -> None:
    assert (spoken["folder"] / "untrained" / "model_card.md").is_file()


def test_the_files_it_names_are_there() -> None:
    for name in re.findall(r"examples/\S+\.py", PAGE.read_text()):
        assert (PAGE.parents[1] / name).is_file()


def test_the_zoo_has_codes() -> None:
    assert zoo.list()
