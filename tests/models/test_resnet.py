import itertools
from collections.abc import Callable, Sequence

import pytest
import torch
import torchvision
from torch import nn

from parity.errors import ParityError
from parity.models import ResNet, load_into

SMALL = dict(blocks=(2, 1, 1), widths=(4, 6, 6))


def small(seed: int, query_shape: Sequence[int] = (3, 8, 8)) -> ResNet:
    """A small network with running statistics of its own, as a trained one has."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ResNet(query_shape, (5,), **SMALL)
        network(torch.randn(16, *query_shape) * 3 + 1)
        return network.eval()


def count(channels: int, widths: Sequence[int], blocks: Sequence[int], outputs: int) -> int:
    """Parameters, layer by layer: 9 a b of a 3 x 3 convolution, a b of a 1 x 1 one, 2 b of batch normalisation."""
    total = 9 * channels * widths[0] + 2 * widths[0]
    inputs = [widths[0], *widths]
    for stage, (a, b, depth) in enumerate(zip(inputs, widths, blocks, strict=False)):
        total += 9 * a * b + 9 * b * b + 4 * b + (depth - 1) * (18 * b * b + 4 * b)
        total += a * b + 2 * b if stage > 0 or a != b else 0
    return total + (widths[-1] + 1) * outputs


@pytest.mark.parametrize(
    ("channels", "outputs", "blocks", "widths", "parameters"),
    [
        (3, 10, (2, 2, 2, 2), None, 11_173_962),  # ResNet-18 for CIFAR-10
        (3, 100, (2, 2, 2, 2), None, 11_220_132),
        (1, 10, (2, 2, 2), None, 2_776_522),  # ResNet-18 for MNIST
        (3, 100, (3, 8, 36, 3), None, 57_930_148),  # the original's ResNet-152
        (3, 10, (1, 1, 1), (24, 48, 96), 174_274),
    ],
)
def test_parameter_counts(
    channels: int, outputs: int, blocks: tuple[int, ...], widths: tuple[int, ...] | None, parameters: int
) -> None:
    with torch.device("meta"):
        network = ResNet((channels, 32, 32), (outputs,), blocks, widths)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert count(channels, widths or (64, 128, 256, 512)[: len(blocks)], blocks, outputs) == parameters


def test_resnet18_for_cifar_is_the_default() -> None:
    with torch.device("meta"):
        network = ResNet((3, 32, 32), (10,))
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_173_962


def for_small_images(blocks: Sequence[int]) -> nn.Module:
    """torchvision's network of basic blocks, with the stem that small images get."""
    network = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, list(blocks), num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


@pytest.mark.parametrize("training", [True, False])
def test_it_computes_what_torchvisions_computes_with_the_stem_for_small_images(training: bool) -> None:
    theirs, ours = for_small_images((2, 1, 1, 1)), ResNet((3, 16, 16), (10,), blocks=(2, 1, 1, 1))
    theirs(torch.randn(4, 3, 16, 16))
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    queries = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(ours.train(training)(queries), theirs.train(training)(queries), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.bn1.running_mean, theirs.bn1.running_mean)


@pytest.mark.parametrize(
    ("query_shape", "sides"),
    [((3, 32, 32), [(32, 32), (16, 16), (8, 8)]), ((1, 28, 28), [(28, 28), (14, 14), (7, 7)]),
     ((2, 9, 5), [(9, 5), (5, 3), (3, 2)])],
)  # fmt: skip
def test_the_first_stage_keeps_the_size_and_the_others_halve_it(
    query_shape: tuple[int, ...], sides: list[tuple[int, int]]
) -> None:
    network = ResNet(query_shape, (5,), **SMALL)
    seen = []
    for name in ("layer1", "layer2", "layer3"):
        network.get_submodule(name).register_forward_hook(lambda module, asked, answer: seen.append(answer.shape))
    network(torch.rand(2, *query_shape))
    assert seen == [(2, width, *side) for width, side in zip(SMALL["widths"], sides, strict=True)]


