"""One call: a network and data of one's own become a coded model whose loss is known."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

import parity
from parity.coders import LinearDecoder, LinearEncoder
from parity.data.digits import DigitsDataModule
from parity.errors import ParityError
from parity.protection.codes import _clause, choose
from parity.protection.networks import prepared
from parity.protection.protectable import Protectable
from tests.protection.conftest import OwnDigits, small_cnn

QUIET = dict(progress=False, accelerator="cpu")
SENTENCE = re.compile(
    r"(loses|gains) −?\d+\.\d points \(−?\d+\.\d to −?\d+\.\d, 95 %, paired\) when a worker is missing: "
    r"A_a \d\.\d{4}, A_d \d\.\d{4}"
)


def test_a_network_is_protected_measured_and_answers(digits: OwnDigits, cnn: nn.Module, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in cnn.state_dict().items()}
    result = parity.protect(cnn, digits.train, digits.val, k=4, max_epochs=25, checkpoints_path=tmp_path, **QUIET)
    assert SENTENCE.fullmatch(str(result)), str(result)
    assert result.code == "cells"
    assert "predicts cells of (1, 4, 4)" in result.why
    assert all(torch.equal(value, before[name]) for name, value in cnn.state_dict().items())
    assert all(parameter.requires_grad for parameter in cnn.parameters())

    evaluation = result.evaluate(digits.test, baselines=True)
    frame = evaluation.frame.set_index("name")
    assert frame.loc["cells", "A_d_1"] > 0.75
    assert frame.loc["cells", "loss_1"] == pytest.approx(
        frame.loc["cells", "A_a"] - frame.loc["cells", "A_d_1"], abs=2e-6
    )
    assert frame.loc["replication x2", "loss_1"] == 0
    assert 0 < frame.loc["replication x2", "loss_1_high"] == -frame.loc["replication x2", "loss_1_low"] < 0.01
    assert "NeRCC" in frame.index  # its smoothing is chosen on the validation data
    assert (tmp_path / "report" / "report.html") in evaluation.report(tmp_path / "report")

    queries = digits.test[0][:8].unflatten(0, (2, 4))
    available = torch.ones(2, 5, dtype=torch.bool)
    available[:, 1] = False
    with torch.no_grad():
        predictions = result.coded_model(queries, available)
    assert torch.equal(predictions[:, 0], result.coded_model.base_outputs(queries)[:, 0])
    assert len(result.history) == 25


def test_the_same_call_loads_what_was_trained(digits: OwnDigits, cnn: nn.Module, tmp_path: Path) -> None:
    first = parity.protect(cnn, digits.train, digits.val, k=2, max_epochs=2, checkpoints_path=tmp_path, **QUIET)
    again = parity.protect(cnn, digits.train, digits.val, k=2, max_epochs=2, checkpoints_path=tmp_path, **QUIET)
    states = first.coded_model.state_dict(), again.coded_model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert again.history == first.history


def test_an_interrupted_call_is_resumed_by_the_same_call(digits: OwnDigits, cnn: nn.Module, tmp_path: Path) -> None:
    class Crash(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, *_: object) -> None:
            if trainer.current_epoch == 2:
                raise RuntimeError("power cut")

    def call(folder: str, **options: object) -> parity.protection.Protected:
        options |= dict(k=2, max_epochs=4, checkpoints_path=tmp_path / folder)
        return parity.protect(cnn, digits.train, digits.val, **options, **QUIET)

    with pytest.raises(RuntimeError, match="power cut"):
        call("cut", callbacks=Crash())
    resumed, whole = call("cut"), call("whole")
    states = resumed.coded_model.state_dict(), whole.coded_model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert [epoch["epoch"] for epoch in resumed.history] == [epoch["epoch"] for epoch in whole.history]


def test_a_folder_of_another_network_or_code_is_not_taken_for_this_ones(
    digits: OwnDigits, cnn: nn.Module, tmp_path: Path
) -> None:
    def call(network: nn.Module, **options: object) -> None:
        options |= dict(max_epochs=1, checkpoints_path=tmp_path / "mine", augmentation=None)
        parity.protect(network, digits.train, digits.val, **options, **QUIET)

    call(cnn, k=2)
    before = (tmp_path / "mine" / "best.ckpt").read_bytes()
    with pytest.raises(ParityError, match=r"base model of other weights .*: train in another folder"):
        call(small_cnn().eval(), k=2)
    for options in (dict(k=4), dict(k=2, code="grid"), dict(k=2, code="add"), dict(k=2, towards="network")):
        with pytest.raises(ParityError, match=r"another checkpoints_path|train in another folder"):
            call(cnn, **options)
    assert (tmp_path / "mine" / "best.ckpt").read_bytes() == before


WRONG = [
    (dict(k=0), "k = 2 queries or more"),
    (dict(k="4"), "k should be an integer"),
    (dict(k=2.5), "k should be an integer"),
    (dict(r=0), "r should be the number of parity queries"),
    (dict(code=["cells"]), "code should be 'auto'"),
    (dict(code="cell"), "did you mean 'cells'"),
    (dict(max_epochs=0), "max_epochs should be a number of epochs, 1 or more"),
    (dict(augmentation="flip"), "augmentation should be 'auto', None"),
    (dict(scaling=255), "scaling should be a Scaling"),
    (dict(recipe="fast"), "recipe should be a Recipe"),
    (dict(output="logits"), "a tensor, which has no part 'logits': leave out output="),
    (dict(output=lambda returned: returned.logits), "the function that is output= cannot be called with a Tensor"),
    (dict(output=lambda returned: [returned]), "output=.* selects a list of 0, not a tensor"),
    (dict(output=1.5), "output should be a key"),
    (dict(output=True), "output should be a key"),
    (dict(factory=small_cnn()), "factory should be called with"),
    (dict(factory=lambda query: small_cnn()), "factory should be called with"),
    (dict(task="classes"), "task should be a Task"),
    (dict(towards="label"), "did you mean 'labels'"),
    (dict(size=0), "size should be a side"),
    (dict(num_validation="10"), "num_validation should be a number"),
    (dict(seed=-1), "seed should be an integer"),
    (dict(checkpoints_path=5), "a path is a text"),
    (dict(epochs=3), "give max_epochs="),
    (dict(lr=1e-3), r"give recipe=Recipe\(optimizer=AdamW\(lr="),
    (dict(augmentation=lambda queries: queries[:1]), "the augmentation makes another shape"),
    (dict(augmentation=lambda queries: queries.nothing), "the augmentation cannot be called with"),
    (dict(code={}), "needs 'encoder', a class"),
    (dict(code=dict(encoder=LinearEncoder(2, 1, (1, 8, 8)), decoder=LinearDecoder)), "needs 'encoder', a class"),
    (
        dict(code=dict(encoder=LinearDecoder, decoder=LinearEncoder)),
        r"is a LinearDecoder, not a parity\.coders\.Encoder",
    ),
    (dict(code=dict(encoder=LinearEncoder, decoder=lambda: None)), "the decoder of .* cannot be made with"),
    (
        dict(code=dict(encoder=LinearEncoder, decoder=LinearDecoder, parity_model=small_cnn)),
        "has a 'parity_model' that",
    ),
    (
        dict(code=dict(encoder=LinearEncoder, decoder=LinearDecoder, parity_model=lambda *shapes: Other(3))),
        r"a parity model cannot predict \(10,\) for a parity query: it returns \(2, 3\)",
    ),
]


@pytest.mark.parametrize(("options", "sentence"), WRONG)
def test_wrong_values_are_refused_before_any_work(
    digits: OwnDigits, cnn: nn.Module, options: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ParityError, match=sentence) as refused:
        parity.protect(cnn, digits.train, digits.val, **{"checkpoints_path": tmp_path / "new", **options}, **QUIET)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("wrap", [lambda network: torch.compile(network, backend="eager"), nn.DataParallel])
def test_a_network_that_is_compiled_or_runs_on_several_devices_is_taken_out_of_its_wrapper(
    mlp: nn.Module, wrap: Callable[[nn.Module], nn.Module]
) -> None:
    assert type(prepared(nn.DataParallel(wrap(mlp)), None)) is type(mlp)
    assert prepared(wrap(mlp), None).state_dict().keys() == mlp.state_dict().keys()


def test_no_labels_train_towards_the_network(digits: OwnDigits, cnn: nn.Module) -> None:
    result = parity.protect(cnn, digits.train[0], digits.val[0], k=2, max_epochs=2, **QUIET)
    code = result.measured.results["codes"][0]
    assert code["A_a"]["value"] == 1
    assert code["A_d"]["1"]["value"] == code["reconstruction"]["1"]["value"]
    with pytest.raises(ParityError, match="no labels to train towards"):
        parity.protect(cnn, digits.train[0], digits.val[0], k=2, towards="labels", **QUIET)


def test_a_datamodule_of_ours_brings_its_own_splits(cnn: nn.Module) -> None:
    result = parity.protect(cnn, DigitsDataModule(), k=3, max_epochs=1, **QUIET)
    assert result.evaluate().results["dataset"] == "Digits"


def test_a_network_of_one_size_answers_a_grid_with_a_head_for_k(digits: OwnDigits, mlp: nn.Module) -> None:
    result = parity.protect(mlp, digits.train, digits.val, k=4, code="grid", max_epochs=1, **QUIET)
    assert result.code == "grid"
    assert "a last linear layer for k predictions" in result.why
    assert result.coded_model.parity_models[0](torch.rand(2, 1, 8, 8)).shape == (2, 4, 10)


def test_a_factory_makes_networks_for_cells(digits: OwnDigits, mlp: nn.Module) -> None:
    def factory(query: tuple[int, ...], prediction: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(query[1] * query[2], 80), nn.ReLU(), nn.Linear(80, *prediction))

    result = parity.protect(mlp, digits.train, digits.val, k=4, max_epochs=1, factory=factory, **QUIET)
    assert result.code == "cells"
    assert "factory" in result.why


def test_vectors_are_added_up_in_orders_of_their_own(digits: OwnDigits) -> None:
    network = nn.Sequential(nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 10))
    flat = digits.train[0].flatten(1), digits.train[1]
    assert parity.protect(network, flat, k=2, code="keyed", max_epochs=1, **QUIET).code == "keyed"


class Other(nn.Module):
    """Ends in something else than a linear layer, and takes images of one size alone."""

    def __init__(self, numbers: int = 10) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(64, numbers) / 8)

    def forward(self, queries: Tensor) -> Tensor:
        return (queries.flatten(1) @ self.weights).tanh()


def test_a_network_without_a_last_linear_layer_gets_a_default_one_for_cells(digits: OwnDigits) -> None:
    result = parity.protect(Other(), digits.train, digits.val, k=2, max_epochs=1, **QUIET)
    assert result.code == "cells"
    assert "a default network of no higher cost" in result.why
    with pytest.raises(ParityError, match="its predictions are not those of a last linear layer"):
        choose("grid", protectable(Other(), digits.train[0][:2]))


@torch.no_grad()
def protectable(network: nn.Module, queries: Tensor) -> Protectable:
    return Protectable(network, queries, network(queries), k=2, r=1)


@dataclass
class Returned:
    """As HuggingFace's networks return."""

    logits: Tensor
    loss: None = None


