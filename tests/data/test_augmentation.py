import pytest
import torch
from torch import Tensor
from torch.nn import functional

from parity.data.augmentation import RandomCropAndFlip


def windows(image: Tensor, padding: int) -> dict[tuple[int, int, bool], Tensor]:
    """Return every window of the padded image (C, H, W) and its mirror image, by (top, left, mirrored)."""
    _, height, width = image.shape
    padded = functional.pad(image, [padding] * 4)
    found = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            window = padded[:, top : top + height, left : left + width]
            found[top, left, False], found[top, left, True] = window, window.flip(-1)
    return found


def ways(images: Tensor, augmented: Tensor, padding: int) -> list[tuple[int, int, bool]]:
    """Return in which way each image was augmented; there must be exactly one."""
    answers = []
    for image, output in zip(images, augmented, strict=True):
        fitting = [way for way, window in windows(image, padding).items() if torch.equal(window, output)]
        assert len(fitting) == 1
        answers.append(fitting[0])
    return answers


def random_images(*shape: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.randint(1, 256, shape).to(dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
@pytest.mark.parametrize(("shape", "padding"), [((20, 3, 32, 32), 4), ((20, 1, 6, 9), 2), ((20, 2, 7, 5), 1)])
def test_each_image_becomes_a_window_of_it_or_its_mirror(
    shape: tuple[int, ...], padding: int, dtype: torch.dtype
) -> None:
    images = random_images(*shape, dtype=dtype)
    before = images.clone()
    augmented = RandomCropAndFlip(padding)(images)
    assert augmented.dtype == dtype
    assert augmented.shape == shape
    assert augmented.is_contiguous()
    ways(images, augmented, padding)
    assert torch.equal(images, before), "the data itself is left alone"


def test_all_ways_occur_about_as_often_and_every_image_has_its_own() -> None:
    images = random_images(1, 1, 6, 5).expand(4000, -1, -1, -1)
    found = ways(images, RandomCropAndFlip(1)(images), 1)
    counts = [found.count((top, left, mirrored)) for top in range(3) for left in range(3) for mirrored in (False, True)]
    assert sum(counts) == 4000
    assert min(counts) > 150, "222 expected"
    assert max(counts) < 300


def test_without_padding_images_are_mirrored_or_not() -> None:
    images = random_images(50, 3, 4, 4)
    found = ways(images, RandomCropAndFlip(0)(images), 0)
    assert {mirrored for _, _, mirrored in found} == {False, True}


def test_torchs_seed_decides() -> None:
    images, augment = random_images(64, 3, 8, 8), RandomCropAndFlip(4)
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(augment(images))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_an_empty_batch() -> None:
    assert RandomCropAndFlip(4)(random_images(0, 3, 8, 8)).shape == (0, 3, 8, 8)
