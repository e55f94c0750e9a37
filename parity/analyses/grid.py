"""Grids: the trials that a study's axes span. Light to import, so that a mistyped option is refused at once."""

import difflib
import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from parity.errors import ParityError, did_you_mean

DATASETS = MappingProxyType({"two_moons": "TwoMoons", "two_circles": "TwoCircles"})
"""Names of data sets by those of tasks, where they are not the same."""

NAMES = MappingProxyType(
    {
        "rule": ("bp", "pc"),
        "optimizer": ("sgd", "adamw"),
        "activation": ("leaky_relu", "hard_tanh", "relu", "tanh", "gelu"),
        "weight_init": ("default", "xavier_normal", "kaiming_normal", "orthogonal"),
        "state_init": ("forward", "normal"),
    }
)
"""What axes of names may hold, here as well as where torch is: a mistyped one is refused before any import."""

_AXES_OF_TRIALS = ("activation", "weight_init", "optimizer", "momentum", "lr", "state_lr", "state_init")
"""Axes that have the name of a trial's setting."""

ADAMW_MOMENTUM = 0.9

_MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Trial:
    """One short training. What does not concern its learning rule is None.

    Args:
        task: 'two_moons', 'two_circles', or the name of a data set of images, e.g. 'MNIST'.
        parity: a parity model of k = 2 is trained, of the task's base model; else a base model is.
        rule: 'bp', backpropagation, or 'pc', predictive coding.
        width: of each hidden layer.
        hidden_layers: how many.
        constant_layer_size: queries are resized, and classes added that never occur, until all layers have this width.
        activation, weight_init: as ``parity.models.layered_mlp`` names them.
        optimizer: 'sgd' or 'adamw'.
        momentum: of SGD; AdamW's first beta.
        lr: learning rate of the weights.
        state_lr, steps, state_init: of predictive coding: gamma, T, and how hidden states begin.
        epochs, batch_size, steps_per_epoch: how long; None is all of the data.
        seed: of everything random.
    """

    task: str = "two_moons"
    parity: bool = False
    rule: str = "pc"
    width: int = 128
    hidden_layers: int = 2
    constant_layer_size: bool = False
    activation: str = "leaky_relu"
    weight_init: str = "default"
    optimizer: str = "adamw"
    momentum: float = ADAMW_MOMENTUM
    lr: float = 0.003
    state_lr: float | None = 0.1
    steps: int | None = 8
    state_init: str | None = "forward"
    epochs: int = 8
    batch_size: int = 64
    steps_per_epoch: int | None = None
    seed: int = 0

    @property
    def dataset(self) -> str:
        """Name of the task's data set."""
        return DATASETS.get(self.task, self.task)

    @property
    def id(self) -> str:
        """What the trial's files are called: the same for the same settings, in every study."""
        return _hash(asdict(self), 16)

    def result_file(self, study: Path) -> Path:
        """Return where its result lies in a study's folder, once it is finished: whole or not at all."""
        return study / "trials" / f"{self.id}.json"

    def log_file(self, study: Path) -> Path:
        """Return where its output goes."""
        return study / "logs" / f"{self.id}.log"


class Length(NamedTuple):
    """How long trials of a task take by default."""

    epochs: int
    batch_size: int
    steps_per_epoch: int | None


_LENGTHS = {task: Length(epochs=8, batch_size=64, steps_per_epoch=None) for task in DATASETS}
_LENGTH_OF_IMAGES = Length(epochs=4, batch_size=64, steps_per_epoch=100)

Axes = Mapping[str, Any]
"""Values by the names of a study's options: tuples of what is varied, ``seeds``, and scalars of what is not."""

DEFAULTS: Axes = MappingProxyType(
    dict(
        task=("two_moons",),
        rule=("pc",),
        parity=False,
        widths=(32, 128, 512),
        hidden_layers=2,
        constant_layer_size=False,
        activation=("leaky_relu",),
        weight_init=("default",),
        optimizer=NAMES["optimizer"],
        momentum=(0.9,),
        lr=(0.003,),
        state_lr=(0.1,),
        steps=8,
        state_init=("forward",),
        epochs=None,
        batch_size=None,
        steps_per_epoch=None,
        seeds=2,
    )
)