@pytest.mark.parametrize(
    ("wrapped", "output"),
    [
        (lambda logits: (logits, None), 0),
        (Returned, "logits"),
        (lambda logits: {"loss": None, "logits": logits}, "logits"),
        (lambda logits: {"all": [logits]}, lambda returned: returned["all"][0]),
    ],
)
def test_what_a_network_returns_beside_logits_is_left_out(digits: OwnDigits, mlp: nn.Module, wrapped, output) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp

        def forward(self, queries: Tensor):
            return wrapped(self.inner(queries))

    result = parity.protect(Wrapped(), digits.train, digits.val, k=2, max_epochs=1, output=output, **QUIET)
    assert torch.equal(result.coded_model.base_model(digits.val[0]), mlp(digits.val[0]))
    with pytest.raises(ParityError, match="choose the predictions by output="):
        parity.protect(Wrapped(), digits.train, digits.val, k=2, **QUIET)


def test_codes_are_chosen_by_hand(digits: OwnDigits, cnn: nn.Module) -> None:
    code = dict(encoder=LinearEncoder, decoder=LinearDecoder)
    own = parity.protect(cnn, digits.train, digits.val, k=2, max_epochs=1, code=code, **QUIET)
    assert own.code == "own"
    add = parity.protect(cnn, digits.train, digits.val, k=2, max_epochs=1, code="add", **QUIET)
    both = parity.evaluate({"own": own, "add": add}, digits.test)
    assert [code["name"] for code in both.results["codes"]] == ["own", "add"]
    assert both.results["codes"][1]["against"][0]["name"] == "own"
    with pytest.raises(ParityError, match="did you mean 'cells'"):
        parity.protect(cnn, digits.train, k=2, code="cell", **QUIET)


