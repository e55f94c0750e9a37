"""CIFAR-10 and CIFAR-100, as torchvision's files or as image files under ``DATA_ROOT``; fetched only without either."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torchvision import datasets

from parity import settings
from parity.data.augmentation import RandomCropAndFlip
from parity.data.datamodule import TensorDataModule
from parity.data.downloads import removed_on_failure
from parity.data.images import class_names, image_files, read_images
from parity.errors import ParityError, in_one_line


class CIFAR10DataModule(TensorDataModule):
    """50,000 + 10,000 colour images 3 x 32 x 32 of 10 classes. Training cuts and mirrors them at random.

    Images lie in ``DATA_ROOT`` as torchvision lays them out (cifar-10-batches-py), or as files
    CIFAR10/{train,test}/<class>/*. Labels are the indices of the classes' names in alphabetical order, in both.

    The statistics are those of github.com/kuangliu/pytorch-cifar, which published models are trained with.
    """

    NUM_CLASSES = 10
    QUERY_SHAPE = (3, 32, 32)
    MEAN = (0.4914, 0.4822, 0.4465)
    STD = (0.2023, 0.1994, 0.2010)
    AUGMENTATION: ClassVar[Callable[[Tensor], Tensor] | None] = RandomCropAndFlip(padding=4)
    DATASET: ClassVar[type[datasets.CIFAR10]] = datasets.CIFAR10

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        folder = settings.data_path(self.DATASET.__name__)
        try:
            dataset = self.DATASET(str(folder.parent), train=train)
        except (RuntimeError, OSError):  # it is not there, or not whole
            if folder.is_dir():
                classes = class_names(folder / "train", self.NUM_CLASSES)
                files = image_files(folder / ("train" if train else "test"), classes)
                return read_images(files, self.QUERY_SHAPE), files.targets
            dataset = self._download(train)
        return torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(dataset.targets)

    def _download(self, train: bool) -> datasets.CIFAR10:
        root, name = settings.data_path(), self.DATASET.__name__
        folder, archive = root / self.DATASET.base_folder, root / self.DATASET.filename
        try:
            with removed_on_failure(root, folder, archive):
                return self.DATASET(str(root), train=train, download=True)
        except Exception as error:  # torchvision raises whatever the network or a damaged file leads it to
            reason = in_one_line(error)
            raise ParityError(
                f"{name} is not, or not whole, in {folder}, not in {root / name}/{{train,test}}/<class>/* either, and "
                f"could not be downloaded: set DATA_ROOT to the folder that holds {folder.name} or {name}, or run the "
                f"same command once where there is a network ({reason})."
            ) from error


class CIFAR100DataModule(CIFAR10DataModule):
    """50,000 + 10,000 colour images 3 x 32 x 32 of 100 classes; cifar-100-python or CIFAR100/{train,test}/<class>/*."""

    NUM_CLASSES = 100
    MEAN = (0.5071, 0.4865, 0.4409)
    STD = (0.2673, 0.2564, 0.2762)
    DATASET = datasets.CIFAR100
