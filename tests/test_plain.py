"""Settings as plain values: the same names after a move, and older ones read as they were meant."""

import copy
import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from parity.coders import LinearEncoder
from parity.plain import ABSENT, as_before, changes, completed, differences, to_plain, upgraded, walk
from parity.training import Adam, CrossEntropy, ParityTargetLoss, SquaredError, WeightedSum, parities_alone

HERE = __name__


@dataclass(frozen=True)
class Fast:
    """An optimiser factory whose ``fused`` came later."""

    lr: float = 0.1
    fused: bool = field(default=True, metadata={ABSENT: False})
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True)
class Clipped:
    optimizer: Any
    names: list[str] = field(default_factory=lambda: ["weight"])


class Own(nn.Module):
    def __init__(self, distance: nn.Module, scale: float = 2.0) -> None:
        super().__init__()
        self.distance, self.scale = distance, scale


OLD_FAST = {"object": f"{HERE}.Fast", "lr": 0.1, "betas": [0.9, 0.999]}


def test_names_of_ours_have_no_module_and_a_users_keep_theirs() -> None:
    assert to_plain(CrossEntropy()) == {"object": "CrossEntropy", "as": "CrossEntropy()"}
    assert to_plain([LinearEncoder, parities_alone]) == ["LinearEncoder", "parities_alone"]
    assert to_plain(Fast()) == {**OLD_FAST, "fused": True}
    assert to_plain(nn.MSELoss())["object"] == "torch.nn.modules.loss.MSELoss"
    assert to_plain(functools.partial(Fast, lr=3)) == {"object": f"{HERE}.Fast", "args": [], "lr": 3}


def test_plain_settings_survive_a_json_file() -> None:
    settings = {1: {2: (Path("a") / "b", {"z", "y", "x"}), "relu": torch.relu}, "own": Own(nn.MSELoss())}
    plain = to_plain(settings)
    assert not list(changes(json.loads(json.dumps(plain)), plain))
    assert plain["1"]["2"] == ["a/b", ["x", "y", "z"]]


def test_a_file_of_version_1_has_the_names_of_today() -> None:
    old = {
        "loss": {
            "object": "parity.training.losses.WeightedSum",
            "terms": [[1.0, {"object": "parity.training.losses.ParityTargetLoss"}]],
        },
        "encoder": "parity.coders.linear.LinearEncoder",
        "patterns": "parity.training.losses.parities_alone",
        "own": "parity.experiments.MNIST.ablation.experiment_parameters.Own",
        "theirs": "torch.nn.modules.loss.MSELoss",
        "a_users": "own.parity.losses.Mine",
        "base": "parity.weights/best.pt",
        "file": "parity.pt",
        "k": 2,
    }
    assert upgraded(old) == {
        "loss": {"object": "WeightedSum", "terms": [[1.0, {"object": "ParityTargetLoss"}]]},
        "encoder": "LinearEncoder",
        "patterns": "parities_alone",
        "own": "Own",
        "theirs": "torch.nn.modules.loss.MSELoss",
        "a_users": "own.parity.losses.Mine",
        "base": "parity.weights/best.pt",
        "file": "parity.pt",
        "k": 2,
    }


def without(plain: Any, name: str) -> Any:
    """Plain settings as they were before some parameter existed."""
    if isinstance(plain, dict):
        return {key: without(item, name) for key, item in plain.items() if key != name}
    return [without(item, name) for item in plain] if isinstance(plain, list) else plain


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (dict(optimizer=Adam(lr=0.5)), "weight_decay"),
        (dict(code=Clipped(Adam())), "weight_decay"),
        (dict(code=Clipped(Adam())), "names"),
        (dict(network=functools.partial(Clipped, Adam(), names=(Adam(),))), "weight_decay"),
        (dict(losses=(Own(nn.MSELoss()), Own(SquaredError()))), "scale"),
        (dict(loss=WeightedSum((1.0, ParityTargetLoss(Own(nn.MSELoss()))))), "scale"),
    ],
)  # fmt: skip
def test_a_parameter_added_later_with_a_default_refuses_no_older_run(value: Any, name: str) -> None:
    now, old = to_plain(value), without(to_plain(value), name)
    assert list(differences(old, now))
    assert not list(differences(completed(old, value), now))


def test_an_objects_first_parameter_refuses_no_older_run() -> None:
    value = Own(nn.MSELoss())
    del value._modules["distance"]
    old = {"object": f"{HERE}.Own", "as": "Own()"}
    assert not list(differences(completed(old, value), to_plain(value)))


def test_a_parameter_added_later_with_another_value_than_its_default_differs() -> None:
    value = dict(optimizer=Adam(weight_decay=0.5))
    old = without(to_plain(value), "weight_decay")
    assert list(differences(completed(old, value), to_plain(value))) == ["optimizer.weight_decay: 0.0 -> 0.5"]


def test_keys_added_later_to_the_defaults_of_all_configs_refuse_no_older_run() -> None:
    defaults = dict(trainer=dict(precision="32-true"))
    now: dict[str, Any] = dict(trainer=dict(precision="32-true", max_epochs=3))
    assert completed(dict(trainer=dict(max_epochs=3)), now, defaults) == now
    now["trainer"]["precision"] = "bf16-mixed"
    assert list(differences(completed(dict(trainer=dict(max_epochs=3)), now, defaults), now)) == [
        "trainer.precision: 32-true -> bf16-mixed"
    ]


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda fast: fast,
        lambda fast: dict(a=fast),
        lambda fast: [1, fast],
        lambda fast: (fast, 2),
        lambda fast: Clipped(fast),
        lambda fast: dict(a=[Clipped((Clipped(fast), 3))]),
    ],
)
def test_what_lacks_a_field_means_what_it_meant_before(wrapped: Any) -> None:
    today, then = wrapped(Fast()), wrapped(Fast(fused=False))
    old = without(to_plain(today), "fused")
    assert as_before(today, old) == then
    assert not list(differences(completed(old, then), to_plain(then)))
    assert as_before(today, to_plain(then)) == then  # written when it was resumed, and resumed again
    assert as_before(today, to_plain(today)) == today


