"""Files that hold a network's weights among other things, under other names, or in types that cannot be copied."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.errors import ParityError
from parity.models import MLP, load_into, read_weights
from parity.models.weights import check_finite, fingerprint

State = dict[str, Tensor]


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def state(seed: int = 0) -> State:
    return dict(network(seed).state_dict())


def under(prefix: str, weights: State) -> State:
    return {prefix + name: value for name, value in weights.items()}


def loaded(content: object, tmp_path: Path, target: nn.Module) -> str:
    """Load a file with such content, and return the fingerprint of what it makes of a network."""
    torch.save(content, tmp_path / "weights.pt")
    load_into(target, read_weights(tmp_path / "weights.pt"), tmp_path / "weights.pt")
    return fingerprint(target)


OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(3, 2), "step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize(
    ("content", "prefix"),
    [
        *(
            ({name: state(), "optimizer": OPTIMIZER, "epoch": 3}, f"{name}.")
            for name in ("net", "model", "model_state", "model_state_dict", "ema", "weights", "params")
        ),
        ({"model": under("module.", state()), "epoch": torch.tensor(3)}, "model."),
        ({"experiment": {"student": {"state_dict": state()}}}, "experiment.student.state_dict."),
        ({"state_dict": under("backbone.", state()) | {"criterion.weight": torch.ones(3)}}, "backbone."),
        (under("net._orig_mod.", state()) | {"metric.total": torch.tensor(3)}, "net."),
        (AveragedModel(network()).state_dict(), "module."),
        (AveragedModel(nn.DataParallel(network())).state_dict(), "module."),
        ({"swa": AveragedModel(network()).state_dict()}, "swa.module."),
        ({"model": state(), "ema": {"0.weight": torch.ones(3, 2)}}, "model."),
        ({"big": state() | {"0.weight": torch.ones(3, 7)}, "small": state()}, "small."),
        ({"float": state(), "int8": {name: value.to(torch.int8) for name, value in state().items()}}, "float."),
        ({"model": state(), "copy": state()}, "model."),
    ],
)
def test_weights_within_a_file_are_found_and_the_log_names_their_prefix(
    content: object, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "parity")
    assert loaded(content, tmp_path, network(1)) == fingerprint(network())
    assert f"took the weights under '{prefix}' of {tmp_path}" in caplog.text


class Wrapping(nn.Module):
    """A network with a member called ``model``, and perhaps one called ``state_dict``."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.model = network(seed)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"state_dict": weights},
        lambda weights: {"state_dict": under("model.", weights), "pytorch-lightning_version": "2.5"},
        lambda weights: under("model.", weights),
        lambda weights: under("module.", weights),
    ],
)
def test_a_network_with_a_member_called_model_takes_its_plain_state_dict(
    wrap: Callable[[State], Any], tmp_path: Path
) -> None:
    source = Wrapping(0)
    assert loaded(wrap(dict(source.state_dict())), tmp_path, Wrapping(1)) == fingerprint(source)


def coded() -> CodedModel:
    query, prediction = (2,), (3,)
    networks = [MLP(query, prediction, hidden=(4,)) for _ in range(2)]
    return CodedModel(networks[0], LinearEncoder(2, 1, query), networks[1:], LinearDecoder(2, 1, prediction))


def test_a_coded_models_checkpoint_has_one_base_model() -> None:
    source, base = coded(), MLP((2,), (3,), hidden=(4,))
    load_into(base, under("model.", dict(source.state_dict())), "last.ckpt")
    assert fingerprint(base) == fingerprint(source.base_model)
    whole = coded()
    load_into(whole, under("model.", dict(source.state_dict())), "last.ckpt")
    assert fingerprint(whole) == fingerprint(source)


def test_a_lightning_checkpoints_weights_are_those_of_its_state_dict(tmp_path: Path) -> None:
    content = {"state_dict": state(), "average": state(2), "pytorch-lightning_version": "2.5"}
    assert loaded(content, tmp_path, network(1)) == fingerprint(network())


