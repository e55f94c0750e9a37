from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.models import ResNet18_Weights
from torchvision.transforms import v2

from parity import settings
from parity.data import GroupBatch, GroupDataModule, folders, get_datamodule_class
from parity.data.folders import CatVsDogDataModule, ImageFolderDataModule, ImageNetDataModule
from parity.data.images import image_files, read_image
from parity.errors import ParityError

SPLITS = ("train", "val", "test")
SIZES = {"train": 12, "val": 4, "test": 5}
"""Images of each class."""


class BeetlesDataModule(ImageFolderDataModule):
    NUM_CLASSES = 3
    QUERY_SHAPE = (3, 16, 16)


def write_images(root: Path, sizes: dict[str, int] = SIZES, classes: str = "abc") -> None:
    """Write images that say where each of their pixels lies: red grows from left to right, green from top to bottom."""
    for split, size in sizes.items():
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for place in range(size):
                width, height = 40 + 3 * place, 60 - 2 * place
                red = torch.linspace(0, 255, width).expand(height, width)
                green = torch.linspace(0, 255, height).unsqueeze(1).expand(height, width)
                blue = torch.full((height, width), 10.0 * label + place)
                pixels = torch.stack([red, green, blue], -1).round().byte()
                Image.fromarray(pixels.numpy()).save(root / split / name / f"{place:02d}.png")


@pytest.fixture
def beetles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images in three classes under an otherwise empty DATA_ROOT."""
    monkeypatch.setattr(settings, "DATA_ROOT", tmp_path / "data")
    write_images(tmp_path / "data" / "Beetles")
    return tmp_path / "data" / "Beetles"


def stored(batches: list[GroupBatch]) -> dict[int, Tensor]:
    """Return the queries of batches in pixels, uint8 (3, size, size), by their places."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (BeetlesDataModule.MEAN, BeetlesDataModule.STD))
    return {
        place: ((query * std + mean) * 255).round().byte()
        for batch in batches
        for place, query in zip(batch.indices.flatten().tolist(), batch.queries.flatten(0, 1), strict=True)
    }


def epoch(data: GroupDataModule, split: str = "train", number: int = 0) -> dict[int, Tensor]:
    loader = data.loader(split)
    loader.sampler.set_epoch(number)
    return stored(list(loader))


@pytest.mark.usefixtures("beetles")
def test_three_lines_make_a_data_set() -> None:
    assert get_datamodule_class("Beetles") is BeetlesDataModule
    data = BeetlesDataModule(k=2, batch_size=3, num_workers=0)
    assert data.query_shape == (3, 16, 16)
    assert data.task.prediction_shape == (3,)
    for split in SPLITS:
        assert data.targets(split).tolist() == [label for label in range(3) for _ in range(SIZES[split])]
        assert data.rows(split).tolist() == list(range(3 * SIZES[split]))
        for batch in data.loader(split).batches():
            assert batch.queries.shape[1:] == (2, 3, 16, 16)
            assert torch.equal(batch.targets, data.targets(split)[batch.indices])
    assert data.default_prediction().shape == (3,)
    with pytest.raises(ParityError, match="there is no data set 'ImageFolder'"):
        get_datamodule_class("ImageFolder")


@pytest.mark.usefixtures("beetles")
def test_blue_says_which_image_it_is() -> None:
    data = BeetlesDataModule(num_workers=0)
    for split in SPLITS:
        for place, query in epoch(data, split).items():
            label, number = divmod(place, SIZES[split])
            assert (query[2] == 10 * label + number).all()


@pytest.mark.usefixtures("beetles")
@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_sees_the_middle(split: str) -> None:
    data = BeetlesDataModule(num_workers=0)
    assert data.resize == 18
    queries = epoch(data, split)
    assert all(torch.equal(query, epoch(data, split, 1)[place]) for place, query in queries.items())
    for place, query in queries.items():
        width, height = 40 + 3 * (place % SIZES[split]), 60 - 2 * (place % SIZES[split])
        for values, side in ((query[0, 0], width), (query[1, :, 0], height)):
            seen = 16 / 18 * min(width, height) / side  # a share of the side, around its middle
            assert values[0] == pytest.approx(255 * (0.5 - seen / 2), abs=12)
            assert values[-1] == pytest.approx(255 * (0.5 + seen / 2), abs=12)


@pytest.mark.usefixtures("beetles")
def test_training_sees_random_parts_and_mirror_images() -> None:
    data = BeetlesDataModule(num_workers=0)
    mirrored, areas = 0, []
    for number in range(6):
        for query in epoch(data, number=number).values():
            across, down = (int(values[-1]) - int(values[0]) for values in (query[0, 0], query[1, :, 0]))
            steps = query[0, 0].int().diff() * (1 if across > 0 else -1)
            assert (steps >= -1).all(), "red runs one way"
            assert down > 0, "never upside down"
            mirrored += across < 0
            areas.append(abs(across) * down / 255**2)
    assert 70 <= mirrored <= 146, "of 216, half"
    assert min(areas) > 0.05
    assert max(areas) < 1.01
    assert min(areas) < 0.3 < 0.7 < max(areas)


