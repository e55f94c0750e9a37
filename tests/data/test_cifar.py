import functools
import hashlib
import pickle
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets

from parity import settings
from parity.data import get_datamodule_class
from parity.data.cifar import CIFAR10DataModule, CIFAR100DataModule
from parity.errors import ParityError

# In the order of CIFAR-10's own labels 0 to 9.
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PER_FILE = 30


@pytest.fixture(autouse=True)
def _empty_data_root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "cifar10" not in request.fixturenames:
        (tmp_path / "data").mkdir()
        monkeypatch.setattr(settings, "DATA_ROOT", tmp_path / "data")


def torchvision_files(monkeypatch: pytest.MonkeyPatch, original: type, module: type[CIFAR10DataModule]) -> Path:
    """Lay out files as torchvision's class reads them, small and random, with a class that knows their checksums."""
    folder = settings.DATA_ROOT / original.base_folder
    folder.mkdir(parents=True)
    key = "fine_labels" if original is datasets.CIFAR100 else "labels"

    def write(name: str, content: object) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def write_images(name: str) -> list[str]:
        pixels = torch.randint(0, 256, (PER_FILE, 3072), dtype=torch.uint8).numpy()
        labels = torch.randint(0, module.NUM_CLASSES, (PER_FILE,)).tolist()
        return [name, write(name, {"data": pixels, key: labels})]

    lists = {
        "train_list": [write_images(name) for name, _ in original.train_list],
        "test_list": [write_images(name) for name, _ in original.test_list],
        "meta": original.meta | {"md5": write(original.meta["filename"], {original.meta["key"]: CLASSES})},
    }
    monkeypatch.setattr(module, "DATASET", type(original.__name__, (original,), lists))
    return folder


def stored(folder: Path, name: str) -> tuple[Tensor, list[int]]:
    content = pickle.loads((folder / name).read_bytes())
    return torch.from_numpy(content["data"]).view(-1, 3, 32, 32), content.get("labels", content.get("fine_labels"))


def image_folder(name: str, classes: list[str], side: int = 32) -> dict[str, Tensor]:
    """Lay out two PNG files of every class, in both splits; return their pixels by path."""
    pixels = {}
    for split in ("train", "test"):
        for label in classes:
            for place in range(2):
                path = settings.DATA_ROOT / name / split / label / f"{place}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image = torch.randint(0, 256, (side, side, 3), dtype=torch.uint8)
                Image.fromarray(image.numpy()).save(path)
                pixels[f"{split}/{label}/{place}"] = image.permute(2, 0, 1)
    return pixels


