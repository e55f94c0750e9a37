import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from parity.errors import ParityError
from parity.models import ResNet, TextTransformer, split_after
from parity.models.counting import count_multiply_adds
from parity.models.split import FirstPart, SecondPart


def text() -> TextTransformer:
    torch.manual_seed(0)
    return TextTransformer((12,), (3,), vocabulary=30, width=16).eval()


def padded_ids() -> Tensor:
    ids = torch.randint(1, 30, (4, 12))
    ids[:2, 7:] = 0
    return ids


def test_both_parts_together_are_the_network_and_padding_stays_left_out() -> None:
    network, ids = text(), padded_ids()
    first, second = split_after(network, "embedding", ids)
    assert type(first) is type(network.embedding)  # it comes first: nothing else is held
    assert torch.allclose(second(first(ids)), network(ids), atol=1e-5)
    assert torch.allclose(second(first(ids[:2, :7])), network(ids[:2]), atol=1e-5)
    assert not any("embedding" in name for name, _ in second.named_parameters())


def test_a_network_of_images_is_split_in_its_middle() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    queries = torch.rand(3, 1, 8, 8)
    first, second = split_after(network, "1", queries)
    assert isinstance(first, FirstPart)
    assert first(queries).shape == (3, 4, 6, 6)
    assert torch.allclose(second(first(queries)), network(queries), atol=1e-6)


def test_the_second_part_computes_nothing_of_the_first() -> None:
    network = nn.Sequential(nn.Linear(1000, 500), nn.ReLU(), nn.Linear(500, 10)).eval()
    queries = torch.rand(3, 1000)
    first, second = split_after(network, "1", queries)
    assert count_multiply_adds(second, torch.rand(1, 500)) == 500 * 10
    assert sum(parameter.numel() for parameter in second.parameters()) == 500 * 10 + 10
    assert torch.allclose(second(first(queries)), network(queries), atol=1e-6)
    assert torch.allclose(second(first(queries[:2])), network(queries[:2]), atol=1e-6)


def test_a_network_that_is_not_a_sequence_is_split_in_its_middle() -> None:
    network = ResNet((3, 8, 8), (4,), blocks=(1, 1), widths=(4, 8)).eval()
    queries = torch.rand(3, 3, 8, 8)
    names = [name for name, _ in network.named_children()]
    whole = count_multiply_adds(network, queries[:1])
    for name in names[:-1]:
        first, second = split_after(network, name, queries)
        embedded = first(queries)
        assert torch.allclose(second(embedded), network(queries), atol=1e-5)
        parts = count_multiply_adds(first, queries[:1]) + count_multiply_adds(second, embedded[:1])
        assert parts == whole


class Tied(nn.Module):
    """Uses the weights of its first layer again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle = nn.Linear(6, 4), nn.Linear(4, 4)

    def forward(self, queries: Tensor) -> Tensor:
        return nn.functional.linear(self.middle(self.first(queries)), self.first.weight.mT)


class Twice(nn.Module):
    """Calls its first layer again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, queries: Tensor) -> Tensor:
        predictions: Tensor = self.first(self.middle(self.first(queries)))
        return predictions


@pytest.mark.parametrize(("network", "width"), [(Tied(), 6), (Twice(), 4)])
def test_layers_that_come_up_again_after_the_split_are_kept(network: nn.Module, width: int) -> None:
    queries = torch.rand(3, width)
    first, second = split_after(network.eval(), "middle", queries)
    assert torch.allclose(second(first(queries)), network(queries), atol=1e-6)


class Skipping(nn.Module):
    """Adds what it is called with to what its module puts out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, queries: Tensor) -> Tensor:
        return queries + self.layer(queries)


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(ParityError, match=r"no module 'embeding' to encode after: .*embedding"):
        split_after(text(), "embeding", padded_ids())
    with pytest.raises(ParityError, match="needs more than what that module puts out"):
        split_after(Skipping().eval(), "layer", torch.rand(3, 4))
    with pytest.raises(ParityError, match="does not put out one tensor"):
        split_after(nn.Sequential(nn.LSTM(4, 4)), "0", torch.rand(3, 2, 4))


class Met(nn.Module):
    """Goes on once as many threads have reached it as there are."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.threads = threading.Barrier(threads)

    def __deepcopy__(self, memo: object) -> "Met":
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        self.threads.wait(timeout=30)
        return inputs


def test_threads_that_call_a_part_at_once_get_their_own_outputs() -> None:
    met, calls = Met(1), 4
    network = nn.Sequential(nn.Linear(4, 4), met, nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)).eval()
    queries = torch.rand(calls, 4)
    whole = FirstPart(network, "3"), SecondPart(network, "3", queries[:1]).eval()
    expected = network[:4](queries), network[4](network[:4](queries))
    met.threads = threading.Barrier(calls)
    for part, asked, wanted in zip(whole, (queries, expected[0]), expected, strict=True):
        with ThreadPoolExecutor(calls) as pool:
            found = torch.cat([*pool.map(part, asked.split(1))])
        assert torch.allclose(found, wanted, atol=1e-6), type(part)


def test_parts_are_copied_exported_and_named_as_the_network() -> None:
    network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    queries = torch.rand(3, 4)
    first, second = FirstPart(network, "1").eval(), SecondPart(network, "1", queries[:1]).eval()
    assert list(first.state_dict()) == [f"network.{name}" for name in network.state_dict()]
    assert list(second.state_dict()) == list(first.state_dict())
    for part, asked in ((first, queries), (second, first(queries))):
        expected = part(asked)
        assert torch.equal(copy.deepcopy(part)(asked), expected)
        assert torch.equal(pickle.loads(pickle.dumps(part))(asked), expected)
        program = torch.export.export(part, (asked,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        assert torch.equal(program.module()(asked[:2]), expected[:2])