@pytest.mark.usefixtures("beetles")
def test_augmentation_depends_on_seed_epoch_and_place_alone() -> None:
    first = epoch(BeetlesDataModule(num_workers=0))
    torch.manual_seed(99)
    again = epoch(BeetlesDataModule(num_workers=2, k=3, batch_size=2))
    assert all(torch.equal(query, first[place]) for place, query in again.items())
    for other in (epoch(BeetlesDataModule(num_workers=0), number=1), epoch(BeetlesDataModule(num_workers=0, seed=1))):
        same = sum(torch.equal(query, first[place]) for place, query in other.items())
        assert same == 0
    parts = {tuple(query[0, 0].tolist()) for query in first.values()}
    assert len(parts) == len(first), "every place has its own"


@pytest.mark.usefixtures("beetles")
def test_reading_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    epoch(BeetlesDataModule(num_workers=0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("beetles")
def test_sizes_are_arguments() -> None:
    data = BeetlesDataModule(size=8, num_workers=0)
    assert (data.size, data.resize, data.query_shape) == (8, 9, (3, 8, 8))
    assert next(iter(epoch(data).values())).shape == (3, 8, 8)
    assert (CatVsDogDataModule().size, CatVsDogDataModule().resize) == (224, 256)
    assert CatVsDogDataModule(size=64).resize == 73
    for size, resize in ((0, 10), (16, 15)):
        with pytest.raises(ParityError, match=f"not {size} and {resize}"):
            BeetlesDataModule(size=size, resize=resize)


def test_as_many_processes_as_cpus_but_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    for cpus in (1, 3, 8, 64):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cpus=cpus: set(range(cpus)), raising=False)
        assert BeetlesDataModule().num_workers == min(cpus, 8)
    assert BeetlesDataModule(num_workers=0).num_workers == 0
    with pytest.raises(ParityError, match=r"num_workers is 0 or more, not -1"):
        BeetlesDataModule(num_workers=-1)


@pytest.mark.usefixtures("beetles")
def test_files_are_listed_once_and_only_of_the_split_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []

    def note(folder: Path, *args: object) -> object:
        listed.append(folder.name)
        return image_files(folder, *args)

    monkeypatch.setattr(folders, "image_files", note)
    data = BeetlesDataModule(num_workers=0)
    assert listed == []
    for split in ("test", "train", "val"):
        data.rows(split)
        data.targets(split)
        data.loader(split)
        assert listed[-1] == split
    assert len(listed) == 3


def test_without_a_folder_for_validation_the_remedy_is_to_hold_images_out(beetles: Path) -> None:
    (beetles / "val").rename(beetles / "elsewhere")
    with pytest.raises(ParityError, match=r"Beetles has no validation images, .*val: put some there, or hold") as error:
        BeetlesDataModule().loader("val")
    assert "FOLDERS = {'train': 'train', 'test': 'test'}" in str(error.value)
    assert "DATA_ROOT" not in str(error.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_data_says_where_it_was_looked_for(beetles: Path, split: str) -> None:
    (beetles / split).rename(beetles / "elsewhere")
    with pytest.raises(ParityError, match=r"Beetles is not in .*: set DATA_ROOT to where it is, or put its") as error:
        BeetlesDataModule().loader(split)
    assert str(beetles / split) in str(error.value)


def test_wrong_classes_are_refused(beetles: Path) -> None:
    (beetles / "val" / "b").rename(beetles / "val" / "x")
    with pytest.raises(ParityError, match=r"val should have the same classes as the training data.*no folder 'b'"):
        BeetlesDataModule().rows("val")
    (beetles / "train" / "d").mkdir()
    with pytest.raises(ParityError, match=r"train should hold .* each of 3 classes, and it holds 4 folders"):
        BeetlesDataModule().rows("train")


@pytest.mark.parametrize("scaled", [False, True])
def test_floats_that_an_own_transform_returns_are_not_divided_by_255(beetles: Path, scaled: bool) -> None:
    class Own(BeetlesDataModule):
        dataset = "Beetles"
        MEAN = STD = None  # type: ignore[assignment]

        def transform(self, augmented: bool) -> Any:
            return v2.Compose([super().transform(augmented=False), v2.ToDtype(torch.float32, scale=scaled)])

    plain, own = (kind(num_workers=0).loader("val") for kind in (BeetlesDataModule, Own))
    pixels = stored(list(plain))
    for batch in own:
        for index, query in zip(batch.indices.flatten().tolist(), batch.queries.flatten(0, 1), strict=True):
            assert torch.allclose(query, pixels[index] / (255 if scaled else 1), atol=1e-3)


@pytest.mark.parametrize(
    ("plain", "augmented", "message"),
    [
        (v2.CenterCrop(16), v2.ToDtype(torch.float32, scale=True), "let both return the same type"),
        (v2.CenterCrop(8), v2.Identity(), r"not \(1, 3, 8, 8\)"),
        (v2.CenterCrop(16), v2.Grayscale(), r"not \(1, 1, 16, 16\)"),
        (lambda image: 1 / 0, v2.Identity(), "ZeroDivisionError"),
        (lambda image: image.numpy(), v2.Identity(), "expected Tensor"),
        (v2.CenterCrop, v2.Identity(), "a query cannot be read"),
    ],
)
def test_own_transforms_that_cannot_be_right_are_refused_before_any_work(
    plain: Any, augmented: Any, message: str, beetles: Path
) -> None:
    class Own(BeetlesDataModule):
        dataset = "Beetles"

        def transform(self, augmented: bool) -> Any:
            return both[augmented]

    both = plain, v2.Compose([v2.CenterCrop(16), augmented])
    with pytest.raises(ParityError, match=message):
        Own(num_workers=0).loader("train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "16"}, "size is a whole number"),
        ({"size": 16.5}, "size is a whole number"),
        ({"size": 10**9}, "at most 16384"),
        ({"resize": 20.5}, "resize is a whole number"),
        ({"num_workers": 1.5}, r"num_workers is 0 or more, not 1\.5"),
        ({"num_workers": 10**6}, "num_workers is .*at most 1024"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ParityError, match=message):
        BeetlesDataModule(**arguments)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 24), (16,)])
