"""Real services for the arms of a comparison: the same policies and numbers of workers as in the simulator."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import (
    BackupDecoder,
    BackupEncoder,
    BerrutDecoder,
    BerrutEncoder,
    ReplicationDecoder,
    ReplicationEncoder,
)
from parity.errors import ParityError
from parity.serving.pools import Pool, make_pool
from parity.serving.simulation.cluster import Arm

Wrap = Callable[[nn.Module, float], Callable[[Tensor], Tensor]]
"""Makes a worker's work of a network and of what a task of it costs, as a multiple of the base model's."""


@dataclass(frozen=True)
class Networks:
    """What the arms' workers run.

    Args:
        coded: base model, code and parity models of the coded arms.
        backup: a smaller network for every query, (B, *Q) -> (B, *P); by default the base model stands in for it.
    """

    coded: CodedModel
    backup: nn.Module | None = None

    def of(self, name: str, arm: Arm) -> CodedModel:
        """Return the model that an arm serves.

        Raises:
            ParityError: the coded model has another k or r.
        """
        coded, base = self.coded, self.coded.base_model
        query, prediction = coded.encoder.query_shape, coded.decoder.prediction_shape
        if name in ("coded", "coded_hedged", "positional"):
            if (coded.k, coded.n) != (arm.code.k, arm.code.n):
                raise ParityError(f"the code has k = {coded.k} and n = {coded.n}: compare it with that k and r.")
            return coded
        if name == "backup":
            networks = [self.backup or base]
            return CodedModel(base, BackupEncoder(1, 1, query), networks, BackupDecoder(1, 1, prediction))
        if name == "nonsystematic":
            k, r = arm.code.k, arm.code.n - arm.code.k
            return CodedModel(base, BerrutEncoder(k, r, query), [], BerrutDecoder(k, r, prediction))
        return CodedModel(base, ReplicationEncoder(1, 0, query), [], ReplicationDecoder(1, 0, prediction))


def service(
    engine: str, name: str, arm: Arm, networks: Networks, wrap: Wrap
) -> tuple[CodedModel, Pool[Tensor, Tensor]]:
    """Return the model and the pool of an arm.

    Args:
        engine: of the workers.
        name: of the arm.
        arm: policy, code and workers.
        networks: what workers run.
        wrap: makes a worker's work of a network.

    Raises:
        ParityError: the networks do not suit the arm.
    """
    model = networks.of(name, arm)
    run = [model.base_model, *model.parity_models]
    work = [wrap(network, arm.cost(pool)) for pool, network in enumerate(run)]
    return model, make_pool(engine, model, arm.workers, work=work)
