"""Image files: listing those of a folder, and reading them."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from parity.errors import ParityError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Of image files, in any case."""

_SUFFIX_BYTES = tuple(os.fsencode(suffix) for suffix in SUFFIXES)
_IMAGES_PER_TASK = 256
_MOST_READERS = 8


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """The image files of a folder that has a folder for each class.

    Args:
        folder: what the paths begin in.
        paths: bytes (N,), relative to the folder, class by class and sorted within. They are one array because worker
            processes share memory that is not written to, and Python counts references inside each str of a list.
        targets: int64 (N,), the classes' numbers.
    """

    folder: Path
    paths: np.ndarray
    targets: Tensor

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, place: int) -> Path:
        """Return the path of one file."""
        return self.folder / os.fsdecode(self.paths[place])


def readers() -> int:
    """Return how many threads or processes read files unless told: this process's CPUs, at most 8."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cpus, _MOST_READERS)


def class_names(folder: Path, number: int) -> list[str]:
    """Return the names of a folder's folders, sorted; hidden ones do not count.

    Raises:
        ParityError: there is no such folder, or it has not this number of folders.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError as error:
        raise _cannot_list(folder, error) from error
    if len(names) != number:
        found = f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else ""
        raise ParityError(
            f"{folder} should hold a folder of images for each of {number} classes, and it holds {len(names)} "
            f"folder{'s' * (len(names) != 1)}{found}."
        )
    return names


def image_files(folder: Path, classes: Sequence[str]) -> ImageFiles:
    """List <folder>/<class>/**/*: files with the suffix of an image, hidden ones left out. No file is looked into.

    Args:
        folder: of the classes' folders.
        classes: their names, in the order of their numbers.

    Raises:
        ParityError: the folder has other classes, or one without images.
    """
    found = class_names(folder, len(classes))
    if wrong := sorted(set(found) ^ set(classes)):
        lacks = [name for name in wrong if name in classes]
        raise ParityError(
            f"{folder} should have the same classes as the training data, and it "
            f"{'has no' if lacks else 'also has'} folder '{(lacks or wrong)[0]}'."
        )
    parts = []
    for name in classes:
        try:
            paths = sorted(_image_paths(os.fsencode(folder / name), os.fsencode(name) + b"/"))
        except OSError as error:
            raise _cannot_list(folder / name, error) from error
        if not paths:
            raise ParityError(f"{folder / name} holds no image ({', '.join(SUFFIXES)}): put some there.")
        parts.append(np.array(paths, dtype=np.bytes_))
    counts = torch.tensor([len(paths) for paths in parts])
    return ImageFiles(folder, np.concatenate(parts), torch.arange(len(parts)).repeat_interleave(counts))


def _image_paths(folder: bytes, prefix: bytes) -> Iterator[bytes]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(b"."):
                continue
            if entry.is_dir():  # known from the listing itself: only links are looked up
                yield from _image_paths(entry.path, prefix + entry.name + b"/")
            elif entry.name.lower().endswith(_SUFFIX_BYTES):
                yield prefix + entry.name


def _cannot_list(folder: Path, error: OSError) -> ParityError:
    return ParityError(f"{folder} cannot be listed: {error.strerror or error}.")


def read_image(path: Path) -> Tensor:
    """Read an image file in RGB: uint8 (3, H, W). An orientation noted in the file is left alone, as torchvision does.

    Raises:
        ParityError: the file is no whole image.
    """
    return torch.from_numpy(_pixels(path)).permute(2, 0, 1)


def read_images(files: ImageFiles, query_shape: tuple[int, ...]) -> Tensor:
    """Read all files, each once and by several threads, into one tensor: uint8 (N, *Q).

    Args:
        files: which.
        query_shape: Q, (3, H, W).

    Raises:
        ParityError: a file is no whole image, or has other sides.
    """
    _, height, width = query_shape
    images = torch.empty(len(files), *query_shape, dtype=torch.uint8)
    stored = images.numpy()

    def read(start: int) -> None:
        for place in range(start, min(start + _IMAGES_PER_TASK, len(files))):
            pixels = _pixels(files.path(place))
            if pixels.shape != (height, width, 3):
                raise ParityError(
                    f"{files.path(place)} has {pixels.shape[1]} x {pixels.shape[0]} pixels, and all images should have "
                    f"{width} x {height}: resize or remove it."
                )
            stored[place] = pixels.transpose(2, 0, 1)

    with ThreadPoolExecutor(readers()) as pool:
        for _ in pool.map(read, range(0, len(files), _IMAGES_PER_TASK)):
            pass
    return images


def _pixels(path: Path) -> np.ndarray:
    """Read an image file: uint8 (H, W, 3)."""
    try:
        with Image.open(path) as image:
            return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    except Exception as error:  # PIL raises whatever a damaged file leads it to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ParityError(
            f"{path} cannot be read as an image: put a whole copy in its place or remove it ({reason})."
        ) from error
