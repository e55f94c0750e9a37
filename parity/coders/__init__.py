"""Encoders and decoders, a file for each family."""

from parity.coders.backup import BackupDecoder, BackupEncoder
from parity.coders.base import Decoder, Encoder, SystematicDecoder
from parity.coders.berrut import BerrutDecoder, BerrutEncoder
from parity.coders.concatenation import ConcatenationEncoder
from parity.coders.flattened import FlattenedChannelSumEncoder
from parity.coders.grid import GridEncoder, LearnedGridEncoder
from parity.coders.hadamard import HadamardSumEncoder
from parity.coders.interpolation import InterpolatingDecoder, InterpolatingEncoder
from parity.coders.keyed import KeyedSumEncoder, Permutation, Shift, Symmetry
from parity.coders.learned import ConvolutionalEncoder, MLPDecoder, MLPEncoder
from parity.coders.linear import LinearDecoder, LinearEncoder, coefficients
from parity.coders.nercc import NeRCCDecoder, NeRCCEncoder
from parity.coders.packed import PackedEncoder
from parity.coders.positional import CombiningDecoder, PositionalDecoder
from parity.coders.replication import ReplicationDecoder, ReplicationEncoder

__all__ = [
    "BackupDecoder",
    "BackupEncoder",
    "BerrutDecoder",
    "BerrutEncoder",
    "CombiningDecoder",
    "ConcatenationEncoder",
    "ConvolutionalEncoder",
    "Decoder",
    "Encoder",
    "FlattenedChannelSumEncoder",
    "GridEncoder",
    "HadamardSumEncoder",
    "InterpolatingDecoder",
    "InterpolatingEncoder",
    "KeyedSumEncoder",
    "LearnedGridEncoder",
    "LinearDecoder",
    "LinearEncoder",
    "MLPDecoder",
    "MLPEncoder",
    "NeRCCDecoder",
    "NeRCCEncoder",
    "PackedEncoder",
    "Permutation",
    "PositionalDecoder",
    "ReplicationDecoder",
    "ReplicationEncoder",
    "Shift",
    "Symmetry",
    "SystematicDecoder",
    "coefficients",
]
