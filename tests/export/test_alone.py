"""Artefacts answer as the coded model that was exported, in processes where parity is not there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from parity.export import load
from tests.export.alone import run_alone
from tests.export.codes import CODES, Exported, preprocessing

HERE = Path(__file__).parent
ONNX_IN_CI = ("cells", "linear_r2", "berrut")
Make = Callable[..., Exported]


@pytest.fixture(scope="module")
def with_torch_alone(exported: Make, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a process with torch alone answers, for every code: under all patterns at once, and to a single group."""
    folder = tmp_path_factory.mktemp("torch_alone")
    asked = {}
    for name in CODES:
        made = exported(name)
        asked[name] = (str(made.folder), made.stored, made.available)
        row, k = last_decodable(made), made.model.k
        asked[name, "one group"] = (str(made.folder), made.stored[row * k : row * k + k], made.available[row : row + 1])
    torch.save({str(key): value for key, value in asked.items()}, folder / "asked.pt")
    run_alone("torch", HERE / "torch_alone.py", folder / "asked.pt", folder / "answers.pt")
    found = torch.load(folder / "answers.pt", weights_only=True)
    return {key: found[str(key)] for key in asked}


def last_decodable(made: Exported) -> int:
    """Return the number of a pattern with much to rebuild."""
    return int(made.model.decoder.can_decode(made.available).nonzero()[-1])


def check(predictions: Tensor, there: Tensor, made: Exported) -> Tensor:
    """Check what does not depend on rounding; return which groups can be decoded."""
    model, available = made.model, made.available
    decodable = model.decoder.can_decode(available)
    lost = model.decoder.rebuilt(available) & ~model.decoder.rebuildable(available)
    assert torch.equal(there, ~lost)
    assert torch.equal(predictions.isnan(), lost[:, :, None].expand_as(predictions))
    if model.encoder.systematic:
        assert torch.equal(there & available[:, : model.k], available[:, : model.k])
    assert decodable.any()
    return decodable


def answers_in_this_process(made: Exported, decodable: Tensor) -> Tensor:
    """Answer as many groups as the other process, with nothing missing where the model would raise an error."""
    with torch.no_grad():
        return made.model(made.queries, made.available | ~decodable[:, None])


@pytest.mark.parametrize("name", CODES)
def test_with_torch_alone_it_answers_bit_for_bit(name: str, exported: Make, with_torch_alone: dict) -> None:
    made = exported(name)
    predictions, there = with_torch_alone[name]
    decodable = check(predictions, there, made)
    expected = answers_in_this_process(made, decodable)
    assert torch.equal(predictions[decodable], expected[decodable])


@pytest.mark.parametrize("name", CODES)
def test_with_torch_alone_one_group_is_answered_bit_for_bit(name: str, exported: Make, with_torch_alone: dict) -> None:
    made = exported(name)
    row = slice(last_decodable(made), last_decodable(made) + 1)
    with torch.no_grad():
        for _ in ("at first", "with what the decoder remembers of the pattern"):
            expected = made.model(made.queries[row], made.available[row])
            assert torch.equal(with_torch_alone[name, "one group"][0], expected)


@pytest.mark.parametrize("name", CODES)
def test_loaded_by_parity_it_is_the_same_coded_model(name: str, exported: Make) -> None:
    made = exported(name)
    coded = load(made.folder)
    assert torch.equal(coded.preprocessing(made.stored), preprocessing()(made.stored))
    decodable = made.model.decoder.can_decode(made.available)
    assert torch.equal(coded.coded_model.decoder.can_decode(made.available), decodable)
    assert (coded.coded_model.decoder.tolerance, coded.k, coded.n) == (
        made.model.decoder.tolerance, made.model.k, made.model.n,
    )  # fmt: skip
    queries, available = made.queries[decodable], made.available[decodable]
    with torch.no_grad():
        expected = made.model(queries, available)
    assert torch.equal(coded(queries, available), expected)


@pytest.mark.parametrize(
    "name", [name if name in ONNX_IN_CI else pytest.param(name, marks=pytest.mark.slow) for name in CODES]
)
def test_with_onnxruntime_alone_it_answers_within_rounding(name: str, exported: Make, tmp_path: Path) -> None:
    made = exported(name, onnx=True)
    np.savez(tmp_path / "asked.npz", stored=made.stored.numpy(), available=made.available.numpy())
    run_alone("onnxruntime", HERE / "onnx_alone.py", made.folder, tmp_path / "asked.npz", tmp_path / "answers.npz")
    found = np.load(tmp_path / "answers.npz")
    predictions, there = torch.from_numpy(found["predictions"]), torch.from_numpy(found["there"])
    decodable = check(predictions, there, made)
    expected = answers_in_this_process(made, decodable)
    assert (predictions - expected)[decodable].abs().max() < 1e-5