def test_several_weights_that_fit_are_not_chosen_from(tmp_path: Path) -> None:
    target = network(1)
    with pytest.raises(ParityError, match=r"several weights that fit Sequential, under 'ema\.' and 'model\.': save"):
        loaded({"model": state(), "ema": state(2)}, tmp_path, target)
    assert fingerprint(target) == fingerprint(network(1))


@pytest.mark.parametrize("mark", ["module.", "_orig_mod."])
def test_two_weights_of_one_name_are_not_chosen_from(mark: str, tmp_path: Path) -> None:
    """Where a wrapper's mark is removed, the later one would take the place of the other."""
    for content in (state(0) | under(mark, state(1)), under(mark, state(1)) | state(0)):
        with pytest.raises(ParityError, match=rf"several weights of one name, '({mark})?0.weight' and "):
            loaded(content, tmp_path, network(2))
    assert loaded(state(0) | under(mark, state(0)), tmp_path, network(2)) == fingerprint(network(0))


def test_what_is_missing_and_what_is_left_over_under_the_closest_prefix(tmp_path: Path) -> None:
    weights = {name: value for name, value in state().items() if name != "0.bias"} | {"fc.bias": torch.ones(3)}
    names = r"under 'net\.', '0\.bias' is missing, and 'fc\.bias' is unknown to it\."
    with pytest.raises(ParityError, match=f"do not fit Sequential: {names}"):
        loaded({"net": weights, "head": {"0.bias": torch.ones(3)}}, tmp_path, network())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weight: weight.to(torch.int8), "is int8, expected floating-point numbers"),
        (lambda weight: weight.to(torch.uint8), "is uint8, expected floating-point numbers"),
        (lambda weight: weight.long(), "is int64, expected floating-point numbers"),
        (lambda weight: weight > 0, "is bool, expected floating-point numbers"),
        (lambda weight: weight.to(torch.complex64), "is complex64, expected floating-point numbers"),
        (lambda weight: weight.to(torch.float8_e4m3fn), "is float8_e4m3fn, expected floating-point numbers"),
        (lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), "is qint8, expected"),
        (lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.quint8), "is quint8, expected"),
        (lambda weight: weight.to_sparse(), r"is a sparse_coo tensor: save it as a dense one"),
        (lambda weight: weight.to_sparse_csr(), r"is a sparse_csr tensor: save it as a dense one"),
        (lambda weight: torch.nested.nested_tensor([weight[0], weight[1]]), "is a nested tensor"),
        (lambda weight: weight.to("meta"), "is a tensor of the meta device"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:The PyTorch API of nested tensors")
def test_tensors_that_cannot_be_copied_as_they_are_are_refused_by_name(
    change: Callable[[Tensor], Tensor], message: str, tmp_path: Path
) -> None:
    target, weights = network(1), state()
    with pytest.raises(ParityError, match=rf"'0\.weight' {message}"):
        loaded(weights | {"0.weight": change(weights["0.weight"])}, tmp_path, target)
    assert fingerprint(target) == fingerprint(network(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precision_are_rounded(dtype: torch.dtype, tmp_path: Path) -> None:
    target = network(1)
    loaded({name: value.to(dtype) for name, value in state().items()}, tmp_path, target)
    torch.testing.assert_close(target[0].weight.data, state()["0.weight"], atol=1e-2, rtol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_is_named_as_one_and_not_as_damaged(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(network()), tmp_path / "scripted.pt")
    with pytest.raises(ParityError, match="is a TorchScript program") as error:
        read_weights(tmp_path / "scripted.pt")
    assert "damaged" not in str(error.value)


def test_a_dictionary_that_contains_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["again"] = content
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ParityError, match="holds no state dict"):
        read_weights(tmp_path / "weights.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    broken = network()
    check_finite(broken)
    with torch.no_grad():
        broken[0].bias[1] = value
    with pytest.raises(ParityError, match=re.escape("1 of 3 numbers in '0.bias' are NaN or infinite")):
        check_finite(broken)


def test_buffers_may_be_infinite_but_not_nan() -> None:
    masked = network()
    masked.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    check_finite(masked)
    masked[1].running_var[0] = torch.nan
    with pytest.raises(ParityError, match=r"'1\.running_var'"):
        check_finite(masked)
