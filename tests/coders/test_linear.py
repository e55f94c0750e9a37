import itertools
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parity import erasures
from parity.coders import LinearDecoder, LinearEncoder, coefficients
from parity.errors import ParityError

CODES = [(k, r) for r in (1, 2, 3) for k in range(1, 9)]


def largest_condition_number(k: int, r: int) -> float:
    """Of all blocks that decoding inverts: e parity outputs (rows) and e missing predictions (columns)."""
    code = coefficients(k, r)
    blocks = (
        code[list(rows)][:, list(columns)]
        for size in range(1, min(k, r) + 1)
        for rows in itertools.combinations(range(r), size)
        for columns in itertools.combinations(range(k), size)
    )
    return max(torch.linalg.cond(block).item() for block in blocks)


@pytest.mark.parametrize(("k", "r"), CODES)
def test_every_square_block_is_well_conditioned(k: int, r: int) -> None:
    assert coefficients(k, r).shape == (r, k)
    assert largest_condition_number(k, r) <= 20


@pytest.mark.parametrize("r", [2, 3])
def test_docstring_states_the_condition_numbers(r: int) -> None:
    row = re.search(rf"r = {r} ((?: +\d+\.\d+)+)$", coefficients.__doc__ or "", re.MULTILINE)
    assert row, "the table is in the docstring"
    stated = [float(number) for number in row[1].split()]
    assert len(stated) == 7
    for k, number in zip(range(2, 9), stated, strict=True):
        assert number == pytest.approx(largest_condition_number(k, r), abs=0.0501)


@pytest.mark.parametrize("k", [1, 2, 8, 9, 40])
def test_one_parity_model_is_addition_for_any_k(k: int) -> None:
    assert torch.equal(coefficients(k, 1), torch.ones(1, k, dtype=torch.float64))
    queries = torch.randn(3, k, 2, generator=torch.Generator().manual_seed(0))
    parity_queries = LinearEncoder(k, 1, (2,))(queries)
    assert torch.allclose(parity_queries, queries.sum(1, keepdim=True), atol=1e-5)
    available = erasures.single_erasures(k, k + 1)
    predictions = torch.randn(k, k, 2, generator=torch.Generator().manual_seed(1))
    decoder = LinearDecoder(k, 1, (2,))
    rebuilt = decoder(predictions, decoder.parity_targets(predictions), available)
    assert torch.allclose(rebuilt, predictions, atol=1e-4)


@pytest.mark.parametrize("coder", [LinearEncoder, LinearDecoder])
@pytest.mark.parametrize(("k", "r"), [(9, 2), (9, 3), (2, 4), (8, 4)])
def test_unsupported_codes_say_what_can_be_done(coder: type, k: int, r: int) -> None:
    with pytest.raises(ParityError, match=rf"any k with r = 1.*k up to 8 with r = 2 or 3.*k = {k} and r = {r}"):
        coder(k, r, (10,))


@pytest.mark.parametrize("coder", [LinearEncoder, LinearDecoder])
@pytest.mark.parametrize(("k", "r"), [(0, 1), (-1, 1), (2, -1), (2, 0)])
def test_senseless_codes_are_refused(coder: type, k: int, r: int) -> None:
    with pytest.raises(ParityError, match=f"k = {k} and r = {r}"):
        coder(k, r, (10,))


