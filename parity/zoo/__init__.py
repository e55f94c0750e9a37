"""Trained codes by name: those that come with the package, and publishing others to a hub."""

from parity.zoo.hub import push_to_hub
from parity.zoo.shipped import folder, load
from parity.zoo.shipped import names as list

__all__ = ["folder", "list", "load", "push_to_hub"]
