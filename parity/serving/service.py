"""A service: a code that can be loaded again, served over workers that can be made again."""

import asyncio
import logging
from collections.abc import Callable

from torch import Tensor

from parity.coded_model import CodedModel
from parity.serving.commands import Accept
from parity.serving.policy import Policy
from parity.serving.pools import WorkerPool
from parity.serving.replies import Reply
from parity.serving.servable import Servable
from parity.serving.server import CodedServer
from parity.terminal import visible

_log = logging.getLogger(__name__)


class Service:
    """Serves what ``load`` returns, and after ``reload`` what it returns then.

    Args:
        load: reads the weights.
        make_pool: makes the workers for a coded model.
        policy: times, budgets and bounds.

    Raises:
        ParityError: of ``load``; or the policy does not suit the code.

    Attributes:
        servable: the version that new queries go to.
        server: its server.
    """

    def __init__(
        self,
        load: Callable[[], Servable],
        make_pool: Callable[[CodedModel], WorkerPool[Tensor, Tensor]],
        policy: Policy,
    ) -> None:
        self._load, self._make_pool = load, make_pool
        self.servable = load()
        self.server = CodedServer(self.servable.model, policy, make_pool(self.servable.model), self.servable.default)

    async def ask(self, query: Tensor, deadline: float | None = None, accept: Accept = Accept.DEFAULT) -> Reply:
        """Return the prediction for a query (*Q) as the data set stores it; otherwise as ``CodedServer.ask``."""
        return await self.server.ask(self.servable.prepared(query), deadline, accept)

    async def reload(self) -> None:
        """Load again, and serve that from now on; no query is lost meanwhile.

        Raises:
            ParityError: it cannot be loaded or started; what was served before stays.
        """
        servable = await asyncio.to_thread(self._load)
        pool = await asyncio.to_thread(self._make_pool, servable.model)
        await self.server.replace(servable.model, pool, default=servable.default)
        self.servable = servable  # in the same step of the event loop as the replacement
        _log.info("serving %s, version %s", visible(servable.name), servable.version[:12])
