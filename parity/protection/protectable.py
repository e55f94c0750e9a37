"""A network that a code is to be made for: what is known of it, and what other networks can be made of it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from parity.black_boxes import BlackBox, DefaultNetworks, begins_linear
from parity.errors import ParityError, cause
from parity.models import Resized
from parity.signatures import takes as can_be_called

Factory = Callable[[tuple[int, ...], tuple[int, ...]], nn.Module]
"""Makes a network of the same architecture, untrained: called with a query's shape and a prediction's."""


@dataclass(frozen=True)
class Protectable:
    """A network, and what a code for it is made for.

    Args:
        network: (B, *Q) -> (B, *P), in eval mode.
        queries: a few queries, (B, *Q).
        predictions: the network's for them, (B, *P).
        k, r: of the code.
        factory: makes the same architecture; None where nobody gave one.
        encode_after: the name of the module after which queries are encoded; None for queries as they are.
        axes: of queries, along which cells lie; None for those that grids choose.
        default: makes networks of at most the network's cost, where neither a copy nor the factory will do; None where
            none is to be made.
    """

    network: nn.Module
    queries: Tensor
    predictions: Tensor
    k: int
    r: int
    factory: Factory | None = None
    encode_after: str | None = None
    axes: tuple[int, ...] | None = None
    default: DefaultNetworks | None = None

    @property
    def cannot_be_copied(self) -> str | None:
        """Why parity models cannot start as copies of the network; None where they can."""
        return f"{self.network.name} has no weights to start from" if isinstance(self.network, BlackBox) else None

    @property
    def resized(self) -> nn.Module | None:
        """The network with predictions of one size, where they have as many axes as queries; else None."""
        axes = len(self.prediction_shape)
        if self.cannot_be_copied or axes != len(self.query_shape) or not 2 <= axes <= 4:
            return None
        return Resized(self.network, self.prediction_shape)

    @property
    def query_shape(self) -> tuple[int, ...]:
        """Shape Q of a query."""
        return tuple(self.queries.shape[1:])

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        """Shape P of a prediction."""
        return tuple(self.predictions.shape[1:])

    @property
    def is_dense(self) -> bool:
        """Whether predictions have as many axes as queries, two or more."""
        return len(self.prediction_shape) == len(self.query_shape) > 1

    @property
    def is_of_features(self) -> bool:
        """Whether queries are rows whose features have no neighbours: all go into a linear layer, or a black box."""
        return len(self.query_shape) == 1 and (self.cannot_be_copied is not None or begins_linear(self.network))

    def made(self, query_shape: tuple[int, ...], prediction_shape: tuple[int, ...], copies: int = 1) -> nn.Module:
        """Make an untrained network: of the factory, or else by default.

        Args:
            query_shape, prediction_shape: of its queries.
            copies: how many of its queries a parity query holds, where it is a default one.

        Raises:
            ParityError: there is no way to.
        """
        if self.factory is not None:
            return made_by(self.factory, query_shape, prediction_shape)
        if self.default is None:
            raise ParityError("there is no factory=...")
        if self.is_dense:
            raise ParityError("there is no factory=..., and no default network makes dense predictions")
        return self.default(query_shape, prediction_shape, copies)

    @property
    def maker(self) -> str:
        """What ``made`` makes, in words."""
        return "a network of the factory" if self.factory is not None else "a default network of no higher cost"

    @property
    def ids(self) -> Tensor | None:
        """The queries, where they are ids of tokens."""
        return None if self.queries.is_floating_point() else self.queries

    @property
    def padding(self) -> int:
        """The id of padding, of the network's embedding; 0 where that has none."""
        found = (module.padding_idx for module in self.network.modules() if isinstance(module, nn.Embedding))
        return next((padding for padding in found if padding is not None), 0)


def is_factory(value: object) -> bool:
    """Return whether networks can be made by this: called with two shapes, and not a network itself."""
    return callable(value) and not isinstance(value, nn.Module) and can_be_called(value, 2)


def made_by(
    factory: Factory, query_shape: tuple[int, ...], prediction_shape: tuple[int, ...], name: str = "factory"
) -> nn.Module:
    """Call a user's function that makes networks; ``name`` is what it is called in messages."""
    try:
        made = factory(query_shape, prediction_shape)
    except Exception as error:  # of a user's own function
        raise ParityError(
            f"the {name} cannot make a network for queries {query_shape} and predictions {prediction_shape} "
            f"({cause(error).rstrip('.')})."
        ) from error
    if not isinstance(made, nn.Module):
        raise ParityError(f"the {name} returns a {type(made).__name__}, expected a torch.nn.Module.")
    return made
