import itertools

import pytest
import torch

from parity import erasures
from parity.coded_model import CodedModel
from parity.coders import CombiningDecoder, GridEncoder, LinearDecoder, PositionalDecoder
from parity.errors import ParityError
from parity.models import MLP, PerCell
from parity.training import CrossEntropy, LabelReconstructionLoss, ReconstructionLoss, SquaredError, parities_alone

SHAPES = [(10,), (2, 3)]


def outputs(k: int, r: int, shape: tuple[int, ...], groups: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(groups, k, *shape), torch.randn(groups, r, k, *shape)


@pytest.mark.parametrize("decoder_class", [PositionalDecoder, CombiningDecoder])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("k", "r"), [(2, 1), (3, 2), (4, 1)])
def test_any_number_of_predictions_is_read_off_the_mean_of_the_parity_answers(decoder_class, shape, k, r) -> None:
    decoder = decoder_class(k, r, shape)
    assert decoder.parity_shape(shape) == (k, *shape)
    for row in itertools.product([True, False], repeat=k + r):
        available, (base, parity) = torch.tensor([row]), outputs(k, r, shape)
        if not all(row[:k]) and not any(row[k:]):
            assert not decoder.can_decode(available)
            with pytest.raises(ParityError, match="cannot rebuild group 0"):
                decoder(base, parity, available)
            continue
        assert decoder.can_decode(available)
        lost = ~available[0]
        base[:, lost[:k]], parity[:, lost[k:]] = torch.nan, torch.nan  # never read
        rebuilt = decoder(base, parity, available)
        for i in range(k):
            if row[i]:
                assert torch.equal(rebuilt[:, i], base[:, i])
            else:
                assert torch.allclose(rebuilt[:, i], parity[:, ~lost[k:], i].mean(1), atol=1e-6)


@pytest.mark.parametrize(("k", "r"), [(2, 1), (3, 2)])
def test_perfect_parity_models_rebuild_everything_exactly(k: int, r: int) -> None:
    decoder = PositionalDecoder(k, r, (5,))
    predictions = torch.randn(6, k, 5)
    alone = parities_alone(k, r)
    for pattern in alone:
        rebuilt = decoder(predictions, decoder.parity_targets(predictions), pattern.expand(6, -1))
        assert torch.allclose(rebuilt, predictions)


def test_a_correction_is_learned_from_the_predictions_that_arrived() -> None:
    decoder = CombiningDecoder(3, 1, (2,))
    torch.nn.init.normal_(decoder.correction.weight)
    weight = decoder.correction.weight
    base, parity = outputs(3, 1, (2,), groups=4)
    available = torch.tensor([[False, True, False, True]]).expand(4, -1)
    rebuilt = decoder(base, parity, available)
    difference = base[:, 1] - parity[:, 0, 1]
    for i in (0, 2):
        expected = parity[:, 0, i] + difference @ weight[2 * i : 2 * i + 2, 2:4].T
        assert torch.allclose(rebuilt[:, i], expected, atol=1e-6)
    assert torch.equal(rebuilt[:, 1], base[:, 1])


@pytest.mark.parametrize("r", [1, 2, 3])
def test_the_parity_answers_alone_are_every_way_that_some_of_them_arrive(r: int) -> None:
    patterns = parities_alone(4, r)
    assert not patterns[:, :4].any()
    assert len(patterns.unique(dim=0)) == len(patterns) == 2**r - 1
    assert patterns[:, 4:].any(1).all()


def test_a_loss_on_the_parity_answers_alone_is_the_mean_over_all_positions() -> None:
    decoder, (base, parity) = PositionalDecoder(3, 1, (4,)), outputs(3, 1, (4,), groups=5)
    loss = ReconstructionLoss(SquaredError(), parities_alone)(decoder, base, parity, torch.zeros(5, 3, dtype=int))
    assert loss.item() == pytest.approx((parity[:, 0] - base).square().sum(-1).mean().item(), rel=1e-5)
    labels = torch.randint(4, (5, 3))
    against_labels = LabelReconstructionLoss(CrossEntropy(), parities_alone)(decoder, base, parity, labels)
    expected = torch.nn.functional.cross_entropy(parity[:, 0].flatten(0, 1), labels.flatten())
    assert against_labels.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_cells_network_with_a_decoder_that_wants_no_positions_is_refused() -> None:
    parity_shape = LinearDecoder(2, 1, (10,)).parity_shape((10,))  # ten classes are no ten positions
    with pytest.raises(ParityError, match="give the code a PositionalDecoder"):
        PerCell((1, 28, 28), parity_shape, MLP)


def test_one_parity_model_answers_all_cells_in_a_coded_model() -> None:
    parity_model = PerCell((1, 28, 28), (3, 10), MLP, hidden=(20,))
    model = CodedModel(
        MLP((1, 28, 28), (10,)), GridEncoder(3, 1, (1, 28, 28)), [parity_model], PositionalDecoder(3, 1, (10,))
    ).eval()
    queries = torch.rand(4, 3, 1, 28, 28)
    available = erasures.patterns(4, 3)[:1].expand(4, -1)  # the parity answer alone
    rebuilt = model(queries, available)
    cells = model.encoder.grid.split(model.encoder(queries)[:, 0])
    for i in range(3):
        assert torch.allclose(rebuilt[:, i], parity_model.network(cells[:, i]), atol=1e-5)
