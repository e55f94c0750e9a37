"""Codes are exact, whatever precision the networks beside them run in."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

_AS_IT_IS = nullcontext()


def exact(parts: Tensor) -> AbstractContextManager[None]:
    """Within this block products of such tensors are IEEE float32: no autocast, and no TF32 on a GPU.

    TF32 has a mantissa of 10 bits, bfloat16 one of 7: a linear code would be wrong by 1e-2 where it is by 4e-6.
    """
    kind = "cuda" if parts.is_cuda else "cpu" if parts.is_cpu else parts.device.type
    if not (parts.is_cuda or parts.is_cpu or torch.amp.autocast_mode.is_autocast_available(kind)):
        return _AS_IT_IS
    casts = torch.is_autocast_enabled(kind)
    if kind == "cuda" and not torch.compiler.is_compiling() and torch.backends.cuda.matmul.allow_tf32:
        return _without_tf32(casts)
    return torch.autocast(kind, enabled=False) if casts else _AS_IT_IS


@contextmanager
def _without_tf32(casts: bool) -> Iterator[None]:
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast("cuda", enabled=False) if casts else _AS_IT_IS:
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = True