def test_queries_that_are_not_square_images_in_rgb_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParityError, match="declare QUERY_SHAPE = "):
        type("OwnBeetlesDataModule", (BeetlesDataModule,), {"QUERY_SHAPE": shape})()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_damaged_file_is_named(beetles: Path, num_workers: int) -> None:
    path = beetles / "train" / "b" / "05.png"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ParityError, match=r"cannot be read as an image") as error:
        epoch(BeetlesDataModule(num_workers=num_workers))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.fixture
def imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes in ImageNet's layout, at IMAGENET_PATH."""
    write_images(tmp_path / "ILSVRC", {"train": 10, "val": 4})
    monkeypatch.setattr(settings, "IMAGENET_PATH", tmp_path / "ILSVRC")
    monkeypatch.setattr(ImageNetDataModule, "NUM_CLASSES", 3)
    return tmp_path / "ILSVRC"


def test_imagenet_holds_validation_queries_out_of_its_training_data(imagenet: Path) -> None:
    data = ImageNetDataModule(k=2, num_validation=7, size=16, num_workers=0)
    train, val, test = (data.rows(split).tolist() for split in SPLITS)
    assert len(val) == 8
    assert sorted(train + val) == list(range(30))
    assert test == list(range(12))
    assert {data.files(split).folder for split in ("train", "val")} == {imagenet / "train"}
    assert data.files("test").folder == imagenet / "val"
    fixed = {split: data.loader(split).queries_are_fixed for split in SPLITS}
    assert fixed == {"train": False, "val": True, "test": True}
    assert sorted(epoch(data, "val")) == val


def test_without_imagenet_the_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "IMAGENET_PATH", None)
    assert ImageNetDataModule().query_shape == (3, 224, 224)
    with pytest.raises(ParityError, match=r"IMAGENET_PATH, the folder of ImageNet, is not set"):
        ImageNetDataModule().loader("train")
    monkeypatch.setattr(settings, "IMAGENET_PATH", tmp_path)
    with pytest.raises(ParityError, match=rf"ImageNet is not in {tmp_path}/train: set IMAGENET_PATH to where it is"):
        ImageNetDataModule().loader("train")


def test_real_photographs_are_prepared_as_published_weights_expect(cat_vs_dog: Path) -> None:
    data = CatVsDogDataModule(k=2, batch_size=4, num_workers=2)
    sizes = [len(data.rows(split)) for split in SPLITS]
    assert sizes == [sum(1 for _ in (cat_vs_dog / split).rglob("*.jpg")) for split in SPLITS]
    assert data.targets("test").bincount().tolist() == [
        len(list((cat_vs_dog / "test" / name).iterdir())) for name in ("cat", "dog")
    ]
    batch = next(data.loader("test").batches())
    expected = ResNet18_Weights.IMAGENET1K_V1.transforms()
    for place, query in zip(batch.indices.flatten().tolist(), batch.queries.flatten(0, 1), strict=True):
        theirs = expected(read_image(data.files("test").path(place)))
        assert (query - theirs).abs().max() < 1.5 / 255 / min(data.STD), "rounded to whole pixel values by us alone"
    assert next(data.loader("train").batches()).queries.shape == (4, 2, 3, 224, 224)
