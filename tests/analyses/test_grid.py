import json
import subprocess
import sys

import pytest

from parity.analyses.error_propagation import STUDY as ERRORS
from parity.analyses.grid import NAMES, grid_id, trials_of
from parity.analyses.training_stability import STUDY, paper_axes
from parity.errors import ParityError


def test_what_a_rule_or_an_optimizer_does_not_have_is_no_axis_for_it() -> None:
    axes = dict(rule=("bp", "pc"), widths=(32,), state_lr=(0.1, 0.2, 0.3), momentum=(0.0, 0.9), seeds=1)
    trials = trials_of(axes)
    assert len(trials) == 3 + 3 * 3  # SGD with two momenta and AdamW with one, three gammas of predictive coding
    assert {trial.state_lr for trial in trials if trial.rule == "bp"} == {None}
    assert {trial.momentum for trial in trials if trial.optimizer == "adamw"} == {0.9}


def test_the_paper_s_grid_for_two_moons() -> None:
    trials = trials_of(paper_axes("two_moons"))
    assert len(trials) == 8 * 3 * 10 * (1 + 10)  # widths, optimisers with momenta, seeds, BP and ten gammas of PC
    assert {trial.lr for trial in trials} == {0.03}


def test_parity_models_come_beside_base_models() -> None:
    trials = trials_of(dict(parity=True, rule=("bp",), widths=(32,), optimizer=("sgd",), seeds=1))
    assert [trial.parity for trial in trials] == [False, True]


def test_ids_say_what_is_trained() -> None:
    one, other = trials_of(dict(widths=(32,), optimizer=("sgd",), seeds=2))
    assert one.id != other.id
    assert one.id == trials_of(dict(widths=(8, 32), optimizer=("sgd",), seeds=1))[1].id  # of another grid
    assert grid_id("a", {"lr": (1,)}) == grid_id("a", json.loads('{"lr": [1]}'))
    assert grid_id("a", {"lr": (1,)}) != grid_id("a", {"lr": (2,)})


@pytest.mark.parametrize(
    ("axes", "named"),
    [
        (dict(rule=("backprop",)), "--rule knows no 'backprop': there is: bp, pc"),
        (dict(optimizer=("adam",)), "did you mean 'adamw'"),
        (dict(activation=("swish",)), "there is: gelu, hard_tanh"),
        (dict(weight_init=("xavier",)), "did you mean 'xavier_normal'"),
        (dict(state_init=("zero",)), "there is: forward, normal"),
        (dict(task=("MNIST", "two_moon")), "did you mean 'two_moons'"),
        (dict(task=("TwoCircles",)), "did you mean 'two_circles'"),
        (dict(widths=(0,)), "--widths"),
        (dict(seeds=0), "--seeds"),
        (dict(lr=(0.0,)), "--lr"),
        (dict(state_lr=(float("nan"),)), "--state_lr"),
        (dict(momentum=(1.0,)), "--momentum"),
        (dict(steps=-1), "--steps"),
        (dict(constant_layer_size=True), "two_moons"),
        (dict(constant_layer_size=True, task=("MNIST",), widths=(200,)), "squares"),
        (dict(constant_layer_size=True, task=("MNIST",), widths=(196,), parity=True), "classes"),
    ],
)
def test_a_grid_that_makes_no_sense_is_an_error(axes: dict[str, object], named: str) -> None:
    with pytest.raises(ParityError, match=named):
        trials_of(axes)


def test_names_are_those_of_what_they_name() -> None:
    from parity.models.layered_mlp import ACTIVATIONS, WEIGHT_INITS
    from parity.training.predictive_coding import STATE_INITS

    assert [*NAMES["activation"]] == [*ACTIVATIONS]
    assert [*NAMES["weight_init"]] == [*WEIGHT_INITS]
    assert NAMES["state_init"] == STATE_INITS


def test_default_grids_are_short() -> None:
    """About 2.5 seconds each, on 2 cores: below 15 minutes."""
    for kind in (STUDY, ERRORS):
        assert len(trials_of(kind.axes)) * 2.5 / 2 < 15 * 60


def test_help_needs_no_torch() -> None:
    code = (
        "import sys, parity.analyses.training_stability as s, parity.analyses.command_line as c;"
        "c.get_parser(s.STUDY).format_help(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
