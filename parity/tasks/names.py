"""How measures are written: their names in sentences, in % or as they are."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class MeasureName:
    """A measure in words.

    Args:
        name: in sentences, "top-1 accuracy".
        scale: 100 for what is written in %.
        unit: of differences, "points".
        digits: after the decimal point, of differences; values have one more in %, so many otherwise.
        agreement: what it is of predictions that are measured against the base model's.
    """

    name: str
    scale: float = 1.0
    unit: str = ""
    digits: int = 4
    agreement: str = ""

    @property
    def in_words(self) -> str:
        """How values are written."""
        return "in %" if self.scale == 100 else f"as {self.name}"

    @property
    def short(self) -> str:
        """The name where it is plain which accuracy is meant."""
        return self.name.removeprefix("top-1 ")

    @property
    def on_axes(self) -> str:
        """The unit on the axes of figures."""
        return "%" if self.scale == 100 else self.name


def _shares(name: str, agreement: str) -> MeasureName:
    return MeasureName(name, 100.0, "points", 1, agreement)


_NAMES: Mapping[str, MeasureName] = {
    "top1": _shares("top-1 accuracy", "how often they agree with"),
    "iou": MeasureName("mean IoU", unit="IoU", agreement="mean IoU with"),
    "r2": MeasureName("R²", unit="of R²", agreement="R² of"),
    "map": _shares("mAP", "mAP against the labels of"),
    "pixels": _shares("pixel accuracy", "the share of pixels that agree with"),
    "cosine": MeasureName("cosine", unit="of the cosine", agreement="cosine to"),
}


def measure_name(measure: str) -> MeasureName:
    """Return how a measure is written; one of a task of a user's own is written as it is."""
    return _NAMES.get(measure, MeasureName(measure, unit=f"of {measure}", agreement=f"{measure} against"))