@pytest.mark.parametrize("prediction_shape", [(10,), (2, 5), (2, 3, 4)])
@pytest.mark.parametrize("blocks", [(1,), (1, 1), (1, 1, 1, 1, 1)])
def test_shapes(prediction_shape: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    network = ResNet((3, 9, 7), prediction_shape, blocks, widths=(4,) * len(blocks))
    assert network(torch.rand(6, 3, 9, 7)).shape == (6, *prediction_shape)


def test_predictions_of_several_dimensions_are_the_flat_ones_in_order() -> None:
    network = small(seed=0)
    other = ResNet((3, 8, 8), (5, 1), **SMALL).eval()
    other.load_state_dict(network.state_dict())
    queries = torch.rand(4, 3, 8, 8)
    assert torch.equal(other(queries).flatten(1), network(queries))


def test_no_query_is_changed() -> None:
    network, queries = small(seed=0), torch.randn(4, 3, 8, 8)
    before = queries.clone()
    network.train()(queries)
    assert torch.equal(queries, before)


def test_blocks_only_project_where_the_shape_changes() -> None:
    with torch.device("meta"):
        names = ResNet((3, 32, 32), (10,), blocks=(2, 2, 1), widths=(4, 4, 6)).state_dict()
    assert {name.split(".downsample")[0] for name in names if "downsample" in name} == {"layer2.0", "layer3.0"}


def test_convolutions_start_as_in_the_original() -> None:
    network = ResNet((3, 8, 8), (5,), blocks=(1, 1), widths=(64, 128))
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 6
    for module in convolutions:  # He et al. (ICCV 2015), equation 14
        std = (2 / (module.out_channels * module.kernel_size[0] ** 2)) ** 0.5
        assert module.weight.std().item() == pytest.approx(std, rel=0.1)


def kuangliu(name: str) -> str:
    return name.replace("fc.", "linear.").replace("downsample.", "shortcut.")


@pytest.mark.parametrize("spell", [lambda name: name, kuangliu])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: name,
        lambda name: "module." + name,
        lambda name: "_orig_mod." + name,
        lambda name: "module._orig_mod." + name,
    ],
)
def test_published_names_are_understood(spell: Callable[[str], str], wrap: Callable[[str], str]) -> None:
    source, target, queries = small(seed=0), small(seed=1), torch.rand(4, 3, 8, 8)
    assert not torch.equal(target(queries), source(queries))
    state = {wrap(spell(name)): value for name, value in source.state_dict().items()}
    assert (spell is kuangliu) == any("linear" in name for name in state) == any("shortcut" in name for name in state)
    load_into(target, state, "published.pth")
    assert torch.equal(target(queries), source(queries))


def test_it_learns_in_every_layer() -> None:
    network = ResNet((3, 8, 8), (5,), **SMALL)
    network(torch.randn(4, 3, 8, 8)).square().sum().backward()
    without = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("query_shape", [(784,), (28, 28), (1, 3, 8, 8)])
def test_queries_that_are_no_images_are_refused(query_shape: tuple[int, ...]) -> None:
    with pytest.raises(ParityError, match=r"images \(C, H, W\), not queries of shape") as error:
        ResNet(query_shape, (10,))
    assert str(query_shape) in str(error.value)


@pytest.mark.parametrize(
    ("blocks", "widths"), [((), None), ((2, 0), None), ((2, 2), (8,)), ((2, 2), (8, 8, 8)), ((-1,), (8,))]
)
def test_stages_that_cannot_be_made_are_refused(blocks: tuple[int, ...], widths: tuple[int, ...] | None) -> None:
    with pytest.raises(ParityError, match="one width in each stage, not blocks = "):
        ResNet((3, 8, 8), (10,), blocks, widths)


def test_widths_double_by_default() -> None:
    with torch.device("meta"):
        network = ResNet((3, 8, 8), (10,), blocks=(1, 1, 1, 1, 1))
    widths = [network.get_submodule(f"layer{stage}.0.conv2").out_channels for stage in range(1, 6)]
    assert widths[0] == 64
    assert all(next_width == 2 * width for width, next_width in itertools.pairwise(widths))
