"""Data: LightningDataModules that deal out coding groups.

A data set is one module in here with one class ``<Dataset>DataModule``; nothing else needs to know of it.
"""

from parity.data.datamodule import GroupDataModule, TensorDataModule, get_datamodule_class
from parity.data.groups import Burst, GroupBatch, GroupSampler, TensorLoader

__all__ = [
    "Burst",
    "GroupBatch",
    "GroupDataModule",
    "GroupSampler",
    "TensorDataModule",
    "TensorLoader",
    "get_datamodule_class",
]
