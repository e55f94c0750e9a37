"""result.save and parity.load: what was protected leaves the process that trained it."""

from pathlib import Path

import pytest
import torch
from torch import nn

import parity
from tests.protection.conftest import OwnDigits

pytest.importorskip("parity.export")


def test_what_was_protected_is_saved_and_loaded(digits: OwnDigits, cnn: nn.Module, tmp_path: Path) -> None:
    result = parity.protect(cnn, digits.train, digits.val, k=2, max_epochs=1, progress=False, accelerator="cpu")
    result.save(tmp_path / "mine")
    assert "A_d" in (tmp_path / "mine" / "model_card.md").read_text()
    coded = parity.load(tmp_path / "mine")
    queries = digits.test[0][:4].unflatten(0, (2, 2))
    available = torch.tensor([[True, False, True], [True, True, False]])
    with torch.no_grad():
        expected = result.coded_model.cpu()(queries, available)
        torch.testing.assert_close(coded(queries, available), expected)
