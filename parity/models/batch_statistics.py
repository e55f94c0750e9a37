"""Networks whose predictions depend on the other queries of a batch."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from parity.errors import ParityError


def check_statistics(network: nn.Module) -> None:
    """Make sure that a network's batch normalisation keeps running statistics, so that each query has one prediction.

    Raises:
        ParityError: a layer of it does not; it is named.
    """
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and not module.track_running_stats:
            raise ParityError(
                f"'{name}' of {type(network).__name__} normalises by the batch alone, so a prediction depends on the "
                "other queries of its batch: make it with track_running_stats=True, or use GroupNorm."
            )
