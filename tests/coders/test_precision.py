"""Codes are exact in every precision; under autocast and TF32 of a GPU, see ``tests/test_on_a_gpu.py``."""

import pytest
import torch

from parity.coders import (
    BerrutEncoder,
    ConcatenationEncoder,
    Encoder,
    GridEncoder,
    HadamardSumEncoder,
    KeyedSumEncoder,
    LearnedGridEncoder,
    LinearEncoder,
)

ENCODERS = [
    LinearEncoder, GridEncoder, LearnedGridEncoder, HadamardSumEncoder, KeyedSumEncoder, ConcatenationEncoder,
    BerrutEncoder,
]  # fmt: skip


@pytest.mark.parametrize("encoder_class", [LinearEncoder, KeyedSumEncoder, BerrutEncoder])
def test_encoding_under_autocast_is_that_without(encoder_class: type[Encoder]) -> None:
    encoder, queries = encoder_class(3, 1, (1, 8, 8)), torch.rand(4, 3, 1, 8, 8)
    plain = encoder.dispatch(queries)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = encoder.dispatch(queries)
    assert all(torch.equal(one, other) for one, other in zip(plain, mixed, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("encoder_class", ENCODERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("k", [2, 4])
def test_queries_of_another_precision_are_encoded_in_it(
    encoder_class: type[Encoder], dtype: torch.dtype, k: int
) -> None:
    encoder, queries = encoder_class(k, 1, (1, 8, 8)), torch.rand(4, k, 1, 8, 8).to(dtype)
    own, single = encoder.dispatch(queries), encoder.dispatch(queries.float())
    for found, expected in zip(own, single, strict=True):
        assert found.dtype == dtype
        # three roundings of each number that is summed up, of a size of 3 or so
        torch.testing.assert_close(found.float(), expected, rtol=0, atol=max(16 * torch.finfo(dtype).eps, 1e-5))


def test_queries_on_a_device_without_autocast_are_encoded() -> None:
    encoder = LinearEncoder(2, 1, (1, 8, 8)).to("meta")
    assert encoder.dispatch(torch.rand(3, 2, 1, 8, 8, device="meta"))[1].shape == (3, 1, 1, 8, 8)
