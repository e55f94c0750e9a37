"""A step is the same in every precision: gradients are clipped and measured as they are, not as they are scaled."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from parity.training import SGD, Adam, train_model


def trained(tmp_path: Any, **options: Any) -> dict[str, float]:
    """Train a small network on classes that lie apart, and return what was logged of the last epoch."""
    torch.manual_seed(0)
    targets = torch.arange(256) % 4
    queries = torch.randn(4, 12)[targets] * 2 + torch.randn(256, 12) * 0.3
    data = torch.utils.data.TensorDataset(queries, targets)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4))
    done = train_model(
        model, torch.utils.data.DataLoader(data, batch_size=32), max_epochs=6, checkpoints_path=tmp_path / "c",
        accelerator="cpu", progress=False, **options,
    )  # fmt: skip
    return {name: float(value) for name, value in done.history[-1].items() if value is not None}


@pytest.mark.parametrize("algorithm", ["norm", "value"])
@pytest.mark.parametrize("optimizer", [Adam(lr=0.01), Adam(lr=0.01, fused=False), SGD(lr=0.05)])
def test_clipping_in_mixed_precision_trains_as_in_full(tmp_path: Any, algorithm: str, optimizer: Any) -> None:
    options = dict(optimizer=optimizer, gradient_clip_val=0.5, gradient_clip_algorithm=algorithm)
    full = trained(tmp_path / "full", **options)
    mixed = trained(tmp_path / "mixed", precision="bf16-mixed", **options)
    assert full["train/loss"] < 0.6
    assert mixed["train/loss"] == pytest.approx(full["train/loss"], rel=0.1, abs=0.02)


class Scaled(pl.Callback):
    """Gradients are scaled, as with 16-mixed on a GPU; on a CPU, Lightning makes bf16-mixed of that."""

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        trainer.strategy.precision_plugin.scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)


@pytest.mark.parametrize("options", [{}, {"gradient_clip_val": 0.5}])
@pytest.mark.parametrize("optimizer", [Adam(lr=0.01), Adam(lr=0.01, fused=False), SGD(lr=0.05)])
def test_scaled_gradients_are_clipped_as_they_are(tmp_path: Any, options: dict[str, Any], optimizer: Any) -> None:
    plain = trained(tmp_path / "plain", precision="bf16-mixed", optimizer=optimizer, **options)
    scaled = trained(tmp_path / "scaled", precision="bf16-mixed", optimizer=optimizer, callbacks=[Scaled()], **options)
    assert scaled["train/loss"] == pytest.approx(plain["train/loss"], rel=0.02)


def test_hooks_of_callbacks_around_a_step_are_called(tmp_path: Any) -> None:
    class Listener(pl.Callback):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def on_before_backward(self, trainer: Any, module: Any, loss: torch.Tensor) -> None:
            assert loss.ndim == 0
            self.heard.append("before backward")

        def on_after_backward(self, trainer: Any, module: Any) -> None:
            assert all(parameter.grad is not None for parameter in module.parameters())
            self.heard.append("after backward")

        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: torch.optim.Optimizer) -> None:
            assert isinstance(optimizer, torch.optim.Optimizer)
            self.heard.append("before step")

    listener = Listener()
    trained(tmp_path, callbacks=[listener])
    assert listener.heard == ["before backward", "after backward", "before step"] * 6 * 8
