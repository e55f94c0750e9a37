"""What callables take, read from their signatures."""

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any

from torch import nn


def keywords(function: Callable[..., Any], positional: int = 0) -> set[str] | None:
    """Return the keywords that a callable takes beside its first arguments; None for any.

    A class whose constructor takes ``**kwargs`` hands them to the constructor that follows in its MRO.

    Args:
        function: a class, a function, a partial of one, or a module, which is called as its ``forward``.
        positional: the number of arguments that are given by position.
    """
    names, any_other = named(function, positional)
    return None if any_other else names


def named(function: Callable[..., Any], positional: int = 0) -> tuple[set[str], bool]:
    """Return the keywords that a callable's signature names, and whether it takes any others."""
    if isinstance(function, functools.partial):
        return named(function.func, positional + len(function.args))
    if isinstance(function, type):
        return _of_constructors(function, positional)
    return _of_signature(function.forward if isinstance(function, nn.Module) else function, positional)


def _of_constructors(made: type, positional: int) -> tuple[set[str], bool]:
    names: set[str] = set()
    for parent in made.__mro__[:-1]:
        if "__init__" in vars(parent):
            more, any_other = _of_signature(vars(parent)["__init__"], positional + 1)
            names |= more
            if not any_other:
                return names, False
    return names, True


def _of_signature(function: Callable[..., Any], positional: int) -> tuple[set[str], bool]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # one of C
        return set(), False
    by_position = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    only = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
    return {*by_position[positional:], *only}, any(one.kind is one.VAR_KEYWORD for one in parameters)


def takes(function: Callable[..., Any], positional: int, given: Collection[str] = ()) -> bool:
    """Return whether a callable can be called with so many arguments by position, and by keyword with what is given.

    Args:
        function: a function, or a module, which is called as its ``forward``.
        positional: the number of arguments by position.
        given: keywords, of which those are used that the function takes.
    """
    taken = keywords(function, positional)
    used = dict.fromkeys(name for name in given if taken is None or name in taken)
    try:
        inspect.signature(function.forward if isinstance(function, nn.Module) else function).bind(
            *range(positional), **used
        )
    except TypeError:
        return False
    except ValueError:  # one of C
        return True
    return True
