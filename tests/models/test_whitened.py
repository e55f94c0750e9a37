"""The network that is trained within few epochs: what its first layer does, and that it can be pruned and resumed."""

from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.nn import functional

from parity.errors import ParityError
from parity.models import FromBaseModel, FromPrunedBaseModel, WhitenedConvNet
from parity.models.whitened import WhitenedConvolution


def images(count: int, side: int = 16) -> torch.Tensor:
    """Return images whose pixels, and colours, are correlated."""
    rough = torch.randn(count, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(0))
    smooth = functional.interpolate(rough, scale_factor=4, mode="bilinear")
    noise = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))
    return smooth + smooth.mean(1, keepdim=True) + 0.3 * noise + 2


def test_directions_of_the_first_batch_are_uncorrelated_and_of_variance_one() -> None:
    layer = WhitenedConvolution(3)
    values = layer(images(64)).transpose(0, 1).flatten(1)
    assert torch.equal(values[:12], -values[12:])
    torch.testing.assert_close(values[:12].cov(), torch.eye(12), atol=0.02, rtol=0.0)
    weight = layer.weight.clone()
    layer(5 * images(8))
    assert torch.equal(layer.weight, weight)


def test_directions_without_variance_stay_finite() -> None:
    layer = WhitenedConvolution(3)
    assert torch.isfinite(layer(images(4).mean(1, keepdim=True).expand(-1, 3, -1, -1))).all()


def test_a_batch_of_one_colour_is_not_what_directions_are_taken_from() -> None:
    layer = WhitenedConvolution(3)
    assert torch.isfinite(layer(torch.zeros(4, 3, 16, 16))).all()
    layer(images(64))
    assert layer.whitened


def test_weights_that_were_never_whitened_still_are_after_loading() -> None:
    layer = WhitenedConvNet((3, 16, 16), (10,), (4, 8, 8))
    layer.load_state_dict(WhitenedConvNet((3, 16, 16), (10,), (4, 8, 8)).state_dict())
    layer.train()(images(32))
    assert layer.whitening.whitened
    other = WhitenedConvNet((6, 16, 16), (10,), (4, 8, 8))
    FromBaseModel()(other, layer)  # with another number of channels
    assert not other.whitening.whitened


def whitened_by(rank: int, address: str, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{address}", rank=rank, world_size=2)
    layer = WhitenedConvolution(3)
    layer(images(32) * (1 + rank))
    torch.save(layer.weight, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_all_processes_have_the_same_directions(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(whitened_by, (str(tmp_path / "meeting"), str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    alone = WhitenedConvolution(3)
    alone(images(32))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, alone.weight)


def test_weights_that_are_loaded_are_kept() -> None:
    trained, other = WhitenedConvNet((3, 16, 16), (10,), (4, 8, 8)), WhitenedConvNet((3, 16, 16), (10,), (4, 8, 8))
    trained.train()(images(32))
    other.load_state_dict(trained.state_dict())
    other.train()(images(32, side=32))
    assert torch.equal(other.whitening.weight, trained.whitening.weight)


def test_nothing_is_whitened_where_nothing_is_trained() -> None:
    network = WhitenedConvNet((3, 16, 16), (10,), (4, 8, 8)).eval()
    before = network.whitening.weight.clone()
    assert network(images(2)).shape == (2, 10)
    assert torch.equal(network.whitening.weight, before)


def test_nothing_is_whitened_by_a_step_that_is_only_tried() -> None:
    network = WhitenedConvNet((3, 16, 16), (10,), (4, 8, 8)).train()
    before = network.whitening.weight.clone()
    with torch.no_grad():
        network(images(2))
    assert torch.equal(network.whitening.weight, before)
    network(images(32))
    assert not torch.equal(network.whitening.weight, before)


def test_whitens_under_autocast() -> None:
    network = WhitenedConvNet((3, 16, 16), (10,), (4, 8, 8)).train()
    with torch.autocast("cpu", torch.bfloat16):
        network(images(32)).float().sum().backward()
    exact = WhitenedConvolution(3)
    exact(images(32))
    torch.testing.assert_close(network.whitening.weight, exact.weight)


def test_starts_from_a_wider_one_pruned() -> None:
    torch.manual_seed(0)
    wide, narrow = WhitenedConvNet((3, 16, 16), (10,), (8, 16, 12)), WhitenedConvNet((3, 16, 16), (10,), (5, 6, 7))
    wide.train()(images(32))
    dead = [2, 5, 7]
    with torch.no_grad():  # three channels of the first convolution that nothing makes, and nothing reads
        wide.blocks[0][0].weight[dead] = 0
        wide.blocks[0][5].weight[:, dead] = 0
    FromPrunedBaseModel()(narrow, wide)
    left = [channel for channel in range(8) if channel not in dead]
    assert torch.equal(narrow.blocks[0][0].weight, wide.blocks[0][0].weight[left])
    assert torch.equal(narrow.whitening.weight, wide.whitening.weight)
    assert torch.isfinite(narrow.eval()(images(2))).all()


@pytest.mark.parametrize(
    ("shape", "widths", "sentence"),
    [
        ((3, 8, 8), (64, 256, 256), "9 x 9 or larger"),
        ((12,), (4,), "takes images"),
        ((3, 32, 32), (), "1 block or more"),
        ((3, 32, 32), (4, 0), "1 block or more"),
    ],
)
def test_what_does_not_fit_is_refused(shape: tuple[int, ...], widths: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ParityError, match=sentence):
        WhitenedConvNet(shape, (10,), widths)
