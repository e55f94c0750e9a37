"""Encoders and decoders, a file for each family."""

from parity.coders.base import Decoder, Encoder, SystematicDecoder
from parity.coders.concatenation import ConcatenationEncoder
from parity.coders.linear import LinearDecoder, LinearEncoder, coefficients

__all__ = [
    "ConcatenationEncoder",
    "Decoder",
    "Encoder",
    "LinearDecoder",
    "LinearEncoder",
    "SystematicDecoder",
    "coefficients",
]
