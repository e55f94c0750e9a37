import pytest
import torch
from torch import nn

from parity import erasures
from parity.coded_model import CodedModel
from parity.coders import BackupDecoder, BackupEncoder
from parity.errors import ParityError


def backed_up(k: int) -> tuple[CodedModel, nn.Module]:
    smaller = nn.Linear(3, 2)
    base = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    return CodedModel(base, BackupEncoder(k, k, (3,)), [smaller] * k, BackupDecoder(k, k, (2,))), smaller


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_smaller_network_answers_where_the_base_model_does_not(k: int) -> None:
    model, smaller = backed_up(k)
    available = erasures.Strata(2 * k).patterns
    available = available[model.decoder.can_decode(available)]
    queries = torch.randn(len(available), k, 3)
    answers, predictions = model(queries, available), model.base_outputs(queries)
    arrived = available[:, :k]
    assert torch.equal(answers[arrived], predictions[arrived])
    assert torch.allclose(answers[~arrived], smaller(queries)[~arrived])
    assert not torch.allclose(answers[~arrived], predictions[~arrived])


def test_each_prediction_is_on_its_own() -> None:
    decoder = BackupDecoder(2, 2, (1,))
    base_outputs, parity_outputs = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[3.0], [4.0]]])
    available = torch.tensor([[False, False, True, False]])
    assert decoder.rebuildable(available).tolist() == [[True, False]]
    assert decoder.can_decode(available).tolist() == [False]
    answers = decoder.decode(base_outputs, parity_outputs, available)
    assert answers[0, 0].item() == 3
    assert answers[0, 1].isnan().all()
    with pytest.raises(ParityError, match=r"outputs 0, 1 and 3 of 4 unavailable"):
        decoder(base_outputs, parity_outputs, available)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_what_can_be_rebuilt_under_every_pattern(k: int) -> None:
    decoder = BackupDecoder(k, k, (2,))
    for row in erasures.Strata(2 * k).patterns:
        kept = [bool(row[i] or row[k + i]) for i in range(k)]
        assert (decoder.rebuildable(row[None]) | ~decoder.rebuilt(row[None])).tolist() == [kept]
        assert decoder.can_decode(row[None]).tolist() == [all(kept)]
    assert decoder.tolerance == 1


def test_a_backup_can_be_trained_to_say_what_the_base_model_does() -> None:
    predictions = torch.randn(3, 2, 4)
    assert torch.equal(BackupDecoder(2, 2, (4,)).parity_targets(predictions), predictions)


@pytest.mark.parametrize("coder", [BackupEncoder, BackupDecoder])
@pytest.mark.parametrize(("k", "r"), [(2, 1), (2, 0), (2, 4)])
def test_one_backup_for_each_query(coder: type, k: int, r: int) -> None:
    with pytest.raises(ParityError, match=rf"any k with r = k, .*not k = {k}, r = {r}"):
        coder(k, r, (3,))
