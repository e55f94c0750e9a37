"""Linear codes with several parity models, by the original recipe.

    python train.py --dataset MNIST --experiment_name 'mlp_*_linear_*'      1 s an epoch on 1 core

Test A_d (one prediction missing, all r parity answers there) of the best checkpoint after 40 of the 500 epochs, with
the published base model (--base_weights, A_a 0.9793), one seed:

            k = 2    k = 3    k = 4
    r = 2   0.9679   0.8881   0.7999
    r = 3                     0.8004    (the others were not run)
"""

from parity.experiments.config import update_config
from parity.experiments.MNIST.original.experiment_parameters import PARITY

CONFIGS = {
    f"mlp_k{k}_linear_r{r}": update_config(
        PARITY, dict(code=dict(k=k, r=r), data=dict(batch_size=64 if k == 2 else 32))
    )
    for k in (2, 3, 4)
    for r in (2, 3)
}
