"""A coder with arguments: the addition code, but each position's query is flipped or turned in a way of its own."""

from functools import partial

from parity.coders import KeyedSumEncoder, Symmetry
from parity.experiments.config import update_config
from parity.experiments.Digits.original.experiment_parameters import CONFIGS as ORIGINAL

ENCODER = partial(KeyedSumEncoder, key=Symmetry())
CONFIGS = {
    f"mlp_k{k}_flipped": update_config(ORIGINAL[f"mlp_k{k}_add"], dict(code=dict(encoder=ENCODER))) for k in (2, 3)
}
