"""Folders of images that do not fit in memory: worker processes read them. A data set of one's own is a class."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from parity import settings
from parity.data.checks import check_queries
from parity.data.datamodule import GroupArguments, GroupDataModule, check_split, check_whole
from parity.data.groups import GroupSampler
from parity.data.images import MOST_PIXELS, ImageFiles, class_names, image_files, read_image, readers
from parity.data.loaders import WorkerLoader, check_workers, read_in_this_process
from parity.errors import ParityError
from parity.tasks.checks import dtype_name

Transform = Callable[[Tensor], Tensor]

# What images' shorter sides are resized to before the middle is cut out, in sides of it: 256 for 224.
_RESIZE = 256 / 224


class ImageFolderDataModule(GroupDataModule):
    """Images in DATA_ROOT/<Dataset>/{train,val,test}/<class>/**/*, any size, read again in every epoch.

    >>> class BirdsDataModule(ImageFolderDataModule):
    ...     NUM_CLASSES = 200
    ...     QUERY_SHAPE = (3, 224, 224)

    In training a part of each image, of 8 to 100 % of its area, is cut out and resized, and half of them are mirrored.
    Otherwise its shorter side is resized and the middle is cut out. ``transform`` defines this and may be overridden.

    Classes are numbered in the order of their names. ``FOLDERS`` holds the splits' folders; where it has none for
    'val', validation queries are held out of the training data.

    Args:
        k, batch_size, num_validation, steps_per_epoch, seed: as in ``GroupDataModule``.
        size: side of a query in pixels; by default that of ``QUERY_SHAPE``.
        resize: what the shorter side is resized to, at least ``size``; by default 256 / 224 of it.
        num_workers: processes that read on a machine; 0 reads in this one, by default as many as it has CPUs, at most
            8.

    Raises:
        ParityError: a size makes no sense; from ``rows``, ``targets`` and ``loader``, the data is not there or not as
            it should be.
    """

    MEAN = (0.485, 0.456, 0.406)
    STD = (0.229, 0.224, 0.225)
    FOLDERS: ClassVar[Mapping[str, str]] = {"train": "train", "val": "val", "test": "test"}
    VARIABLE: ClassVar[str] = "DATA_ROOT"
    """What ``root`` is set by."""
    SOURCE: ClassVar[str] = "put its images there, in a folder for each class"
    """How the data is to be had: the end of a sentence."""

    def __init__(
        self,
        k: int = 1,
        *,
        size: int | None = None,
        resize: int | None = None,
        num_workers: int | None = None,
        **common: Unpack[GroupArguments],
    ) -> None:
        super().__init__(k, **common)
        self.size = self.QUERY_SHAPE[-1] if size is None else size
        check_whole(size=self.size)
        self.resize = round(self.size * _RESIZE) if resize is None else resize
        self.num_workers = readers() if num_workers is None else num_workers
        check_whole(resize=self.resize)
        check_workers(self.num_workers)
        if not 1 <= self.size <= self.resize <= MOST_PIXELS:
            raise ParityError(
                f"data.size must be at least 1 and data.resize at least as large, at most {MOST_PIXELS}, not "
                f"{self.size} and {self.resize}."
            )
        if len(self.QUERY_SHAPE) != 3 or self.QUERY_SHAPE[0] != 3 or self.QUERY_SHAPE[1] != self.QUERY_SHAPE[2]:
            raise ParityError(
                f"{type(self).__name__} reads square images in RGB: declare QUERY_SHAPE = (3, side, side), not "
                f"{self.QUERY_SHAPE}."
            )
        self._files: dict[str, ImageFiles] = {}

    @property
    def query_shape(self) -> tuple[int, ...]:
        return (3, self.size, self.size)

    def root(self) -> Path:
        """Return the folder of the splits' folders."""
        return settings.data_path(self.dataset)

    def transform(self, augmented: bool) -> Transform:
        """Return what makes queries of images, uint8 (3, any H, any W) -> uint8 (3, size, size).

        One of a class's own may return floats; by default these are not divided by 255.

        Args:
            augmented: at random, as torch's generator of random numbers has it; else always in the same way.
        """
        from torchvision.transforms import v2  # half a second of start for those who want another data set

        if augmented:
            return v2.Compose([v2.RandomResizedCrop(self.size, antialias=True), v2.RandomHorizontalFlip()])
        return v2.Compose([v2.Resize(self.resize, antialias=True), v2.CenterCrop(self.size)])

    def rows(self, split: str) -> Tensor:
        total = len(self.files(split))
        return torch.arange(total) if split == "test" or "val" in self.FOLDERS else self.held_out(total, split)

    def targets(self, split: str) -> Tensor:
        return self.files(split).targets

    def loader(self, split: str) -> WorkerLoader:
        files = self.files(split)
        reader, sampler = ImageReader(files, self.transform(False), self.transform(True)), self.sampler(split)
        return WorkerLoader(
            reader, files.targets.to(self.target_device()), sampler, self._scaling_of(reader, sampler), split,
            augmented=split == "train", num_workers=self.shared_by_ranks(self.num_workers),
        )  # fmt: skip

    def _scaling_of(self, reader: "ImageReader", sampler: GroupSampler) -> nn.Module:
        """Return the scaling of what the transforms return: a class's own ones may return floats."""
        first, where = int(sampler.rows[0]), f"the transforms of {type(self).__name__}"
        plain, augmented = (read_in_this_process(reader, first, key) for key in (None, (self.seed, 0)))
        for query in (plain, augmented):
            check_queries(query.unsqueeze(0), self.query_shape, where)
        if plain.dtype != augmented.dtype:
            names = f"{dtype_name(plain)} and, augmented, {dtype_name(augmented)}"
            raise ParityError(f"{where} return {names}: let both return the same type.")
        return self.scaling(plain.dtype)

    @property
    def class_names(self) -> list[str]:
        return class_names(self._split_folder(self.FOLDERS["train"]), self.NUM_CLASSES)

    def files(self, split: str) -> ImageFiles:
        """Return the files that a split is taken from; they are listed once."""
        check_split(split)
        folder = self.FOLDERS.get(split, self.FOLDERS["train"])
        if folder not in self._files:
            self._files[folder] = image_files(self._split_folder(folder), self.class_names)
        return self._files[folder]

    def _split_folder(self, name: str) -> Path:
        folder = self.root() / name
        if not folder.is_dir() and name == self.FOLDERS.get("val") and (self.root() / self.FOLDERS["train"]).is_dir():
            kept = {split: path for split, path in self.FOLDERS.items() if split != "val"}
            raise ParityError(
                f"{self.dataset} has no validation images, for there is no {folder}: put some there, or hold some out "
                f"of the training data by FOLDERS = {kept} in its class."
            )
        if not folder.is_dir():
            raise ParityError(
                f"{self.dataset} is not in {folder}: set {self.VARIABLE} to where it is, or {self.SOURCE}."
            )
        return folder


