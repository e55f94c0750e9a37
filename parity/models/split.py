"""Networks split after one of their modules, so that queries can be encoded where it puts them out."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from parity.errors import ParityError, did_you_mean


class _Reached(Exception):
    """What the module has put out; nothing after it is computed."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


class FirstPart(nn.Module):
    """A network up to a module, whose output it returns.

    Args:
        network: which is copied.
        name: of the module, as ``named_modules`` has it.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network, self.name = copy.deepcopy(network), name

    def forward(self, queries: Tensor) -> Any:
        """Embed: (B, *Q) -> what the module puts out, (B, *E)."""

        def stop(module: nn.Module, inputs: Any, output: Any) -> None:
            raise _Reached(output)

        hook = self.network.get_submodule(self.name).register_forward_hook(stop)
        try:
            self.network(queries)
        except _Reached as reached:
            return reached.output
        finally:
            hook.remove()
        return None


class SecondPart(nn.Module):
    """A network from after a module on: what the module would put out is its query.

    The network is called with queries that stand in for those that were embedded: zeros, or where queries are sequences
    of ids, ids of which those are padding whose embedding is all zeros, as ``padding_idx`` makes it. So a network that
    leaves padding out does so here too, in sequences of any length.

    Args:
        network: which is copied.
        name: of the module, as ``named_modules`` has it.
        query: one that the network takes, (1, *Q), of its type.
        padding: the id of padding.
    """

    def __init__(self, network: nn.Module, name: str, query: Tensor, padding: int = 0) -> None:
        super().__init__()
        self.network, self.name, self.padding = copy.deepcopy(network), name, padding
        self.network.set_submodule(name, nn.Identity())
        self.query_shape, self.dtype = tuple(query.shape[1:]), query.dtype

    def forward(self, embedded: Tensor) -> Tensor:
        """Predict: (B, *E) -> (B, *P)."""
        hook = self.network.get_submodule(self.name).register_forward_hook(lambda *_: embedded)
        try:
            predictions: Tensor = self.network(self._stand_in(embedded))
        finally:
            hook.remove()
        return predictions

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
    second = SecondPart(network, name, queries[:1], padding).eval()
    try:
        alike = torch.allclose(second(embedded), network(queries), rtol=1e-4, atol=1e-5)
    except Exception:  # of a user's own network, which looks at more than what it is handed
        alike = False
    if not alike:
        raise ParityError(
            f"what the network computes after '{name}' needs more than what that module puts out: encode after another."
        )
    alone = first.network.get_submodule(name)
    return (alone if _embeds(alone, queries, embedded) else first).eval(), second


def _embeds(module: nn.Module, queries: Tensor, embedded: Tensor) -> bool:
    """Return whether a module alone makes of queries what a network makes of them up to it."""
    try:
        return torch.equal(module(queries), embedded)
    except Exception:  # it takes something else
        return False
