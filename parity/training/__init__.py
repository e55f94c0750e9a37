"""Training: LightningModules, losses, metrics, callbacks, and the one training loop, ``fit``."""

from parity.training.fit import Hardware, evaluate_on_test, fit
from parity.training.lit_module import BaseLitModule, ParityLitModule, StepOptions
from parity.training.losses import (
    CrossEntropy,
    KLDivergence,
    LabelReconstructionLoss,
    ParityTargetLoss,
    ReconstructionLoss,
    SquaredError,
    WeightedSum,
    parities_alone,
    up_to_r_missing,
)
from parity.training.metrics import BaseAccuracy, ReconstructionAccuracy
from parity.training.optimizers import SGD, AdaptiveClipping, Adam, AdamW, Cosine, OneCycle

__all__ = [
    "SGD",
    "Adam",
    "BaseAccuracy",
    "BaseLitModule",
    "CrossEntropy",
    "Hardware",
    "KLDivergence",
    "LabelReconstructionLoss",
    "OneCycle",
    "ParityLitModule",
    "ParityTargetLoss",
    "ReconstructionAccuracy",
    "ReconstructionLoss",
    "SquaredError",
    "StepOptions",
    "WeightedSum",
    "evaluate_on_test",
    "fit",
]
