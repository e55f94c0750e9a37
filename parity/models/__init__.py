"""Network architectures, and the loading of published weights."""

from parity.models.bcos import AddInverse, BcosResNet
from parity.models.box_network import BoxNetwork
from parity.models.initialisation import (
    FromBaseModel,
    FrozenBaseModel,
    InOrder,
    LastBias,
    NormalLinear,
    XavierConvolution,
)
from parity.models.mlp import MLP
from parity.models.packed import Demultiplexed, MIMONet, PackedStudents
from parity.models.per_cell import PerCell
from parity.models.pruning import FromPrunedBaseModel
from parity.models.resized import Downsampled, Resized
from parity.models.resnet import ResNet
from parity.models.revmux import RevMUX
from parity.models.speech import VGG11, LeNet
from parity.models.split import split_after
from parity.models.text import Embedding, TextTransformer
from parity.models.torchvision_model import torchvision_model
from parity.models.weights import load_into, read_weights
from parity.models.whitened import WhitenedConvNet

__all__ = [
    "MLP",
    "VGG11",
    "AddInverse",
    "BcosResNet",
    "BoxNetwork",
    "Demultiplexed",
    "Downsampled",
    "Embedding",
    "FromBaseModel",
    "FromPrunedBaseModel",
    "FrozenBaseModel",
    "InOrder",
    "LastBias",
    "LeNet",
    "MIMONet",
    "NormalLinear",
    "PackedStudents",
    "PerCell",
    "ResNet",
    "Resized",
    "RevMUX",
    "TextTransformer",
    "WhitenedConvNet",
    "XavierConvolution",
    "load_into",
    "read_weights",
    "split_after",
    "torchvision_model",
]
