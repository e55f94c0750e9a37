"""Data: LightningDataModules that deal out coding groups.

A data set is one module in here with one class ``<Dataset>DataModule``; nothing else needs to know of it.
"""

from parity.data.datamodule import GroupDataModule, TensorDataModule, get_datamodule_class
from parity.data.groups import GroupBatch, GroupSampler
from parity.data.loaders import GroupLoader, TensorLoader, WorkerLoader

__all__ = [
    "GroupBatch",
    "GroupDataModule",
    "GroupLoader",
    "GroupSampler",
    "TensorDataModule",
    "TensorLoader",
    "WorkerLoader",
    "get_datamodule_class",
]
