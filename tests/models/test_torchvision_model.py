from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import resnet18

from parity.errors import ParityError
from parity.experiments.config import to_plain
from parity.models import load_into, torchvision_model


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts() -> None:
    stages = [(64, 64), (64, 128), (128, 256), (256, 512)]
    trunk = 49 * 3 * 64 + 2 * 64  # the stem for 224 x 224
    trunk += sum(9 * a * b + 27 * b * b + 8 * b + (a * b + 2 * b if a != b else 0) for a, b in stages)
    with torch.device("meta"):
        for prediction_shape, outputs, known in [
            ((1000,), 1000, 11_689_512), ((2,), 2, 11_177_538), ((4,), 4, 11_178_564), ((2, 4), 8, 11_180_616)
        ]:  # fmt: skip
            network = torchvision_model((3, 224, 224), prediction_shape, resnet18)
            assert parameters(network) == known == trunk + 513 * outputs


@pytest.mark.parametrize("prediction_shape", [(10,), (2, 5), (2, 3, 4)])
@pytest.mark.parametrize(
    "constructor", [resnet18, torchvision.models.squeezenet1_1, torchvision.models.mobilenet_v3_small]
)
def test_shapes(constructor: Callable[..., nn.Module], prediction_shape: tuple[int, ...]) -> None:
    network = torchvision_model((3, 64, 48), prediction_shape, constructor)
    assert network(torch.rand(2, 3, 64, 48)).shape == (2, *prediction_shape)


def test_predictions_of_several_dimensions_are_the_flat_ones_in_order() -> None:
    network, queries = torchvision_model((3, 32, 32), (2, 3), resnet18).eval(), torch.rand(2, 3, 32, 32)
    flat = torchvision_model((3, 32, 32), (6,), resnet18).eval()
    flat.load_state_dict({name.removeprefix("0."): value for name, value in network.state_dict().items()})
    assert torch.equal(network(queries).flatten(1), flat(queries))


def test_no_weights_are_asked_for_unless_named_and_further_arguments_arrive() -> None:
    asked: list[dict] = []

    def constructor(**arguments: object) -> nn.Module:
        asked.append(arguments)
        return nn.Identity()

    torchvision_model((3, 8, 8), (2, 3), constructor)
    torchvision_model((3, 8, 8), (1000,), constructor, weights="IMAGENET1K_V1", dropout=0.1)
    assert asked == [
        {"weights": None, "num_classes": 6},
        {"weights": "IMAGENET1K_V1", "num_classes": 1000, "dropout": 0.1},
    ]


def test_further_arguments_change_the_network() -> None:
    with torch.device("meta"):
        network = torchvision_model((3, 32, 32), (10,), resnet18, norm_layer=nn.Identity)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("with_counters", [True, False])
def test_published_weights_fit(with_counters: bool) -> None:
    # torchvision's resnet18-5c106cde.pth has 102 tensors, a network of today 122: files older than PyTorch 0.4.1 do not
    # count the batches that batch normalisation has seen.
    source, target = resnet18(), torchvision_model((3, 64, 64), (1000,), resnet18)
    source(torch.randn(4, 3, 64, 64))
    published = {
        name: value for name, value in source.state_dict().items() if with_counters or "num_batches" not in name
    }
    assert len(published) == (122 if with_counters else 102)
    queries = torch.rand(2, 3, 64, 64)
    assert not torch.equal(target.eval()(queries), source.eval()(queries))
    load_into(target, published, "resnet18.pth")
    assert torch.equal(target(queries), source(queries))


@pytest.mark.parametrize("query_shape", [(1, 224, 224), (224, 224, 3), (3, 224), (784,), (3, 3, 224, 224)])
def test_queries_that_are_no_images_of_three_channels_are_refused(query_shape: tuple[int, ...]) -> None:
    with pytest.raises(ParityError, match=r"take images \(3, H, W\), not queries of shape") as error:
        torchvision_model(query_shape, (10,), resnet18)
    assert str(query_shape) in str(error.value)


def test_a_config_says_in_words_what_it_makes() -> None:
    assert to_plain(dict(network=torchvision_model, constructor=resnet18)) == {
        "network": "torchvision_model",
        "constructor": "torchvision.models.resnet.resnet18",
    }
