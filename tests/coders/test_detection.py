"""Wrong outputs: what is suspect, and that nothing else changes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.coded_model import CodedModel
from parity.coders import Decoder, LinearDecoder, PackedEncoder, PositionalDecoder
from parity.coders.detection import ClassGap, Detector, Distance
from parity.errors import ParityError
from parity.models import MLP, PackedStudents

CODES = [(LinearDecoder, 3, 2), (LinearDecoder, 2, 3), (PositionalDecoder, 3, 1), (PositionalDecoder, 2, 2)]


def exact(decoder: Decoder, groups: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Outputs of perfect parity models, and everything available."""
    base = torch.randn(groups, decoder.k, 10, generator=torch.Generator().manual_seed(seed))
    return base, decoder.parity_targets(base).clone(), torch.ones(groups, decoder.n, dtype=torch.bool)


def changed(base: torch.Tensor, parity: torch.Tensor, group: int, worker: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of which one worker's are another prediction in one group."""
    base, parity = base.clone(), parity.clone()
    part, index = (base, worker) if worker < base.shape[1] else (parity, worker - base.shape[1])
    part[group, index] = part[group, index].roll(1, -1) * 2
    return base, parity


@pytest.mark.parametrize(("decoder_class", "k", "r"), CODES)
def test_outputs_that_agree_are_not_suspect(decoder_class, k, r) -> None:
    decoder = decoder_class(k, r, (10,))
    assert not Detector(decoder, Distance(), 1e-3)(*exact(decoder)).any()


@settings(max_examples=40, deadline=None)
@given(code=st.sampled_from(CODES), group=st.integers(0, 4), worker=st.integers(0, 4), seed=st.integers(0, 99))
def test_one_wrong_output_is_found_where_the_others_can_be_compared(code, group, worker, seed) -> None:
    decoder_class, k, r = code
    decoder = decoder_class(k, r, (10,))
    worker %= decoder.n
    base, parity, available = exact(decoder, seed=seed)
    suspect = Detector(decoder, Distance(), 1e-3)(*changed(base, parity, group, worker), available)
    expected = torch.zeros_like(available)
    expected[group, worker] = True
    assert torch.equal(suspect, expected)


def test_with_one_sum_a_wrong_output_is_noticed_and_any_may_be_it() -> None:
    decoder = LinearDecoder(3, 1, (10,))
    base, parity, available = exact(decoder)
    suspect = Detector(decoder, Distance(), 1e-3)(*changed(base, parity, 1, 2), available)
    assert suspect[1].all()
    assert not suspect[[0, 2, 3, 4]].any()


def test_what_is_not_a_number_is_suspect_wherever_it_is_and_nothing_else_for_it() -> None:
    decoder = PositionalDecoder(3, 1, (10,))
    base, parity, available = exact(decoder)
    base[0, 1, 4], parity[2, 0, 0, 0] = torch.nan, torch.inf
    suspect = Detector(decoder, ClassGap(), 1e-3)(base, parity, available)
    assert suspect.nonzero().tolist() == [[0, 1], [2, 3]]


def test_outputs_that_did_not_arrive_are_never_suspect_and_never_read() -> None:
    decoder = PositionalDecoder(3, 1, (10,))
    base, parity, available = exact(decoder)
    available[:, 0] = False
    base[:, 0] = torch.nan
    assert not Detector(decoder, Distance(), 1e-3)(base, parity, available).any()
    assert not Detector(decoder, Distance(), 1e-3)(base, parity, torch.zeros_like(available)).any()


def test_two_wrong_outputs_make_all_that_contradicts_suspect() -> None:
    decoder = PositionalDecoder(3, 1, (10,))
    base, parity, available = exact(decoder)
    wrong = changed(*changed(base, parity, 0, 0), 0, 1)
    suspect = Detector(decoder, Distance(), 1e-3)(*wrong, available)
    assert suspect[0, 3]  # the one output whose absence leaves nothing to compare
    assert not suspect[1:].any()


def test_a_class_gap_is_the_difference_of_log_odds_and_zero_for_the_same_class() -> None:
    arrived, rebuilt = torch.tensor([[[3.0, 1, 0]], [[0, 1, 0]]]), torch.tensor([[[9.0, 1, 0]], [[2.5, 1, 0]]])
    assert ClassGap()(arrived, rebuilt).tolist() == [[0.0], [1.5]]


def test_availability_of_another_shape_is_refused() -> None:
    decoder = PositionalDecoder(3, 1, (10,))
    base, parity, available = exact(decoder)
    with pytest.raises(ParityError, match="available must be a bool tensor"):
        Detector(decoder, Distance())(base, parity, available[:, :3])


@settings(max_examples=30, deadline=None)
@given(code=st.sampled_from(CODES), missing=st.integers(0, 4), worker=st.integers(0, 4), seed=st.integers(0, 99))
def test_what_is_suspect_never_changes_a_prediction_unless_it_is_asked_to(code, missing, worker, seed) -> None:
    decoder_class, k, r = code
    decoder = decoder_class(k, r, (10,))
    base, parity, available = exact(decoder, seed=seed)
    base, parity = changed(base, parity, 1, worker % decoder.n)
    available[0, missing % k] = False
    before = base.clone(), parity.clone(), available.clone()
    predictions = decoder(base, parity, available)
    detector = Detector(decoder, Distance(), 1e-3)
    suspect = detector(base, parity, available)
    assert suspect.any()
    assert all(torch.equal(now, was) for now, was in zip((base, parity, available), before, strict=True))
    assert torch.equal(decoder(base, parity, available), predictions)
    acted_on = detector.predictions(base, parity, available)
    unsuspected = ~suspect.any(1)
    assert torch.equal(acted_on[unsuspected], predictions[unsuspected])
    right = exact(decoder, seed=seed)[0]
    if suspect.sum() == 1:  # it is found, and the rest rebuilds it
        assert torch.allclose(acted_on[1], right[1], atol=1e-3)


def test_a_prediction_that_only_suspects_give_stays_theirs() -> None:
    decoder = LinearDecoder(3, 1, (10,))
    base, parity, available = exact(decoder)
    base, parity = changed(base, parity, 1, 2)
    detector = Detector(decoder, Distance(), 1e-3)
    assert detector(base, parity, available)[1].all()
    assert torch.equal(detector.predictions(base, parity, available), base)


def test_a_coded_model_acts_on_suspects_where_it_is_handed_a_detector() -> None:
    base, student = MLP((4,), (3,), hidden=(5,)), PackedStudents((2, 4), (2, 3), MLP, hidden=(5,))
    student.network.load_state_dict(base.state_dict())
    model = CodedModel(base, PackedEncoder(2, 1, (4,)), [student], PositionalDecoder(2, 1, (3,))).eval()
    queries, available = torch.randn(6, 2, 4), torch.ones(6, 3, dtype=torch.bool)
    right = model(queries, available)
    with torch.no_grad():
        student.network.layers[-1].bias[0] = torch.nan  # the parity worker fails
    detector = Detector(model.decoder, Distance(), 1e-3)
    assert detector(*model.outputs(queries), available)[:, 2].all()
    assert torch.allclose(model(queries, available, detector), right)
    with torch.no_grad():
        student.network.load_state_dict(base.state_dict())
        base.layers[-1].bias[0] = torch.nan  # both base workers fail: asked to, it rebuilds
    assert model(queries, available).isnan().any()
    assert torch.allclose(model(queries, available, detector), right, atol=1e-5)


@pytest.mark.parametrize("threshold", [float("nan"), -1.0])
def test_a_threshold_that_is_no_difference_is_refused(threshold: float) -> None:
    with pytest.raises(ParityError, match="the threshold of a detector is a difference, 0 or more"):
        Detector(LinearDecoder(2, 1, (3,)), Distance(), threshold)
