"""Two moons and two circles: points of the plane that scikit-learn draws, so that nothing has to be fetched."""

from typing import ClassVar

import torch
from torch import Tensor

from parity.data.datamodule import TensorDataModule

_TRAIN_POINTS, _TEST_POINTS = 2000, 1000


class TwoMoonsDataModule(TensorDataModule):
    """2,000 + 1,000 points of two interleaved half circles, with normal noise of standard deviation 0.1."""

    NUM_CLASSES = 2
    QUERY_SHAPE = (2,)
    NUM_VALIDATION = 500
    NOISE: ClassVar[float] = 0.1

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        points, classes = self._draw(_TRAIN_POINTS if train else _TEST_POINTS, seed=int(train))
        return torch.tensor(points).float(), torch.tensor(classes).long()

    def _draw(self, points: int, seed: int) -> tuple[object, object]:
        from sklearn.datasets import make_moons  # half a second of start for those who want another data set

        return make_moons(points, noise=self.NOISE, random_state=seed)


class TwoCirclesDataModule(TwoMoonsDataModule):
    """2,000 + 1,000 points of a circle and of one half its size within it, with normal noise of 0.05."""

    NOISE = 0.05

    def _draw(self, points: int, seed: int) -> tuple[object, object]:
        from sklearn.datasets import make_circles

        return make_circles(points, noise=self.NOISE, factor=0.5, random_state=seed)
