"""A network on Digits that takes its time, so that a run lasts as long as a test needs, on a machine of any speed."""

import time
from collections.abc import Sequence

from torch import Tensor

from parity.experiments.config import update_config
from parity.experiments.Digits.original import experiment_parameters as original
from parity.models import MLP


class SlowMLP(MLP):
    """An MLP of which every training step lasts some seconds longer."""

    def __init__(
        self, query_shape: Sequence[int], prediction_shape: Sequence[int], hidden: Sequence[int], seconds: float
    ) -> None:
        super().__init__(query_shape, prediction_shape, hidden)
        self.seconds = seconds

    def forward(self, queries: Tensor) -> Tensor:
        if self.training:
            time.sleep(self.seconds)
        return super().forward(queries)


CONFIGS = {
    "slow_base": update_config(
        original.CONFIGS["mlp_base"],
        dict(
            model=dict(network=SlowMLP, hidden=(200, 100), seconds=0.0),
            data=dict(batch_size=8),
            trainer=dict(max_epochs=4),
        ),
    )
}
