"""A config that cannot be right is refused in one sentence, before any work."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from parity.coders import KeyedSumEncoder, LinearDecoder, LinearEncoder, Symmetry
from parity.errors import ParityError
from parity.experiments import Experiment, catalogue
from parity.experiments.check import check_config
from parity.experiments.config import update_config
from parity.experiments.Digits.original.experiment_parameters import CONFIGS
from parity.models import MLP, FromBaseModel, NormalLinear, PerCell, ResNet, torchvision_model
from parity.training import EMA, Adam, OneCycle, ParityTargetLoss, ReconstructionLoss, WeightedSum
from parity.training.objectives.losses import SquaredError
from parity.training.objectives.policies import LossStop

BASE, PARITY = CONFIGS["mlp_base"], CONFIGS["mlp_k2_add"]


def check(config: dict[str, Any]) -> None:
    check_config(config, "Digits", "own")


def refused(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParityError) as caught:
        check(config)
    message = str(caught.value)
    assert sentence in message
    assert "Digits own" in message or "'trained'" in message or message.startswith("trainer.")
    assert message.count("\n") == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(scheduler=OneCycle()), "unknown key 'scheduler': did you mean 'schedule'?"),
        (dict(polices=dict(stop=LossStop())), "unknown key 'polices': did you mean 'policies'?"),
        (dict(data=dict(batchsize=3)), "unknown key 'data.batchsize': did you mean 'batch_size'?"),
        (dict(data=dict(k=3)), "unknown key 'data.k'"),
        (dict(data=dict(seed=3)), "unknown key 'data.seed'"),
        (dict(data={1: 2}), "a key of 'data' in the config of Digits own is 1: keys are texts"),
        ({None: 2}, "a key of 'config' in the config of Digits own is None: keys are texts"),
        (dict(trainer=dict(gradient_clip_algorithm="valu")), "trainer.gradient_clip_algorithm is 'norm' or 'value'"),
        (dict(trainer=dict(max_epoch=3)), "unknown key 'trainer.max_epoch': did you mean 'max_epochs'?"),
        (
            dict(trainer=dict(devices=2)),
            "'trainer.devices' is not part of the config of Digits own: it is set by --dev",
        ),
        (dict(trainer=dict(callbacks=[])), "'trainer.callbacks' is not part of"),
        (dict(trainer=dict(plugins=[])), "'trainer.plugins' is not part of"),
        (dict(trainer=dict(max_steps=3)), "trainer.max_steps is not supported"),
        (dict(code=dict(K=3)), "unknown key 'code.K': there is: decoder, encoder, k, r."),
        (dict(model=dict(hiden=(3,))), "unknown key 'model.hiden': did you mean 'hidden'?"),
        (
            dict(model=dict(network=PerCell, cell_network=ResNet, block=(2,))),
            "unknown key 'model.block': did you mean 'blocks'?",
        ),
        (
            dict(model=dict(network=PerCell, cell_network=torchvision_model, constructors=1)),
            None,
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(changes: dict[str, Any], sentence: str | None) -> None:
    if sentence is None:  # who takes the rest is not known
        check(update_config(PARITY, changes))
    else:
        refused(update_config(PARITY, changes), sentence)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(loss="mse"), "loss in the config of Digits own cannot be called"),
        (dict(loss=nn.CrossEntropyLoss), "is a class: make an object of it, CrossEntropyLoss()."),
        (dict(loss=ParityTargetLoss(nn.MSELoss())), "is called with predictions and targets, and ParityTargetLoss is"),
        (dict(optimizer=torch.optim.Adam([nn.Parameter(torch.ones(1))])), "has parameters already: give what makes"),
        (dict(optimizer=Adam), "'optimizer' in the config of Digits own is a class: make an object of it, Adam(...)"),
        (dict(optimizer="adam"), "'optimizer' in the config of Digits own cannot be called: 'adam'."),
        (dict(optimizer=None), "'optimizer' in the config of Digits own cannot be called: None."),
        (dict(schedule="cosine"), "'schedule' in the config of Digits own cannot be called: 'cosine'."),
        (dict(schedule=OneCycle), "'schedule' in the config of Digits own is a class"),
        (dict(model=dict(network=nn.Linear(2, 2))), "'model.network' in the config of Digits own is made already"),
        (dict(model=dict(network="resnet")), "and 'resnet' cannot be called"),
        (dict(data=3), "'data' in the config of Digits own is a dict, not 3."),
        (dict(policies=LossStop()), "'policies' in the config of Digits own is a dict"),
        (dict(policies=dict(stop=LossStop)), "the policy 'stop' is a class"),
        (dict(policies=dict(learning_rate=0.1)), "nothing takes the value 'learning_rate'"),
        (dict(averaging=EMA), "'averaging' in the config of Digits own is an EMA"),
        (dict(averaging=0.99), "'averaging' in the config of Digits own is an EMA"),
        (dict(base="mlp_base"), "has 'base', which is of parity experiments, and no 'code'"),
    ],
)
def test_a_wrong_value_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    refused(update_config(BASE, changes), sentence)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(loss=nn.MSELoss()), "wrap it, ParityTargetLoss(nn.MSELoss())."),
        (dict(loss=nn.SmoothL1Loss()), "wrap it, ParityTargetLoss(nn.SmoothL1Loss())."),
        (dict(loss=functional.mse_loss), "wrap it, ParityTargetLoss(mse_loss)."),
        (dict(loss=ParityTargetLoss), "is a class"),
        (
            dict(loss=ParityTargetLoss(nn.MSELoss)),
            "the distance of ParityTargetLoss in the config of Digits own is a cl",
        ),
        (
            dict(loss=ReconstructionLoss("kl")),
            "the distance of ReconstructionLoss in the config of Digits own cannot be",
        ),
        (dict(loss=WeightedSum((0.5, nn.MSELoss()))), "wrap it, ParityTargetLoss(nn.MSELoss())."),
        (
            dict(code=dict(encoder=LinearEncoder(2, 1, (1, 8, 8)))),
            "give its class, LinearEncoder, which is called with",
        ),
        (dict(code=dict(decoder="sum")), "'code.decoder' in the config of Digits own is called with (k, r, shape)"),
        (dict(code=dict(k="2")), "'code.k' in the config of Digits own is a whole number, not '2'."),
        (dict(code=3), "'code' in the config of Digits own is a dict"),
        (dict(trained="encoder"), "'trained' is a tuple of some of encoder, parity_models, decoder, not 'encoder'."),
        (dict(trained=("encoders",)), "'trained' is a tuple of some of"),
        (dict(base=3), "'base' in the config of Digits own is an experiment's name or a file's path, not 3."),
        (dict(parity_init=NormalLinear), "'parity_init' in the config of Digits own is a class"),
        (dict(parity_start=FromBaseModel), "'parity_start' in the config of Digits own is a class"),
        (dict(model=dict(network=PerCell, cell_network=nn.ReLU())), "'model.cell_network' in the config of Digits own"),
    ],
)
def test_a_wrong_value_of_a_parity_experiment_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    refused(update_config(PARITY, changes), sentence)


@pytest.mark.parametrize("key", ["data", "model", "optimizer", "loss", "trainer", "base", "code.encoder", "code.k"])
def test_what_is_missing_is_named(key: str) -> None:
    outer, _, inner = key.partition(".")
    config = {name: value for name, value in PARITY.items() if name != outer}
    if inner:
        config[outer] = {name: value for name, value in PARITY[outer].items() if name != inner}
    refused(config, f"the config of Digits own has no '{key}'.")


def weighted(
    decoder: object, predictions: object, parity_outputs: object, targets: object, weight: float
) -> torch.Tensor:
    return torch.zeros(())


@pytest.mark.parametrize(
    "changes",
    [
        dict(code=dict(encoder=functools.partial(KeyedSumEncoder, key=Symmetry()))),
        dict(loss=weighted, optimizer=torch.optim.SGD, schedule=None, policies=dict(lr=1e-3, weight=2)),
        dict(loss=ParityTargetLoss(functional.mse_loss)),  # type: ignore[arg-type]
        dict(loss=WeightedSum((1.0, ParityTargetLoss(nn.MSELoss())), (1.0, ReconstructionLoss(SquaredError())))),
        dict(optimizer=functools.partial(torch.optim.Adam, lr=1e-3), averaging=EMA(), trained=["parity_models"]),
        dict(model=dict(network=functools.partial(MLP, hidden=(3,)))),
        dict(model=dict(network=torchvision_model, constructor=torchvision.models.resnet18, norm_layer=None)),
        dict(trainer=dict(deterministic=True, gradient_clip_algorithm="norm", log_every_n_steps=3)),
    ],
)
def test_what_is_right_is_not_refused(changes: dict[str, Any]) -> None:
    check(update_config(PARITY, changes))


def test_every_config_of_the_package_is_right() -> None:
    for dataset in catalogue.datasets():
        for entry in catalogue.experiments(dataset):
            check_config(entry.config, dataset, entry.name)


WRONG = """
from parity.experiments.config import update_config
from parity.experiments.Digits.original.experiment_parameters import CONFIGS as ORIGINAL

