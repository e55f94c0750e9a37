"""Networks split after one of their modules, so that queries can be encoded where it puts them out."""

import copy
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from parity.errors import ParityError, did_you_mean


class _Reached(Exception):
    """What the module has put out; nothing after it is computed."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


_REACHED: ContextVar[list[Any] | None] = ContextVar("reached", default=None)
"""Where the module's output is kept while a first part is exported; None where the network is left instead."""
_HANDED: ContextVar[Tensor] = ContextVar("handed")
"""What stands in for the module's output in a second part: of the call, and not of the network, which threads share."""


def _stop(module: nn.Module, inputs: Any, output: Any) -> None:
    """Leave the network with what a module puts out."""
    reached = _REACHED.get()
    if reached is None:
        raise _Reached(output)
    reached.append(output)


class FirstPart(nn.Module):
    """A network up to a module, whose output it returns; threads may call it at once.

    Args:
        network: which is copied.
        name: of the module, as ``named_modules`` has it.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network, self.name = copy.deepcopy(network), name
        self.network.get_submodule(name).register_forward_hook(_stop)

    def forward(self, queries: Tensor) -> Any:
        """Embed: (B, *Q) -> what the module puts out, (B, *E)."""
        if torch.compiler.is_exporting():  # which counts the modules that are left, and drops what is not needed
            return self._recorded(queries)
        try:
            self.network(queries)
        except _Reached as reached:
            return reached.output
        return None

    def _recorded(self, queries: Tensor) -> Any:
        reached: list[Any] = []
        token = _REACHED.set(reached)
        try:
            self.network(queries)
        finally:
            _REACHED.reset(token)
        return reached[0] if reached else None


class _Handed(nn.Module):
    """Stands where a network is split: it puts out what the second part was called with."""

    def forward(self, *_: Any, **__: Any) -> Tensor:
        """Return embeddings, (B, *E)."""
        return _HANDED.get()


class _Uncomputed(nn.Module):
    """Stands in for a module whose output is not looked at: zeros of the same shape, at no cost.

    Args:
        shape: of the output for one query.
        dtype: of the output, where the module does not take floating-point numbers.
    """

    def __init__(self, shape: Sequence[int], dtype: torch.dtype) -> None:
        super().__init__()
        self.shape, self.dtype = tuple(shape), dtype

    def forward(self, inputs: Tensor, *_: Any, **__: Any) -> Tensor:
        """Return zeros: (B, ...) -> (B, *shape)."""
        dtype = inputs.dtype if inputs.is_floating_point() else self.dtype
        return inputs.new_zeros(inputs.shape[0], *self.shape, dtype=dtype)


class SecondPart(nn.Module):
    """A network from after a module on: what the module would put out is its query.

    The network is called with queries that stand in for those that were embedded: zeros, or where queries are sequences
    of ids, ids of which those are padding whose embedding is all zeros, as ``padding_idx`` makes it. So a network that
    leaves padding out does so here too, in sequences of any length. Threads may call it at once.

    Modules that come before the split are computed of the stand-ins, unless ``leave_out_first_part`` has replaced them:
    ``split_after`` does so where queries are numbers and nothing else looks at these modules. Else they are computed
    in vain, and counted in what this part costs.

    Args:
        network: which is copied.
        name: of the module, as ``named_modules`` has it.
        query: one that the network takes, (1, *Q), of its type.
        padding: the id of padding.
    """

    def __init__(self, network: nn.Module, name: str, query: Tensor, padding: int = 0) -> None:
        super().__init__()
        self.network, self.name, self.padding = copy.deepcopy(network), name, padding
        self.network.set_submodule(name, _Handed())
        self.query_shape, self.dtype = tuple(query.shape[1:]), query.dtype

    def forward(self, embedded: Tensor) -> Tensor:
        """Predict: (B, *E) -> (B, *P)."""
        token = _HANDED.set(embedded)
        try:
            predictions: Tensor = self.network(self._stand_in(embedded))
        finally:
            _HANDED.reset(token)
        return predictions

    def leave_out_first_part(self, embedded: Tensor) -> None:
        """Replace the modules that are done before the split, and have no part in what comes after it, by zeros.

        Args:
            embedded: what the split module puts out, (B, *E).
        """
        split, before, after = self.network.get_submodule(self.name), dict[nn.Module, Tensor](), set[nn.Module]()
        reached = False

        def see(module: nn.Module, _: Any, output: Any) -> None:
            nonlocal reached
            reached = reached or module is split
            if reached:
                after.add(module)
            elif isinstance(output, Tensor) and output.dim() and len(output) == len(embedded):
                before[module] = output

        hooks = [module.register_forward_hook(see) for module in self.network.modules()]
        try:
            self(embedded)
        finally:
            for hook in hooks:
                hook.remove()
        for name, module in [*self.network.named_modules()]:
            if module in before and not after & {*module.modules()} and self._holds(name, module):
                self.network.set_submodule(name, _Uncomputed(before[module].shape[1:], before[module].dtype))

    def _holds(self, name: str, module: nn.Module) -> bool:
        """Return whether a module is still there: one that it was part of may have been replaced."""
        try:
            return self.network.get_submodule(name) is module
        except AttributeError:
            return False

    def _stand_in(self, embedded: Tensor) -> Tensor:
        if self.dtype.is_floating_point or len(self.query_shape) != 1 or embedded.dim() != 3:
            return torch.zeros(embedded.shape[0], *self.query_shape, dtype=self.dtype, device=embedded.device)
        real = embedded.detach().ne(0).any(-1)
        return torch.where(real, 1 if self.padding != 1 else 0, self.padding).to(self.dtype)


@torch.no_grad()
def split_after(network: nn.Module, name: str, queries: Tensor, padding: int = 0) -> tuple[nn.Module, SecondPart]:
    """Split a network after one of its modules.

    Args:
        network: (B, *Q) -> (B, *P), in eval mode.
        name: of the module, as ``named_modules`` has it.
        queries: a few, (B, *Q).
        padding: the id of padding, where queries are ids.

    Returns:
        What embeds queries, (B, *Q) -> (B, *E), the module itself where it comes first, and what predicts for
        embeddings, (B, *E) -> (B, *P).

    Raises:
        ParityError: there is no such module, or it does not put out one tensor, or what comes after it needs more.
    """
    names = [found for found, _ in network.named_modules() if found]
    if name not in names:
        raise ParityError(f"the network has no module '{name}' to encode after: {did_you_mean(name, names)}")
    first = FirstPart(network, name)
    embedded = first(queries)
    if not isinstance(embedded, Tensor) or not embedded.is_floating_point() or len(embedded) != len(queries):
        raise ParityError(f"the module '{name}' does not put out one tensor of numbers (B, ...): encode after another.")
    second, predictions = SecondPart(network, name, queries[:1], padding).eval(), network(queries)
    if not _predicts(second, embedded, predictions):
        raise ParityError(
            f"what the network computes after '{name}' needs more than what that module puts out: encode after another."
        )
    second = _without_first_part(second, embedded, predictions)
    alone = copy.deepcopy(network.get_submodule(name))
    return (alone if _embeds(alone, queries, embedded) else first).eval(), second


def _predicts(second: SecondPart, embedded: Tensor, predictions: Tensor) -> bool:
    """Return whether a second part makes the network's predictions of what the first part puts out."""
    try:
        return torch.allclose(second(embedded), predictions, rtol=1e-4, atol=1e-5)
    except Exception:  # of a user's own network, which looks at more than what it is handed
        return False


def _without_first_part(second: SecondPart, embedded: Tensor, predictions: Tensor) -> SecondPart:
    """Return a second part that computes nothing of the first one, where that makes no difference."""
    if not second.dtype.is_floating_point:  # sequences of ids, of any length: zeros have one
        return second
    alone = copy.deepcopy(second)
    try:
        alone.leave_out_first_part(embedded)
    except Exception:  # of a user's own network
        return second
    same = all(_predicts(alone, embedded[:count], predictions[:count]) for count in (1, len(embedded)))
    return alone if same else second


def _embeds(module: nn.Module, queries: Tensor, embedded: Tensor) -> bool:
    """Return whether a module alone makes of queries what a network makes of them up to it."""
    try:
        return torch.equal(module(queries), embedded)
    except Exception:  # it takes something else
        return False
