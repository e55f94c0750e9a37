import pytest
import torch
from torch import Tensor

from parity import erasures
from parity.coders import Decoder, Encoder, LinearDecoder, LinearEncoder, SystematicDecoder
from parity.errors import ParityError

CODES = [(1, 1), (2, 1), (5, 1), (3, 2), (8, 2), (2, 3), (8, 3)]


class MirrorDecoder(SystematicDecoder):
    """Replication at k = r: parity output i is a second copy of prediction i."""

    def can_decode(self, available: Tensor) -> Tensor:
        return (available[:, : self.k] | available[:, self.k :]).all(1)

    def rebuild(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        return base_outputs + parity_outputs * ~available[:, : self.k, None]


@pytest.mark.parametrize(("k", "r"), CODES)
@pytest.mark.parametrize("shape", [(10,), (2, 3)])
def test_both_ways_to_rebuild_each_prediction_agree(k: int, r: int, shape: tuple[int, ...]) -> None:
    decoder = LinearDecoder(k, r, shape)
    generator = torch.Generator().manual_seed(0)
    base_outputs, parity_outputs = (torch.randn(4, rows, *shape, generator=generator) for rows in (k, r))
    quick = decoder.rebuild_each(base_outputs, parity_outputs)
    general = Decoder.rebuild_each(decoder, base_outputs, parity_outputs)
    assert quick.shape == general.shape == (4, k, *shape)
    assert torch.allclose(quick, general, atol=1e-4)


@pytest.mark.parametrize("decoder", [LinearDecoder(4, 2, (5,)), MirrorDecoder(4, 4, (5,))])
def test_each_prediction_is_rebuilt_as_if_it_alone_were_unavailable(decoder: Decoder) -> None:
    generator = torch.Generator().manual_seed(0)
    base_outputs, parity_outputs = (torch.randn(3, rows, 5, generator=generator) for rows in (decoder.k, decoder.r))
    each = decoder.rebuild_each(base_outputs, parity_outputs)
    for i, pattern in enumerate(erasures.single_erasures(decoder.k, decoder.n)):
        rebuilt = decoder(base_outputs, parity_outputs, pattern.expand(3, -1))
        assert torch.allclose(each[:, i], rebuilt[:, i], atol=1e-5)
        assert not torch.allclose(each[:, i], base_outputs[:, i], atol=1e-2)


def test_a_systematic_decoder_returns_what_arrived_and_shows_zeros_for_what_did_not() -> None:
    nan = float("nan")
    base_outputs = torch.tensor([[[1.0], [nan]], [[nan], [2.0]]])
    parity_outputs = torch.tensor([[[nan], [3.0]], [[4.0], [nan]]])
    available = torch.tensor([[True, False, False, True], [False, True, True, False]])
    rebuilt = MirrorDecoder(2, 2, (1,))(base_outputs, parity_outputs, available)
    assert rebuilt.tolist() == [[[1.0], [3.0]], [[4.0], [2.0]]]


def test_what_arrived_is_returned_whatever_rebuild_says_of_it() -> None:
    class NoisyDecoder(MirrorDecoder):
        def rebuild(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
            return torch.full_like(base_outputs, 7.0)

    outputs = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    available = torch.tensor([[True, False, True, True], [False, True, True, True], [True, True, False, False]])
    rebuilt = NoisyDecoder(2, 2, (5,))(outputs, outputs, available)
    assert torch.equal(rebuilt, torch.where(available[:, :2, None], outputs, 7.0))


def test_a_systematic_code_rebuilds_the_predictions_that_are_missing() -> None:
    available = torch.tensor([[True, False, True], [True, True, False], [False, False, False]])
    assert LinearDecoder(2, 1, (4,)).rebuilt(available).tolist() == [[False, True], [False, False], [True, True]]


def test_what_can_be_decoded_is_the_decoders_to_say() -> None:
    decoder = MirrorDecoder(2, 2, (1,))
    outputs = torch.zeros(1, 2, 1)
    decoder(outputs, outputs, torch.tensor([[True, False, False, True]]))
    with pytest.raises(ParityError, match=r"MirrorDecoder .* outputs 1 and 3 of 4 unavailable"):
        decoder(outputs, outputs, torch.tensor([[True, False, True, False]]))


@pytest.mark.parametrize(
    "available",
    [
        torch.ones(2, 2, dtype=torch.bool),
        torch.ones(1, 3, dtype=torch.bool),
        torch.ones(3, dtype=torch.bool),
        torch.ones(2, 3),
    ],
)
def test_available_of_another_shape_or_type_is_refused(available: Tensor) -> None:
    with pytest.raises(ParityError, match=r"bool tensor \(G, n\) = \(2, 3\)"):
        LinearDecoder(2, 1, (4,))(torch.zeros(2, 2, 4), torch.zeros(2, 1, 4), available)


def test_decode_any_marks_what_is_lost_and_reads_nothing_that_did_not_arrive() -> None:
    decoder = LinearDecoder(2, 1, (4,))
    base_outputs, parity_outputs = torch.randn(3, 2, 4), torch.randn(3, 1, 4)
    available = torch.tensor([[True, False, True], [True, False, False], [True, True, False]])
    base_outputs[:2, 1], parity_outputs[1:] = torch.nan, torch.nan
    predictions, there = decoder.decode_any(base_outputs, parity_outputs, available)
    assert there.tolist() == [[True, True], [True, False], [True, True]]
    assert torch.equal(predictions[:, 0], base_outputs[:, 0])
    assert torch.allclose(predictions[0, 1], parity_outputs[0, 0] - base_outputs[0, 0])
    assert predictions[1, 1].isnan().all()
    assert torch.equal(predictions[2, 1], base_outputs[2, 1])


def test_dispatch_sends_the_queries_themselves_and_the_parity_queries() -> None:
    encoder = LinearEncoder(2, 1, (3,))
    queries = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    base_queries, parity_queries = encoder.dispatch(queries)
    assert torch.equal(base_queries, queries)
    assert torch.allclose(parity_queries, queries[:, :1] + queries[:, 1:])


@pytest.mark.parametrize("shape", [(4, 3, 3), (4, 2, 4), (2, 3), (4, 2, 3, 1)])
def test_dispatch_refuses_what_is_no_group(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParityError, match=r"groups of k = 2 queries of shape \(3,\)"):
        LinearEncoder(2, 1, (3,)).dispatch(torch.zeros(shape))


@pytest.mark.parametrize("coder", [Encoder, Decoder])
@pytest.mark.parametrize(("k", "r"), [(0, 1), (2, -1)])
def test_codes_without_queries_are_refused(coder: type, k: int, r: int) -> None:
    with pytest.raises(ParityError, match=f"{coder.__name__} needs k of at least 1"):
        coder(k, r, (3,))


def test_a_decoder_without_exact_targets_says_what_to_train_with() -> None:
    decoder = MirrorDecoder(2, 2, (3,))
    assert decoder.parity_shape((3,)) == (3,)
    with pytest.raises(ParityError, match="MirrorDecoder has no exact parity target: train with a loss on"):
        decoder.parity_targets(torch.zeros(1, 2, 3))
