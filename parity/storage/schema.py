"""What a file that may have been damaged, or changed by hand, has to hold: types, and bounds of numbers."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from parity.errors import ParityError


class Field(NamedTuple):
    """A field of a JSON object.

    Args:
        kinds: its types; bool is not a number here.
        low, high: bounds of a number.
        needed: whether it has to be there.
        values: what the values of an object are, if they are all of a kind.
    """

    kinds: tuple[type, ...]
    low: float = -math.inf
    high: float = math.inf
    needed: bool = True
    values: "Field | None" = None

    def fits(self, value: Any) -> bool:
        """Return whether a value is of these types, and within the bounds."""
        if isinstance(value, bool):
            return bool in self.kinds
        if not isinstance(value, self.kinds):
            return False
        if isinstance(value, int | float):
            return math.isnan(value) or self.low <= value <= self.high
        return self.values is None or not isinstance(value, dict) or all(map(self.values.fits, value.values()))

    def __str__(self) -> str:
        kinds = " or ".join(_NAMES[kind] for kind in self.kinds)
        bounds = f" from {self.low:g} to {self.high:g}" if math.isfinite(self.low) or math.isfinite(self.high) else ""
        return f"{kinds}{bounds}" + (f" of {self.values}" if self.values else "")


_NAMES: dict[type, str] = {
    str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object", list: "a list",
    type(None): "null",
}  # fmt: skip

Schema = Mapping[str, Field]


def check_fields(content: Mapping[str, Any], schema: Schema, where: str) -> None:
    """Make sure that an object has the fields of a schema; others are not looked at.

    Raises:
        ParityError: one is missing, or of another type or beyond its bounds.
    """
    for name, field in schema.items():
        if name not in content:
            if field.needed:
                raise ParityError(f"{where} is damaged: it holds no '{name}'.")
        elif not field.fits(content[name]):
            raise ParityError(f"{where} is damaged: '{name}' should be {field}, and is {content[name]!r:.60}.")
