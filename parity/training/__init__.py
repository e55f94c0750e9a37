"""Training: ``train_model``, policies, losses, metrics, LightningModules, and the one training loop, ``fit``."""

from parity.metrics import BaseAccuracy, ReconstructionAccuracy
from parity.training.defaults import TargetsAndReconstructions
from parity.training.loop.fit import fit
from parity.training.loop.hardware import Hardware, evaluate_on_test
from parity.training.loop.lit_module import BaseLitModule, ParityLitModule
from parity.training.loop.optimizer_steps import StepOptions
from parity.training.objectives.averaging import EMA
from parity.training.objectives.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    KLDivergence,
    LabelReconstructionLoss,
    ParityTargetLoss,
    ReconstructionLoss,
    SquaredError,
    UniformOffLabels,
    WeightedSum,
    parities_alone,
    up_to_r_missing,
)
from parity.training.objectives.of_tasks import MeanOver
from parity.training.objectives.optimizers import SGD, Adam, AdamW, AdaptiveClipping, Cosine, OneCycle
from parity.training.train_model import load_trained, train_model

__all__ = [
    "EMA",
    "SGD",
    "Adam",
    "AdamW",
    "AdaptiveClipping",
    "BaseAccuracy",
    "BaseLitModule",
    "BinaryCrossEntropy",
    "Cosine",
    "CrossEntropy",
    "Hardware",
    "KLDivergence",
    "LabelReconstructionLoss",
    "MeanOver",
    "OneCycle",
    "ParityLitModule",
    "ParityTargetLoss",
    "ReconstructionAccuracy",
    "ReconstructionLoss",
    "SquaredError",
    "StepOptions",
    "TargetsAndReconstructions",
    "UniformOffLabels",
    "WeightedSum",
    "evaluate_on_test",
    "fit",
    "load_trained",
    "parities_alone",
    "train_model",
    "up_to_r_missing",
]
