"""Encoders and decoders, a file for each family."""

from parity.coders.base import Decoder, Encoder, SystematicDecoder
from parity.coders.concatenation import ConcatenationEncoder
from parity.coders.flattened import FlattenedChannelSumEncoder
from parity.coders.learned import ConvolutionalEncoder, MLPDecoder, MLPEncoder
from parity.coders.linear import LinearDecoder, LinearEncoder, coefficients

__all__ = [
    "ConcatenationEncoder",
    "ConvolutionalEncoder",
    "Decoder",
    "Encoder",
    "FlattenedChannelSumEncoder",
    "LinearDecoder",
    "LinearEncoder",
    "MLPDecoder",
    "MLPEncoder",
    "SystematicDecoder",
    "coefficients",
]
