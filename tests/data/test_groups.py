import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from parity.data import GroupBatch, GroupSampler, TensorLoader, get_datamodule_class
from parity.data.loaders import Scaling
from parity.errors import ParityError


def rows(count: int) -> Tensor:
    """Places that are neither sorted nor 0 to count - 1, so that they are not mistaken for their numbers."""
    return 3 * torch.arange(count).flip(0) + 5


def sampler(count: int = 100, k: int = 3, batch_size: int = 4, seed: int = 0, shuffle: bool = True, **ranks: int):
    return GroupSampler(rows(count), k, batch_size, seed, shuffle, **ranks)


def as_set(groups: Tensor) -> set[tuple[int, ...]]:
    return {tuple(group) for group in groups.tolist()}


@settings(max_examples=50)
@given(
    count=st.integers(1, 60),
    k=st.integers(1, 8),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 5),
    shuffle=st.booleans(),
)
def test_every_query_comes_at_most_once_and_fewer_than_k_are_left_over(
    count: int, k: int, batch_size: int, seed: int, epoch: int, shuffle: bool
) -> None:
    if count < k:
        with pytest.raises(ParityError, match=f"{count} queries are too few for one coding group of k = {k}"):
            sampler(count, k, batch_size, seed, shuffle)
        return
    dealer = sampler(count, k, batch_size, seed, shuffle)
    dealer.set_epoch(epoch)
    groups = dealer.groups()
    assert groups.shape == (count // k, k)
    dealt = groups.flatten().tolist()
    assert len(set(dealt)) == len(dealt)
    assert set(dealt) <= set(rows(count).tolist())
    assert count - len(dealt) < k
    assert len(dealer) == len(groups.split(dealer.batch_sizes))
    full, rest = divmod(len(groups), batch_size)
    if not shuffle or rest != 1 or not full or batch_size == 1:
        assert dealer.batch_sizes == [len(part) for part in groups.split(batch_size)]
    else:
        assert dealer.batch_sizes == [batch_size] * (full - 1) + [batch_size + 1]


def test_groups_depend_on_seed_and_epoch_alone() -> None:
    dealer = sampler()
    epochs = []
    for epoch in range(4):
        dealer.set_epoch(epoch)
        epochs.append(dealer.groups())
        assert torch.equal(epochs[-1], dealer.groups()), "asking twice changes nothing"
    assert len({as_set(groups).__repr__() for groups in epochs}) == 4

    torch.manual_seed(123)  # a resumed run: another process, whose global state is another
    resumed = sampler(batch_size=9)
    resumed.set_epoch(2)
    assert torch.equal(resumed.groups(), epochs[2])

    others = [sampler(seed=seed).groups() for seed in (1, 2)]
    assert not torch.equal(others[0], epochs[0])
    assert not torch.equal(others[0], others[1])


def test_seeds_and_epochs_do_not_run_into_each_other() -> None:
    found = set()
    for seed in range(12):
        for epoch in range(12):
            dealer = sampler(seed=seed)
            dealer.set_epoch(epoch)
            found.add(tuple(dealer.groups().flatten().tolist()))
    assert len(found) == 144


def test_groups_are_mixed() -> None:
    groups = sampler(count=300, k=2).groups()
    neighbours = ((groups[:, 0] - groups[:, 1]).abs() == 3).sum()
    assert neighbours < 15, "about 1 of 150 pairs is of neighbours"


def test_without_shuffling_every_epoch_has_the_same_groups() -> None:
    dealer = sampler(shuffle=False)
    first = dealer.groups()
    dealer.set_epoch(7)
    assert torch.equal(dealer.groups(), first)


@settings(max_examples=50)
@given(
    count=st.integers(40, 80),
    k=st.integers(1, 5),
    world_size=st.integers(1, 5),
    epoch=st.integers(0, 3),
    shuffle=st.booleans(),
)
def test_ranks_share_the_groups_of_a_single_process(
    count: int, k: int, world_size: int, epoch: int, shuffle: bool
) -> None:
    def groups(**ranks: int) -> Tensor:
        dealer = sampler(count, k, shuffle=shuffle, **ranks)
        dealer.set_epoch(epoch)
        assert sum(dealer.batch_sizes) == len(dealer.groups())
        return dealer.groups()

    alone = groups()
    shards = [groups(rank=rank, world_size=world_size) for rank in range(world_size)]
    together = torch.cat(shards)
    assert len(as_set(together)) == len(together), "no group twice"
    assert as_set(together) <= as_set(alone)
    if shuffle:
        assert len({len(shard) for shard in shards}) == 1, "all ranks take as many steps"
        sizes = [sampler(count, k, rank=rank, world_size=world_size).batch_sizes for rank in range(world_size)]
        assert all(each == sizes[0] for each in sizes)
        assert 1 not in sizes[0] or len(shards[0]) == 1
        assert len(alone) - len(together) < world_size
    else:
        assert as_set(together) == as_set(alone)


def test_too_little_data_or_an_empty_batch_is_refused() -> None:
    with pytest.raises(ParityError, match=r"batch_size .* at least 1, not 0"):
        sampler(batch_size=0)
    with pytest.raises(ParityError, match="2 queries are too few for one coding group of k = 3"):
        sampler(count=2)
    with pytest.raises(ParityError, match=r"5 queries are too few .* on each of 2 devices"):
        sampler(count=5, rank=0, world_size=2)
    sampler(count=5, rank=0, world_size=2, shuffle=False)
    with pytest.raises(ParityError, match="steps_per_epoch must be at least 1, not 0"):
        sampler(most_batches=0)


@settings(max_examples=30)
@given(count=st.integers(10, 80), most=st.integers(1, 12), world_size=st.integers(1, 3))
def test_an_epoch_may_be_cut_short(count: int, most: int, world_size: int) -> None:
    whole = [sampler(count, rank=rank, world_size=world_size) for rank in range(world_size)]
    cut = [sampler(count, rank=rank, world_size=world_size, most_batches=most) for rank in range(world_size)]
    for dealer, short in zip(whole, cut, strict=True):
        assert len(short) == min(most, len(dealer))
        assert torch.equal(short.groups(), dealer.groups()[: 4 * most])
    first = cut[0].groups()
    cut[0].set_epoch(1)
    assert not torch.equal(cut[0].groups(), first), "the next epoch draws other groups"


def loader(count: int = 50, k: int = 3, batch_size: int = 2, dtype: torch.dtype = torch.uint8) -> TensorLoader:
    generator = torch.Generator().manual_seed(0)
    size = int(rows(count).max()) + 1
    queries = torch.randint(0, 256, (size, 2, 4), generator=generator).to(dtype)
    targets = torch.randint(0, 10, (size,), generator=generator)
    return TensorLoader(queries, targets, sampler(count, k, batch_size), Scaling(255.0), "train")


def batches(source: TensorLoader) -> list[GroupBatch]:
    return list(source)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_batches_are_the_data_scaled(dtype: torch.dtype) -> None:
    source = loader(dtype=dtype)
    before = source.queries.clone()
    for batch in batches(source):
        assert batch.queries.shape == (*batch.indices.shape, 2, 4)
        assert batch.queries.dtype == torch.float32
        for group, indices in enumerate(batch.indices.tolist()):
            for i, place in enumerate(indices):
                assert torch.equal(batch.queries[group, i], before[place].float() / 255)
                assert batch.targets[group, i] == source.targets[place]
    assert torch.equal(source.queries, before), "the data itself is left alone"


@pytest.mark.parametrize(("count", "batch_size"), [(50, 2), (300, 2), (299, 7), (3, 5), (192, 4)])
def test_batches_are_the_samplers_groups_in_order(count: int, batch_size: int) -> None:
    source = loader(count, batch_size=batch_size)
    for epoch in (0, 1):
        source.sampler.set_epoch(epoch)
        found = batches(source)
        assert torch.equal(torch.cat([batch.indices for batch in found]), source.sampler.groups())
        assert all(len(batch.indices) == batch_size for batch in found[:-1])
        assert len(found) == len(source)


def test_a_last_batch_of_one_joins_the_one_before_for_batch_normalisation() -> None:
    source = loader(count=65, k=1, batch_size=32)
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(8))
    found = list(source.batches())
    for batch in found:
        network(batch.queries.flatten(0, 1))
    assert [len(batch.indices) for batch in found] == [32, 33]
    assert torch.equal(torch.cat([batch.indices for batch in found]), source.sampler.groups())
    assert [len(batch.indices) for batch in source.batches(1)] == [33], "resumed within the epoch"


