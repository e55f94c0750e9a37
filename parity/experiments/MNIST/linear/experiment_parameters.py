"""Linear codes with several parity models, by the original recipe.

TODO
"""

from parity.experiments.MNIST.original.experiment_parameters import PARITY
from parity.experiments.utils import update_config

CONFIGS = {
    f"mlp_k{k}_linear_r{r}": update_config(
        PARITY, dict(code=dict(k=k, r=r), data=dict(batch_size=64 if k == 2 else 32))
    )
    for k in (2, 3, 4)
    for r in (2, 3)
}
