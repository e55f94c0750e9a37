"""Image files: listing those of a folder, and reading them."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from parity.data.files import files_of_classes, subfolders
from parity.errors import ParityError, in_one_line

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Of image files, in any case."""

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
MOST_PIXELS = 1 << 14
"""Of a side that images are resized to."""

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

    def path(self, index: int) -> Path:
        """Return the path of one file."""
        return self.folder / os.fsdecode(self.paths[index])


def readers() -> int:
    """Return how many threads or processes read files by default: this process's CPUs, at most 8."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cpus, _MOST_READERS)


def class_names(folder: Path, number: int) -> list[str]:
    """Return the names of a folder's folders, sorted; hidden ones do not count.

    Raises:
        ParityError: there is no such folder, or it has another number of folders.
    """
    names = subfolders(folder)
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
    parts = [np.array(paths, dtype=np.bytes_) for paths in files_of_classes(folder, classes, SUFFIXES, "image")]
    counts = torch.tensor([len(paths) for paths in parts])
    return ImageFiles(folder, np.concatenate(parts), torch.arange(len(parts)).repeat_interleave(counts))


def read_image(path: Path) -> Tensor:
    """Read an image file in RGB: uint8 (3, H, W). An orientation noted in the file is left alone, as torchvision does.

    Raises:
        ParityError: the file is not a whole image.
    """
    return torch.from_numpy(_pixels(path)).permute(2, 0, 1)


def read_images(files: ImageFiles, query_shape: tuple[int, ...]) -> Tensor:
    """Read all files, each once and by several threads, into one tensor: uint8 (N, *Q).

    Args:
        files: which.
        query_shape: Q, (3, H, W).

    Raises:
        ParityError: a file is not a whole image, or has other sides.
    """
    _, height, width = query_shape
    images = torch.empty(len(files), *query_shape, dtype=torch.uint8)
    stored = images.numpy()

    def read(start: int) -> None:
        for index in range(start, min(start + _IMAGES_PER_TASK, len(files))):
            pixels = _pixels(files.path(index))
            if pixels.shape != (height, width, 3):
                raise ParityError(
                    f"{files.path(index)} has {pixels.shape[1]} x {pixels.shape[0]} pixels, and all images should have "
                    f"{width} x {height}: resize or remove it."
                )
            stored[index] = pixels.transpose(2, 0, 1)

    with ThreadPoolExecutor(readers()) as pool:
        for _ in pool.map(read, range(0, len(files), _IMAGES_PER_TASK)):
            pass
    return images


def _pixels(path: Path) -> np.ndarray:
    """Read an image file: uint8 (H, W, 3)."""
    try:
        with Image.open(path) as image:
            if image.mode in ("F", "I") or image.mode.startswith("I;") or _is_signed(image):
                return _grey_of_many_levels(image, path)
            return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    except ParityError:
        raise
    except Exception as error:  # PIL raises whatever a damaged file leads it to
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "it is damaged, or of a kind that PIL does not know" if unknown else in_one_line(error)
        raise ParityError(
            f"{path} cannot be read as an image: put a whole copy in its place or remove it ({reason})."
        ) from error


def _grey_of_many_levels(image: Image.Image, path: Path) -> np.ndarray:
    """Scale a grey image of more than 256 levels to 8 bits: uint8 (H, W, 3). PIL's own conversion clips it at 255.

    Raises:
        ParityError: it is not known which value is white.
    """
    white = _white(image)
    if white is None:
        kind = "floats" if image.mode == "F" else "signed or 32-bit integers"
        raise ParityError(f"{path} is an image of {kind}, whose white is not known: convert it to 8 or 16 bits.")
    values = np.array(image).astype(np.int64).clip(0, white)
    grey = ((values * 510 + white) // (2 * white)).astype(np.uint8)  # rounded
    if _tiff_tag(image, _PHOTOMETRIC, None) == 0:
        grey = 255 - grey  # white is 0; of this, too, PIL takes no notice
    return np.repeat(grey[:, :, None], 3, axis=2)


def _tiff_tag(image: Image.Image, tag: int, default: Any) -> Any:
    return image.tag_v2.get(tag, default) if isinstance(image, TiffImageFile) else default


def _is_signed(image: Image.Image) -> bool:
    return bool(_tiff_tag(image, _SAMPLE_FORMAT, (1,))[0] == 2)


def _white(image: Image.Image) -> int | None:
    """Return the greatest value of a grey image of more than 256 levels; None where it is not known."""
    if _is_signed(image):
        return None
    if image.mode.startswith("I;"):
        # A TIFF may have 12 bits, or 16 with a sign.
        return 2 ** _tiff_tag(image, _BITS_PER_SAMPLE, (16,))[0] - 1
    # 16-bit PNG and PGM are handed over in this mode by some versions of PIL, which has scaled a PGM by its maxval.
    return 65535 if image.mode == "I" and image.format in ("PNG", "PPM") else None
