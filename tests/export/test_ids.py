"""An artefact of a code for ids of tokens, and of one for their embeddings: what is stored are integers."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from parity.coded_model import CodedModel
from parity.coders import EmbeddedEncoder, LearnedGridEncoder, PositionalDecoder, TokenCellsEncoder
from parity.data import Ids
from parity.errors import ParityError
from parity.export import Preprocessing, load, save
from parity.models import PerCell, TextTransformer, split_after
from tests.export.codes import CARD

LENGTH = 8


def coded(kind: str) -> CodedModel:
    torch.manual_seed(0)
    base = TextTransformer((LENGTH,), (5,), vocabulary=20, width=8, blocks=1, heads=2).eval()
    queries = torch.randint(1, 20, (4, LENGTH))
    queries[:, 6:] = 0
    if kind == "tokens":
        encoder, network = TokenCellsEncoder(2, 1, (LENGTH,)), base
        parity_model = PerCell((LENGTH,), (2, 5), lambda *_: network)
    else:
        first, second = split_after(base, "embedding", queries)
        inner = partial(LearnedGridEncoder, axes=(0,))
        encoder = EmbeddedEncoder(2, 1, (LENGTH,), first, (LENGTH, 8), inner)
        parity_model = PerCell((LENGTH, 8), (2, 5), lambda *_: second, axes=(0,))
    networks: list[nn.Module] = [parity_model]
    return CodedModel(base, encoder, networks, PositionalDecoder(2, 1, (5,))).eval()


@pytest.mark.parametrize("kind", ["tokens", "embedded"])
@torch.no_grad()
def test_a_code_for_ids_is_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    model = coded(kind)
    save(tmp_path / "code", model, Preprocessing((LENGTH,), torch.int64, Ids()), CARD, onnx=False)
    loaded = load(tmp_path / "code")
    assert loaded.manifest["preprocessing"]["ids_below"] == 20
    ids = torch.randint(0, 20, (3, 2, LENGTH))
    available = torch.tensor([[True, False, True]]).expand(3, -1)
    assert torch.allclose(loaded(ids, available), model(ids, available), atol=1e-5)
    ids[1, 1, 3] = 20
    for asked in (loaded, model):
        with pytest.raises(ParityError, match="whole numbers from 0 to 19, and these run from 0 to 20"):
            asked(ids, available)
        with pytest.raises(ParityError, match="ids of tokens, integers, not torch"):
            asked(ids.float(), available)
