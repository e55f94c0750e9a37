"""Positional codes on MNIST: k small images with learned resampling, one small network that predicts each of them.

    python train.py --dataset MNIST --experiment_name 'mlp_k*_cells*' --base_weights FILE
    python train.py --dataset MNIST --experiment_name mlp_k2_cells --print_config

2 to 3 minutes each on 1 core, at most 0.36 of what the original recipe's 500 epochs take. Test accuracy with the
published base model (A_a 0.9793), any number of predictions missing; _kl is trained towards the base model in place of
true labels (benchmarks/better_codes.py; mean of three seeds):

    mlp_k2_cells     A_d 0.9905     mlp_k2_cells_kl     A_d 0.9787, reconstruction accuracy 0.9951
    mlp_k3_cells     A_d 0.9911     mlp_k3_cells_kl     A_d 0.9788, reconstruction accuracy 0.9943
    mlp_k4_cells     A_d 0.9909     mlp_k4_cells_kl     A_d 0.9783, reconstruction accuracy 0.9933
    mlp_k8_cells     A_d 0.9903     mlp_k8_cells_kl     A_d 0.9785, reconstruction accuracy 0.9910
    mlp_k4_cells_r2  A_d 0.9921     mlp_k4_cells_kl_r2  A_d 0.9790, reconstruction accuracy 0.9945

150 epochs, 4 minutes: mlp_k4_cells_long_kl A_d 0.9784 (benchmarks/compare_all.py; mean of three seeds); k = 2 not run.
"""

from parity.coders import LearnedGridEncoder, PositionalDecoder
from parity.data.augmentation import RandomAffine
from parity.experiments.config import update_config
from parity.experiments.recipes import cell_configs
from parity.models import MLP, PerCell
from parity.training import AdamW, CrossEntropy, LabelReconstructionLoss, OneCycle, parities_alone

DEFAULTS = dict(
    data=dict(num_validation=5000, augmentation=RandomAffine()),
    base="mlp_base",
    model=dict(network=PerCell, cell_network=MLP),
    code=dict(r=1, encoder=LearnedGridEncoder, decoder=PositionalDecoder),
    trained=("encoder", "parity_models"),
    loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    optimizer=AdamW(lr=1e-2, weight_decay=0.0),
    schedule=OneCycle(),
    trainer=dict(max_epochs=50),
)

QUERIES = 512
"""In a batch, whatever k is."""

HIDDEN = {2: (190, 100), 3: (220, 95), 4: (180, 70), 8: (160, 65)}
"""Widths of the network in a cell of 28 x 14, 14 x 14 or 9 x 9 pixels, by k: at most 1.10 x the base model's cost."""

CONFIGS = cell_configs(DEFAULTS, HIDDEN, QUERIES)
CONFIGS |= {
    f"mlp_k{k}_cells_long_kl": update_config(CONFIGS[f"mlp_k{k}_cells_kl"], dict(trainer=dict(max_epochs=150)))
    for k in (2, 4)
}
