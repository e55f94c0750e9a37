"""Training: LightningModules, losses, metrics, callbacks, and the one training loop, ``fit``."""

from parity.training.fit import Hardware, evaluate_on_test, fit
from parity.training.lit_module import BaseLitModule, ParityLitModule, StepOptions
from parity.training.losses import ParityTargetLoss
from parity.training.metrics import BaseAccuracy, ReconstructionAccuracy
from parity.training.optimizers import Adam

__all__ = [
    "Adam",
    "BaseAccuracy",
    "BaseLitModule",
    "Hardware",
    "ParityLitModule",
    "ParityTargetLoss",
    "ReconstructionAccuracy",
    "StepOptions",
    "evaluate_on_test",
    "fit",
]
