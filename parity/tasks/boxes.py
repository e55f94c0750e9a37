"""Boxes: where one object is in an image."""

from collections.abc import Mapping

import torch
from torch import Tensor

from parity.errors import ParityError
from parity.tasks.base import Task
from parity.tasks.checks import check_finite, dtype_name

SHARE_IOU = 0.75


class BoxLocalisation(Task):
    """The box of one object; predictions and targets are (x, y, w, h), x and y the corner of least coordinates.

    With W and H the sides of the image, in pixels, a box is (2x/W - 1, 2y/H - 1, 2w/W, 2h/H). Measured by the
    intersection over union (IoU) with the target, and by the share of boxes whose IoU is at least 0.75.
    """

    prediction_shape = (4,)
    measures = ("iou", "iou75")
    symbols = ("IoU", "IoU")
    likelihood = "gaussian"

    def measure(self, predictions: Tensor, targets: Tensor) -> Tensor:
        overlap = box_iou(predictions.double(), targets.double())
        return torch.stack([overlap, (overlap >= SHARE_IOU).to(overlap)], dim=-1)

    def as_targets(self, predictions: Tensor) -> Tensor:
        return predictions

    def default_prediction(self, targets: Tensor) -> Tensor:
        """Return the mean box."""
        return targets.float().mean(0)

    def describe(self, means: Mapping[str, float], queries: int) -> str:
        return f"mean IoU {means['iou']:.4f}, IoU of {SHARE_IOU} or more for {means['iou75']:.4f} of {queries}"

    def checked(self, targets: Tensor, where: str) -> Tensor:
        """Return boxes as float32 (N, 4)."""
        if targets.ndim != 2 or targets.shape[1] != 4:
            raise ParityError(
                f"{where}: targets should be boxes (x, y, w, h), of shape (N, 4), not {tuple(targets.shape)}."
            )
        if not targets.is_floating_point():
            raise ParityError(
                f"{where}: targets are {dtype_name(targets)}, and boxes are floats, scaled as parity.tasks.to_box does."
            )
        check_finite(targets, "targets", where)
        return targets.float()


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the intersection over union of boxes (x, y, w, h), pair by pair: (..., 4), (..., 4) -> (...).

    Boxes are not cut at the image's border. One of negative width or height is empty, and has an IoU of 0, as has a
    box with NaN.
    """
    sizes, other_sizes = boxes[..., 2:], others[..., 2:]
    low = torch.maximum(boxes[..., :2], others[..., :2])
    high = torch.minimum(boxes[..., :2] + sizes, others[..., :2] + other_sizes)
    # x + w - x may be rounded to more than w, and an IoU to more than 1.
    common = torch.minimum(high - low, torch.minimum(sizes, other_sizes))
    intersection = common.clamp(min=0).prod(-1)
    union = sizes.clamp(min=0).prod(-1) + other_sizes.clamp(min=0).prod(-1) - intersection
    return (intersection / union).nan_to_num(0.0)


def to_box(pixels: Tensor, sides: Tensor) -> Tensor:
    """Return the target of boxes in pixels: boxes (N, 4) as (x, y, w, h), sides (N, 2) as (W, H) -> (N, 4)."""
    scaled = 2 * pixels / sides.repeat(1, 2)
    return scaled - torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=scaled.dtype, device=scaled.device)
