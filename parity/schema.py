"""What files and options hold that may be damaged, or written by hand: types, and bounds of numbers."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from parity.errors import DamagedFileError


class Field(NamedTuple):
    """A field of a JSON object.

    Args:
        kinds: its types; bool is not a number here.
        low, high: bounds of a number.
        needed: whether it has to be there.
        values: what the values of an object, or of a list, are, if they are all of a kind.
        fields: of an object.
    """

    kinds: tuple[type, ...]
    low: float = -math.inf
    high: float = math.inf
    needed: bool = True
    values: "Field | None" = None
    fields: "Mapping[str, Field] | None" = None

    def fits(self, value: Any) -> bool:
        """Return whether a value is of these types, and within the bounds."""
        if isinstance(value, bool):
            return bool in self.kinds
        if not isinstance(value, self.kinds):
            return False
        if isinstance(value, int | float):
            return value != value or self.is_within(value)  # NaN is a number of measures
        if isinstance(value, dict):
            return self._fit(value.values()) and find_misfit(value, self.fields or {}) is None
        return not isinstance(value, list) or self._fit(value)

    def is_within(self, value: float) -> bool:
        """Return whether a number is within the bounds; NaN is not."""
        return self.low <= value <= self.high

    def _fit(self, values: Iterable[Any]) -> bool:
        return self.values is None or all(map(self.values.fits, values))

    def __str__(self) -> str:
        kinds = " or ".join(_NAMES[kind] for kind in self.kinds)
        bounds = f" from {self.low:,.15g}" if math.isfinite(self.low) else ""
        bounds += f" to {self.high:,.15g}" if math.isfinite(self.high) else ""
        return f"{kinds}{bounds}" + (f" of {self.values}" if self.values else "")


_NAMES: dict[type, str] = {
    str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object", list: "a list",
    type(None): "null",
}  # fmt: skip

Schema = Mapping[str, Field]

MISSING = object()


def find_misfit(content: Mapping[str, Any], schema: Schema, path: str = "") -> tuple[str, Field, Any] | None:
    """Return path, field and value of what in an object is not as its schema has it; None where all is.

    The value of a field that is missing is ``MISSING``. What the schema does not name is not looked at.
    """
    for name, field in schema.items():
        value = content.get(name, MISSING)
        if value is MISSING:
            if field.needed:
                return path + name, field, value
        elif not field.fits(value):
            inner = find_misfit(value, field.fields, f"{path}{name}.") if field.fields and type(value) is dict else None
            return inner or (path + name, field, value)
    return None


def check_fields(content: Mapping[str, Any], schema: Schema, where: str) -> None:
    """Make sure that an object has the fields of a schema.

    Raises:
        DamagedFileError: one is missing, or of another type or beyond its bounds.
    """
    if (found := find_misfit(content, schema)) is not None:
        path, field, value = found
        if value is MISSING:
            raise DamagedFileError(f"{where} is damaged: it holds no '{path}'.")
        raise DamagedFileError(f"{where} is damaged: '{path}' should be {field}, and is {value!r:.60}.")
