"""What Berrut's and the splines' codes have in common."""

import functools
import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from parity import erasures
from parity.coded_model import CodedModel
from parity.coders import (
    BerrutDecoder,
    BerrutEncoder,
    InterpolatingDecoder,
    InterpolatingEncoder,
    NeRCCDecoder,
    NeRCCEncoder,
)
from parity.coders.interpolation import message_nodes, worker_nodes
from parity.errors import ParityError

CODERS = [
    (BerrutEncoder, BerrutDecoder),
    (NeRCCEncoder, NeRCCDecoder),
    (functools.partial(NeRCCEncoder, smoothing=0.1), functools.partial(NeRCCDecoder, smoothing=math.inf)),
]
codes = st.tuples(st.integers(1, 14), st.integers(0, 8))


@pytest.fixture(params=CODERS, ids=["berrut", "nercc", "nercc-smooth"])
def coders(request: pytest.FixtureRequest) -> tuple:
    return request.param


def model_of(coders: tuple, k: int, r: int, base: nn.Module) -> CodedModel:
    encoder, decoder = coders
    return CodedModel(base, encoder(k, r, (3,)), [], decoder(k, r, (2,)))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 2))


def a_pattern(n: int, arrived: int, seed: int) -> Tensor:
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order.argsort() < arrived


def test_nodes_are_the_chebyshev_nodes_of_both_kinds() -> None:
    assert message_nodes(3).tolist() == pytest.approx([math.cos(math.pi * odd / 6) for odd in (1, 3, 5)])
    assert worker_nodes(4).tolist() == pytest.approx([1, 0.5, -0.5, -1])
    assert (message_nodes(1).item(), worker_nodes(1).item()) == (pytest.approx(0), 1)


