"""CUB-200-2011: photographs of birds, each with the box of its bird, in the layout that Caltech publishes."""

import functools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from parity import settings
from parity.data.datamodule import FIXED_SEED, GroupArguments, GroupDataModule, check_whole
from parity.data.files import read_lines
from parity.data.images import MOST_PIXELS, ImageFiles, read_image, readers
from parity.data.loaders import WorkerLoader, check_workers
from parity.errors import ParityError, in_one_line
from parity.tasks import BoxLocalisation, Task, to_box

PAGE = "https://www.vision.caltech.edu/datasets/cub_200_2011"

_FOLDERS = ("CUB", "CUB_200_2011", "CUB/CUB_200_2011")
_TEST_SHARE = 0.2


class CUBDataModule(GroupDataModule):
    """The box of one bird: 11,788 whole images of any sides, resized to a square; no augmentation.

    It lies in DATA_ROOT/CUB, DATA_ROOT/CUB_200_2011 or DATA_ROOT/CUB/CUB_200_2011, as published: images.txt,
    bounding_boxes.txt and images/<class>/<file>.jpg. A fixed fifth of each class is the test split; validation queries
    are drawn from all others.

    Args:
        k, batch_size, num_validation, steps_per_epoch, seed: as in ``GroupDataModule``.
        size: side of a query in pixels.
        num_workers: processes that read on a machine; 0 reads in this one, by default as many as it has CPUs, at most
            8.

    Raises:
        ParityError: a size makes no sense; from ``rows``, ``targets`` and ``loader``, the data is not there or not as
            it should be.
    """

    QUERY_SHAPE = (3, 224, 224)
    MEAN = (0.485, 0.456, 0.406)
    STD = (0.229, 0.224, 0.225)
    NUM_VALIDATION = 1000

    def __init__(
        self,
        k: int = 1,
        *,
        size: int = QUERY_SHAPE[-1],
        num_workers: int | None = None,
        **common: Unpack[GroupArguments],
    ) -> None:
        super().__init__(k, **common)
        self.size, self.num_workers = size, readers() if num_workers is None else num_workers
        check_whole(size=self.size)
        check_workers(self.num_workers)
        if not 1 <= self.size <= MOST_PIXELS:
            raise ParityError(f"data.size must be at least 1 and at most {MOST_PIXELS}, not {size}.")

    @property
    def task(self) -> Task:
        return BoxLocalisation()

    @property
    def query_shape(self) -> tuple[int, ...]:
        return (3, self.size, self.size)

    def rows(self, split: str) -> Tensor:
        is_test = self._is_test
        if split == "test":
            return is_test.nonzero().flatten()
        others = (~is_test).nonzero().flatten()
        return others[self.held_out(len(others), split)]

    def targets(self, split: str) -> Tensor:
        return self._targets

    def loader(self, split: str) -> WorkerLoader:
        return WorkerLoader(
            WholeImageReader(self._files, self.size), self._targets.to(self.target_device()), self.sampler(split),
            self.scaling(), split, augmented=False,
            num_workers=self.shared_by_ranks(self.num_workers),
        )  # fmt: skip

    def folder(self) -> Path:
        """Return the folder that images.txt lies in.

        Raises:
            ParityError: there is none.
        """
        folders = [settings.data_path(name) for name in _FOLDERS]
        for folder in folders:
            if (folder / "images.txt").is_file():
                return folder
        raise ParityError(
            f"CUB is not in {folders[0]} or {folders[1]}, for neither holds images.txt: set DATA_ROOT to the folder "
            f"that holds CUB_200_2011, or fetch CUB-200-2011 from Caltech's page, {PAGE}, and unpack it there."
        )

    @functools.cached_property
    def _listing(self) -> tuple[Tensor, ImageFiles]:
        """The images' ids, and their files; the targets of the files are the classes."""
        folder = self.folder()
        ids, paths = [], []
        for number, line in _lines(folder / "images.txt"):
            match line.split(maxsplit=1):
                case [id, path] if id.isdecimal() and path.count("/") == 1:
                    ids.append(int(id))
                    paths.append(path)
                case _:
                    raise ParityError(
                        f"line {number} of {folder / 'images.txt'} should be an id and <class>/<file>, not '{line}'."
                    )
        names = [path.split("/")[0] for path in paths]
        classes = {name: number for number, name in enumerate(sorted(set(names)))}
        numbers = torch.tensor([classes[name] for name in names], dtype=torch.long)
        encoded = np.array([path.encode() for path in paths], dtype=np.bytes_)
        return torch.tensor(ids, dtype=torch.long), ImageFiles(folder / "images", encoded, numbers)

    @property
    def _files(self) -> ImageFiles:
        return self._listing[1]

    @functools.cached_property
    def _targets(self) -> Tensor:
        ids, files = self._listing
        path = self.folder() / "bounding_boxes.txt"
        boxes = dict(zip(*map(Tensor.tolist, read_boxes(path)), strict=True))
        if missing := [id for id in ids.tolist() if id not in boxes]:
            raise ParityError(
                f"{path} has no box of image {missing[0]}, which images.txt names: put the published file in its place."
            )
        pixels = torch.tensor([boxes[id] for id in ids.tolist()], dtype=torch.double).view(-1, 4)
        return to_box(pixels, image_sides(files)).float()

    @functools.cached_property
    def _is_test(self) -> Tensor:
        """Which images are the test split's: bool (N,)."""
        classes = self._files.targets
        is_test = torch.zeros(len(classes), dtype=torch.bool)
        generator = torch.Generator().manual_seed(FIXED_SEED)
        for number in range(int(classes.max()) + 1 if len(classes) else 0):
            indices = (classes == number).nonzero().flatten()
            order = torch.randperm(len(indices), generator=generator)
            is_test[indices[order[: round(_TEST_SHARE * len(indices))]]] = True
        return is_test


