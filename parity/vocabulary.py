"""Ids of tokens: how many of them a network takes, and the check that there are no others."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from parity.errors import ParityError

_MOST = 2**31
"""Ids of int32 are below it."""


@torch.no_grad()
def vocabulary_of(network: Callable[[Tensor], Tensor], query_shape: Sequence[int]) -> int | None:
    """Return how many ids a network takes, 0 and up; None where it takes any number, or no integers.

    The network is tried: with sequences of ones whose last id is another one, up to the first that it refuses. One on
    a GPU, where such an id would end the process, is copied to the CPU.

    Args:
        network: int64 (B, *Q) -> (B, *P), in eval mode.
        query_shape: (L,), ids; or (2, L), ids and their attention mask.
    """
    if isinstance(network, nn.Module) and any(weight.device.type != "cpu" for weight in network.parameters()):
        network = copy.deepcopy(network).cpu()

    def takes(number: int) -> bool:
        query = torch.ones(1, *query_shape, dtype=torch.int64)
        (query[:, 0] if len(query_shape) == 2 else query)[..., -1] = number
        try:
            network(query)
        except Exception:  # of a user's own network
            return False
        return True

    if not takes(1):
        return None
    taken, refused = 1, 2
    while takes(refused):
        taken, refused = refused, 2 * refused
        if refused > _MOST:
            return None
    while refused - taken > 1:
        middle = (taken + refused) // 2
        taken, refused = (middle, refused) if takes(middle) else (taken, middle)
    return refused


def check_ids(ids: Tensor, vocabulary: int | None, where: str) -> None:
    """Refuse ids that are not in the vocabulary.

    Args:
        ids: of any shape and type of numbers.
        vocabulary: ids are below it; None where that is not known, and nothing is refused.
        where: names the ids in a message.

    Raises:
        ParityError: one is below 0, not below the vocabulary, or not a whole number.
    """
    if vocabulary is None or not ids.numel():
        return
    least, greatest = (bound.item() for bound in ids.aminmax())
    whole = not ids.is_floating_point() or bool((ids == ids.round()).all())
    if not (whole and least >= 0 and greatest < vocabulary):
        raise ParityError(
            f"{where}: ids of tokens are whole numbers from 0 to {vocabulary - 1}, and these run from {least} to "
            f"{greatest}: take what the tokenizer that the network was trained with makes."
        )
