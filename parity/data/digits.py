"""Digits: the 1,797 real 8 x 8 handwritten digits that scikit-learn carries, so that nothing has to be fetched."""

import torch
from torch import Tensor

from parity.data.datamodule import TensorDataModule

_TEST_SPLIT_SEED = 0


class DigitsDataModule(TensorDataModule):
    """Grey images 1 x 8 x 8 with 17 levels. A fixed stratified fifth, 360 of them, is the test split."""

    NUM_CLASSES = 10
    QUERY_SHAPE = (1, 8, 8)
    DIVISOR = 16.0
    NUM_VALIDATION = 240

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        from sklearn.datasets import load_digits  # half a second of start for those who want another data set
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        train_rows, test_rows = train_test_split(
            range(len(digits.target)), test_size=0.2, stratify=digits.target, random_state=_TEST_SPLIT_SEED
        )
        rows = train_rows if train else test_rows
        return torch.tensor(digits.images[rows]).byte().unsqueeze(1), torch.tensor(digits.target[rows]).long()
