"""DigitBoxes: real digits, each somewhere on a larger canvas, to be localised; they come from another data set."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from parity.data.datamodule import GroupArguments, TensorDataModule, get_datamodule_class
from parity.errors import ParityError
from parity.tasks import BoxLocalisation, Task, to_box

# What belongs to a digit: pixels of at least this share of its brightest one. A box whose outermost row held nothing
# but a pixel of brightness 1 of 255 could not be seen.
_INK = 0.25
# The longer side of a drawn digit, as a share of the canvas's: from, to.
_LEAST_SIDE, _GREATEST_SIDE = 0.25, 0.75
_LEAST_CANVAS = 16
_CHUNK = 1000


class DigitBoxesDataModule(TensorDataModule):
    """Boxes of digits: an image of another data set on a black canvas, cut to its ink, at a random place and scale.

    Its longer side is drawn from 1/4 to 3/4 of the canvas's, its proportions are kept, and its box is the rectangle
    that it is drawn in, whole pixels. Queries are pixels / 255.

    Every image is drawn once. Where depends on ``canvas_seed`` and the split alone: base and parity models, and runs of
    every ``seed``, see the same canvases. Training and test canvases come from the source's own two splits.

    Args:
        k, batch_size, num_validation, steps_per_epoch, seed: as in ``GroupDataModule``; by default as many queries are
            held out as the source declares.
        source: data set of grey images in memory: 'MNIST' or 'Digits'.
        canvas: side of the canvas in pixels, 16 or more.
        canvas_seed: of places and scales.

    Raises:
        ParityError: another source or a smaller canvas.
    """

    QUERY_SHAPE = (1, 48, 48)
    SOURCE: ClassVar[str] = "MNIST"

    def __init__(
        self,
        k: int = 1,
        *,
        source: str = SOURCE,
        canvas: int = QUERY_SHAPE[-1],
        canvas_seed: int = 0,
        **common: Unpack[GroupArguments],
    ) -> None:
        digits = get_datamodule_class(source)()
        if not isinstance(digits, TensorDataModule) or len(digits.query_shape) != 3 or digits.query_shape[0] != 1:
            raise ParityError(
                f"DigitBoxes draws grey images (1, H, W) of a data set in memory, such as MNIST or Digits, not those "
                f"of {source}, whose queries have shape {digits.query_shape}."
            )
        if canvas < _LEAST_CANVAS:
            raise ParityError(f"a canvas has a side of {_LEAST_CANVAS} pixels or more, not {canvas}.")
        if common.get("num_validation") is None:
            common["num_validation"] = digits.num_validation
        super().__init__(k, **common)
        self.digits, self.canvas, self.canvas_seed = digits, canvas, canvas_seed

    @property
    def task(self) -> Task:
        return BoxLocalisation()

    @property
    def query_shape(self) -> tuple[int, ...]:
        return (1, self.canvas, self.canvas)

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        stored, _ = self.digits.load(train)
        images = stored.squeeze(1) * (255 / self.digits.divisor(stored.dtype))
        cuts = ink(images)
        generator = torch.Generator().manual_seed(2 * self.canvas_seed + (not train))
        boxes = random_boxes(cuts[:, 2:], self.canvas, generator)
        parts = zip(images.split(_CHUNK), cuts.split(_CHUNK), boxes.split(_CHUNK), strict=True)
        canvases = torch.cat([draw(*part, self.canvas) for part in parts])
        sides = torch.full((len(boxes), 2), self.canvas)
        return canvases.unsqueeze(1), to_box(boxes.double(), sides).float()


def ink(images: Tensor) -> Tensor:
    """Return the rectangles of what is drawn in images, the whole of those that are blank.

    Args:
        images: (N, H, W), background 0.

    Returns:
        int64 (N, 4), (x, y, w, h) in pixels: the smallest that holds every pixel of a quarter of the brightest's value
        or more.
    """
    drawn = images >= _INK * images.amax((1, 2), keepdim=True)
    starts, sizes = [], []
    for across in (1, 2):  # what is left when rows are put together: columns, hence x; then y
        line = drawn.any(across).int()
        starts.append(line.argmax(1))
        sizes.append(line.shape[1] - line.flip(1).argmax(1) - starts[-1])
    return torch.stack(starts + sizes, 1)


def random_boxes(sizes: Tensor, canvas: int, generator: torch.Generator) -> Tensor:
    """Choose where things of these proportions are drawn: sizes int64 (N, 2) as (w, h) -> int64 (N, 4) as (x, y, w, h).

    Args:
        sizes: of the things, in pixels of their own.
        canvas: side of the canvas that the boxes lie on.
        generator: of the longer sides, which are whole pixels of equal probability, and of the places.
    """
    least, greatest = round(_LEAST_SIDE * canvas), round(_GREATEST_SIDE * canvas)
    longer = torch.randint(least, greatest + 1, (len(sizes), 1), generator=generator)
    drawn = (sizes * longer / sizes.amax(1, keepdim=True)).round().long().clamp(min=1)
    corners = torch.rand(drawn.shape, dtype=torch.double, generator=generator) * (canvas - drawn + 1)
    return torch.cat([corners.long(), drawn], 1)


def draw(images: Tensor, cuts: Tensor, boxes: Tensor, canvas: int) -> Tensor:
    """Draw a part of each image into a box on a black canvas of its own, resized bilinearly with antialiasing.

    Args:
        images: float (N, H, W), 0 to 255.
        cuts: int64 (N, 4), the rectangles (x, y, w, h) of the images that are drawn, in pixels of theirs.
        boxes: int64 (N, 4), the rectangles that they fill, in pixels of the canvas.
        canvas: its side.

    Returns:
        uint8 (N, canvas, canvas).
    """
    height, width = images.shape[1:]
    columns = _resampling(cuts[:, 0], cuts[:, 2], width, boxes[:, 0], boxes[:, 2], canvas)
    rows = _resampling(cuts[:, 1], cuts[:, 3], height, boxes[:, 1], boxes[:, 3], canvas)
    return (rows @ images @ columns.mT).round_().clamp_(0, 255).byte()


def _resampling(start: Tensor, size: Tensor, side: int, new_start: Tensor, new_size: Tensor, new_side: int) -> Tensor:
    """Return how much each of ``side`` old pixels gives to each new one, along one axis: (N, new_side, side).

    A new pixel is a mean of the old ones within reach of its centre, weighted by a triangle. Its reach is an old pixel
    on both sides, or where the image is made smaller, as many as one new pixel covers.
    """
    start, size, new_start, new_size = (values.view(-1, 1, 1).float() for values in (start, size, new_start, new_size))
    step = size / new_size  # old pixels in a new one
    old, new = torch.arange(side).float(), torch.arange(new_side).float().unsqueeze(1)
    centre = (new - new_start + 0.5) * step + start - 0.5
    weights = (1 - (centre - old).abs() / step.clamp(min=1)).clamp_(min=0)
    weights *= (old >= start) & (old < start + size)
    weights /= weights.sum(-1, keepdim=True).clamp_(min=1e-6)
    return weights * ((new >= new_start) & (new < new_start + new_size))
