"""result.save and parity.load: what was protected leaves the process that trained it."""

from pathlib import Path

import pytest
import torch
from torch import nn

import parity
from parity.export import CardFacts, Preprocessing, save, writing
from tests.protection.conftest import OwnDigits


@pytest.mark.parametrize("code", ["cells", "grid", "keyed", "add", "concat"])
def test_what_was_protected_is_saved_and_loaded(digits: OwnDigits, cnn: nn.Module, tmp_path: Path, code: str) -> None:
    result = parity.protect(
        cnn, digits.train, digits.val, k=2, code=code, max_epochs=1, progress=False, accelerator="cpu"
    )
    folder = save(
        tmp_path / "mine", result.coded_model, Preprocessing.of(result.data), CardFacts(**result.card()), onnx=False
    )
    assert "A_d" in (folder / "model_card.md").read_text()
    coded = parity.load(folder)
    queries = digits.test[0][:4].unflatten(0, (2, 2))
    available = torch.tensor([[True, False, True], [True, True, False]])
    with torch.no_grad():
        assert torch.equal(coded(queries, available), result.coded_model.cpu()(queries, available))


def test_a_result_saves_itself(
    digits: OwnDigits, cnn: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "can_write_onnx", lambda: False)  # it takes longer than all the rest
    result = parity.protect(cnn, digits.train, digits.val, k=2, max_epochs=1, progress=False, accelerator="cpu")
    assert parity.load(result.save(tmp_path / "mine")).class_names == [str(digit) for digit in range(10)]
