"""What a query's client gets: a reply, or the reason why there is none."""

from dataclasses import dataclass

from torch import Tensor

from parity.errors import ParityError
from parity.serving.commands import Reason, Source

_WHY = {
    Reason.REFUSED: "too many queries are waiting: ask again later",
    Reason.LATE: "no answer within the deadline: ask again, or allow more time",
    Reason.LOST: "every worker that could have answered has failed: ask again",
}


class Unanswered(ParityError):
    """A query gets no answer.

    Args:
        reason: why.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"{_WHY[reason]}.")
        self.reason = reason


class Unavailable(ParityError):
    """The server takes no queries now: it is not ready yet, or it is closed."""


@dataclass(frozen=True)
class Reply:
    """What ``ask`` returns: a prediction (*P), and where it comes from."""

    prediction: Tensor
    source: Source
