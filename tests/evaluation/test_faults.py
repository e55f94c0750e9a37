"""Faults in what layers compute, of networks whose layers are no plain functions of one tensor."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import PackedEncoder, PositionalDecoder
from parity.data import groups_of
from parity.errors import ParityError
from parity.evaluation.detection import wrong_outputs
from parity.evaluation.faults import ActivationBitFlip, BitFlip
from parity.models import PackedStudents
from parity.tasks import Classification

STEPS, WIDTH, CLASSES = 5, 4, 3
EXPONENT = 30


class Recurrent(nn.Module):
    """Predicts from what an LSTM puts out last."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(WIDTH, 8, batch_first=True), nn.Linear(8, CLASSES)

    def forward(self, queries: Tensor) -> Tensor:
        prediction: Tensor = self.head(self.layer(queries)[0].mean(1))
        return prediction


class Attending(nn.Module):
    """Predicts from a sequence's attention to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.MultiheadAttention(WIDTH, 1, batch_first=True), nn.Linear(WIDTH, CLASSES)

    def forward(self, queries: Tensor) -> Tensor:
        prediction: Tensor = self.head(self.layer(queries, queries, queries)[0].mean(1))
        return prediction


class Transformer(nn.Module):
    """Predicts from two encoder layers."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 1, 8, batch_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(WIDTH, CLASSES)

    def forward(self, queries: Tensor) -> Tensor:
        prediction: Tensor = self.head(self.layers(queries).mean(1))
        return prediction


@torch.no_grad()
@pytest.mark.parametrize("kind", [Recurrent, Attending])
def test_a_bit_that_flips_changes_what_layers_with_tuples_put_out(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network, queries = kind().eval(), torch.rand(6, STEPS, WIDTH)
    for seed in range(5):
        wrong = ActivationBitFlip(EXPONENT)(network, torch.Generator().manual_seed(seed))(queries)
        assert (wrong != network(queries)).any(1).all()  # in every query


@torch.no_grad()
def test_every_layer_of_a_transformer_may_be_hit() -> None:
    torch.manual_seed(0)
    network, queries = Transformer().eval(), torch.rand(6, STEPS, WIDTH)
    hit = set()
    for seed in range(60):
        broken = ActivationBitFlip(31)(network, torch.Generator().manual_seed(seed))
        broken(queries)
        hit |= {name for name, module in broken.named_modules() if module._forward_hooks}
    of_a_layer = ("self_attn", "linear1", "linear2", "norm1", "norm2", "dropout", "dropout1", "dropout2")
    assert hit == {f"layers.layers.{index}.{name}" for index in range(2) for name in of_a_layer}


@torch.no_grad()
def test_draws_for_plain_networks_are_those_of_the_layer_and_then_of_the_numbers() -> None:
    network, queries = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).eval(), torch.rand(6, 4)
    for seed in range(5):
        wrong = ActivationBitFlip(31)(network, torch.Generator().manual_seed(seed))(queries)
        generator = torch.Generator().manual_seed(seed)
        after = 1 + int(torch.randint(2, (1,), generator=generator))
        assert torch.equal(wrong, network[after:](BitFlip(31)(network[:after](queries), generator)))


@torch.no_grad()
def test_half_precision_stays_half() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)).bfloat16()
    wrong = ActivationBitFlip(31)(network, torch.Generator().manual_seed(0))(torch.rand(6, 4).bfloat16())
    assert wrong.dtype == torch.bfloat16


class Counting(nn.Module):
    """Puts out whole numbers."""

    def forward(self, queries: Tensor) -> Tensor:
        return queries.long()


def test_a_network_without_numbers_to_spoil_is_refused() -> None:
    broken = ActivationBitFlip(31)(Counting(), torch.Generator().manual_seed(0))
    with pytest.raises(ParityError, match="Counting has no layer that puts out floating-point numbers"):
        broken(torch.rand(2, 4))


def test_wrong_outputs_of_a_recurrent_network_are_looked_for() -> None:
    torch.manual_seed(0)
    shape = (STEPS, WIDTH)
    students = PackedStudents((2, *shape), (2, CLASSES), lambda query, prediction: Recurrent())
    model = CodedModel(Recurrent(), PackedEncoder(2, 1, shape), [students], PositionalDecoder(2, 1, (CLASSES,)))
    data = torch.rand(80, *shape), torch.randint(CLASSES, (80,))
    groups = partial(groups_of, val_data=data, test_data=data, task=Classification(CLASSES), batch_size=16)
    found = groups(None, 2)
    loaders = found.loader("val"), found.loader("test")
    rows = wrong_outputs(model.eval(), *loaders, found.task, (0.1,), 0.05)
    assert any("activation" in str(row) for row in rows)