def test_statistics_are_for_each_channel() -> None:
    queries = torch.randint(0, 256, (5, 3, 2, 4), dtype=torch.uint8)
    mean, std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.4)
    expected = torch.stack([(queries[:, c].float() / 255 - mean[c]) / std[c] for c in range(3)], dim=1)
    torch.testing.assert_close(Scaling(255.0, mean, std)(queries.clone()), expected)
    torch.testing.assert_close(Scaling(255.0, mean)(queries.clone())[:, 2], queries[:, 2] / 255 - 0.3)


def test_targets_may_have_a_shape() -> None:
    source = loader()
    source.targets = torch.rand(len(source.queries), 4)
    batch = batches(source)[0]
    assert torch.equal(batch.targets, source.targets[batch.indices])
    assert batch.targets.shape == (2, 3, 4)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 1000])
def test_every_query_is_asked_once_also_those_left_over(batch_size: int) -> None:
    source = loader(count=50, k=3)
    found = list(source.every_query(batch_size))
    places = torch.cat([part for part, _, _ in found])
    queries = torch.cat([queries for _, queries, _ in found])
    assert sorted(places.tolist()) == sorted(rows(50).tolist())
    assert torch.equal(queries, source.queries[places].float() / 255)
    assert torch.equal(torch.cat([targets for _, _, targets in found]), source.targets[places])
    assert max(len(part) for part, _, _ in found) <= batch_size
    assert source.num_rows == len(source.queries)


def test_a_rank_without_groups_gets_no_batch() -> None:
    data = torch.zeros(4, 2)
    empty = GroupSampler(rows(4), 2, 3, seed=0, shuffle=False, rank=3, world_size=4)
    source = TensorLoader(data, data[:, 0], empty, Scaling(1.0), "val")
    assert len(source) == 0
    assert batches(source) == []


def test_a_group_has_queries() -> None:
    with pytest.raises(ParityError, match="at least 1 query"):
        sampler(k=0)


def test_bases_of_data_sets_are_no_data_sets() -> None:
    with pytest.raises(ParityError, match="there is no data set 'Tensor'"):
        get_datamodule_class("Tensor")
