"""Every entry of every CONFIGS builds and takes a training and a validation step; a new entry is tested by existing."""

import gc
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.data import GroupDataModule, TensorLoader, TokensDataModule
from parity.experiments import Experiment, catalogue
from parity.models import FromBaseModel
from parity.models.initialisation import inner_network
from parity.models.weights import fingerprint
from parity.runs.training import RunOptions, lit_module
from parity.tasks import Classification
from parity.training import Hardware, fit

ENTRIES = [entry for dataset in catalogue.datasets() for entry in catalogue.experiments(dataset)]
ONE_STEP = Hardware("cpu", options={"fast_dev_run": True})

# What Kosaian, Rashmi, Venkataraman (SOSP 2019) train: (data set, network) -> codes and their k.
ADD, CONCAT = {"add": (2, 3, 4)}, {"concat": (2, 4)}
ORIGINAL = {
    ("MNIST", "mlp"): ADD | CONCAT | {"learned": (2, 3, 4)},
    ("MNIST", "resnet18"): ADD | CONCAT,
    ("FashionMNIST", "mlp"): ADD | CONCAT,
    ("FashionMNIST", "resnet18"): ADD | CONCAT,
    ("CIFAR10", "resnet18"): ADD | CONCAT | {"learned": (2, 3, 4)},
    ("CIFAR100", "resnet152"): ADD | CONCAT,
    ("CatVsDog", "resnet18"): ADD | CONCAT,
    ("SpeechCommands", "vgg11"): ADD,
    ("SpeechCommands", "lenet"): ADD,
    ("CUB", "resnet18"): {"add": (2,)},
}


@pytest.fixture(scope="module", autouse=True)
def _little_to_look_through() -> Iterator[None]:
    """Leave what is there before out of ``gc.collect``: looking through that each time took a minute in all."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _free_large_networks() -> Iterator[None]:
    """Trainer and network refer to each other: without this they lie about until the process holds 8 GiB of them."""
    yield
    gc.collect()


class Synthetic(GroupDataModule):
    """Random data of another data set's shape: one batch of two groups in each split."""

    def __init__(self, like: GroupDataModule) -> None:
        super().__init__(k=like.k, batch_size=2)
        self.like = like

    @property
    def task(self):
        return self.like.task

    def rows(self, split: str) -> Tensor:
        return torch.arange(2 * self.k)

    def loader(self, split: str) -> TensorLoader:
        queries = self.queries(2 * self.k)
        shape = self.task.prediction_shape
        targets = (
            torch.randint(shape[0], (2 * self.k,))
            if isinstance(self.task, Classification)
            else torch.rand(2 * self.k, *shape)
        )
        scaling = self.like.scaling() if isinstance(self.like, TokensDataModule) else self.scaling()
        return TensorLoader(queries, targets, self.sampler(split), scaling, split)

    def queries(self, number: int) -> Tensor:
        """Return stored queries (number, *Q)."""
        if isinstance(self.like, TokensDataModule):
            return torch.randint(0, self.like.VOCABULARY, (number, *self.like.query_shape))
        return torch.randint(0, 256, (number, *self.like.query_shape), dtype=torch.uint8)


def test_every_row_of_the_originals_table_is_there() -> None:
    names = {(entry.dataset, entry.name) for entry in ENTRIES if entry.collection == "original"}
    for (dataset, network), codes in ORIGINAL.items():
        wanted = {f"{network}_base"} | {f"{network}_k{k}_{code}" for code, ks in codes.items() for k in ks}
        assert wanted <= {name for of, name in names if of == dataset}, dataset


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.dataset}-{entry.name}")
def test_one_training_and_one_validation_step(entry: catalogue.Entry, tmp_path: Path) -> None:
    experiment = Experiment(entry.dataset, entry.name, base_directory=tmp_path)
    model, data = experiment.get_model(), Synthetic(experiment.get_datamodule())
    before = {name: fingerprint(module) for name, module in model.named_children()}
    module, trainer_args = lit_module(experiment, data, model, RunOptions())
    fit(module, data, tmp_path, trainer_args, hardware=ONE_STEP)
    assert len(module.step_losses) == 1
    assert math.isfinite(module.step_losses[0])
    assert 0 <= module.trainer.callback_metrics[module.monitor] <= 1
    assert not list(tmp_path.iterdir())

    changed = {name for name, module in model.named_children() if fingerprint(module) != before[name]}
    queries = data.queries(3 * data.k).unflatten(0, (3, data.k))
    queries = queries if isinstance(data.like, TokensDataModule) else queries / 255
    if isinstance(model, CodedModel):
        check_name(entry.name, model)
        available = torch.ones(3, model.n, dtype=torch.bool)
        available[:, 0] = False
        assert model.eval()(queries, available).shape == (3, model.k, *data.task.prediction_shape)
        assert changed == set(experiment.config.get("trained", ("parity_models",)))
    else:
        assert entry.name.endswith("_base")
        assert model.eval()(queries[:, 0]).shape == (3, *data.task.prediction_shape)
        assert changed


STARTED = [entry for entry in ENTRIES if isinstance(entry.config.get("parity_start"), FromBaseModel)]


@pytest.mark.parametrize("entry", STARTED, ids=lambda entry: f"{entry.dataset}-{entry.name}")
def test_what_starts_from_the_base_model_is_that_network(entry: catalogue.Entry) -> None:
    model = Experiment(entry.dataset, entry.name).get_model()
    assert isinstance(model, CodedModel)
    own, base = inner_network(model.parity_models[0]).state_dict(), model.base_model.state_dict()
    assert own.keys() == base.keys()
    different = [name for name, value in base.items() if own[name].shape != value.shape]
    assert different in ([], ["fc1.weight"], ["hidden.1.weight"])  # of all pixels, of which a cell has fewer


def check_name(name: str, model: CodedModel) -> None:
    """<network>_k<k>_<code>, and _r<r> only where r > 1."""
    assert re.fullmatch(rf"[a-z0-9_]+_k{model.k}_[a-z0-9_]+", name)
    assert name.endswith(f"_r{model.r}") == (model.r > 1)


def test_a_frozen_parity_model_is_the_base_model() -> None:
    model = Experiment("Digits", "mlp_k2_learned").get_model()
    assert isinstance(model, CodedModel)
    assert all(network is model.base_model for network in model.parity_models)
    trainable = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {"encoder", "decoder"}
    loaded = nn.ModuleList(model.parity_models)
    state = {name: torch.rand_like(value) for name, value in model.base_model.state_dict().items()}
    model.base_model.load_state_dict(state)
    assert torch.equal(next(loaded.parameters()), next(model.base_model.parameters()))
