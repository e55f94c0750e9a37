"""Weight averaging: a running mean of what is trained, often a better model than the last step's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from parity.errors import ParityError


@dataclass(frozen=True)
class EMA:
    """Exponential moving average: after every optimiser step, ``decay * average + (1 - decay) * weights``.

    It starts from the weights after the first step, as PyTorch's ``AveragedModel`` does. What is not trained, and
    buffers, are the model's own.

    Args:
        decay: from 0 to 1; 0.999 averages over about 1,000 steps.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        is_number = isinstance(self.decay, int | float) and not isinstance(self.decay, bool)
        if not is_number or not 0 <= self.decay <= 1:
            raise ParityError(f"the decay of an EMA is a number from 0 to 1, not {self.decay!r}.")


class RunningAverage:
    """The average of a model's trainable parameters, on their device.

    Args:
        averaging: how.
        model: whose.
    """

    def __init__(self, averaging: EMA, model: nn.Module) -> None:
        self._update = get_ema_multi_avg_fn(averaging.decay)
        self._parameters = {
            name: value for name, value in model.named_parameters(remove_duplicate=False) if value.requires_grad
        }
        self._averages: dict[str, Tensor] = {}

    def update(self) -> None:
        """Take in the weights that an optimiser step has just made."""
        weights = [parameter.detach() for parameter in self._parameters.values()]
        if self._averages:
            self._update(list(self._averages.values()), weights, 0)
        else:
            self._averages = {name: value.clone() for name, value in zip(self._parameters, weights, strict=True)}

    def follow(self) -> None:
        """Move to the weights' device."""
        self._averages = {name: value.to(self._parameters[name].device) for name, value in self._averages.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by the model's names; none before the first step."""
        return self._averages

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set what ``state_dict`` returned."""
        self.check_state(state)
        self._averages = {name: value.clone() for name, value in state.items()}
        self.follow()

    def check_state(self, state: Any) -> None:
        """Make sure that a checkpoint's state is of this model.

        Raises:
            ValueError, LookupError, TypeError: it is not.
        """
        shapes = {name: tuple(value.shape) for name, value in self._parameters.items()}
        if state and {name: tuple(value.shape) for name, value in state.items()} != shapes:
            raise ValueError("its averaged weights are of another model")


def averaged(checkpoint: Mapping[str, Any], source: object) -> dict[str, Tensor]:
    """Return a checkpoint's state dict with the averaged weights in place of the last step's.

    Args:
        checkpoint: read by ``check_checkpoint``.
        source: where from, for the message.

    Raises:
        ParityError: the run has none.
    """
    state: dict[str, Tensor] = checkpoint["state_dict"]
    average = checkpoint.get("average")
    if not isinstance(average, dict) or not average or not {f"model.{name}" for name in average} <= state.keys():
        raise ParityError(f"{source} has no averaged weights: train with averaging=EMA(decay=0.999).")
    return state | {f"model.{name}": value for name, value in average.items()}