class WholeImageReader:
    """Reads queries from image files, resized whole to a square.

    Args:
        files: of the data set.
        size: side of a query in pixels.
    """

    def __init__(self, files: ImageFiles, size: int) -> None:
        self.files, self.size = files, size

    def __call__(self, place: int, epoch_key: tuple[int, int] | None) -> Tensor:
        """Read one: uint8 (3, size, size); see ``parity.data.loaders.Reader``."""
        from torchvision.transforms.v2 import functional  # half a second of start for those who want another data set

        return functional.resize(read_image(self.files.path(place)), [self.size, self.size], antialias=True)


def image_sides(files: ImageFiles) -> Tensor:
    """Return the sides of images from the heads of their files, by several threads: int64 (N, 2), (W, H) in pixels.

    Raises:
        ParityError: a file is not there, or is not an image.
    """

    def sides(index: int) -> tuple[int, int]:
        path = files.path(index)
        try:
            with Image.open(path) as image:
                return image.size
        except FileNotFoundError:
            raise ParityError(f"{path} is listed in images.txt but not there: unpack the images again.") from None
        except Exception as error:  # PIL raises whatever a damaged file leads it to
            reason = in_one_line(error)
            raise ParityError(
                f"{path} cannot be read as an image: put a whole copy in its place ({reason})."
            ) from error

    with ThreadPoolExecutor(readers()) as pool:
        return torch.tensor(list(pool.map(sides, range(len(files)))), dtype=torch.long).view(-1, 2)


def read_boxes(path: Path) -> tuple[Tensor, Tensor]:
    """Read a file of boxes, a line 'id x y w h' each.

    Returns:
        ids int64 (N,), boxes float64 (N, 4) in pixels.

    Raises:
        ParityError: the file cannot be read, or a line is something else, or has the id of an earlier one.
    """
    boxes: dict[int, list[float]] = {}
    for number, line in _lines(path):
        try:
            id, *box = line.split()
            if len(box) != 4 or int(id) in boxes or not all(map(math.isfinite, map(float, box))):
                raise ValueError
            boxes[int(id)] = [float(value) for value in box]
        except ValueError:
            raise ParityError(
                f"line {number} of {path} should be a new id and four numbers, x y w h, not '{line}'."
            ) from None
    return torch.tensor(list(boxes), dtype=torch.long), torch.tensor(list(boxes.values()), dtype=torch.double).view(
        -1, 4
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Return the lines of a file that hold something, with their numbers."""
    text = read_lines(path, "put the published file in its place")
    return ((number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip())
