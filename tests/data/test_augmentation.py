import pytest
import torch
from torch import Tensor
from torch.nn import functional

from parity.data.augmentation import RandomAffine, RandomCropAndFlip
from parity.data.digits import DigitsDataModule
from parity.errors import ParityError


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


def affine_of(**only: object) -> RandomAffine:
    return RandomAffine(**{**dict(degrees=0.0, stretch=0.0, shear=0.0, shift=(0.0, 0.0)), **only})


@pytest.mark.parametrize("shape", [(2, 1, 7, 9), (3, 3, 8, 8)])
def test_nothing_random_leaves_images_as_they_are(shape: tuple[int, ...]) -> None:
    images = torch.randint(256, shape, dtype=torch.uint8)
    augmented = affine_of()(images)
    assert augmented.dtype == torch.float32
    assert torch.allclose(augmented, images.float(), atol=1e-3)


def middle(images: Tensor) -> Tensor:
    """Return the mean place of what is bright, row and column from the middle in pixels: (B, 2)."""
    mass = images[:, 0] / images[:, 0].sum((1, 2), keepdim=True)
    places = torch.arange(images.shape[-1]) - (images.shape[-1] - 1) / 2
    return torch.stack([mass.sum(2) @ places, mass.sum(1) @ places], dim=1)


def test_images_are_moved_by_up_to_a_share_of_their_sides_each_in_its_own_way() -> None:
    images = torch.zeros(400, 1, 41, 41)
    images[:, :, 20, 20] = 1
    moved = middle(affine_of(shift=(0.2, 0.1))(images))
    assert len(moved.unique(dim=0)) > 390
    assert moved.abs().amax(0).tolist() == pytest.approx([0.2 * 41, 0.1 * 41], rel=0.05)
    assert moved.mean(0).abs().max() < 0.6


def test_images_are_turned_by_up_to_so_many_degrees_and_keep_their_size() -> None:
    images = torch.zeros(400, 1, 41, 41)
    images[:, :, 19:22, 34:37] = 1  # 15 right of the middle
    places = middle(affine_of(degrees=30.0)(images))
    angles = torch.rad2deg(torch.atan2(places[:, 0], places[:, 1]))
    assert angles.abs().max() == pytest.approx(30, abs=1)
    assert angles.std() == pytest.approx(30 / 3**0.5, rel=0.15)
    assert torch.allclose(places.norm(dim=1), torch.tensor(15.0), atol=0.3)


def test_sides_are_stretched_each_on_its_own() -> None:
    ramp = torch.arange(41.0) - 20
    images = torch.stack([ramp[:, None].expand(41, 41), ramp.expand(41, 41)]).expand(400, -1, -1, -1)
    stretched = affine_of(stretch=0.25)(images)
    factors = torch.stack([stretched[:, 0].diff(dim=1)[:, 20, 20], stretched[:, 1].diff(dim=2)[:, 20, 20]], dim=1)
    assert factors.amin(0).tolist() == pytest.approx([0.75, 0.75], abs=0.01)  # of a pixel that one pixel shows
    assert factors.amax(0).tolist() == pytest.approx([1.25, 1.25], abs=0.01)
    assert torch.corrcoef(factors.T)[0, 1].abs() < 0.15


def test_rows_are_sheared_by_up_to_a_share_of_their_distance_from_the_middle() -> None:
    images = torch.zeros(400, 1, 41, 41)
    images[:, :, 34:37, 19:22] = 1  # 15 below the middle
    places = middle(affine_of(shear=0.2)(images))
    assert places[:, 1].abs().max() == pytest.approx(0.2 * 15, rel=0.05)
    assert torch.allclose(places[:, 0], torch.tensor(15.0), atol=0.1)


def test_what_cannot_be_called_is_no_augmentation() -> None:
    with pytest.raises(ParityError, match="RandomAffine"):
        DigitsDataModule(augmentation=3)  # type: ignore[arg-type]
