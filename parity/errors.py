"""The one exception that a user's mistake ends in, and the sentence that names the closest right word."""

import difflib
from collections.abc import Iterable


class ParityError(Exception):
    """Something that a user can put right: one sentence that says what is wrong and what to do.

    The command lines print it alone and exit with status 1; in a notebook it is an ordinary exception.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the half sentence that follows "unknown name": the closest of ``known``, else all of them."""
    names = sorted(known)
    if close := difflib.get_close_matches(name, names, n=1, cutoff=0.5):
        return f"did you mean '{close[0]}'?"
    return f"there is: {', '.join(names)}." if names else "there is none yet."
