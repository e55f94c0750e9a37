"""Encoders and decoders, a file for each family."""

from parity.coders.backup import BackupDecoder, BackupEncoder
from parity.coders.base import Decoder, Encoder, SystematicDecoder
from parity.coders.berrut import BerrutDecoder, BerrutEncoder
from parity.coders.concatenation import ConcatenationEncoder, StackingEncoder
from parity.coders.embedded import EmbeddedEncoder
from parity.coders.flattened import FlattenedChannelSumEncoder
from parity.coders.grid import Bilinear, GridEncoder, Learned, LearnedGridEncoder, Orthogonal
from parity.coders.hadamard import HadamardSumEncoder
from parity.coders.interpolation import InterpolatingDecoder, InterpolatingEncoder
from parity.coders.keyed import FeatureOrder, KeyedSumEncoder, Permutation, Shift, Symmetry
from parity.coders.learned import ConvolutionalEncoder, MLPDecoder, MLPEncoder
from parity.coders.linear import LinearDecoder, LinearEncoder, coefficients
from parity.coders.nercc import NeRCCDecoder, NeRCCEncoder
from parity.coders.packed import PackedEncoder
from parity.coders.positional import CombiningDecoder, PositionalDecoder
from parity.coders.replication import ReplicationDecoder, ReplicationEncoder
from parity.coders.tokens import Head, Important, Shortening, Strided, Tail, TokenCellsEncoder

__all__ = [
    "BackupDecoder",
    "BackupEncoder",
    "BerrutDecoder",
    "BerrutEncoder",
    "Bilinear",
    "CombiningDecoder",
    "ConcatenationEncoder",
    "ConvolutionalEncoder",
    "Decoder",
    "EmbeddedEncoder",
    "Encoder",
    "FeatureOrder",
    "FlattenedChannelSumEncoder",
    "GridEncoder",
    "HadamardSumEncoder",
    "Head",
    "Important",
    "InterpolatingDecoder",
    "InterpolatingEncoder",
    "KeyedSumEncoder",
    "Learned",
    "LearnedGridEncoder",
    "LinearDecoder",
    "LinearEncoder",
    "MLPDecoder",
    "MLPEncoder",
    "NeRCCDecoder",
    "NeRCCEncoder",
    "Orthogonal",
    "PackedEncoder",
    "Permutation",
    "PositionalDecoder",
    "ReplicationDecoder",
    "ReplicationEncoder",
    "Shift",
    "Shortening",
    "StackingEncoder",
    "Strided",
    "Symmetry",
    "SystematicDecoder",
    "Tail",
    "TokenCellsEncoder",
    "coefficients",
]
