import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from parity import settings
from parity.data import get_datamodule_class
from parity.data.cub import CUBDataModule, read_boxes
from parity.errors import ParityError
from parity.tasks import BoxLocalisation

SPLITS = ("train", "val", "test")
CLASSES = {"002.Laysan_Albatross": 10, "001.Black_footed_Albatross": 15, "010.Red_winged_Blackbird": 7}


def sides(number: int) -> tuple[int, int]:
    return 40 + 3 * (number % 7), 30 + 5 * (number % 5)


def box(number: int) -> tuple[float, float, float, float]:
    return 4.0 + number % 5, 6.0 + number % 3, 20.0 + number % 4, 12.0 + number % 6


@pytest.fixture
def cub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CUB's own layout: images of many sides, each a red bird of known box on blue. Ids begin at 101."""
    folder = tmp_path / "data" / "CUB_200_2011"
    monkeypatch.setattr(settings, "DATA_ROOT", tmp_path / "data")
    names = [f"{name}/bird_{i:04}.png" for name, count in CLASSES.items() for i in range(count)]
    for name in CLASSES:
        (folder / "images" / name).mkdir(parents=True)
    for number, name in enumerate(names):
        image = Image.new("RGB", sides(number), (0, 0, 255))
        x, y, w, h = box(number)
        ImageDraw.Draw(image).rectangle((x, y, x + w - 1, y + h - 1), fill=(255, 0, 0))
        image.save(folder / "images" / name)
    (folder / "images.txt").write_text("".join(f"{101 + i} {name}\n" for i, name in enumerate(names)))
    lines = [" ".join(map(str, (101 + i, *box(i)))) for i in range(len(names))]
    (folder / "bounding_boxes.txt").write_text("\n".join(reversed(lines)))  # found by id, not by place
    return folder


def cub_data(**arguments: object) -> CUBDataModule:
    return CUBDataModule(**{"size": 64, "num_workers": 0, "num_validation": 6, **arguments})


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_targets_are_the_boxes_in_halves_of_each_images_sides(cub: Path) -> None:
    data = cub_data()
    targets = data.targets("train")
    assert (targets.shape, targets.dtype) == ((32, 4), torch.float32)
    for number, target in enumerate(targets.tolist()):
        (x, y, w, h), (width, height) = box(number), sides(number)
        assert target == pytest.approx([2 * x / width - 1, 2 * y / height - 1, 2 * w / width, 2 * h / height])
    assert isinstance(data.task, BoxLocalisation)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_bird_is_under_its_box_in_what_networks_see(cub: Path, split: str, num_workers: int) -> None:
    loader = cub_data(num_workers=num_workers).loader(split)
    for _, queries, targets in loader.every_query():
        assert queries.shape[1:] == (3, 64, 64)
        for query, (x, y, w, h) in zip(queries, targets.tolist(), strict=True):
            left, top, right, bottom = (32 * edge for edge in (x + 1, y + 1, x + 1 + w, y + 1 + h))
            red = query[0] > 0  # 0 is the mean red of ImageNet, hence between the two colours
            centres = torch.arange(64) + 0.5
            inside = ((centres - top) > 0) & ((centres - bottom) < 0)
            inside = inside[:, None] & ((centres - left) > 0) & ((centres - right) < 0)
            near_edge = torch.zeros(64, 64, dtype=torch.bool)
            near_edge[:, ((centres - left).abs() < 1.5) | ((centres - right).abs() < 1.5)] = True
            near_edge[((centres - top).abs() < 1.5) | ((centres - bottom).abs() < 1.5)] = True
            assert torch.equal(red | near_edge, inside | near_edge)
            assert not near_edge.all()


def test_pixels_are_scaled_by_the_statistics_of_imagenet(cub: Path) -> None:
    mean, std = torch.tensor(CUBDataModule.MEAN), torch.tensor(CUBDataModule.STD)
    _, queries, _ = next(cub_data().loader("test").every_query())
    colour = queries[:, :, 0, 0] * std + mean
    torch.testing.assert_close(colour, torch.tensor([0.0, 0.0, 1.0]).expand_as(colour), atol=1e-5, rtol=0)


def test_groups_carry_their_own_boxes_and_are_never_augmented(cub: Path) -> None:
    data = cub_data(k=2, batch_size=3)
    for split in SPLITS:
        loader = data.loader(split)
        assert loader.queries_are_fixed
        known = {}
        for rows, queries, _ in loader.every_query():
            known |= dict(zip(rows.tolist(), queries, strict=True))
        for batch in loader.batches():
            assert batch.queries.shape == (len(batch.indices), 2, 3, 64, 64)
            assert torch.equal(batch.targets, data.targets(split)[batch.indices])
            for query, row in zip(batch.queries.flatten(0, 1), batch.indices.flatten().tolist(), strict=True):
                assert torch.equal(query, known[row])


def test_a_fifth_of_each_class_is_the_test_split(cub: Path) -> None:
    data = cub_data()
    names = [line.split()[1].split("/")[0] for line in (cub / "images.txt").read_text().splitlines()]
    test = [names[row] for row in data.rows("test").tolist()]
    assert {name: test.count(name) for name in CLASSES} == {name: round(count / 5) for name, count in CLASSES.items()}
    rows = [row for split in SPLITS for row in data.rows(split).tolist()]
    assert sorted(rows) == list(range(32)), "every image is in one split"
    assert len(data.rows("val")) == 6


def test_splits_are_the_same_in_every_run(cub: Path) -> None:
    first, second = cub_data(), cub_data(seed=3, batch_size=5, k=2)
    for split in SPLITS:
        assert torch.equal(first.rows(split), second.rows(split))


