"""What the steps of an epoch leave behind until it ends."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from parity.errors import ParityError
from parity.training.loop import ranks


class EpochRecord:
    """The losses of an epoch's steps so far, and what belongs to them; tensors stay on the device, so nothing waits."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        """Scalars, one for each step."""
        self.groups: list[int] = []
        """Groups of each step's batch."""
        self.terms: list[Tensor] = []
        """What each step's loss is the sum of, where that is several terms: (terms,)."""
        self.term_names: list[str] = []
        self.grad_norms: list[Tensor] = []
        """One for each optimiser step, where they are tracked."""
        self._fetched: list[float] = []

    def add(self, terms: dict[str, Tensor], groups: int) -> Tensor:
        """Take in a step's terms, and return its loss, their sum."""
        if not self.term_names:
            self.term_names = list(terms)
        if len(terms) == 1:
            (loss,) = terms.values()
        else:
            stacked = torch.stack(list(terms.values()))
            self.terms.append(stacked.detach())
            loss = stacked.sum()
        self.losses.append(loss.detach())
        self.groups.append(groups)
        return loss

    def fetched(self) -> list[float]:
        """Return the losses of a whole epoch, fetched from the device once."""
        self._fetched = self._fetched or torch.stack(self.losses).tolist()
        return self._fetched

    def check_finite(self, epoch: int, broken_inputs: Callable[[int], str | None] = lambda step: None) -> None:
        """Make sure that the losses so far are finite; waits for the device.

        Args:
            epoch: counted from 0.
            broken_inputs: called with the number of a step whose loss is not; returns the names of what went into it
                and is not finite either.

        Raises:
            ParityError: one is not, on this rank or on another; the step, the term and the cause are in the message.
        """
        losses = torch.stack(self.losses)
        broken = (~losses.isfinite()).nonzero().flatten().tolist()
        found = None
        if broken:
            step = broken[0]
            found = (step, f"{float(losses[step])}", self._broken_terms(step), broken_inputs(step) or "")
        first = min((here for here in ranks.gather(found) if here is not None), default=None)
        if first is not None:
            step, value, names, inputs = first
            cause = f", for the {inputs} of its batch are NaN or infinite" if inputs else ""
            remedy = "Remove or replace what is not finite." if inputs else "Try a smaller learning rate."
            raise ParityError(
                f"the loss was {value} in step {step + 1} of epoch {epoch + 1} ({names}){cause}: training stopped, and "
                f"the last checkpoint was left as it is. {remedy}"
            )

    def _broken_terms(self, step: int) -> str:
        if len(self.term_names) == 1:
            return self.term_names[0]
        finite = self.terms[step].isfinite().tolist()
        names = [name for name, fine in zip(self.term_names, finite, strict=True) if not fine]
        return "; ".join(names) or "the sum of its terms"

    def _tensors(self) -> dict[str, list[Tensor]]:
        return {"losses": self.losses, "terms": self.terms, "grad_norms": self.grad_norms}

    def state(self) -> dict[str, Any]:
        """Return everything as plain values and tensors on the CPU."""
        state: dict[str, Any] = {
            name: torch.stack(values).cpu() if values else None for name, values in self._tensors().items()
        }
        return state | {"groups": self.groups, "term_names": self.term_names}

    def set_state(self, state: dict[str, Any], device: torch.device) -> None:
        """Set what ``state`` returned, in an empty record."""
        for name, values in self._tensors().items():
            if state[name] is not None:
                values.extend(state[name].to(device).unbind())
        self.groups, self.term_names = list(state["groups"]), list(state["term_names"])
