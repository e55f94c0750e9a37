"""The exception that a user's mistake ends in, and the sentence that names the closest right word."""

import difflib
import signal
from collections.abc import Iterable

_FEW = 10  # names that a sentence can list


class ParityError(Exception):
    """Something that a user can put right: one sentence that names what is wrong and what to do.

    The command lines print it alone and exit with status 1; in a notebook it is an ordinary exception.
    """

    everywhere = False
    """Whether every process of a run raises it: then one of them reports it."""


class DamagedFileError(ParityError):
    """A file is cut off, or its bytes are not what was written."""


class Stopped(BaseException):
    """A signal has ended a run; what there was to save is saved.

    No ``Exception``: it may be raised anywhere, and what catches all errors must let it pass.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        self.signal = signal.Signals(signum)
        super().__init__(f"stopped by {self.signal.name}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the half sentence that follows "unknown name": the closest of ``known``, or all where they are few.

    Of a path its last part is compared, since names are what folders of runs are called.
    """
    names = sorted(known)
    few = len(names) <= _FEW
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    if close := difflib.get_close_matches(last, names, n=1, cutoff=0.5 if few else 0.0):
        return f"did you mean '{close[0]}'?"
    return f"there is: {', '.join(names)}." if names else "there is none yet."


def in_one_line(error: BaseException) -> str:
    """Return an error's message without line breaks, or its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


_LONGEST_CAUSE = 400


def cause(error: BaseException) -> str:
    """Return what another library's error is and the first paragraph of what it has to report, in one line."""
    paragraph = " ".join(str(error).strip().partition("\n\n")[0].split())
    if len(paragraph) > _LONGEST_CAUSE:
        paragraph = f"{paragraph[:_LONGEST_CAUSE]} ..."
    return f"{type(error).__name__}: {paragraph}" if paragraph else type(error).__name__