def test_validation_depends_on_num_validation_and_the_test_split_does_not(cub: Path) -> None:
    assert len(cub_data(num_validation=3, k=2).rows("val")) == 4
    assert torch.equal(cub_data(num_validation=3).rows("test"), cub_data().rows("test"))
    with pytest.raises(ParityError, match="num_validation = 26 leaves nothing of 26"):
        cub_data(num_validation=26).rows("train")


def test_the_default_prediction_is_the_mean_training_box(cub: Path) -> None:
    data = cub_data()
    expected = data.targets("train")[data.rows("train")].mean(0)
    torch.testing.assert_close(data.default_prediction(), expected)


@pytest.mark.parametrize("name", ["CUB", "CUB_200_2011", "CUB/CUB_200_2011"])
def test_it_is_found_where_it_was_unpacked(cub: Path, name: str) -> None:
    moved = cub.parent / "moved"
    cub.rename(moved)
    folder = moved.parent / name
    folder.parent.mkdir(exist_ok=True)
    if name == "CUB/CUB_200_2011":
        (folder.parent / "bounding_boxes.txt").write_text("1 2 3 4 5\n")  # as in ../shared/data: boxes alone
    moved.rename(folder)
    assert cub_data().folder() == folder
    assert len(cub_data().targets("test")) == 32


def test_missing_data_is_named_with_where_to_get_it(cub: Path) -> None:
    (cub / "images.txt").unlink()
    with pytest.raises(ParityError, match=r"DATA_ROOT.*Caltech") as error:
        cub_data().loader("train")
    assert str(cub.parent / "CUB") in str(error.value)
    assert "https://www.vision.caltech.edu/datasets/cub_200_2011" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line", ["107 1 2 3", "107 1 2 3 4 5", "107 a 2 3 4", "x 1 2 3 4", "107 nan 2 3 4", "108 1 2 3 4", "107.5 1 2 3 4"]
)
def test_a_malformed_line_of_boxes_is_named(cub: Path, line: str) -> None:
    path = cub / "bounding_boxes.txt"
    lines = path.read_text().splitlines()
    place = next(i for i, old in enumerate(lines) if old.startswith("107 "))
    lines[place] = line
    path.write_text("\n".join(lines))
    with pytest.raises(ParityError, match=rf"line \d+ of .*bounding_boxes\.txt should be .* not '{line}'") as error:
        cub_data().rows("train"), cub_data().targets("train")
    assert f"line {place + 1} of {path}" in str(error.value)


@pytest.mark.parametrize("line", ["103", "x 001.A/b.jpg", "103 b.jpg", "103 001.A/c/b.jpg", "-3 001.A/b.jpg"])
def test_a_malformed_line_of_images_is_named(cub: Path, line: str) -> None:
    rewrite(cub / "images.txt", "103 002.Laysan_Albatross/bird_0002.png", line)
    with pytest.raises(ParityError, match=rf"line 3 of .*images\.txt should be an id and .*, not '{line}'"):
        cub_data().rows("train")


def test_an_image_without_a_box_is_named(cub: Path) -> None:
    rewrite(cub / "images.txt", "103 ", "999 ")
    with pytest.raises(ParityError, match=r"bounding_boxes\.txt has no box of image 999"):
        cub_data().targets("train")


def test_a_file_of_boxes_that_is_not_there_is_named(cub: Path) -> None:
    (cub / "bounding_boxes.txt").unlink()
    with pytest.raises(ParityError, match=r"bounding_boxes\.txt cannot be read .*No such file"):
        cub_data().targets("train")


def test_an_image_that_is_listed_but_not_there_is_named(cub: Path) -> None:
    gone = cub / "images" / "001.Black_footed_Albatross" / "bird_0003.png"
    gone.unlink()
    with pytest.raises(ParityError, match=r"is listed in images\.txt but not there") as error:
        cub_data().loader("train")
    assert str(gone) in str(error.value)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_image_is_named(cub: Path, num_workers: int) -> None:
    data = cub_data(num_workers=num_workers)
    place = int(data.rows("test")[0])
    path = data._files.path(place)
    whole = path.read_bytes()
    path.write_bytes(whole[:-60])  # its head is whole: found only when it is read
    with pytest.raises(ParityError, match="cannot be read as an image") as error:
        list(data.loader("test").every_query())
    assert str(path) in str(error.value)
    path.write_bytes(b"no image")
    with pytest.raises(ParityError, match="cannot be read as an image") as error:
        cub_data().targets("train")
    assert str(path) in str(error.value)


def test_read_boxes(tmp_path: Path) -> None:
    path = tmp_path / "boxes.txt"
    path.write_text("7 1.5 2 3 4\n\n3 -1 0 1e2 5.25\n")
    ids, boxes = read_boxes(path)
    assert (ids.dtype, boxes.dtype) == (torch.int64, torch.float64)
    assert ids.tolist() == [7, 3]
    assert boxes.tolist() == [[1.5, 2, 3, 4], [-1, 0, 100, 5.25]]
    path.write_text("")
    assert [values.shape for values in read_boxes(path)] == [(0,), (0, 4)]


def test_worker_processes_get_little(cub: Path) -> None:
    assert len(pickle.dumps(cub_data().loader("train").reader)) < 10_000


def test_arguments() -> None:
    assert CUBDataModule().query_shape == CUBDataModule.QUERY_SHAPE == (3, 224, 224)
    assert CUBDataModule(size=96).query_shape == (3, 96, 96)
    assert get_datamodule_class("CUB") is CUBDataModule
    with pytest.raises(ParityError, match="size must be at least 1"):
        CUBDataModule(size=0)
    with pytest.raises(ParityError, match="num_workers is 0 or more"):
        CUBDataModule(num_workers=-1)
