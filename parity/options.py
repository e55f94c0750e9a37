"""What the options of all commands take: types, and bounds by the option's name, in one place."""

import argparse
import math
import re

from parity.errors import ParityError
from parity.schema import Field, Schema

_DAY, _YEAR = 24 * 3600, 366 * 24 * 3600  # seconds
_MOST = 2**31 - 1
_LONGEST = 400  # characters of a number


def _whole(low: float, high: float = _MOST) -> Field:
    return Field((int,), low, high)


def _number(low: float, high: float = math.inf) -> Field:
    return Field((float,), low, high)


OPTIONS: Schema = {
    # Processes that a machine can have.
    **dict.fromkeys(("workers", "connections", "tasks_per_node", "cpus_per_task"), _whole(1, 4096)),
    **dict.fromkeys(("jobs", "gpus"), _whole(0, 4096)),
    **dict.fromkeys(("nodes", "num_nodes", "array"), _whole(1, 100_000)),
    "mem_gb": _number(0, 1_000_000),
    # Times that clocks can count, in seconds but for those named after another unit.
    **dict.fromkeys(("batch_wait", "group_timeout"), _number(0, _DAY)),
    **dict.fromkeys(("grace", "patience", "deadline", "every", "freeze", "restart", "service"), _number(0, _YEAR)),
    "hedge_delay": _number(0),
    "signal_delay_s": _whole(1, _YEAR),
    "save_every_minutes": _number(0, _YEAR / 60),
    "timeout_min": _whole(1, _YEAR / 60),
    "timeout": _number(0, _YEAR / 3600),
    # What is asked of a service, and what disturbs it.
    **dict.fromkeys(("max_batch_size", "most_waiting", "queries"), _whole(1, 100_000_000)),
    **dict.fromkeys(("rate", "faulty", "factor", "sharing", "bandwidth"), _number(0, 1_000_000_000)),
    "load": _number(0, 1000),
    "sigma": _number(0, 10),
    "hedge_budget": _number(0),
    "port": _whole(0, 65_535),
    # Codes, data and what is made of them.
    **dict.fromkeys(("k", "r"), _whole(0)),
    **dict.fromkeys(("seed", "seeds"), _whole(0, 2**32 - 1)),
    **dict.fromkeys(("batch_size", "epochs", "steps_per_epoch", "checkpoint_every", "shape", "smooth"), _whole(1)),
    **dict.fromkeys(("widths", "hidden_layers"), _whole(1)),
    **dict.fromkeys(("default_class", "refresh_rate", "steps"), _whole(0)),
    **dict.fromkeys(("unavailable", "wrong", "false_alarms", "momentum", "tenant_load"), _number(0, 1)),
    **dict.fromkeys(("lr", "state_lr", "budget"), _number(0, 1_000_000)),
}  # fmt: skip
"""Numbers that can be meant, in any command that has the option; which of them make sense together is for it to see."""


def whole(text: str) -> int:
    """Read a whole number: ASCII digits, with a sign or without.

    Raises:
        ValueError: it is something else; Python itself also takes underscores, spaces and the digits of all scripts.
    """
    if re.fullmatch(r"[+-]?[0-9]+", text) is None or len(text) > _LONGEST:
        raise ValueError(f"no whole number: {text!r:.60}")
    return int(text)


def number(text: str) -> float:
    """Read a number, as ``whole`` does.

    Raises:
        ValueError: it is something else.
    """
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(inf|nan)", text, re.I | re.A) is None:
        raise ValueError(f"no number: {text!r:.60}")
    return float(text)


def type_numbers(parser: argparse.ArgumentParser) -> None:
    """Let a parser read its numbers with ``whole`` and ``number``, where an option's type is int or float."""
    parser.register("type", int, whole)
    parser.register("type", float, number)


def check_numbers(args: argparse.Namespace) -> None:
    """Make sure that every number among parsed options is within its bounds.

    Raises:
        ParityError: one is not.
    """
    for name, field in OPTIONS.items():
        given = getattr(args, name, None)
        for value in given if isinstance(given, list) else [given]:
            if isinstance(value, int | float) and not field.is_within(value):
                raise ParityError(f"--{name} takes {field}, not {str(value)[:40]}.")
