from pathlib import Path

import pytest
import torch
from torch import Tensor

from parity.data import TensorDataModule, get_datamodule_class
from parity.data.digit_boxes import DigitBoxesDataModule, draw, ink, random_boxes
from parity.data.digits import DigitsDataModule
from parity.data.mnist import MNISTDataModule
from parity.errors import ParityError
from parity.experiments.DigitBoxes.small.experiment_parameters import MEAN_BOX
from parity.tasks import BoxLocalisation


def digit_boxes(**arguments: object) -> DigitBoxesDataModule:
    return DigitBoxesDataModule(**{"source": "Digits", **arguments})


def in_pixels(targets: Tensor, canvas: int) -> Tensor:
    """What targets are in pixels of the canvas, (x, y, w, h)."""
    return (targets + torch.tensor([1.0, 1.0, 0.0, 0.0])) * canvas / 2


def drawn(canvases: Tensor) -> Tensor:
    """The smallest rectangles (x, y, w, h) that hold every pixel that is not black, row by row: (N, 4)."""
    found = []
    for canvas in canvases[:, 0]:
        ys, xs = canvas.nonzero(as_tuple=True)
        found.append([xs.min(), ys.min(), xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()])
    return torch.tensor(found)


@pytest.mark.parametrize("canvas", [16, 33, 48, 100])
@pytest.mark.parametrize("train", [True, False])
def test_the_digit_fills_its_box_and_nothing_is_outside(canvas: int, train: bool) -> None:
    canvases, targets = digit_boxes(canvas=canvas).load(train)
    assert (canvases.dtype, canvases.shape[1:]) == (torch.uint8, (1, canvas, canvas))
    assert (targets.dtype, targets.shape) == (torch.float32, (len(canvases), 4))
    assert canvases.amax((1, 2, 3)).min() >= 100, "all can be seen"
    boxes = in_pixels(targets, canvas).round().long()
    torch.testing.assert_close(boxes.float(), in_pixels(targets, canvas), rtol=0, atol=1e-4)
    assert torch.equal(drawn(canvases), boxes)


def test_mnists_digits_fill_their_boxes(mnist: Path) -> None:
    data = DigitBoxesDataModule()
    canvases, targets = data.load(train=False)
    assert canvases.shape == (10_000, *data.query_shape) == (10_000, 1, 48, 48)
    assert torch.equal(drawn(canvases), in_pixels(targets, 48).round().long())