def test_coefficients_of_images_are_applied_channel_by_channel() -> None:
    encoder = LinearEncoder(3, 2, (3, 4, 5))
    queries = torch.randn(2, 3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    parity_queries = encoder(queries)
    assert parity_queries.shape == (2, 2, 3, 4, 5)
    code = coefficients(3, 2).float()
    for group, j, channel in itertools.product(range(2), range(2), range(3)):
        expected = sum(code[j, i] * queries[group, i, channel] for i in range(3))
        assert torch.allclose(parity_queries[group, j, channel], expected, atol=1e-6)


@settings(max_examples=60)
@given(code=st.sampled_from(CODES), shape=st.sampled_from([(1,), (10,), (2, 3)]), seed=st.integers(0, 2**32))
def test_perfect_parity_outputs_rebuild_every_decodable_pattern(
    code: tuple[int, int], shape: tuple[int, ...], seed: int
) -> None:
    k, r = code
    decoder = LinearDecoder(k, r, shape)
    available = erasures.Strata(k + r).patterns
    available = available[(~available).sum(1) <= r]
    predictions = torch.randn(len(available), k, *shape, generator=torch.Generator().manual_seed(seed))
    parity_outputs = decoder.parity_targets(predictions)
    assert parity_outputs.shape == (len(available), r, *decoder.parity_shape(shape))
    rebuilt = decoder(predictions, parity_outputs, available)
    assert torch.allclose(rebuilt, predictions, atol=1e-3)


@pytest.mark.parametrize(("k", "r"), CODES)
def test_what_lies_at_unavailable_places_is_never_read(k: int, r: int) -> None:
    decoder = LinearDecoder(k, r, (4,))
    available = erasures.Strata(k + r).patterns
    available = available[(~available).sum(1) <= r]
    predictions = torch.randn(len(available), k, 4, generator=torch.Generator().manual_seed(0))
    parity_outputs = decoder.parity_targets(predictions)
    for garbage in (float("nan"), float("inf")):
        arrived = predictions.masked_fill(~available[:, :k, None], garbage)
        parity_arrived = parity_outputs.masked_fill(~available[:, k:, None], garbage)
        rebuilt = decoder(arrived, parity_arrived, available)
        assert torch.equal(rebuilt[available[:, :k]], predictions[available[:, :k]])
        assert torch.allclose(rebuilt, predictions, atol=1e-3)


def test_a_prediction_that_is_not_finite_leaves_the_other_available_ones_as_they_are() -> None:
    predictions = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    predictions[:, 1] = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0])
    available = torch.tensor([[True, True, True, True, True], [True, True, False, True, False]])
    answers = LinearDecoder(3, 2, (4,))(predictions, torch.zeros(2, 2, 4), available)
    assert torch.equal(answers[:, 0], predictions[:, 0])
    assert torch.equal(answers[:, 1].view(torch.int32), predictions[:, 1].view(torch.int32)), "the same bits"


@pytest.mark.parametrize(("k", "r"), [(2, 1), (3, 2), (4, 3)])
def test_any_k_outputs_can_be_decoded_and_fewer_cannot(k: int, r: int) -> None:
    decoder = LinearDecoder(k, r, (4,))
    for row in erasures.Strata(k + r).patterns:
        decodable = int(row.sum()) >= k
        assert decoder.can_decode(row[None]).tolist() == [decodable]
        if not decodable:
            with pytest.raises(ParityError, match=erasures.describe(row)):
                decoder(torch.zeros(1, k, 4), torch.zeros(1, r, 4), row[None])


def test_the_undecodable_group_is_named_among_decodable_ones() -> None:
    available = torch.tensor([[True, True, True], [False, True, True], [False, True, False]])
    with pytest.raises(ParityError, match=r"group 2: outputs 0 and 2 of 3 unavailable"):
        LinearDecoder(2, 1, (4,))(torch.zeros(3, 2, 4), torch.zeros(3, 1, 4), available)


def test_spare_parity_outputs_are_used_in_the_least_squares_sense() -> None:
    decoder, code = LinearDecoder(3, 2, (4,)), coefficients(3, 2)
    generator = torch.Generator().manual_seed(0)
    predictions, parity_outputs = (torch.randn(1, rows, 4, generator=generator) for rows in (3, 2))
    rebuilt = decoder(predictions, parity_outputs, torch.tensor([[True, False, True, True, True]]))
    rest = parity_outputs[0].double() - code[:, [0, 2]] @ predictions[0, [0, 2]].double()
    expected = torch.linalg.lstsq(code[:, [1]], rest).solution
    assert torch.allclose(rebuilt[0, 1].double(), expected[0], atol=1e-5)


def test_the_code_is_exact_under_mixed_precision() -> None:
    encoder, decoder = LinearEncoder(2, 1, (5,)), LinearDecoder(2, 1, (5,))
    parts = torch.randn(3, 2, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder(parts), parts.sum(1, keepdim=True))
        rebuilt = decoder(parts, decoder.parity_targets(parts), torch.tensor([[False, True, True]] * 3))
    torch.testing.assert_close(rebuilt, parts)
