"""Networks of users: what they return, what they can take, and copies of them that predict for k positions."""

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from parity.black_boxes import asked_again
from parity.errors import ParityError, cause
from parity.models.batch_statistics import check_statistics
from parity.models.weights import check_finite

Output = str | int | Callable[[Any], Tensor] | None
"""Which part of what a network returns is the prediction: a key or attribute, an index, or a function of it all."""

_OF_DEVICES = nn.DataParallel | DistributedDataParallel


class SelectedOutput(nn.Module):
    """A network that returns several things, as one that returns the prediction alone.

    Args:
        network: returns a tuple, a mapping or an object with attributes.
        output: see ``Output``.
    """

    def __init__(self, network: nn.Module, output: str | int | Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.output = output

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, *P)."""
        return selected(self.network(queries), self.output)


def selected(returned: Any, output: str | int | Callable[[Any], Tensor]) -> Tensor:
    """Return the prediction among what a network returned.

    Raises:
        ParityError: there is no such part.
    """
    if callable(output):
        try:
            return output(returned)
        except Exception as error:  # of a user's own function
            raise ParityError(
                f"the function that is output= cannot be called with {_parts(returned)} ({cause(error).rstrip('.')})."
            ) from error
    if isinstance(returned, Tensor):
        raise ParityError(f"the network returns a tensor, which has no part {output!r}: leave out output=.")
    try:
        if isinstance(output, int):
            parts = list(returned.values()) if isinstance(returned, Mapping) else returned
            return parts[output]
        return returned[output] if isinstance(returned, Mapping) else getattr(returned, output)
    except (LookupError, AttributeError, TypeError) as error:
        raise ParityError(
            f"output={output!r} is not in what the network returns, {_parts(returned)}: name one of these parts."
        ) from error


def _parts(returned: Any) -> str:
    """Name what a network returned and its parts."""
    names: list[str] = []
    if isinstance(returned, Mapping):
        names = [repr(str(name)) for name in returned]
    elif dataclasses.is_dataclass(returned):
        names = [repr(field.name) for field in dataclasses.fields(returned)]
    elif isinstance(returned, tuple | list):
        names = [str(index) for index in range(len(returned))]
    return f"a {type(returned).__name__}" + (f" of {', '.join(names)}" if names else "")


def prepared(network: nn.Module, output: Output) -> nn.Module:
    """Return a copy of a network that returns one tensor, in eval mode and on the CPU; the caller's stays as it is.

    Raises:
        ParityError: this is not a network that can be copied, or its weights are not finite or not float32.
    """
    if not isinstance(network, nn.Module):
        hint = "hand over one, or a program: a file, an estimator that predicts, a function of arrays"
        if isinstance(network, type):
            hint = f"make an object of it, {network.__name__}(...)"
        elif isinstance(network, Mapping):
            hint = "if these are weights, load them into their network, and hand that over"
        raise ParityError(f"the network should be a torch.nn.Module, not a {type(network).__name__}: {hint}.")
    network = _unwrapped(network)
    if any(is_lazy(value) for value in [*network.parameters(), *network.buffers()]):
        raise ParityError("the network has lazy parameters: call it once on a batch, so that they get their shapes.")
    if next(network.parameters(), None) is None:
        raise ParityError(
            "the network has no parameters, and parity models start from its weights: hand over the network that it "
            "was made of, in float32."
        )
    if wrong := {value.dtype for value in network.parameters() if value.dtype != torch.float32}:
        name = str(wrong.pop()).removeprefix("torch.")
        raise ParityError(
            f"the network's parameters are {name}, and codes are trained in float32: hand over network.float()."
        )
    try:
        copied = copied_network(network)
    except Exception as error:  # of a user's own objects
        raise ParityError(
            f"the network cannot be copied ({cause(error).rstrip('.')}): remove what it keeps of past calls."
        ) from error
    copied = copied if output is None else SelectedOutput(copied, output)
    check_finite(copied)
    check_statistics(copied)
    return copied.cpu().eval()


def _unwrapped(network: nn.Module) -> nn.Module:
    """Return a network out of what torch wraps it in to compile it or to run it on several devices."""
    while True:
        inner = network.module if isinstance(network, _OF_DEVICES) else getattr(network, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return network
        network = inner


def copied_network(network: nn.Module) -> nn.Module:
    """Return a copy that can be trained, all of it."""
    return copy.deepcopy(network).requires_grad_(True)


@torch.no_grad()
def first_predictions(network: nn.Module, queries: Tensor) -> Tensor:
    """Return predictions (B, *P) for a few queries (B, *Q).

    Raises:
        ParityError: the network cannot take them, or does not return logits or numbers, one tensor, for each.
    """
    try:
        returned = network(queries)
    except ParityError:
        raise
    except Exception as error:  # of a user's own network
        kind = str(queries.dtype).removeprefix("torch.")
        of_integers = f"queries.float() where {kind} does not stand for ids"
        remedy = "images as float32 (C, H, W)" if queries.is_floating_point() else of_integers
        raise ParityError(
            f"the network cannot take queries of shape {tuple(queries.shape[1:])} ({cause(error).rstrip('.')}): hand "
            f"over what it takes, {remedy}."
        ) from error
    if not isinstance(returned, Tensor):
        what = "the network returns"
        if isinstance(network, SelectedOutput):
            chosen = "the function that is output=" if callable(network.output) else f"output={network.output!r}"
            what = f"{chosen} selects"
        raise ParityError(
            f"{what} {_parts(returned)}, not a tensor: choose the predictions by output='logits', an index, or a "
            "function."
        )
    if not returned.is_floating_point():
        kind = str(returned.dtype).removeprefix("torch.")
        raise ParityError(f"the network returns {kind}, expected floats: return logits, not the class.")
    if returned.ndim < 2 or len(returned) != len(queries) or not returned.numel():
        raise ParityError(
            f"the network returns {tuple(returned.shape)} for {len(queries)} queries, expected a prediction for each, "
            f"({len(queries)}, *P): choose or reshape it by output=lambda returned: ..."
        )
    if not returned.isfinite().all():
        raise ParityError("the network's predictions are NaN or infinite: scale the queries as it was trained with.")
    return returned


def check_alone(network: nn.Module, queries: Tensor) -> None:
    """Refuse a network whose predictions depend on more than the query: on others in its batch, past calls, or chance.

    Args:
        network: (B, *Q) -> (B, *P).
        queries: a few, (B, *Q).

    Raises:
        ParityError: it is one.
    """
    asked_again(
        lambda asked: first_predictions(network, torch.from_numpy(asked)).numpy(), queries.numpy(), "the network"
    )


def check_logits(predictions: Tensor) -> None:
    """Refuse predictions (B, *P) of a classification that are not logits.

    Raises:
        ParityError: they are probabilities.
    """
    total = predictions.flatten(1).sum(1)
    if predictions.ndim == 2 and (predictions >= 0).all() and (total - 1).abs().max() < 1e-4:
        raise ParityError(
            "the network returns probabilities, and codes are trained on logits: hand over "
            "output=lambda probabilities: probabilities.clamp_min(1e-9).log()."
        )


@torch.no_grad()
def takes(
    network: nn.Module, shape: tuple[int, ...], prediction_shape: tuple[int, ...], ids: Tensor | None = None
) -> str | None:
    """Try a network on smaller queries, both to predict and to be trained; return why it cannot, or None.

    Args:
        network: whose mode and buffers stay as they are.
        shape: of a smaller query.
        prediction_shape: P.
        ids: where queries are ids, two of them, (2, ..., L); as many of each as a smaller query has are tried.
    """
    tried = copied_network(network)
    smaller = torch.randn(2, *shape) if ids is None else ids[:2, ..., : shape[-1]]
    for training in (False, True):
        tried.train(training)
        try:
            answered = tried(smaller)
        except Exception as error:  # of a user's own network
            return cause(error).rstrip(".")
        if not isinstance(answered, Tensor) or tuple(answered.shape) != (2, *prediction_shape):
            return f"it returns {tuple(getattr(answered, 'shape', ()))} for two of them"
        if not answered.isfinite().all():
            return "its predictions are not finite"
    return None


class Positions(nn.Module):
    """A copy of a network whose last linear layer puts out k predictions, one for each position of a group.

    Args:
        network: with a last linear layer k times as wide.
        shape: (k, *P).
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.shape = shape

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, k, *P)."""
        return self.network(queries).reshape(
            queries.shape[0], *self.shape
        )  # len() would fix the batch size of a program


def with_head_for(network: nn.Module, k: int, queries: Tensor, predictions: Tensor) -> Positions | None:
    """Return a copy that predicts k times, all k predictions those of the network; None where it cannot be made.

    The last linear layer is the one that was called last; its weights are repeated k times.

    Args:
        network: (B, *Q) -> (B, *P).
        k: positions.
        queries: a few, (B, *Q).
        predictions: the network's for them, (B, *P).
    """
    copied = copied_network(network)
    name = _last_linear(copied, queries)
    if name is None:
        return None
    owner, _, attribute = name.rpartition(".")
    layer = copied.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    if layer.out_features != math.prod(predictions.shape[1:]):
        return None
    wide = nn.Linear(layer.in_features, k * layer.out_features, bias=layer.bias is not None)
    with torch.no_grad():
        wide.weight.copy_(layer.weight.repeat(k, 1))
        if layer.bias is not None:
            wide.bias.copy_(layer.bias.repeat(k))
    setattr(copied.get_submodule(owner), attribute, wide)
    made = Positions(copied, (k, *predictions.shape[1:])).eval()
    try:
        with torch.no_grad():
            repeated = made(queries)
    except Exception:  # of a user's own network: what comes after its last layer has the old shape
        return None
    expected = predictions.unsqueeze(1).expand_as(repeated)
    return made if torch.allclose(repeated, expected, rtol=1e-4, atol=1e-5) else None


@torch.no_grad()
def _last_linear(network: nn.Module, queries: Tensor) -> str | None:
    """Return the name of the linear layer that is called last in a forward pass."""
    called: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in network.named_modules()
        if type(module) is nn.Linear
    ]
    network.eval()(queries)
    for hook in hooks:
        hook.remove()
    return called[-1] if called else None


def wide_first_layer(network: nn.Module, k: int, queries: Tensor) -> nn.Module | None:
    """Return a copy that takes k queries behind one another, (B, k L); None where it cannot be made.

    The first linear layer becomes k times as wide. It starts as the mean of what it made of each query.

    Args:
        network: (B, L) -> (B, *P), whose first layer with weights is a linear one of all features.
        k: queries that are stacked.
        queries: a few, (B, L).
    """
    copied = copied_network(network)
    weighted = [
        (name, module) for name, module in copied.named_modules() if any(True for _ in module.parameters(recurse=False))
    ]
    name, layer = weighted[0] if weighted else ("", copied)
    if queries.dim() != 2 or type(layer) is not nn.Linear or layer.in_features != queries.shape[1]:
        return None
    wide = nn.Linear(k * layer.in_features, layer.out_features, bias=layer.bias is not None)
    with torch.no_grad():
        wide.weight.copy_(layer.weight.repeat(1, k) / k)
        if layer.bias is not None:
            wide.bias.copy_(layer.bias)
    if not name:
        return wide
    copied.set_submodule(name, wide)
    return copied