@pytest.mark.parametrize("canvas", [16, 48])
def test_scales_and_places_are_spread(canvas: int) -> None:
    boxes = in_pixels(digit_boxes(canvas=canvas).load(train=True)[1], canvas)
    longer = boxes[:, 2:].amax(1).round().long()
    assert longer.unique().tolist() == list(range(canvas // 4, canvas * 3 // 4 + 1))
    assert boxes.min() >= 0
    ends = boxes[:, :2] + boxes[:, 2:]
    assert ends.max() <= canvas + 1e-3
    free = canvas - boxes[:, 2:]
    assert torch.allclose((boxes[:, :2] / free).mean(0), torch.tensor(0.5), atol=0.03)
    assert (boxes[:, :2].round() == 0).any(0).all(), "digits touch every border"
    assert (ends.round() == canvas).any(0).all()


def test_proportions_are_kept() -> None:
    images = DigitsDataModule().load(train=False)[0].squeeze(1)
    own = ink(images)[:, 2:].double()
    boxes = in_pixels(digit_boxes(canvas=200).load(train=False)[1], 200).double()[:, 2:]
    assert ((boxes[:, 0] / boxes[:, 1]) / (own[:, 0] / own[:, 1]) - 1).abs().max() < 0.03


def test_each_canvas_holds_its_own_digit() -> None:
    data = digit_boxes(canvas=96)
    images = data.digits.load(train=False)[0].float()
    canvases, targets = data.load(train=False)
    for image, canvas, box in zip(images[:50], canvases, in_pixels(targets, 96).round().long(), strict=False):
        (x, y, w, h), (left, top, width, height) = box.tolist(), ink(image)[0].tolist()
        part = image[:, top : top + height, left : left + width].unsqueeze(0) * 255 / 16
        resized = torch.nn.functional.interpolate(part, (h, w), mode="bilinear", antialias=True)[0]
        assert (resized - canvas[:, y : y + h, x : x + w]).abs().max() < 1


def test_the_ink_is_what_is_bright_enough() -> None:
    images = torch.zeros(3, 5, 6)
    images[0, 1:4, 2] = torch.tensor([25.0, 100.0, 30.0])
    images[0, 0, 5] = 24.0
    images[1, 4, 5] = 1.0
    assert ink(images).tolist() == [[2, 1, 1, 3], [5, 4, 1, 1], [0, 0, 6, 5]]


def test_an_image_made_smaller_is_averaged() -> None:
    stripes = torch.zeros(1, 16, 16)
    stripes[:, :, ::2] = 200.0
    whole = torch.tensor([[0, 0, 16, 16]])
    small = draw(stripes, whole, torch.tensor([[3, 2, 4, 4]]), 8)[0].int()
    assert small[2:6, 3:7].min() >= 80
    assert small[2:6, 3:7].max() <= 120
    assert small.sum() == small[2:6, 3:7].sum()
    assert torch.equal(draw(stripes, whole, whole, 16), stripes.byte())


def test_boxes_lie_on_the_canvas() -> None:
    sizes = torch.tensor([[20, 1], [1, 20], [7, 7], [1000, 1]]).repeat(500, 1)
    boxes = random_boxes(sizes, 20, torch.Generator().manual_seed(0))
    assert boxes.min(0).values.tolist() == [0, 0, 1, 1]
    assert (boxes[:, :2] + boxes[:, 2:]).amax(0).tolist() == [20, 20]


def test_every_run_sees_the_same() -> None:
    torch.manual_seed(123)
    first = digit_boxes(seed=0).load(train=True)
    torch.manual_seed(456)
    second = digit_boxes(seed=1, k=4, batch_size=3).load(train=True)
    assert all(map(torch.equal, first, second))
    other = digit_boxes(canvas_seed=1).load(train=True)
    assert not torch.equal(other[1], first[1])


def test_training_and_test_digits_come_from_their_own_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: TensorDataModule, train: bool) -> tuple[Tensor, Tensor]:
        images = torch.zeros(30, 1, 8, 8, dtype=torch.uint8)
        images[:, :, :2, : 8 if train else 2] = 16  # flat ones to train with, square ones to test
        return images, torch.zeros(30, dtype=torch.long)

    monkeypatch.setattr(DigitsDataModule, "load", load)
    data = digit_boxes(num_validation=10)
    for split, ratio in (("train", 4), ("val", 4), ("test", 1)):
        boxes = data.targets(split)
        assert ((boxes[:, 2] / boxes[:, 3] - ratio).abs() < 1).all()
    places = [in_pixels(data.targets(split), 48)[:, 2:].amax(1).tolist() for split in ("train", "test")]
    assert places[0] != places[1], "the two are drawn anew"


def test_splits_are_those_of_the_source(mnist: Path) -> None:
    for source in (DigitsDataModule, MNISTDataModule):
        data = DigitBoxesDataModule(source=source.__name__.removesuffix("DataModule"))
        for split in ("train", "val", "test"):
            assert torch.equal(data.rows(split), source().rows(split))


def test_groups_are_canvases_between_0_and_1_with_their_boxes() -> None:
    data = digit_boxes(k=3, batch_size=5, canvas=32)
    assert data.query_shape == (1, 32, 32)
    assert isinstance(data.task, BoxLocalisation)
    canvases, targets = data.load(train=True)
    batch = next(data.loader("val").batches())
    assert batch.queries.shape == (5, 3, 1, 32, 32)
    assert torch.equal(batch.queries, canvases[batch.indices] / 255)
    assert torch.equal(batch.targets, targets[batch.indices])


def test_shapes_without_arguments() -> None:
    assert DigitBoxesDataModule().query_shape == DigitBoxesDataModule.QUERY_SHAPE
    assert get_datamodule_class("DigitBoxes") is DigitBoxesDataModule


def test_the_configs_mean_box_is_that_of_the_training_data(mnist: Path) -> None:
    assert DigitBoxesDataModule().default_prediction().tolist() == pytest.approx(MEAN_BOX, abs=5e-5)


class ColouredDataModule(TensorDataModule):
    NUM_CLASSES = 2
    QUERY_SHAPE = (3, 8, 8)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ParityError, match=r"grey images \(1, H, W\).* Coloured, whose queries have shape \(3, 8, 8\)"):
        digit_boxes(source="Coloured")
    with pytest.raises(ParityError, match="16 pixels or more, not 15"):
        digit_boxes(canvas=15)
    with pytest.raises(ParityError, match="no data set 'Digitz': did you mean 'Digits'"):
        digit_boxes(source="Digitz")
