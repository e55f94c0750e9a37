"""What becomes of memory that a step on a CPU has freed."""

import ctypes
import os
import platform

import torch

KEPT = 2**30
"""Bytes of freed memory that this process keeps at most."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""As malloc.h has them."""


def keep_freed_memory(device: torch.device) -> None:
    """Have glibc keep what a step frees for the next one, up to 1 GiB, where networks run on a CPU.

    By default glibc returns it to the system, which clears every page before it gives it again: of 128 images, in
    float32, a third of a small ResNet's forward pass and a tenth of its training step. Only where memory lies changes,
    so not one number does. A person's own settings (``MALLOC_...``, ``GLIBC_TUNABLES``) are left as they are, and so
    are other C libraries.
    """
    own = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if device.type == "cpu" and not own and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, KEPT)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT)
