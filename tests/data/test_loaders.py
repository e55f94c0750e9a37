import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.multiprocessing import active_children, get_context

from parity.data import GroupBatch, GroupSampler, WorkerLoader
from parity.data.digits import DigitsDataModule
from parity.data.loaders import Scaling
from parity.errors import ParityError
from tests.conftest import ROOT

COUNT = 60
WORKERS = (0, 2)


class Reader:
    """Reads (1, 2) numbers: the place, and a random one that depends on the key, 0 without one."""

    def __call__(self, place: int, epoch_key: tuple[int, int] | None) -> Tensor:
        noise = 0 if epoch_key is None else hash((place, *epoch_key)) % 101
        return torch.tensor([[place, noise]], dtype=torch.uint8)


def loader(
    num_workers: int = 0, reader: Callable[..., Tensor] | None = None, augmented: bool = True, seed: int = 0
) -> WorkerLoader:
    sampler = GroupSampler(torch.arange(3, COUNT), k=2, batch_size=4, seed=seed, shuffle=True)
    targets = 7 * torch.arange(COUNT)
    return WorkerLoader(reader or Reader(), targets, sampler, Scaling(1.0), "train", augmented, num_workers)


def batches(source: WorkerLoader, epoch: int = 0) -> list[GroupBatch]:
    source.sampler.set_epoch(epoch)
    return list(source)


def queries(source: WorkerLoader, epoch: int = 0) -> Tensor:
    return torch.cat([batch.queries for batch in batches(source, epoch)])


@pytest.mark.parametrize("num_workers", WORKERS)
def test_batches_are_the_samplers_groups_in_order(num_workers: int) -> None:
    source = loader(num_workers)
    for epoch in (0, 1):
        found = batches(source, epoch)
        groups = source.sampler.groups()
        assert torch.equal(torch.cat([batch.indices for batch in found]), groups)
        assert [len(batch.indices) for batch in found] == [4] * 7
        assert len(found) == len(source)
        for batch in found:
            assert batch.queries.shape == (4, 2, 1, 2)
            assert batch.queries.dtype == torch.float32
            assert torch.equal(batch.queries[..., 0, 0], batch.indices.float())
            assert torch.equal(batch.targets, 7 * batch.indices)


def test_the_number_of_processes_changes_nothing() -> None:
    found = [queries(loader(num_workers)) for num_workers in (0, 1, 2)]
    assert all(torch.equal(each, found[0]) for each in found)


@pytest.mark.parametrize("num_workers", WORKERS)
def test_augmentation_depends_on_seed_and_epoch_alone(num_workers: int) -> None:
    source = loader(num_workers)
    epochs = [queries(source, epoch) for epoch in (0, 1, 2)]
    torch.manual_seed(123)  # a resumed run: another process, whose global state is another
    assert torch.equal(queries(loader(num_workers), 1), epochs[1])

    def noise(augmented: Tensor) -> list[float]:
        flat = augmented.flatten(0, 1)[:, 0]
        return flat[flat[:, 0].argsort(), 1].tolist()[:40]

    assert noise(epochs[0]) != noise(epochs[1]), "the same images are augmented in another way"
    assert noise(queries(loader(num_workers, seed=1))) != noise(epochs[0])


@pytest.mark.parametrize("num_workers", WORKERS)
def test_without_augmentation_readers_get_no_key(num_workers: int) -> None:
    source = loader(num_workers, augmented=False)
    assert source.queries_are_fixed
    assert not loader(num_workers).queries_are_fixed
    assert queries(source)[..., 1].abs().max() == 0


@pytest.mark.parametrize("num_workers", WORKERS)
def test_the_global_generator_is_left_alone(num_workers: int) -> None:
    before = torch.get_rng_state()
    source = loader(num_workers)
    batches(source)
    list(source.every_query(5))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", WORKERS)
@pytest.mark.parametrize("batch_size", [1, 10, 1000])
def test_every_query_comes_once_as_it_is_also_those_left_over(batch_size: int, num_workers: int) -> None:
    found = list(loader(num_workers).every_query(batch_size))
    places = torch.cat([places for places, _, _ in found])
    assert places.tolist() == list(range(3, COUNT))
    assert torch.cat([targets for _, _, targets in found]).tolist() == [7 * place for place in range(3, COUNT)]
    expected = torch.stack([torch.arange(3, COUNT), torch.zeros(COUNT - 3)], 1)
    assert torch.equal(torch.cat([part for _, part, _ in found])[:, 0], expected)
    assert max(len(part) for part, _, _ in found) <= batch_size


@pytest.mark.parametrize("num_workers", WORKERS)
def test_files_are_read_shortly_before_they_are_needed(num_workers: int) -> None:
    reads = get_context("fork").Value("i", 0)

    def count(place: int, epoch_key: tuple[int, int] | None) -> Tensor:
        with reads.get_lock():
            reads.value += 1
        return Reader()(place, epoch_key)

    source = loader(num_workers, count)
    iterator = source.batches()
    assert reads.value == 0
    next(iterator)
    assert 8 <= reads.value <= 8 * (1 + 2 * num_workers), "a batch, and two ahead for each process"