@pytest.mark.parametrize(
    ("module", "original"), [(CIFAR10DataModule, datasets.CIFAR10), (CIFAR100DataModule, datasets.CIFAR100)]
)
def test_torchvisions_files_are_read(
    module: type[CIFAR10DataModule], original: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = torchvision_files(monkeypatch, original, module)
    for train, lists in ((True, original.train_list), (False, original.test_list)):
        queries, targets = module().load(train)
        parts = [stored(folder, name) for name, _ in lists]
        assert queries.dtype == torch.uint8
        assert queries.is_contiguous()
        assert torch.equal(queries, torch.cat([pixels for pixels, _ in parts]))
        assert targets.dtype == torch.int64
        assert targets.tolist() == [label for _, labels in parts for label in labels]
    assert get_datamodule_class(original.__name__) is module


def test_image_files_are_read_where_torchvisions_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = image_folder("CIFAR10", CLASSES)
    for train, split in ((True, "train"), (False, "test")):
        queries, targets = CIFAR10DataModule().load(train)
        assert torch.equal(queries, torch.stack([pixels[f"{split}/{name}/{i}"] for name in CLASSES for i in (0, 1)]))
        assert targets.tolist() == [label for label in range(10) for _ in (0, 1)]

    torchvision_files(monkeypatch, datasets.CIFAR10, CIFAR10DataModule)
    assert len(CIFAR10DataModule().load(train=False)[0]) == PER_FILE, "exact pixels are preferred"


def test_cifar_100_has_a_folder_of_its_own() -> None:
    names = [f"class_{number:02d}" for number in range(100)]
    pixels = image_folder("CIFAR100", names)
    queries, targets = CIFAR100DataModule().load(train=False)
    assert torch.equal(queries[86], pixels["test/class_43/0"])
    assert targets.tolist() == [label for label in range(100) for _ in (0, 1)]


def test_an_image_of_another_size_is_named() -> None:
    image_folder("CIFAR10", CLASSES)
    Image.new("RGB", (33, 32)).save(settings.DATA_ROOT / "CIFAR10/test/cat/1.png")
    CIFAR10DataModule().load(train=True)
    with pytest.raises(ParityError, match=r"cat/1\.png has 33 x 32 pixels, and all images should have 32 x 32"):
        CIFAR10DataModule().load(train=False)


def test_other_classes_are_refused() -> None:
    image_folder("CIFAR10", CLASSES[:9])
    with pytest.raises(ParityError, match=r"each of 10 classes, and it holds 9 folders"):
        CIFAR10DataModule().load(train=True)
    image_folder("CIFAR10", CLASSES)
    (settings.DATA_ROOT / "CIFAR10/test/truck").rename(settings.DATA_ROOT / "CIFAR10/test/lorry")
    with pytest.raises(ParityError, match=r"same classes as the training data, and it has no folder 'truck'"):
        CIFAR10DataModule().load(train=False)


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server that hands out what lies in tmp_path."""
    handler = functools.partial(Silent, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def put_online(folder: Path, packed: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move a folder into an archive, the one that torchvision downloads."""
    with tarfile.open(packed, "w:gz") as file:
        file.add(folder, folder.name)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    monkeypatch.setattr(CIFAR10DataModule.DATASET, "tgz_md5", hashlib.md5(packed.read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10DataModule.DATASET, "url", f"{server}/{packed.name}")


def test_without_either_torchvision_downloads(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = torchvision_files(monkeypatch, datasets.CIFAR10, CIFAR10DataModule)
    expected, _ = stored(folder, "test_batch")
    put_online(folder, tmp_path / "cifar.tar.gz", server, monkeypatch)
    assert torch.equal(CIFAR10DataModule().load(train=False)[0], expected)


@pytest.mark.parametrize("what", ["no network", "half an archive", "a damaged file in it"])
def test_a_failed_download_says_where_and_leaves_nothing(
    what: str, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = torchvision_files(monkeypatch, datasets.CIFAR10, CIFAR10DataModule)
    if what == "a damaged file in it":
        (folder / "data_batch_2").write_bytes(b"damaged")
    packed = tmp_path / "cifar.tar.gz"
    put_online(folder, packed, server, monkeypatch)
    if what == "no network":
        packed.unlink()
    if what == "half an archive":
        packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
    with pytest.raises(ParityError, match=r"could not be downloaded: set DATA_ROOT to the folder that holds") as error:
        CIFAR10DataModule().load(train=True)
    assert str(settings.DATA_ROOT / "cifar-10-batches-py") in str(error.value)
    assert str(settings.DATA_ROOT / "CIFAR10") in str(error.value)
    assert "\n" not in str(error.value)
    assert list(settings.DATA_ROOT.iterdir()) == []


def test_a_failed_download_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = torchvision_files(monkeypatch, datasets.CIFAR10, CIFAR10DataModule)
    (folder / "data_batch_2").unlink()
    monkeypatch.setattr(CIFAR10DataModule.DATASET, "url", "http://127.0.0.1:9/nobody-answers")
    before = sorted(folder.iterdir())
    with pytest.raises(ParityError, match="is not, or not whole, in"):
        CIFAR10DataModule().load(train=True)
    assert sorted(folder.iterdir()) == before


def test_training_sees_augmented_queries_and_evaluation_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision_files(monkeypatch, datasets.CIFAR10, CIFAR10DataModule)
    data = CIFAR10DataModule(k=2, batch_size=5, num_validation=20)
    images = data.load(train=True)[0]
    mean, std = torch.tensor(data.MEAN).view(3, 1, 1), torch.tensor(data.STD).view(3, 1, 1)
    changed = {}
    for split in ("train", "val"):
        loader = data.loader(split)
        batch = next(iter(loader))
        expected = (images[batch.indices].float() / 255 - mean) / std
        changed[split] = int(((batch.queries - expected).abs() > 1e-4).flatten(2).any(2).sum())
        assert loader.queries_are_fixed is (split == "val")
        assert batch.queries.shape == (5, 2, 3, 32, 32)
    assert changed["val"] == 0
    assert changed["train"] >= 8, "1 of 162 ways leaves an image as it is"


def test_real_images(cifar10: Path) -> None:
    assert sorted(path.name for path in (cifar10 / "train").iterdir()) == CLASSES, "alphabetical, as the labels are"
    queries, targets = CIFAR10DataModule().load(train=False)
    assert queries.shape == (10_000, 3, 32, 32)
    assert targets.bincount().tolist() == [1000] * 10
    for place in (0, 4321, 9999):
        path = sorted((cifar10 / "test" / CLASSES[place // 1000]).iterdir())[place % 1000]
        assert np.array_equal(queries[place].permute(1, 2, 0).numpy(), np.asarray(Image.open(path)))
    mean = queries.float().mean((0, 2, 3)) / 255
    assert (mean - torch.tensor(CIFAR10DataModule.MEAN)).abs().max() < 0.005


def memory(field: str) -> int:
    """Return one of this process's measures of memory, in bytes: VmRSS, or VmHWM, the highest it has been."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


@pytest.mark.usefixtures("cifar10")
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_images_cost_their_bytes_and_little_more() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # forgets how high it has been
    before = memory("VmRSS")
    queries, _ = CIFAR10DataModule().load(train=False)
    assert queries.nbytes == 10_000 * 3072
    assert memory("VmHWM") - before < 1.5 * queries.nbytes
