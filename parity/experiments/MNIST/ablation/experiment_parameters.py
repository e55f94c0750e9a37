"""What each part of the positional codes' recipe brings, on MNIST: every entry at k = 4 changes one thing.

    python benchmarks/better_codes.py --table ablation        about a minute each on 1 core
    python train.py --dataset MNIST --experiment_name mlp_k4_sum --print_config

Test A_d of each with the published base model, mean of three seeds, from mlp_k4_sum 0.6371 to
mlp_k4_learned_cells_labels 0.9857, is in docs/codes.md.

``sum`` is the addition code with the training settings of the rest. Up to ``grid_augmented`` the parity model is of the
base model's own architecture, with a wider last layer where it outputs a prediction for each position.
"""

import torch
from torch import Tensor, nn

from parity.coders import (
    CombiningDecoder,
    GridEncoder,
    KeyedSumEncoder,
    LearnedGridEncoder,
    LinearDecoder,
    LinearEncoder,
    PositionalDecoder,
)
from parity.data.augmentation import RandomAffine
from parity.experiments.config import update_config
from parity.experiments.MNIST.positional.experiment_parameters import HIDDEN, QUERIES
from parity.models import MLP, PerCell
from parity.training import (
    AdamW,
    CrossEntropy,
    KLDivergence,
    LabelReconstructionLoss,
    OneCycle,
    ParityTargetLoss,
    ReconstructionLoss,
    SquaredError,
    parities_alone,
    up_to_r_missing,
)

K = 4

KL = KLDivergence(temperature=4.0)

DEFAULTS = dict(
    data=dict(num_validation=5000, batch_size=QUERIES // K),
    base="mlp_base",
    model=dict(network=MLP, hidden=(200, 100)),
    code=dict(k=K, r=1, encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=AdamW(lr=5e-3, weight_decay=0.0),
    schedule=OneCycle(),
    trainer=dict(max_epochs=20),
)
RECONSTRUCTED = update_config(DEFAULTS, dict(loss=ReconstructionLoss(KL)))
KEYED = update_config(RECONSTRUCTED, dict(code=dict(encoder=KeyedSumEncoder)))
POSITIONS = update_config(
    KEYED, dict(code=dict(decoder=PositionalDecoder), loss=ReconstructionLoss(KL, parities_alone))
)


def one_or_all_missing(k: int, r: int) -> Tensor:
    """Return the patterns with 1 to r predictions missing and those with all: bool (E, n), to learn a correction on."""
    return torch.cat([up_to_r_missing(k, r), parities_alone(k, r)])


COMBINED = update_config(
    POSITIONS,
    dict(
        code=dict(decoder=CombiningDecoder),
        loss=ReconstructionLoss(KL, one_or_all_missing),
        trained=("parity_models", "decoder"),
    ),
)
GRID = update_config(POSITIONS, dict(code=dict(encoder=GridEncoder)))
AUGMENTED = update_config(GRID, dict(data=dict(augmentation=RandomAffine())))
CELLS = update_config(AUGMENTED, dict(model=dict(network=PerCell, cell_network=MLP, hidden=HIDDEN[K])))
LEARNED = update_config(CELLS, dict(code=dict(encoder=LearnedGridEncoder), trained=("encoder", "parity_models")))
SQUARED = update_config(LEARNED, dict(loss=ReconstructionLoss(SquaredError(), parities_alone)))
LABELS = update_config(LEARNED, dict(loss=LabelReconstructionLoss(CrossEntropy(), parities_alone)))

STEPS = dict(
    sum=("addition, squared error of the sum", DEFAULTS),
    sum_rebuilt=("the same, KL on the reconstructions", RECONSTRUCTED),
    keyed=("sum of position-permuted queries", KEYED),
    keyed_positions=("the same, one prediction for each position", POSITIONS),
    keyed_combined=("the same, and a correction learned where predictions arrived", COMBINED),
    grid=("grid, one prediction for each position", GRID),
    grid_augmented=("the same, augmentation that the base model sees too", AUGMENTED),
    grid_cells=("the same, one network for all cells", CELLS),
    learned_cells=("the same, learned resampling: the code `cells_kl`", LEARNED),
    learned_cells_mse=("that with squared error in place of KL", SQUARED),
    learned_cells_labels=("that with cross-entropy against true labels in place of KL: the code `cells`", LABELS),
)
"""What each entry is, and its config, by the end of its name."""

EIGHT = dict(code=dict(k=8), data=dict(batch_size=QUERIES // 8), model=dict(hidden=HIDDEN[8]))

ABOUT = {f"mlp_k{K}_{name}": about for name, (about, _) in STEPS.items()} | {
    "mlp_k8_grid_cells": "k = 8: grid, one network for all cells",
    "mlp_k8_learned_cells": "k = 8: the same, learned resampling",
}
"""What each entry is."""

CONFIGS = {f"mlp_k{K}_{name}": config for name, (_, config) in STEPS.items()} | {
    "mlp_k8_grid_cells": update_config(CELLS, EIGHT),
    "mlp_k8_learned_cells": update_config(LEARNED, EIGHT),
}
