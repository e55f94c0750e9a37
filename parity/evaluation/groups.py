"""The same data in groups of any k."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import torch
from torch import nn

from parity.coded_model import CodedModel
from parity.coders import Decoder, Encoder
from parity.data import GroupDataModule, GroupLoader
from parity.erasures import MOST
from parity.errors import ParityError


class DataInGroups:
    """The same data set in groups of any k, read once.

    Args:
        make: makes its datamodule for groups of k.
        device: where batches are put.
        has_validation: whether it has validation data.
    """

    def __init__(
        self, make: Callable[[int], GroupDataModule], device: torch.device, has_validation: bool = True
    ) -> None:
        self._make, self.device, self.has_validation = make, device, has_validation
        self.module = cache(self._module)

    def _module(self, k: int) -> GroupDataModule:
        module = self._make(k)
        module.device = self.device
        return module

    def loader(self, k: int, split: str) -> GroupLoader:
        """Return the loader of a split, of groups of k."""
        return self.module(k).loader(split)

    def coded(
        self,
        base_model: nn.Module,
        k: int,
        r: int,
        encoder: Callable[..., Encoder],
        decoder: Callable[..., Decoder],
        parity_models: Sequence[nn.Module] = (),
    ) -> CodedModel:
        """Return a base model in a code that needs no training, on the data's device."""
        module = self.module(k)
        coders = encoder(k, r, module.query_shape), decoder(k, r, module.task.prediction_shape)
        return CodedModel(base_model, coders[0], parity_models, coders[1]).to(self.device)

    def check_enough(self, ks: Iterable[int], split: str) -> None:
        """Make sure that a split has queries for at least one coding group of each k.

        Raises:
            ParityError: it has not, or k is beyond what any code can have.
        """
        for k in sorted(ks):
            module = self.module(k)
            queries = len(module.rows(split))
            if queries < k:
                raise ParityError(
                    f"k = {k} is too many: the '{split}' split of {module.dataset} has {queries} queries, too few "
                    f"for one coding group; choose a k of at most {min(queries, MOST)}."
                )
            if k > MOST:
                raise ParityError(f"k = {k} is too many: a coding group has at most {MOST} queries.")
