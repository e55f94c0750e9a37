"""Codes are exact in every precision; under autocast and TF32 of a GPU, see ``tests/test_on_a_gpu.py``."""

import pytest
import torch

from parity.coders import BerrutEncoder, Encoder, KeyedSumEncoder, LinearEncoder


@pytest.mark.parametrize("encoder_class", [LinearEncoder, KeyedSumEncoder, BerrutEncoder])
def test_encoding_under_autocast_is_that_without(encoder_class: type[Encoder]) -> None:
    encoder, queries = encoder_class(3, 1, (1, 8, 8)), torch.rand(4, 3, 1, 8, 8)
    plain = encoder.dispatch(queries)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = encoder.dispatch(queries)
    assert all(torch.equal(one, other) for one, other in zip(plain, mixed, strict=True))


def test_queries_on_a_device_without_autocast_are_encoded() -> None:
    encoder = LinearEncoder(2, 1, (1, 8, 8)).to("meta")
    assert encoder.dispatch(torch.rand(3, 2, 1, 8, 8, device="meta"))[1].shape == (3, 1, 1, 8, 8)