@pytest.mark.parametrize("family", CODERS)
@given(code=codes, seed=st.integers(0, 1000), data=st.data())
def test_any_code_reproduces_constants_from_any_outputs(
    family: tuple, code: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    k, r = code
    encoder, decoder = family[0](k, r, (3,)), family[1](k, r, (2,), needed=1)
    assert encoder.matrix.shape == (k + r, k)
    assert torch.allclose(encoder.matrix.sum(1), torch.ones(k + r), atol=1e-5)
    pattern = a_pattern(k + r, data.draw(st.integers(1, k + r)), seed)
    matrix = decoder.matrices(pattern[None])[0]
    assert torch.allclose(matrix.sum(1), torch.ones(k), atol=1e-4)
    assert not matrix[:, ~pattern].any()


@pytest.mark.parametrize(("k", "r"), [(1, 0), (1, 2), (2, 1), (3, 2), (4, 1), (5, 3)])
def test_batched_is_one_by_one(coders: tuple, k: int, r: int) -> None:
    model = model_of(coders, k, r, mlp())
    available = erasures.Strata(k + r).patterns
    available = available[model.decoder.can_decode(available)].repeat(2, 1)
    queries = torch.randn(len(available), k, 3)
    together = model(queries, available)
    alone = torch.cat([model(queries[i : i + 1], available[i : i + 1]) for i in range(len(available))])
    assert together.shape == (len(available), k, 2)
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(("k", "r"), [(1, 1), (2, 1), (3, 2), (4, 4)])
def test_any_k_outputs_are_needed_by_default_and_fewer_if_asked_for(coders: tuple, k: int, r: int) -> None:
    by_default, bold = coders[1](k, r, (2,)), coders[1](k, r, (2,), needed=1)
    outputs = torch.randn(1, k + r, 2)
    for row in erasures.Strata(k + r).patterns:
        assert by_default.can_decode(row[None]).tolist() == [int(row.sum()) >= k]
        assert bold.can_decode(row[None]).tolist() == [bool(row.any())]
        if row.any():
            assert bold(outputs, outputs[:, :0], row[None]).isfinite().all()
        if int(row.sum()) < k:
            with pytest.raises(ParityError, match=erasures.describe(row)):
                by_default(outputs, outputs[:, :0], row[None])
    assert (by_default.tolerance, bold.tolerance) == (r, r)


def test_from_one_output_all_predictions_are_that_output(coders: tuple) -> None:
    outputs = torch.randn(1, 5, 2)
    available = torch.tensor([[False, False, True, False, False]])
    answers = coders[1](3, 2, (2,), needed=1)(outputs, outputs[:, :0], available)
    assert torch.allclose(answers, outputs[:, 2:3].expand(1, 3, 2))


@pytest.mark.parametrize("needed", [0, -1, 4])
def test_needed_is_out_of_range(coders: tuple, needed: int) -> None:
    with pytest.raises(ParityError, match=rf"1 to k = 3, so it cannot be {needed}"):
        coders[1](3, 2, (2,), needed=needed)


def test_what_lies_at_unavailable_places_is_never_read(coders: tuple) -> None:
    decoder = coders[1](3, 2, (2,))
    available = torch.cat([erasures.patterns(5, erased) for erased in range(3)])
    outputs = torch.randn(len(available), 5, 2)
    answers = decoder(outputs, outputs[:, :0], available)
    for garbage in (torch.nan, torch.inf):
        spoilt = outputs.masked_fill(~available[:, :, None], garbage)
        assert torch.equal(decoder(spoilt, outputs[:, :0], available), answers)


def test_every_prediction_has_to_be_rebuilt_under_every_pattern(coders: tuple) -> None:
    available = erasures.Strata(5).patterns
    assert coders[1](3, 2, (2,)).rebuilt(available).tolist() == [[True] * 3] * 32


def test_all_workers_run_the_base_model(coders: tuple) -> None:
    model = model_of(coders, 3, 2, mlp())
    queries = torch.randn(4, 3, 3)
    base_queries, parity_queries = model.encoder.dispatch(queries)
    assert base_queries.shape == (4, 5, 3)
    assert parity_queries.shape == (4, 0, 3)
    assert torch.allclose(base_queries, torch.einsum("ij,gjd->gid", model.encoder.matrix, queries), atol=1e-6)
    base_outputs, parity_outputs = model.outputs(queries)
    assert torch.equal(base_outputs, model.base_outputs(base_queries))
    assert parity_outputs.shape == (4, 0, 2)


def test_queries_are_checked(coders: tuple) -> None:
    with pytest.raises(ParityError, match="groups of k = 3 queries"):
        coders[0](3, 2, (3,)).dispatch(torch.zeros(1, 2, 3))


def test_images_and_predictions_of_any_shape(coders: tuple) -> None:
    encoder, decoder = coders[0](3, 1, (2, 4, 4)), coders[1](3, 1, (2, 3))
    queries, outputs = torch.randn(2, 3, 2, 4, 4), torch.randn(2, 4, 2, 3)
    coded = encoder(queries)
    assert torch.allclose(coded[:, :, 1], torch.einsum("ij,gjhw->gihw", encoder.matrix, queries[:, :, 1]), atol=1e-6)
    available = torch.tensor([[True, False, True, True]] * 2)
    answers = decoder(outputs, outputs[:, :0], available)
    assert torch.allclose(answers, torch.einsum("ij,gjab->giab", decoder.matrices(available)[0], outputs), atol=1e-5)


def test_what_is_not_affected_by_mixed_precision(coders: tuple) -> None:
    encoder, decoder = coders[0](3, 1, (5,)), coders[1](3, 1, (5,))
    available = torch.tensor([[True, True, False, True]])
    parts = torch.randn(1, 3, 5)
    expected = decoder(encoder(parts), parts[:, :0], available)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(decoder(encoder(parts), parts[:, :0], available), expected)


def test_no_groups_at_all(coders: tuple) -> None:
    outputs = torch.zeros(0, 4, 2)
    assert coders[1](3, 1, (2,))(outputs, outputs[:, :0], torch.zeros(0, 4, dtype=torch.bool)).shape == (0, 3, 2)


def test_many_workers_take_no_table_of_patterns(coders: tuple) -> None:
    k, r = 40, 40
    decoder = coders[1](k, r, (2,))
    available = torch.stack([a_pattern(k + r, k + seed % r, seed) for seed in range(30)])
    outputs = torch.randn(len(available), k + r, 2)
    assert decoder(outputs, outputs[:, :0], available).isfinite().all()
    assert sum(value.numel() for value in decoder.state_dict().values()) == 0
    assert len(decoder._plans) == 30


def test_matrices_of_patterns_are_kept_and_bounded(coders: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = coders[1](3, 2, (2,))
    available = erasures.patterns(5, 1)
    first = decoder.matrices(available)
    monkeypatch.setattr(decoder, "curve", None)
    assert torch.equal(decoder.matrices(available), first)
    monkeypatch.undo()
    monkeypatch.setattr("parity.coders.interpolation._MOST_KEPT", 4 * 15)
    fresh = coders[1](3, 2, (2,))
    assert torch.equal(fresh.matrices(available), first)
    assert len(fresh._plans) <= 4


@pytest.mark.parametrize("needed", [None, 1])
def test_the_table_that_is_traced_decodes_bit_for_bit_and_marks_what_it_cannot(
    coders: tuple, needed: int | None
) -> None:
    decoder = coders[1](3, 2, (2,), needed=needed)
    available = torch.cat([erasures.patterns(5, erased) for erased in range(6)])
    outputs = torch.randn(len(available), 5, 2)
    predictions, there = decoder.traceable().decode_any(outputs, outputs[:, :0], available)
    decodable = decoder.can_decode(available)
    assert torch.equal(there, decodable[:, None].expand(-1, 3))
    assert predictions[~decodable].isnan().all()
    expected = decoder(outputs, outputs[:, :0], available | ~decodable[:, None])
    assert torch.equal(predictions[decodable], expected[decodable])


def test_a_table_that_would_be_too_large_is_refused_before_it_is_made(coders: tuple) -> None:
    decoder = coders[1](40, 40, (2,))
    with pytest.raises(ParityError, match=r"a table of all erasure patterns of \w+ \(k = 40, r = 40"):
        decoder.traceable()


def test_the_state_dict_is_the_whole_model(coders: tuple) -> None:
    model, other = model_of(coders, 3, 2, mlp()), model_of(coders, 3, 2, mlp())
    queries, available = torch.randn(10, 3, 3), erasures.patterns(5, 2)
    before = model(queries, available)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(queries, available), before)


@pytest.mark.parametrize("base", [InterpolatingEncoder, InterpolatingDecoder])
def test_a_curve_is_the_families_to_say(base: type) -> None:
    with pytest.raises(NotImplementedError):
        base.curve(None, message_nodes(2), worker_nodes(3))