def trials_of(axes: Axes) -> list[Trial]:
    """Return all trials of a grid, each once: what a rule or an optimiser does not have is not an axis for it.

    Args:
        axes: as ``DEFAULTS`` has them; what they leave out is as there.

    Raises:
        ParityError: unknown names, numbers that make no sense, or axes that exclude each other.
    """
    axes = {**DEFAULTS, **axes}
    _check(axes)
    varied = {
        "task": axes["task"], "parity": (False, True) if axes["parity"] else (False,), "rule": axes["rule"],
        "width": axes["widths"], **{name: axes[name] for name in _AXES_OF_TRIALS}, "seed": range(axes["seeds"]),
    }  # fmt: skip
    shared = {name: axes[name] for name in ("hidden_layers", "constant_layer_size", "steps")}
    trials = []
    for values in itertools.product(*varied.values()):
        settings = shared | dict(zip(varied, values, strict=True))
        length = _LENGTHS.get(settings["task"], _LENGTH_OF_IMAGES)._asdict()
        given = {name: axes[name] for name in length if axes[name] is not None}
        trial = Trial(**settings, **{**length, **given})
        if trial.optimizer == "adamw":
            trial = replace(trial, momentum=ADAMW_MOMENTUM)
        if trial.rule == "bp":
            trial = replace(trial, state_lr=None, steps=None, state_init=None)
        trials.append(trial)
    return list(dict.fromkeys(trials))


def _check(axes: Axes) -> None:
    for name, known in NAMES.items():
        if unknown := [value for value in axes[name] if value not in known]:
            raise ParityError(f"--{name} knows no '{unknown[0]}': {did_you_mean(unknown[0], known)}")
    for task in axes["task"]:
        if task not in DATASETS and difflib.get_close_matches(task, DATASETS):
            raise ParityError(f"there is no task '{task}': {did_you_mean(task, DATASETS)}")
    for name in ("widths", "hidden_layers", "seeds", "epochs", "batch_size", "steps_per_epoch"):
        values = axes[name] if isinstance(axes[name], Sequence) else [axes[name]]
        if any(value is not None and value < 1 for value in values):
            raise ParityError(f"--{name} counts from 1: {' '.join(map(str, values))} does not.")
    if axes["seeds"] > _MOST_SEEDS:
        raise ParityError(f"--seeds is at most {_MOST_SEEDS}, not {axes['seeds']}.")
    for name in ("lr", "state_lr"):
        if not all(0 < value < math.inf for value in axes[name]):
            raise ParityError(f"--{name} takes learning rates above 0, not {' '.join(map(str, axes[name]))}.")
    if any(not 0 <= value < 1 for value in axes["momentum"]):
        raise ParityError(f"--momentum takes numbers from 0 to below 1, not {' '.join(map(str, axes['momentum']))}.")
    if axes["steps"] < 0:
        raise ParityError(f"--steps counts steps of inference from 0, not {axes['steps']}.")
    if axes["constant_layer_size"]:
        if axes["parity"]:
            raise ParityError("--constant_layer_size adds classes, and a parity model's are those of its base model.")
        if toys := sorted(set(axes["task"]) & set(DATASETS)):
            raise ParityError(f"--constant_layer_size resizes images, and {toys[0]} has none: try --task MNIST.")
        if bad := [width for width in axes["widths"] if round(width**0.5) ** 2 != width]:
            raise ParityError(f"--constant_layer_size takes widths that are squares, e.g. 196 324 529, not {bad[0]}.")


def grid_id(study: str, axes: Axes) -> str:
    """Return a study's id: the same for the same grid."""
    return _hash({"study": study, **axes}, 8)


def _hash(content: Mapping[str, Any], length: int) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:length]
