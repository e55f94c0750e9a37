"""Network architectures, and the loading of published weights."""

from parity.models.initialisation import NormalLinear
from parity.models.mlp import MLP
from parity.models.weights import load_into, read_weights

__all__ = ["MLP", "NormalLinear", "load_into", "read_weights"]
