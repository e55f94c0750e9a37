"""Bodies of requests: queries as JSON, npy or safetensors, from anybody."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from parity.errors import ParityError
from parity.serving.commands import Accept

JSON, NPY, SAFETENSORS = "application/json", "application/x-npy", "application/x-safetensors"
TYPES = (JSON, NPY, SAFETENSORS)

_JSON_NUMBER = 32  # bytes that a number, its comma and its share of brackets may take
_BESIDES = 16384  # bytes for everything else
_FIELDS = ("query", "deadline_ms", "accept")


class BadBody(ParityError):
    """A request that cannot be understood.

    Args:
        status: of the response.
        sentence: what is wrong.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Question:
    """What a client asks.

    Args:
        query: (*Q), of any number type.
        deadline: seconds, or None for the service's own.
        accept: the worst source of the prediction.
    """

    query: Tensor
    deadline: float | None
    accept: Accept


def most_bytes(query_shape: tuple[int, ...]) -> int:
    """Return how long a body can be that holds a query of this shape."""
    return _BESIDES + _JSON_NUMBER * math.prod(query_shape)


def parse(body: bytes, content_type: str, parameters: Mapping[str, str], longest: float) -> Question:
    """Read a request.

    Args:
        body: as it came.
        content_type: one of ``TYPES``, with parameters or without.
        parameters: of the URL: 'deadline_ms' and 'accept' of a body that is not JSON.
        longest: the most seconds of a deadline.

    Raises:
        BadBody: it cannot be understood.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == JSON:
        if parameters:
            raise BadBody(400, f"with JSON, {' and '.join(_FIELDS[1:])} are fields of the body, not of the URL.")
        fields = _json(body)
        return Question(_nested(fields["query"]), _deadline(fields.get("deadline_ms"), longest), _accept(fields))
    if kind not in TYPES:
        raise BadBody(415, f"a query is posted as {', '.join(TYPES)}, not as '{kind[:100]}'.")
    _check_known(parameters, _FIELDS[1:])
    query = _npy(body) if kind == NPY else _safetensors(body)
    return Question(query, _deadline(_number(parameters.get("deadline_ms")), longest), _accept(parameters))


def write_tensor(tensor: Tensor, kind: str) -> bytes:
    """Return a tensor as ``NPY`` or ``SAFETENSORS``, there under the name 'prediction'."""
    if kind == SAFETENSORS:
        return save_safetensors({"prediction": tensor.contiguous()})
    stream = io.BytesIO()
    npy.write_array(stream, tensor.numpy(), allow_pickle=False)
    return stream.getvalue()


def _json(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadBody(400, f"the body is not JSON ({type(error).__name__}).") from error
    if not isinstance(fields, dict) or "query" not in fields:
        raise BadBody(400, 'the body is a JSON object with a "query" in it, a nested list of numbers.')
    _check_known(fields, _FIELDS)
    return fields


def _check_known(fields: Mapping[str, Any], known: Sequence[str]) -> None:
    if unknown := sorted(fields.keys() - set(known)):
        raise BadBody(400, f"'{unknown[0][:100]}' is not known: a query comes with {', '.join(_FIELDS[1:])}.")


def _nested(query: Any) -> Tensor:
    try:
        # Not NumPy, which would make room for the longest of some strings at each of them.
        return torch.tensor(query, dtype=torch.float64)
    except (ValueError, TypeError, RuntimeError, OverflowError, RecursionError) as error:
        raise BadBody(422, "a query is a nested list of numbers, whose lists of one level have one length.") from error


def _npy(body: bytes) -> Tensor:
    """Read an array without ``np.load``, which makes room for whatever shape the header names."""
    stream = io.BytesIO(body)
    try:
        version = npy.read_magic(stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, in_fortran_order, dtype = read(stream)
        if dtype.kind not in "iuf":
            raise ValueError(f"an array of {dtype}")
        array = np.frombuffer(body[stream.tell() :], dtype)
        array = array.reshape(shape, order="F" if in_fortran_order else "C")
        return torch.from_numpy(array.astype(np.float64))
    except Exception as error:  # the header is read as Python, so anything may be wrong with it
        raise BadBody(400, "the body is not one array of numbers as np.save writes it.") from error


def _safetensors(body: bytes) -> Tensor:
    try:
        (query,) = load_safetensors(body).values()
        if query.is_complex() or query.dtype == torch.bool:
            raise ValueError(f"a tensor of {query.dtype}")
        return query.to(torch.float64)
    except Exception as error:  # its own kinds are not documented
        raise BadBody(400, "the body is not one tensor of numbers as safetensors writes it.") from error


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError as error:
        raise BadBody(400, f"deadline_ms is a number, not '{text[:100] if text else ''}'.") from error


def _deadline(milliseconds: Any, longest: float) -> float | None:
    if milliseconds is None:
        return None
    is_number = isinstance(milliseconds, int | float) and not isinstance(milliseconds, bool)
    if not is_number or not 0 < milliseconds <= 1000 * longest:
        raise BadBody(400, f"deadline_ms is a number above 0 and at most {1000 * longest:g}.")
    return float(milliseconds) / 1000


def _accept(fields: Mapping[str, Any]) -> Accept:
    accept = fields.get("accept", Accept.REBUILT)
    if accept not in list(Accept):
        raise BadBody(400, f"accept is one of {', '.join(Accept)}.")
    return Accept(accept)
