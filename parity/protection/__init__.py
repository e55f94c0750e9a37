"""Any network made resilient in one call: ``protect``, and what it returns."""

from parity.protection.protect import protect
from parity.protection.recipe import Recipe
from parity.protection.result import Protected

__all__ = ["Protected", "Recipe", "protect"]
