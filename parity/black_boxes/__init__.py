"""Networks that cannot be copied: ONNX files, TorchScript and exported programs, estimators, functions of arrays."""

from parity.black_boxes.default_network import DefaultNetworks, begins_linear
from parity.black_boxes.network import BlackBox, asked_again, is_probed, kept, probed
from parity.black_boxes.programs import is_black_box, opened

__all__ = [
    "BlackBox",
    "DefaultNetworks",
    "asked_again",
    "begins_linear",
    "is_black_box",
    "is_probed",
    "kept",
    "opened",
    "probed",
]
