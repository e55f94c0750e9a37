"""MNIST and Fashion-MNIST, as torchvision lays them out under ``DATA_ROOT``; fetched only if they are not there."""

from typing import ClassVar

from torch import Tensor
from torchvision import datasets

from parity import settings
from parity.data.datamodule import TensorDataModule
from parity.data.downloads import removed_on_failure
from parity.errors import ParityError, in_one_line


class MNISTDataModule(TensorDataModule):
    """60,000 + 10,000 grey images 1 x 28 x 28, pixels / 255, no normalisation."""

    NUM_CLASSES = 10
    QUERY_SHAPE = (1, 28, 28)
    DATASET: ClassVar[type[datasets.MNIST]] = datasets.MNIST

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        root = settings.data_path()
        folder = root / self.DATASET.__name__
        try:
            with removed_on_failure(root, folder):
                dataset = self.DATASET(str(root), train=train, download=True)
        except Exception as error:  # torchvision raises whatever the network or a damaged file leads it to
            reason = in_one_line(error)
            raise ParityError(
                f"{self.DATASET.__name__} is not, or not whole, in {folder / 'raw'} and could not be downloaded: "
                f"set DATA_ROOT to the folder that holds {self.DATASET.__name__}/raw/*-ubyte, or run the same command "
                f"once where there is a network ({reason})."
            ) from error
        if len(dataset.data) != len(dataset.targets):
            files = f"{'train' if train else 't10k'}-{{images-idx3,labels-idx1}}-ubyte"
            raise ParityError(
                f"{folder / 'raw' / files} hold {len(dataset.data)} images and {len(dataset.targets)} labels, which "
                "are not of one split: replace both by the published files."
            )
        return dataset.data.unsqueeze(1), dataset.targets.long()


class FashionMNISTDataModule(MNISTDataModule):
    """60,000 + 10,000 grey images 1 x 28 x 28 of clothes, pixels / 255, no normalisation."""

    DATASET = datasets.FashionMNIST