class Returning(nn.Module):
    """Ten numbers of an image, made something else of."""

    def __init__(self, made: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.made, self.calls = nn.Linear(64, 10), made, 0

    def forward(self, queries: Tensor) -> Any:
        self.calls += 1
        return self.made(self.linear(queries.flatten(1)))


class Drifting(Returning):
    """Predicts by how often it was called."""

    def forward(self, queries: Tensor) -> Tensor:
        return super().forward(queries) + self.calls


REFUSED = [
    (Returning(lambda numbers: ()), "the network returns a tuple, not a tensor"),
    (Returning(lambda numbers: numbers.long()), "returns int64, expected floats"),
    (Returning(lambda numbers: numbers.to(torch.complex64)), "returns complex64, expected floats"),
    (Returning(lambda numbers: numbers[:, :0]), r"returns \(2, 0\) for 2 queries"),
    (Returning(lambda numbers: numbers.squeeze(0)), r"returns \(10,\) for 1 queries"),
    (Returning(lambda numbers: numbers - numbers.mean(0)), "depend on what came before or beside a query"),
    (Returning(lambda numbers: nn.functional.dropout(numbers)), "depend on .*, or on chance"),
    (Drifting(lambda numbers: numbers), "depend on what came before"),
    ({"weight": torch.zeros(10)}, "if these are weights, load them into their network"),
    (nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1)), "returns probabilities"),
    (nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), "one number for each query"),
    (nn.Sequential(nn.Flatten(), nn.Linear(63, 10)), r"cannot take queries of shape \(1, 8, 8\)"),
    (nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), "lazy parameters"),
    (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double(), "parameters are float64"),
    (nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(10)), "has no parameters"),
    (nn.Linear, "should be a torch.nn.Module"),
    (None, "should be a torch.nn.Module"),
]


@pytest.mark.parametrize(("network", "sentence"), REFUSED)
def test_networks_that_cannot_be_protected_are_refused(digits: OwnDigits, network, sentence: str) -> None:
    with pytest.raises(ParityError, match=sentence):
        parity.protect(network, digits.train, digits.val, k=2, **QUIET)


def test_reasons_keep_the_dots_of_what_to_give() -> None:
    for sentence in ("give factory=...", "there are cells of 2 pixels."):
        assert _clause(ParityError(sentence)) == sentence.replace("pixels.", "pixels")
