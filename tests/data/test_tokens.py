import pytest
import torch
from torch import Tensor

from parity.data import TokensDataModule, groups_of
from parity.errors import ParityError
from parity.tasks import Classification


class _Words(TokensDataModule):
    QUERY_SHAPE, NUM_CLASSES, NUM_VALIDATION, VOCABULARY = (6,), 2, 4, 300

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        ids = torch.arange(24 * 6).view(24, 6) % self.VOCABULARY
        return ids.int(), torch.arange(24) % 2


def test_ids_stay_integers_in_every_split() -> None:
    data = _Words(k=2)
    for split in ("train", "val", "test"):
        data.check(split)
        batch = next(data.loader(split).batches())
        assert batch.queries.dtype == torch.int64
        assert torch.equal(batch.queries, data.load(True)[0][batch.indices].long())


def test_ids_beyond_the_vocabulary_are_refused() -> None:
    few = type("_FewWords", (_Words,), {"VOCABULARY": 100, "load": lambda self, train: _Words.load(_Words(), train)})
    with pytest.raises(ParityError, match="whole numbers from 0 to 99, and these run from 0 to 143"):
        few(k=2).check("train")


def test_floats_are_not_ids() -> None:
    floats = type("_Floats", (_Words,), {"load": lambda self, train: (torch.rand(24, 6), torch.arange(24) % 2)})
    with pytest.raises(ParityError, match="ids of tokens are integers, not float32"):
        floats(k=2).check("train")


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_arrays_of_ids_stay_integers(dtype: torch.dtype) -> None:
    ids = torch.randint(300, (20, 6))
    data = groups_of((ids.to(dtype), torch.arange(20) % 2), 2, task=Classification(2))
    data.check("train")
    batch = next(data.loader("train").batches())
    assert batch.queries.dtype == torch.int64
    assert torch.equal(batch.queries, ids[batch.indices])
