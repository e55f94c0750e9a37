"""Positional codes for localisation: the base network finds the box in each of k small canvases; not run yet.

    python train.py --dataset DigitBoxes --experiment_name 'convnet_k*_cells'
    python train.py --dataset DigitBoxes --experiment_name convnet_k2_cells --print_config

Trained towards the base model's boxes by squared error: boxes have no temperature.
"""

from parity.coders import LearnedGridEncoder, PositionalDecoder
from parity.experiments.recipes import CELLS, parity_configs
from parity.models import BoxNetwork, FromBaseModel, PerCell
from parity.training import Adam, OneCycle, ReconstructionLoss, SquaredError, parities_alone

DEFAULTS = dict(
    data=dict(batch_size=64),
    model=dict(network=PerCell, cell_network=BoxNetwork, widths=(16, 32, 64)),
    parity_init=None,
    parity_start=FromBaseModel(),
    code=dict(r=1, encoder=LearnedGridEncoder, decoder=PositionalDecoder),
    trained=("encoder", "parity_models"),
    loss=ReconstructionLoss(SquaredError(), parities_alone),
    optimizer=Adam(lr=3e-3),
    schedule=OneCycle(),
    trainer=dict(max_epochs=8),
)

CONFIGS = parity_configs("convnet", DEFAULTS, CELLS)
