"""Two processes on CPUs, connected by gloo, against one."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from parity.training.loggers.epoch_table import read_table

SCRIPT = Path(__file__).with_name("ddp_run.py")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def run(folder: Path, devices: int, status: int = 0, **options: Any) -> str:
    """Run the script; return what it wrote to stderr."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), json.dumps({"devices": devices, **options})],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stderr


def result(folder: Path, rank: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"result{rank}.json").read_text())


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    run(folder, 2)
    return folder


@pytest.fixture(scope="module")
def normed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("normed")
    run(folder, 2, norm=True)
    return folder


def test_two_ranks_with_half_the_batch_are_one_process(two: Path, tmp_path: Path) -> None:
    run(tmp_path, 1)
    for mine, alone in zip(result(two)["gradients"], result(tmp_path)["gradients"], strict=True):
        torch.testing.assert_close(torch.tensor(mine), torch.tensor(alone), rtol=1e-4, atol=1e-5)
    alone_weights = weights(tmp_path)
    for name, value in weights(two).items():
        torch.testing.assert_close(value, alone_weights[name], rtol=1e-3, atol=1e-5, msg=name)
    rows = read_table(two / "metrics.csv"), read_table(tmp_path / "metrics.csv")
    for ours, alone_row in zip(*rows, strict=True):
        assert ours.keys() == alone_row.keys()
        for name, value in alone_row.items():
            assert float(ours[name]) == pytest.approx(float(value), rel=1e-4, abs=0.02), name


def test_ranks_hold_the_same_and_one_writes(two: Path) -> None:
    assert result(two, 0)["weights"] == result(two, 1)["weights"]
    assert sorted(path.name for path in two.iterdir()) == ["checkpoints", "metrics.csv", "result0.json", "result1.json"]
    assert len(read_table(two / "metrics.csv")) == 3


def test_ranks_draw_random_numbers_of_their_own(two: Path) -> None:
    assert result(two, 0)["draw"] != result(two, 1)["draw"]


def test_gradients_that_are_accumulated_are_averaged_once(two: Path, tmp_path: Path) -> None:
    assert result(two)["reductions"] == result(two)["steps"]
    run(tmp_path, 2, accumulate=8)
    done = result(tmp_path)
    assert done["weights"] == result(tmp_path, 1)["weights"]
    assert done["reductions"] == done["steps"] < result(two)["steps"] / 7


def test_accuracies_are_exact_where_ranks_have_not_the_same_number_of_groups(normed: Path, tmp_path: Path) -> None:
    """Of 179 test groups rank 0 has one more, and the ranks of ``normed`` have trained with statistics of their own."""
    results = []
    for devices in (1, 2):
        run(tmp_path, devices, norm=True, evaluate=str(normed / "checkpoints" / "last.ckpt"))
        results.append(result(tmp_path))
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        assert results[1][name] == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize(
    "where",
    [pytest.param([0, 1, 1], id="rank 0"), pytest.param([1, 1, 0], id="rank 1", marks=pytest.mark.slow)],
)
def test_a_signal_to_one_rank_stops_both_and_they_go_on(normed: Path, tmp_path: Path, where: list[int]) -> None:
    assert "stopped by SIGTERM" in run(tmp_path, 2, norm=True, status=3, terminate=where)
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    states = content["callbacks"]["Checkpoints"]["ranks"]
    assert [len(state["epoch"]["groups"]) for state in states] == [16 * (where[2] + 1)] * 2
    norms = [next(value for name, value in state["buffers"].items() if "running_mean" in name) for state in states]
    assert not torch.equal(*norms), "each rank has statistics of its own: the test tests something"
    assert "resume it with as many as then" in run(tmp_path, 1, norm=True, status=1)
    run(tmp_path, 2, norm=True)
    assert result(tmp_path)["weights"] == result(normed)["weights"]
    assert read_table(tmp_path / "metrics.csv") == read_table(normed / "metrics.csv")


def test_a_loss_that_breaks_on_one_rank_stops_both(tmp_path: Path) -> None:
    error = run(tmp_path, 2, status=1, nan=[1, 1, 0])
    assert len(re.findall(r"the loss was nan in step 16 of epoch 2 \(ParityTargetLoss\)", error)) == 2
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0


def test_ranks_have_the_same_policies_and_stop_where_one_does(tmp_path: Path) -> None:
    run(tmp_path, 2, stop=[1, 1, 4])
    mine, other = result(tmp_path, 0), result(tmp_path, 1)
    assert mine["weights"] == other["weights"]
    assert mine["losses"] == other["losses"], "each is the mean over the ranks"
    first, second = read_table(tmp_path / "metrics.csv")
    steps = len(mine["losses"]) - 5
    assert float(first["train/loss"]) == pytest.approx(sum(mine["losses"][:steps]) / steps, rel=0.02)  # batches differ
    assert (float(first["policy/lr"]), float(second["policy/lr"])) == (1e-3, 5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_takes_the_other_along_and_both_go_on(two: Path, tmp_path: Path, rank: int) -> None:
    with pytest.raises(AssertionError):  # whatever the status: it is none of success
        run(tmp_path, 2, kill=[rank, 1, 1])
    run(tmp_path, 2)
    assert result(tmp_path)["weights"] == result(two)["weights"]
    assert read_table(tmp_path / "metrics.csv") == read_table(two / "metrics.csv")
