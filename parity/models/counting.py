"""Multiply-adds of a forward pass, of fused layers as of their parts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def count_multiply_adds(network: nn.Module, *inputs: Tensor) -> int:
    """Count the multiply-adds of matrix products and convolutions of a forward pass in eval mode.

    Every module is in its own mode again afterwards, also where the pass fails.
    """
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()  # batch normalisation would learn from the query
        return multiply_adds_of_call(lambda: network(*inputs))
    finally:
        network.train(modes[0][1])
        for module, training in modes:
            module.training = training


def multiply_adds_of_call(call: Callable[[], object]) -> int:
    """Count the multiply-adds of matrix products and convolutions of a call.

    Recurrent layers, attention and transformer layers are computed from matrix products meanwhile, in the whole
    process: the counter does not see the kernels that compute them at once.
    """
    with _nothing_fused(), FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops()) // 2


@contextmanager
def _nothing_fused() -> Iterator[None]:
    # Switched by hand: what torch calls flags() also sets the precision of products, of all layers alike.
    libraries: tuple[Any, ...] = torch.backends.mkldnn, torch.backends.cudnn
    enabled = [library.enabled for library in libraries]
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        for library in libraries:
            library.enabled = False
        torch.backends.mha.set_fastpath_enabled(False)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for library, was_enabled in zip(libraries, enabled, strict=True):
            library.enabled = was_enabled