def test_a_partials_arguments_mean_what_they_meant_before() -> None:
    value = functools.partial(Clipped, Fast(), names=[Fast()])
    before = as_before(value, without(to_plain(value), "fused"))
    assert before() == Clipped(Fast(fused=False), [Fast(fused=False)])


def test_a_value_that_was_chosen_is_not_replaced() -> None:
    @dataclass(frozen=True)
    class Chosen:
        foreach: str = field(default="auto", metadata={ABSENT: "off"})

    value = Chosen("on")
    old = without(to_plain(value), "foreach")
    assert as_before(value, old) == value
    assert list(differences(completed(old, value), to_plain(value))) == ["foreach: off -> on"]


def test_another_objects_settings_change_nothing() -> None:
    for old in (None, 3, "Fast", [], [1], {}, {"object": "Other"}, {"object": f"{HERE}.Other", "lr": 1}):
        assert as_before(Fast(), old) == Fast()
        assert as_before([Fast(), Fast()], old) == [Fast(), Fast()]
    differs = list(differences(completed({"object": "Other"}, Fast()), to_plain(Fast())))
    assert f"object: Other -> {HERE}.Fast" in differs


def test_paths_that_are_skipped_are_not_compared() -> None:
    old, new = dict(data=dict(workers=1, k=2), seed=1), dict(data=dict(workers=2, k=2), seed=2)
    assert [change.path for change in changes(old, new, {"data.workers"})] == ["seed"]
    assert not list(changes(old, new, {"data", "seed"}))


def test_the_walker_rebuilds_what_holds_values() -> None:
    value = {1: (1, [np.float64(2), {"a": 3}])}
    assert walk(value, float) == {"1": [1.0, [2.0, {"a": 3.0}]]}
    assert walk(value, float, keys=lambda key: key, keep_tuples=True) == {1: (1.0, [2.0, {"a": 3.0}])}


class Margin(nn.Module):
    """Keeps an argument under a private name, and a tensor as a buffer."""

    def __init__(self, margin: float = 1.0, centres: Any = None) -> None:
        super().__init__()
        self._margin = margin
        self.register_buffer("centres", centres)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])), nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0]))),
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0]))),
        (Margin(1.0), Margin(5.0)),
        (Own(Margin(centres=torch.zeros(2))), Own(Margin(centres=torch.zeros(2, dtype=torch.float64)))),
        (torch.arange(2000), torch.arange(2000).index_fill(0, torch.tensor([1000]), 5)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (functools.partial(Fast, betas=np.arange(2000)), functools.partial(Fast, betas=np.arange(1, 2001))),
    ],
)
def test_tensors_and_private_arguments_are_settings(one: Any, other: Any) -> None:
    assert list(changes(completed(to_plain(one), other), to_plain(other)))
    assert to_plain(one) == json.loads(json.dumps(to_plain(copy.deepcopy(one))))


@pytest.mark.parametrize(
    ("value", "version_2"),
    [
        (
            nn.CrossEntropyLoss(weight=torch.ones(2)),
            {"object": "torch.nn.modules.loss.CrossEntropyLoss", "reduction": "mean", "ignore_index": -100,
             "label_smoothing": 0.0},
        ),
        (Margin(3.0), {"object": f"{HERE}.Margin", "as": "Margin()"}),
        (torch.ones(2), {"object": "torch.Tensor", "as": "tensor([1., 1.])"}),
    ],
)  # fmt: skip
def test_what_version_2_did_not_have_refuses_no_run_of_it(value: Any, version_2: Any) -> None:
    for wrapped, old in ((value, version_2), ([dict(a=value)], [dict(a=version_2)])):
        assert not list(changes(completed(old, wrapped, version=2), to_plain(wrapped)))


def test_a_loss_without_tensors_is_written_as_in_version_2() -> None:
    assert to_plain(nn.CrossEntropyLoss()) == {
        "object": "torch.nn.modules.loss.CrossEntropyLoss", "reduction": "mean", "ignore_index": -100,
        "label_smoothing": 0.0,
    }  # fmt: skip


def test_what_a_loss_trains_is_not_part_of_its_identity() -> None:
    loss = nn.Linear(2, 1)
    before = to_plain(loss)
    with torch.no_grad():
        loss.weight.add_(1)
    assert to_plain(loss) == before


class Pair(NamedTuple):
    first: Any
    second: Any = 1.0


def test_a_named_tuple_of_a_config_keeps_its_kind() -> None:
    before = as_before(Pair(Fast()), [OLD_FAST, 1.0])
    assert before == Pair(Fast(fused=False))
    assert isinstance(before, Pair)
    assert to_plain(Pair(2)) == [2, 1.0]


def test_a_value_that_is_not_a_number_is_the_same_at_another_time() -> None:
    # "a: nan -> nan" kept a run from being resumed for ever.
    settings = {"a": float("nan"), "b": [1.0, float("nan")], "c": 1.0}
    old = json.loads(json.dumps(to_plain(settings)))
    assert not list(differences(old, to_plain(settings)))
    found = list(differences(old, {"a": 1.0, "b": [2.0, float("nan")], "c": float("nan")}))
    assert found == ["a: nan -> 1.0", "b: [1.0, nan] -> [2.0, nan]", "c: 1.0 -> nan"]
