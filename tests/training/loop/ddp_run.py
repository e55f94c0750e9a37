"""What test_ddp.py runs in processes of their own: python ddp_run.py FOLDER '{"devices": 2, ...}'."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.data.digits import DigitsDataModule
from parity.errors import ParityError, Stopped
from parity.models import MLP
from parity.models.weights import fingerprint, load_into
from parity.tasks import Classification
from parity.training import (
    SGD,
    Hardware,
    ParityLitModule,
    ParityTargetLoss,
    ReconstructionAccuracy,
    StepOptions,
    evaluate_on_test,
    fit,
)
from parity.training.loggers.epoch_table import EpochTable
from parity.training.loop import ranks
from parity.training.loop.signals import StopSignals
from parity.training.objectives.policies import EarlyStopping, Exponential, Policy

SHAPES = DigitsDataModule.QUERY_SHAPE, (10,)


class OddDigits(DigitsDataModule):
    """Ends in an odd number of test groups."""

    def rows(self, split: str) -> torch.Tensor:
        return torch.arange(358) if split == "test" else super().rows(split)


class NormedParity(MLP):
    def __init__(self) -> None:
        super().__init__(*SHAPES)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        return super().forward(self.norm(queries))


class Watch(pl.Callback):
    """Notes the first gradients, and does on one rank what the test asks for."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.gradients: list[list[float]] = []
        self.draw, self.reductions, self.steps = 0.0, 0, 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.draw = float(torch.rand(()))
        if hasattr(trainer.strategy.model, "register_comm_hook"):
            trainer.strategy.model.register_comm_hook(None, self._reduce)

    def _reduce(self, _: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        self.reductions += bucket.is_last()
        return default_hooks.allreduce_hook(None, bucket)

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Any) -> None:
        self.steps += 1
        if not self.gradients:
            self.gradients = [p.grad.flatten().tolist() for p in module.parameters() if p.grad is not None]

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        where = [ranks.rank(), trainer.current_epoch, batch_idx]
        if self.options.get("terminate") == where:
            os.kill(os.getpid(), signal.SIGTERM)
        if self.options.get("kill") == where:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.options.get("nan") == where:
            module.step_losses[-1] = torch.tensor(torch.nan)


class StopOnOneRank(Policy):
    def __init__(self, where: list[int]) -> None:
        self.where = where
        self.losses: list[float] = []

    def train_step_finished(self, epoch: int, iteration: int, loss: float) -> None:
        if [ranks.rank(), epoch, iteration] == self.where:
            raise EarlyStopping

    def epoch_finished(self, epoch: int, *, train_losses: Sequence[float], metrics: dict[str, float]) -> None:
        self.losses += train_losses


def main(folder: Path, options: dict[str, Any]) -> None:
    hardware = Hardware("cpu", options["devices"])
    torch.manual_seed(0)
    parity_model = NormedParity() if options.get("norm") else MLP(*SHAPES)
    model = CodedModel(MLP(*SHAPES), LinearEncoder(2, 1, SHAPES[0]), [parity_model], LinearDecoder(2, 1, SHAPES[1]))
    accuracy = ReconstructionAccuracy(Classification(10), 2)
    policies: dict[str, Policy] = {}
    if where := options.get("stop"):
        policies = dict(lr=Exponential(1e-3, 0.5), stop=StopOnOneRank(where))
    optimizer = SGD(1e-3, momentum=0.9)
    steps = StepOptions(accumulate_grad_batches=options.get("accumulate", 1))
    module = ParityLitModule(
        model, ParityTargetLoss(nn.MSELoss()), accuracy, optimizer, options=steps, policies=policies
    )
    datamodule = OddDigits(k=2, batch_size=16 // options["devices"], num_validation=237)
    if weights := options.get("evaluate"):
        state = torch.load(weights, weights_only=True)["state_dict"]
        load_into(model, {name.removeprefix("model."): value for name, value in state.items()}, weights)
        result: dict[str, Any] = evaluate_on_test(module, datamodule, hardware)
    else:
        last, watch = folder / "checkpoints" / "last.ckpt", Watch(options)
        resume_from = last if last.exists() else None
        done = torch.load(last, weights_only=True)["epoch"] + 1 if resume_from else 0
        loggers = [EpochTable(folder / "metrics.csv", keep=done)]
        with StopSignals() as stop:
            fit(
                module, datamodule, folder, {"max_epochs": 3}, hardware=hardware, loggers=loggers, callbacks=[watch],
                resume_from=resume_from, stop=stop,
            )  # fmt: skip
        result = {"weights": fingerprint(model), "gradients": watch.gradients, "draw": watch.draw}
        result |= {"reductions": watch.reductions, "steps": watch.steps}
        result["losses"] = getattr(module.policies.by_name.get("stop"), "losses", [])
    (folder / f"result{ranks.rank()}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        main(Path(sys.argv[1]), json.loads(sys.argv[2]))
    except Stopped as stopped:
        sys.stderr.write(f"{stopped}\n")
        sys.exit(0 if ranks.rank() else 3)
    except ParityError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
