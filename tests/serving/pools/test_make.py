"""Pools for coded models: what their workers put out, and what is refused before anything is started."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.errors import ParityError
from parity.serving.pools import Batching, WorkerFailed, make_pool
from tests.serving.pools.harness import PATIENT, Serving


class Sensitive(nn.Module):
    """A network that puts out NaN for large queries, and is not linear."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, queries: Tensor) -> Tensor:
        return torch.where(queries.sum(1, keepdim=True) > 100, torch.nan, self.linear(queries).tanh())


def coded_model() -> CodedModel:
    return CodedModel(Sensitive(), LinearEncoder(2, 1, (3,)), [Sensitive()], LinearDecoder(2, 1, (2,)))


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_outputs_are_the_networks_own_bit_by_bit_of_single_queries_and_of_batches(engine: str) -> None:
    model = coded_model()
    with Serving(make_pool(engine, model, 1, batching=Batching(4, batch_wait=0.2), supervision=PATIENT)) as serving:
        serving.wait_for_full_strength()
        queries = torch.randn(4, 3)
        for task, query in enumerate(queries):
            serving.pool.submit(task, 0, query, group=task)
        outputs = dict(serving.heard.next() for _ in range(4))
        with torch.inference_mode():
            assert torch.equal(torch.stack([outputs[task] for task in range(4)]), model.base_model(queries))
        serving.pool.submit(4, 1, queries[0], group=4)
        with torch.inference_mode():
            assert torch.equal(serving.heard.next()[1], model.parity_models[0](queries[:1])[0])


def test_an_output_that_is_none_is_a_failure_of_its_query_alone() -> None:
    model = coded_model()
    with Serving(make_pool("threads", model, 1, batching=Batching(2, batch_wait=0.2), supervision=PATIENT)) as serving:
        serving.wait_for_full_strength()
        serving.pool.submit(0, 0, torch.full((3,), 100.0), group=0)
        serving.pool.submit(1, 0, torch.ones(3), group=1)
        reports = dict(serving.heard.next() for _ in range(2))
        assert isinstance(reports[0], WorkerFailed)
        assert "NaN" in str(reports[0])
        assert isinstance(reports[1], Tensor)
        serving.pool.faults.damage(0)
        serving.pool.submit(2, 0, torch.ones(3), group=2)
        assert "NaN" in str(serving.heard.next()[1])


def test_work_takes_the_networks_place() -> None:
    def shape(stack: Tensor) -> Tensor:
        return stack[:, :1]

    with Serving(make_pool("threads", coded_model(), 1, work=[shape, lambda stack: stack[:, :2]])) as serving:
        serving.wait_for(lambda: serving.health(0).restarts)
        assert "shape (1,), not (2,)" in serving.health(0).error


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"engine": "thread"}, "did you mean 'threads'"),
        ({"engine": "processes", "address": "auto"}, "Ray cluster"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"workers": 0}, "at least 1 worker"),
        ({"work": [torch.relu]}, "each of the 2 pools"),
    ],
)
def test_what_cannot_be_is_refused(options: dict, problem: str) -> None:
    with pytest.raises(ParityError, match=problem):
        make_pool(**{"engine": "threads", "coded_model": coded_model(), "workers": 1, **options})


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ParityError, match=r"pip install 'parity\[serve\]'"):
        make_pool("ray", coded_model(), 1)


# No ``if __name__ == "__main__"``: the script must not run again in its workers.
SCRIPT = """
import queue, sys, torch
from torch import nn
from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.serving import make_pool

print("started")

class Mine(nn.Module):
    def forward(self, queries):
        return queries + 1

class Listener:
    def __init__(self):
        self.heard = queue.Queue()
    def done(self, task, output):
        self.heard.put(output.tolist())
    def failed(self, task, error):
        self.heard.put(str(error))

model = CodedModel(Mine(), LinearEncoder(2, 1, (2,)), [Mine()], LinearDecoder(2, 1, (2,)))
pool, listener = make_pool("processes", model, 1), Listener()
pool.start(listener)
pool.submit(0, 0, torch.ones(2), group=0)
print(listener.heard.get(timeout=300), "ray" in sys.modules, pool.drain(300))
"""


def test_a_users_script_serves_its_own_network_and_runs_once(tmp_path: Path) -> None:
    tmp_path.joinpath("mine.py").write_text(SCRIPT)
    environment = {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "mine.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["started", "[2.0, 2.0] False True"], done.stderr
