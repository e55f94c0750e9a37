"""Decoders remember patterns; a moved, copied or pickled one remembers nothing that is stale."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

from parity import erasures
from parity.coders import BerrutDecoder, Decoder, LinearDecoder, NeRCCDecoder
from parity.coders.pattern_cache import PatternCache

CPU, OTHER = torch.device("cpu"), torch.device("meta")
DECODERS = (BerrutDecoder, LinearDecoder, NeRCCDecoder)


def decoded(decoder: Decoder) -> Tensor:
    """Rebuild a group at a time, as a server does, under every pattern of two missing outputs."""
    outputs = torch.arange(50.0).view(1, 5, 10).sin()
    count = 3 if isinstance(decoder, LinearDecoder) else 5
    patterns = erasures.patterns(5, 2)
    return torch.cat([decoder(outputs[:, :count], outputs[:, count:], pattern[None]) for pattern in patterns])


def test_what_was_made_once_is_found_again() -> None:
    cache: PatternCache[object] = PatternCache()
    first = cache.get((True, False), lambda _: object())
    assert cache.get((True, False), lambda _: object()) is first
    assert cache.get((False, True), lambda pattern: pattern) == (False, True)


def test_after_a_move_nothing_of_the_old_device_is_used() -> None:
    cache: PatternCache[str] = PatternCache()
    assert cache.get((True,), lambda _: "cpu", CPU) == "cpu"
    assert cache.get((True,), lambda _: "other", OTHER) == "other"
    assert cache.get((True,), lambda _: "new", CPU) == "cpu"


def test_memory_is_bounded() -> None:
    cache: PatternCache[int] = PatternCache(most=3)
    for number in range(8):
        assert cache.get((True,) * number, lambda _: number) == number  # noqa: B023
        assert len(cache) <= 3


def test_copies_are_empty_and_as_large() -> None:
    cache: PatternCache[int] = PatternCache(most=3)
    cache.get((True,), lambda _: 1)
    for other in (copy.copy(cache), copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert (len(other), other.most) == (0, 3)
    assert len(cache) == 1


@pytest.mark.parametrize("decoder_class", DECODERS)
def test_a_decoder_that_was_sent_to_another_process_decodes_alike(decoder_class: type[Decoder]) -> None:
    decoder = decoder_class(3, 2, (10,))
    first, again = decoded(decoder), decoded(decoder)
    assert len(decoder._plans) == 10
    for other in (copy.deepcopy(decoder), pickle.loads(pickle.dumps(decoder))):
        assert len(other._plans) == 0
        assert torch.equal(decoded(other), first)
        assert torch.equal(decoded(other), again)


@pytest.mark.parametrize("decoder_class", DECODERS)
def test_the_state_dict_is_the_same_before_and_after_decoding(decoder_class: type[Decoder]) -> None:
    decoder = decoder_class(3, 2, (10,))
    before = set(decoder.state_dict())
    decoded(decoder)
    assert set(decoder.state_dict()) == before


@pytest.mark.parametrize("decoder_class", DECODERS)
def test_many_patterns_at_once_are_each_alone(decoder_class: type[Decoder]) -> None:
    decoder = decoder_class(3, 2, (10,))
    outputs = torch.randn(4, 5, 10)
    count = 3 if decoder_class is LinearDecoder else 5
    base_outputs, parity_outputs = outputs[:, :count], outputs[:, count:]
    patterns = erasures.patterns(5, 2)
    together = decoder.decode_patterns(base_outputs, parity_outputs, patterns)
    alone = [decoder.decode_under(base_outputs, parity_outputs, pattern) for pattern in patterns]
    assert torch.equal(together, torch.stack(alone))
