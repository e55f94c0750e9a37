"""Layers of B-cos networks with a faster training step: they compute what those of ``bcos`` compute."""

import pytest
import torch
from bcos.modules import BcosConv2d
from bcos.modules.norms import BatchNormUncentered2d, NoBias
from torch import nn

from parity.models import BcosResNet
from parity.models.bcos_layers import FastBatchNormUncentered2d, FastBcosConv2d

FEATURES = (5, 6, 8, 8)


def gradients(layer: nn.Module, features: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
    """Return a layer's output, and the gradients of a weighted sum of it in features and parameters."""
    features = features.clone().requires_grad_()
    output = layer(features)
    (output * weights).sum().backward()
    return [output.detach(), features.grad, *(parameter.grad for parameter in layer.parameters())]


def equal_layers(ours: nn.Module, theirs: nn.Module) -> None:
    ours, theirs = ours.double(), theirs.double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict())
    generator = torch.Generator().manual_seed(0)
    for training in (True, True, False):
        ours.train(training), theirs.train(training)
        features = 1 + torch.randn(FEATURES, generator=generator, dtype=torch.float64)
        weights = torch.randn(theirs(features).shape, generator=generator, dtype=torch.float64)
        theirs.load_state_dict(ours.state_dict())  # the statistics that the line before has moved
        torch.testing.assert_close(gradients(ours, features, weights), gradients(theirs, features, weights))
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
        ours.zero_grad(), theirs.zero_grad()


@pytest.mark.parametrize(
    "arguments",
    [
        dict(kernel_size=3, padding=1),
        dict(kernel_size=3, padding=1, stride=2),
        dict(kernel_size=1, max_out=2),
        dict(kernel_size=3, padding=1, groups=2),
        dict(kernel_size=3, dilation=2),
        dict(kernel_size=3, b=1.5),
        dict(kernel_size=3, b=1),
    ],
    ids=str,
)
def test_convolution_is_that_of_bcos(arguments: dict[str, float]) -> None:
    equal_layers(FastBcosConv2d(6, 4, **arguments), BcosConv2d(6, 4, **arguments))


@pytest.mark.parametrize("arguments", [{}, dict(momentum=0.3), dict(momentum=None)], ids=str)
def test_norm_is_that_of_bcos(arguments: dict[str, float]) -> None:
    equal_layers(NoBias(FastBatchNormUncentered2d)(6, **arguments), NoBias(BatchNormUncentered2d)(6, **arguments))


def test_norm_without_spread_and_with_bias() -> None:
    norm = NoBias(FastBatchNormUncentered2d)(6)
    assert torch.isfinite(norm(torch.ones(FEATURES))).all()
    equal_layers(FastBatchNormUncentered2d(6), BatchNormUncentered2d(6))


def test_network_trains_under_autocast() -> None:
    torch.manual_seed(0)
    network = BcosResNet((3, 16, 16), (10,), blocks=(1, 1, 1), width=4)
    queries = torch.rand(8, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(queries)
    rough.float().square().sum().backward()
    exact = network(queries)
    assert torch.allclose(rough.float(), exact, atol=0.05 * float(exact.detach().std()) + 0.05)
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


def test_norm_of_features_far_from_zero() -> None:
    features = 10 + 0.01 * torch.randn(FEATURES, generator=torch.Generator().manual_seed(0))
    ours, theirs = NoBias(FastBatchNormUncentered2d)(6), NoBias(BatchNormUncentered2d)(6)
    torch.testing.assert_close(ours(features), theirs(features), rtol=1e-4, atol=0)


@pytest.mark.parametrize("scale", [1e-3, 4.0])
def test_convolution_in_half_precision_neither_overflows_nor_vanishes(scale: float) -> None:
    layer = FastBcosConv2d(512, 8, kernel_size=3, padding=1)
    nn.init.ones_(layer.linear.weight)
    features = torch.full((1, 512, 4, 4), scale)
    with torch.autocast("cpu", torch.float16):
        rough = layer(features)
    torch.testing.assert_close(rough.float(), layer(features), rtol=1e-2, atol=0)
