"""Data: LightningDataModules that deal out coding groups.

A data set is one module in here with one class ``<Dataset>DataModule``; nothing else needs to know of it.
"""

from parity.data.datamodule import GroupDataModule, TensorDataModule, get_datamodule_class
from parity.data.groups import GroupBatch, GroupSampler
from parity.data.loaders import GroupLoader, Ids, Scaling, TensorLoader, WorkerLoader
from parity.data.queries import QueriesDataModule, groups_of
from parity.data.tokens import TokensDataModule

__all__ = [
    "GroupBatch",
    "GroupDataModule",
    "GroupLoader",
    "GroupSampler",
    "Ids",
    "QueriesDataModule",
    "Scaling",
    "TensorDataModule",
    "TensorLoader",
    "TokensDataModule",
    "WorkerLoader",
    "get_datamodule_class",
    "groups_of",
]
