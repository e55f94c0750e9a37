"""What passes between the frontend and workers in other processes, as bytes."""

import io
import pickle
import sys
from typing import Any


def pack(value: object) -> bytes:
    """Return a value as bytes; tensors in it are their own bytes, which is quicker than torch's pickling.

    Only for traffic with one's own workers: ``unpack`` runs what the bytes name.
    """
    stream = io.BytesIO()
    _Packer(stream, protocol=5).dump(value)
    return stream.getvalue()


def unpack(data: bytes) -> Any:
    """Return what was packed; tensors may be written to."""
    return pickle.loads(data)


class _Packer(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch is None or type(value) is not torch.Tensor:
            return NotImplemented
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return _tensor, (data, value.dtype, tuple(value.shape))


def _tensor(data: bytes, dtype: Any, shape: tuple[int, ...]) -> Any:
    import torch  # the frontend has it, and a worker gets it with its network

    if not data:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)
