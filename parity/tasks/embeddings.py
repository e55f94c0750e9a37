"""Embeddings: vectors of which the direction counts."""

import copy
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from parity.errors import ParityError
from parity.tasks.base import Task
from parity.tasks.checks import check_floats

_GALLERY = 256


class Embeddings(Task):
    """Vectors (D,); targets are vectors too, those of the base model where there are no others.

    Measured by the cosine of the angle to the target, and by retrieval@1: how often the nearest of a gallery of up to
    256 targets is the same for the prediction as for the target. They are of the training data, or where none is at
    hand, as ``parity.evaluate`` has none, of the data that is measured.

    Args:
        dimension: D.
        gallery: (N, D); ``fitted`` takes one from training data, which is done wherever there are such.
    """

    measures = ("cosine", "retrieval1")
    symbols = ("cos", "cos")
    likelihood = "gaussian"
    lowest = -1.0

    def __init__(self, dimension: int, gallery: Tensor | None = None) -> None:
        self.prediction_shape = (dimension,)
        self.gallery = None if gallery is None else functional.normalize(gallery.float(), dim=-1)

    def measure(self, predictions: Tensor, targets: Tensor) -> Tensor:
        if self.gallery is None:
            raise ParityError("Embeddings are looked up in a gallery: hand over Embeddings(dimension).fitted(targets).")
        if self.gallery.device != predictions.device:
            self.gallery = self.gallery.to(predictions.device)  # kept: one copy, not one for every batch
        gallery = self.gallery
        first, second = (functional.normalize(values.float(), dim=-1) for values in (predictions, targets))
        nearest = ((values @ gallery.T).argmax(-1) for values in (first, second))
        cosine = (first * second).sum(-1).nan_to_num(0.0).clamp(-1, 1)
        return torch.stack([cosine, torch.eq(*nearest).to(cosine)], dim=-1)

    def as_targets(self, predictions: Tensor) -> Tensor:
        return predictions

    def default_prediction(self, targets: Tensor) -> Tensor:
        """Return the mean of directions."""
        return functional.normalize(targets.float(), dim=-1).mean(0)

    def describe(self, means: Mapping[str, float], queries: int) -> str:
        return f"cosine {means['cosine']:.4f}, retrieval@1 {means['retrieval1']:.4f} of {queries}"

    def checked(self, targets: Tensor, where: str) -> Tensor:
        """Return vectors as float32 (N, D)."""
        return check_floats(targets, self.prediction_shape, "embeddings", where)

    def fitted(self, targets: Tensor) -> Self:
        """Return the task with a gallery of these targets, evenly spread over them, unless it has one."""
        if self.gallery is not None:
            return self
        made = copy.copy(self)
        every = -(-len(targets) // _GALLERY)
        made.gallery = functional.normalize(targets[::every].float().cpu(), dim=-1)
        return made
