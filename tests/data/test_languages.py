import pytest
import torch

from parity.data.languages import LanguagesDataModule

pytest.importorskip("sphinx")


def test_messages_are_ids_of_characters_with_padding_at_their_end() -> None:
    data = LanguagesDataModule(k=2)
    for split in ("train", "test"):
        data.check(split)
        assert set(data.targets(split).tolist()) == set(range(10))
    ids = next(data.loader("test").batches()).queries.flatten(0, 1)
    padding = ids == 0
    assert torch.equal(padding, padding.cummax(1).values)
    assert "".join(map(chr, ids[0][~padding[0]].tolist())).isprintable()


def test_a_message_and_its_translations_are_in_one_split() -> None:
    data = LanguagesDataModule()
    train, test = (set(map(tuple, data.load(part)[0].tolist())) for part in (True, False))
    assert len(test) > 500
    assert len(train & test) < 0.02 * len(test)  # the few that are translated alike