class ImageReader:
    """Reads queries from image files.

    Args:
        files: of the data set.
        plain, augment: make a query of an image; the second one with torch's generator of random numbers.
    """

    def __init__(self, files: ImageFiles, plain: Transform, augment: Transform) -> None:
        self.files, self.plain, self.augment = files, plain, augment

    def __call__(self, place: int, epoch_key: tuple[int, int] | None) -> Tensor:
        """Read one: uint8 (3, size, size); see ``parity.data.loaders.Reader``."""
        image = read_image(self.files.path(place))
        if epoch_key is None:
            return self.plain(image)
        seed, epoch = epoch_key
        digest = hashlib.sha256(f"{seed} {epoch} {place}".encode()).digest()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int.from_bytes(digest[:7], "big"))  # torch's own also seeds GPUs
            return self.augment(image)


class CatVsDogDataModule(ImageFolderDataModule):
    """Photographs of cats and dogs, 224 pixels in the original work."""

    NUM_CLASSES = 2
    QUERY_SHAPE = (3, 224, 224)
    SOURCE = "sort the images of https://www.kaggle.com/c/dogs-vs-cats into {train,val,test}/{cat,dog} there"


class ImageNetDataModule(ImageFolderDataModule):
    """ILSVRC 2012: 1,281,167 images to train with, of which validation queries are held out; its 'val' is our test.

    It lies in the folder that ``IMAGENET_PATH`` names, as {train,val}/<synset>/*.
    """

    NUM_CLASSES = 1000
    QUERY_SHAPE = (3, 224, 224)
    NUM_VALIDATION = 10_000
    FOLDERS: ClassVar[Mapping[str, str]] = {"train": "train", "test": "val"}
    VARIABLE = "IMAGENET_PATH"
    SOURCE = "sort the images of ILSVRC 2012 (https://image-net.org) into {train,val}/<synset> there"

    def root(self) -> Path:
        if (folder := settings.imagenet_path()) is None:
            raise ParityError(f"{self.VARIABLE}, the folder of {self.dataset}, is not set: set it, and {self.SOURCE}.")
        return folder