class Unreadable:
    """Reads what the other reader reads, but for one place."""

    def __init__(self, place: int, then: Callable[[], object]) -> None:
        self.place, self.then = place, then

    def __call__(self, place: int, epoch_key: tuple[int, int] | None) -> Tensor:
        if place == self.place:
            self.then()
        return Reader()(place, epoch_key)


def refuse() -> None:
    raise ParityError("cats/17.jpg cannot be read.")


@pytest.mark.parametrize("num_workers", WORKERS)
def test_a_damaged_file_is_named_when_its_batch_comes(num_workers: int) -> None:
    place = int(loader().sampler.groups()[9, 0])  # in the third batch
    iterator = loader(num_workers, Unreadable(place, refuse)).batches()
    next(iterator)
    next(iterator)
    with pytest.raises(ParityError) as error:
        next(iterator)
    assert str(error.value) == "cats/17.jpg cannot be read."


def die() -> None:
    os._exit(3)


DEATH = r"a process that reads train data died: .* data\.num_workers = 2"


def test_a_process_that_dies_ends_in_a_sentence() -> None:
    with pytest.raises(ParityError, match=DEATH) as error:
        list(loader(2, Unreadable(20, die)).every_query())
    assert "\n" not in str(error.value)


def test_a_death_in_the_midst_of_a_step_is_told_when_the_next_batch_is_asked_for(tmp_path: Path) -> None:
    def die_when_told() -> None:
        while not (tmp_path / "now").exists():
            time.sleep(0.01)
        die()

    place = int(loader().sampler.groups()[9, 0])  # in the third batch, which is read ahead
    iterator = loader(2, Unreadable(place, die_when_told)).batches()
    next(iterator)
    (tmp_path / "now").touch()
    while len(active_children()) == 2:
        time.sleep(0.01)  # the step
    with pytest.raises(ParityError, match=DEATH):
        list(iterator)


LONG_TMPDIR = """
import os, sys, torch
from parity.data import loaders
from tests.data.test_loaders import loader
if "--unchecked" in sys.argv:
    loaders._check_temporary_folder = lambda: None
print(len(list(loader(2).every_query(10))))
"""


@pytest.mark.parametrize(
    ("length", "options", "message"),
    [
        (70, [], ""),
        (79, [], "a temporary folder whose path has at most 75 characters, not /.*: set TMPDIR to a shorter one"),
        (150, [], "set TMPDIR to a shorter one, or data.num_workers to 0"),
        (150, ["--unchecked"], "a process that reads train data died: .*AF_UNIX path too long"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is another one")
def test_a_long_tmpdir_ends_in_a_sentence_and_not_in_waiting(length: int, options: list[str], message: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short, "x" * (length - len(short) - 1))
        folder.mkdir()
        assert len(str(folder)) == length
        done = subprocess.run(
            [sys.executable, "-c", LONG_TMPDIR, *options], cwd=ROOT, timeout=300, capture_output=True, text=True,
            env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    if message:
        assert re.search(rf"ParityError: .*{message}", done.stderr)
    else:
        assert done.stdout == "6\n", done.stderr


def test_an_error_of_a_users_transform_is_one_sentence_and_its_traceback_is_kept() -> None:
    def fail() -> None:
        raise RuntimeError("a defect")

    for num_workers in WORKERS:
        with pytest.raises(ParityError, match=r"^a query cannot be read \(RuntimeError: a defect\)\.$") as error:
            batches(loader(num_workers, Unreadable(20, fail)))
        assert "in fail" in str(error.value.__cause__)


def test_an_epoch_that_is_left_early_leaves_no_process(tmp_path: Path) -> None:
    def note(place: int, epoch_key: tuple[int, int] | None) -> Tensor:
        (tmp_path / str(os.getpid())).touch()
        return Reader()(place, epoch_key)

    iterator = loader(2, note).batches()
    next(iterator)
    iterator.close()
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert pids
    assert os.getpid() not in pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_every_epoch_is_read_by_the_same_processes(tmp_path: Path) -> None:
    def note(place: int, epoch_key: tuple[int, int] | None) -> Tensor:
        (tmp_path / str(os.getpid())).touch()
        return Reader()(place, epoch_key)

    source, alone = loader(2, note), loader()
    for epoch in range(3):
        assert torch.equal(queries(source, epoch), queries(alone, epoch))
    assert len(list(source.every_query(10))) == 6
    taken = source.batches()
    assert len([next(taken) for _ in range(len(source))]) == 7  # an epoch whose end nobody looks for
    del taken
    assert len(list(tmp_path.iterdir())) == 2


def test_two_epochs_at_once_are_read_apart() -> None:
    source = loader(2)
    first, second = source.batches(), source.batches()
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.queries, other.queries)


def test_ranks_share_the_processes_that_read() -> None:
    data = DigitsDataModule()
    assert data.shared_by_ranks(8) == 8
    data.trainer = SimpleNamespace(num_devices=4)
    assert [data.shared_by_ranks(number) for number in (8, 2, 0)] == [2, 1, 0]


def test_a_rank_without_groups_gets_no_batch() -> None:
    sampler = GroupSampler(torch.arange(4), 2, 3, seed=0, shuffle=False, rank=3, world_size=4)
    source = WorkerLoader(Reader(), torch.arange(4), sampler, Scaling(1.0), "val", False, 0)
    assert len(source) == 0
    assert list(source) == []
