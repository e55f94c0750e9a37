"""Starts a narrower network from a trained one: the most important channels are copied, the others left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from parity.errors import ParityError
from parity.models.initialisation import inner_network


class Prunable(Protocol):
    """A network that names the channels which the axes of its weights run over."""

    def channel_axes(self) -> Mapping[str, tuple[str | None, ...]]:
        """Return for each entry of the state dict a name for each of its axes; None: an axis that is never pruned."""
        ...


@dataclass(frozen=True)
class FromPrunedBaseModel:
    """Starts a parity model, or its student, from the base model with fewer channels; passed as ``parity_start``.

    Channels that are added to each other, as those of a residual stream, are kept or left out together. The importance
    of a channel is the sum of squares of all weights that make it or read it (Fang et al.: "DepGraph: Towards Any
    Structural Pruning", CVPR 2023, section 3.3, group norm); the most important ones keep their order.

    Raises:
        ParityError: when called with networks that do not name their channels, or of different kinds, depths or
            queries, or with one that is wider than the base model.
    """

    def __call__(self, parity_model: nn.Module, base_model: nn.Module) -> None:
        target = inner_network(parity_model)
        if type(target) is not type(base_model) or not hasattr(base_model, "channel_axes"):
            raise ParityError(
                f"{type(target).__name__} cannot start from {type(base_model).__name__} pruned: give both the same "
                "network, one with channel_axes, such as MLP, ResNet or LeNet."
            )
        base, own, axes = base_model.state_dict(), target.state_dict(), cast(Prunable, base_model).channel_axes()
        if base.keys() != own.keys():
            raise ParityError(
                "only channels are pruned, not layers: give the student as many layers as the base model."
            )
        kept = _kept(base, own, axes)
        target.load_state_dict({name: _part(value, axes.get(name, ()), kept) for name, value in base.items()})


def _kept(
    base: Mapping[str, Tensor], own: Mapping[str, Tensor], axes: Mapping[str, tuple[str | None, ...]]
) -> dict[str, Tensor]:
    """Return the indices of the channels that are kept, ascending, by the names of the axes."""
    importance: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for name, value in base.items():
        names = axes.get(name, (None,) * value.dim())
        for axis, (channels, have, want) in enumerate(zip(names, value.shape, own[name].shape, strict=False)):
            if want > have or (channels is None and want != have):
                raise ParityError(
                    f"'{name}' of the student has shape {tuple(own[name].shape)}, that of the base model "
                    f"{tuple(value.shape)}: pruning makes hidden layers narrower and nothing else."
                )
            if channels is not None:
                counts[channels] = want
                if value.dim() > 1:  # weights; a vector is one channel's bias, scale or statistics
                    squares = value.double().square().movedim(axis, 0).flatten(1).sum(1)
                    importance[channels] = importance.get(channels, 0) + squares
    return {
        channels: values.argsort(descending=True, stable=True)[: counts[channels]].sort().values
        for channels, values in importance.items()
    }


def _part(value: Tensor, names: tuple[str | None, ...], kept: Mapping[str, Tensor]) -> Tensor:
    for axis, channels in enumerate(names):
        if channels is not None:
            value = value.index_select(axis, kept[channels])
    return value.clone(memory_format=torch.preserve_format)