CONFIGS = {
    "own_base": update_config(ORIGINAL["mlp_base"], dict(data=dict(batchsize=3))),
    "own_k2": update_config(ORIGINAL["mlp_k2_add"], dict(base="own_base")),
}
"""


@pytest.mark.parametrize("name", ["own_base", "own_k2"])
def test_an_unknown_key_trained_silently(
    name: str,
    tmp_path: Path,
    train: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "own" / "Digits" / "wrong_keys" / "experiment_parameters.py"
    file.parent.mkdir(parents=True)
    file.write_text(WRONG)
    arguments = ("--dataset", "Digits", "--experiment_name", name, "--experiments_path", str(tmp_path / "own"))
    assert train(*arguments, "--print_config") == 0
    assert train(*arguments) == 1
    assert capsys.readouterr().err == (
        "error: the config of Digits own_base has an unknown key 'data.batchsize': did you mean 'batch_size'?\n"
    )
    assert not (tmp_path / "experiments").exists()
    with pytest.raises(ParityError, match=r"data\.batchsize"):
        Experiment("Digits", "own_base").get_datamodule()


def test_code_without_decoder_is_refused_also_where_only_data_is_asked_for() -> None:
    config = {**PARITY, "code": dict(k=2, r=1, encoder=LinearEncoder)}
    refused(config, "has no 'code.decoder'")
    refused({**PARITY, "code": dict(k=2, encoder=LinearEncoder, decoder=LinearDecoder)}, "has no 'code.r'")


@pytest.mark.parametrize("size", [101, 1000, 10**30])
def test_a_code_of_a_thousand_queries_is_refused_before_it_fills_the_memory(size: int) -> None:
    for path in ("code.k", "code.r"):
        with pytest.raises(ParityError, match=rf"'{path}' in .* is at most 100, not"):
            Experiment("Digits", "mlp_k2_add", overrides={path: size}).check_config()
