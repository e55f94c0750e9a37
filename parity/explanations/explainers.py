"""Explainers by name: ``Ours`` for B-cos networks, and captum's for any network.

Each is called with (network, inputs (B, *Q), targets (B,)), where the network's outputs are (B, outputs), and returns
attributions (B, *Q). Networks are in eval mode.
"""

import copy
import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from parity.errors import ParityError
from parity.explanations.contributions import check_bcos, gradients, weights_held

Explainer = Callable[..., Tensor]

_WINDOWS = 8
"""Windows of occlusion along a side."""

_OFF = 0.02
"""How far DeepLIFT's sum may be off, in shares of the difference that it should be."""


def captum() -> Any:
    """Return the module ``captum.attr``.

    Raises:
        ParityError: captum is not installed.
    """
    try:
        return importlib.import_module("captum.attr")
    except ImportError as error:
        raise ParityError("this explainer needs captum: pip install 'parity[explain]'.") from error


def ours(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Contributions of a B-cos network (Böhle et al., TPAMI 2024): their sum is the logit less its bias.

    Raises:
        ParityError: it is another network.
    """
    check_bcos(network)
    with weights_held(network, contributions=True):
        return gradients(network, inputs, targets)


def input_x_gradient(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Input times gradient (Shrikumar et al., 2016)."""
    return inputs * gradients(network, inputs, targets)


def saliency(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Absolute values of the gradient (Simonyan, Vedaldi, Zisserman, 2014)."""
    return captum().Saliency(network).attribute(_leaf(inputs), target=targets)


def integrated_gradients(network: nn.Module, inputs: Tensor, targets: Tensor, steps: int = 50) -> Tensor:
    """Gradients along the line from zeros to the input (Sundararajan, Taly, Yan, ICML 2017), in so many steps.

    As many inputs go through the network at once as there are, not as many for each step: those would need 24 GiB and
    more where a batch of the same size needs one.
    """
    made = captum().IntegratedGradients(network)
    return made.attribute(inputs, target=targets, n_steps=steps, internal_batch_size=len(inputs))


def deep_lift(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Contributions to the difference from the prediction for zeros (DeepLIFT; Shrikumar et al., ICML 2017).

    Raises:
        ParityError: they do not sum to this difference: the network has other nonlinearities than ReLU.
    """
    made = captum().DeepLift(_with_relu_modules(network))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting forward, backward hooks", UserWarning)
        attributions = made.attribute(_leaf(inputs), target=targets)
    with torch.no_grad():
        outputs, zero = (network(values).gather(1, targets[:, None])[:, 0] for values in (inputs, inputs * 0))
    wanted, found = outputs - zero, attributions.flatten(1).sum(1)
    if not ((found - wanted).abs() <= _OFF * wanted.abs().clamp(min=_OFF)).all():
        raise ParityError(
            "DeepLIFT is for networks of linear layers and ReLU, such as ResNet and MLP, and its rules do not hold for "
            "this one: choose another explainer, such as IntegratedGradients."
        )
    return attributions


def occlusion(
    network: nn.Module, inputs: Tensor, targets: Tensor, window: int | None = None, rank: int | None = None
) -> Tensor:
    """What the output loses when a window of the input is zeros (Zeiler, Fergus, ECCV 2014).

    Of queries (C, ...) of two axes or more, all channels C at once.

    Args:
        network, inputs, targets: as of all explainers.
        window: its side; by default an eighth of the last axis, and 2 at least.
        rank: axes of a query, where the inputs are groups of them.
    """
    rank = rank or inputs.dim() - 1
    channels = inputs.shape[-rank : 1 - rank] if rank > 1 else ()
    sides = inputs.shape[-rank + len(channels) :]
    side = window or max(2, sides[-1] // _WINDOWS)
    sizes = tuple(min(side, length) for length in sides)
    ahead = (*(1 for _ in inputs.shape[1:-rank]), *channels)  # of the queries of a group, one at a time
    strides = (*ahead, *(max(1, size // 2) for size in sizes))
    made = captum().Occlusion(network)
    attributions = made.attribute(inputs, sliding_window_shapes=(*ahead, *sizes), strides=strides, target=targets)
    return attributions.to(inputs.dtype)  # captum's are float32


def grad_cam(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Activations of the last convolutional features, weighted by mean gradients (Selvaraju et al., ICCV 2017).

    The map is resized to the input's, and each channel has its part of it.

    Raises:
        ParityError: the network has no features that keep positions.
    """
    layer = _last_features(network, inputs[:1])
    maps = captum().LayerGradCam(network, layer).attribute(inputs, target=targets, relu_attributions=True)
    resized = functional.interpolate(maps.detach(), inputs.shape[-2:], mode="bilinear")
    lead = inputs.shape[1:-2]
    channels = lead.numel()
    return (resized / channels).expand(-1, channels, -1, -1).reshape(inputs.shape)


EXPLAINERS: Mapping[str, Explainer] = {
    "Ours": ours,
    "InputXGradient": input_x_gradient,
    "IntegratedGradients": integrated_gradients,
    "GradCAM": grad_cam,
    "DeepLIFT": deep_lift,
    "Occlusion": occlusion,
    "Saliency": saliency,
}


def _leaf(inputs: Tensor) -> Tensor:
    return inputs.detach().clone().requires_grad_()


def _last_features(network: nn.Module, one: Tensor) -> nn.Module:
    """Return the last module that puts out maps (1, C, h, w) for one input, before the layer that makes outputs.

    That layer is the last one with weights: in B-cos networks a convolution, whose maps are the outputs' own.
    """
    found: list[nn.Module] = []
    before = 0

    def keep(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and len(output) == 1 and output[0, 0].numel() > 1:
            found.append(module)

    def count(*_: object) -> None:
        nonlocal before
        before = len(found)

    hooks = [module.register_forward_hook(keep) for module in network.modules() if module is not network]
    hooks += [
        module.register_forward_pre_hook(count)
        for module in network.modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    try:
        with torch.no_grad():
            network(one)
    finally:
        for hook in hooks:
            hook.remove()
    if not found or one.dim() < 4:
        raise ParityError(
            "GradCAM needs convolutional features of one whole image, as ResNet, BcosResNet, VGG11 and torchvision's "
            "networks have, and this network has none, or sees several images at once: choose another explainer, such "
            "as IntegratedGradients."
        )
    return found[before - 1] if before else found[-1]


class _AlwaysLeaves(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


_RELUS: tuple[Any, ...] = (functional.relu, functional.relu_, torch.relu, torch.relu_)


def _with_relu_modules(network: nn.Module) -> nn.Module:
    """Return a copy in which each ReLU is a module of its own, as DeepLIFT's rules are put on modules."""
    network = copy.deepcopy(network)
    by_depth = sorted(network.named_modules(), key=lambda named: named[0].count("."), reverse=True)
    for name, module in by_depth:
        if isinstance(module, nn.ReLU):
            module.inplace = False
        elif name and (traced := _traced(module)) is not None:
            network.set_submodule(name, traced)
    return network


def _traced(module: nn.Module) -> nn.Module | None:
    """Return a module with its functional ReLUs as modules; None where it has none, or it cannot be seen."""
    try:
        graph = _AlwaysLeaves().trace(module)
    except Exception:  # whatever its own code does with values that are not there
        return None
    relus = [
        node
        for node in graph.nodes
        if (node.op == "call_function" and node.target in _RELUS)
        or (node.op == "call_method" and node.target in ("relu", "relu_"))
    ]
    if not relus:
        return None
    modules = dict(module.named_children())
    traced = fx.GraphModule(module, graph)
    for number, node in enumerate(relus):
        name = f"relu_of_trace_{number}"
        assert name not in modules
        traced.add_module(name, nn.ReLU())
        with graph.inserting_after(node):
            made = graph.call_module(name, (node.args[0],))
        node.replace_all_uses_with(made)
        graph.erase_node(node)
    traced.recompile()
    return traced.eval()
