"""Breast cancer: the 569 rows of 30 measured features that scikit-learn carries, so that nothing has to be fetched."""

import torch
from torch import Tensor

from parity.data.datamodule import TensorDataModule

_TEST_SPLIT_SEED = 0


class BreastCancerDataModule(TensorDataModule):
    """Rows of 30 features, standardised by the training split. A fixed stratified fifth, 114 rows, is the test split.

    The classes are malignant and benign (Street, Wolberg, Mangasarian, 1993; Wisconsin diagnostic data).
    """

    NUM_CLASSES = 2
    QUERY_SHAPE = (30,)
    NUM_VALIDATION = 92

    @property
    def class_names(self) -> list[str]:
        return ["malignant", "benign"]

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        from sklearn.datasets import load_breast_cancer  # half a second of start for those who want another data set
        from sklearn.model_selection import train_test_split

        queries, classes = load_breast_cancer(return_X_y=True)
        train_queries, test_queries, train_classes, test_classes = train_test_split(
            queries, classes, test_size=0.2, stratify=classes, random_state=_TEST_SPLIT_SEED
        )
        rows, targets = (train_queries, train_classes) if train else (test_queries, test_classes)
        standardised = (rows - train_queries.mean(0)) / train_queries.std(0)
        return torch.tensor(standardised).float(), torch.tensor(targets).long()
