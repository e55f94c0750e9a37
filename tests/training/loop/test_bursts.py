"""Bursts are the loop's own: our data modules yield batches, and what Lightning is handed yields bursts of them."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from parity.data import GroupBatch
from parity.data.digits import DigitsDataModule
from parity.training.loop.batch_form import BatchForm
from parity.training.loop.bursts import BurstData, BurstLoader
from parity.training.loop.iterables import BatchLoader


def data(batch_size: int = 8) -> DigitsDataModule:
    return DigitsDataModule(k=2, batch_size=batch_size, num_validation=237)  # 600 groups to train on


def indices(batches: list[GroupBatch]) -> list[list[int]]:
    return [batch.indices.flatten().tolist() for batch in batches]


def test_bursts_hold_the_loaders_batches_in_order() -> None:
    loader = data().loader("train")
    bursts = BurstLoader(loader)
    sizes, batches = [], []
    for burst in bursts:
        own = list(burst)
        sizes.append(len(own))
        batches += own
    assert sizes == [16, 16, 16, 16, 11]
    assert (len(bursts), bursts.num_steps, bursts.common_bursts) == (5, 75, 5)
    assert indices(batches) == indices(list(loader))


@pytest.mark.parametrize("steps", [16, 48, 75])
def test_an_epoch_resumes_after_steps_and_the_next_one_is_whole(steps: int) -> None:
    loader = data().loader("train")
    bursts, whole = BurstLoader(loader), indices(list(loader))
    bursts.resume_after(steps, bursts.epoch_state())
    resumed = [list(burst) for burst in bursts]
    assert len(resumed) == len(bursts), "Lightning counts the bursts before as well"
    assert indices([batch for burst in resumed for batch in burst]) == whole[steps:]
    assert indices([batch for burst in bursts for batch in burst]) == whole


def test_an_iterable_resumes_with_the_order_that_it_had() -> None:
    source = torch.utils.data.DataLoader([(torch.ones(1) * i, i) for i in range(50)], batch_size=1, shuffle=True)
    bursts = BurstLoader(BatchLoader(source, "train", BatchForm(), 50, torch.device("cpu")))
    whole = [int(batch.targets) for burst in bursts for batch in burst]
    state = bursts.epoch_state()
    torch.manual_seed(1)
    bursts.resume_after(32, state)
    assert [int(batch.targets) for burst in bursts for batch in burst] == whole[32:]


class Watched(DigitsDataModule):
    calls: list[str]

    def prepare_data(self) -> None:
        self.calls = ["prepare_data"]

    def setup(self, stage: str) -> None:
        assert self.trainer is not None
        self.calls.append(f"setup of {self.trainer.max_epochs} epochs")

    def teardown(self, stage: str) -> None:
        self.calls.append("teardown")


class Plain(pl.LightningModule):
    """A LightningModule that has never heard of bursts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.steps = 0

    def training_step(self, batch: GroupBatch, index: int) -> Tensor:
        self.steps += 1
        return nn.functional.cross_entropy(self.layer(batch.queries.flatten(2)).flatten(0, 1), batch.targets.flatten())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(path: Path) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=path,
    )  # fmt: skip


def test_our_data_modules_train_any_lightning_module(tmp_path: Path) -> None:
    module = Plain()
    trainer(tmp_path).fit(module, datamodule=data())
    assert module.steps == 75


def test_hooks_of_a_data_module_are_called_with_the_trainer(tmp_path: Path) -> None:
    watched = Watched(k=2, batch_size=8)
    trainer(tmp_path).fit(Nothing(), datamodule=BurstData(watched))
    assert watched.calls == ["prepare_data", "setup of 1 epochs", "teardown"]


class Nothing(Plain):
    def training_step(self, burst: object, index: int) -> None:  # type: ignore[override]
        return None
