"""Services of codes whose queries are ids of tokens, or whose parity queries have another shape than queries."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import save as save_safetensors
from torch import nn

from parity.coded_model import CodedModel
from parity.coders import (
    EmbeddedEncoder,
    Encoder,
    LearnedGridEncoder,
    LinearDecoder,
    LinearEncoder,
    PackedEncoder,
    PositionalDecoder,
    ReplicationDecoder,
    ReplicationEncoder,
    StackingEncoder,
    TokenCellsEncoder,
)
from parity.data import Ids
from parity.errors import ParityError
from parity.export import Preprocessing, load, save
from parity.models import MLP, PackedStudents, PerCell, TextTransformer, split_after
from parity.serving import CodedServer, Policy, Servable, Service, Source, Supervision, make_pool
from parity.serving.app import make_app
from parity.serving.bodies import JSON, NPY, SAFETENSORS
from tests.export.codes import CARD
from tests.serving.test_app import npy, run

LENGTH, VOCABULARY, SOON = 8, 20, 60.0


def text_code(kind: str) -> CodedModel:
    """Return a code for a transformer: cells of ids, cells of embeddings, or a copy of each query."""
    torch.manual_seed(0)
    base = TextTransformer((LENGTH,), (5,), VOCABULARY, width=8, blocks=1, heads=2).eval()
    if kind == "replication":
        return CodedModel(base, ReplicationEncoder(2, 2, (LENGTH,)), [], ReplicationDecoder(2, 2, (5,)))
    decoder = PositionalDecoder(2, 1, (5,))
    if kind == "tokens":
        return CodedModel(
            base, TokenCellsEncoder(2, 1, (LENGTH,)), [PerCell((LENGTH,), (2, 5), lambda *_: base)], decoder
        )
    first, second = split_after(base, "embedding", torch.randint(1, VOCABULARY, (2, LENGTH)))
    inner = partial(LearnedGridEncoder, axes=(0,))
    encoder = EmbeddedEncoder(2, 1, (LENGTH,), first, (LENGTH, 8), inner)
    return CodedModel(base, encoder, [PerCell((LENGTH, 8), (2, 5), lambda *_: second, axes=(0,))], decoder)


def larger_code(kind: str) -> CodedModel:
    """Return a code whose parity queries are larger than queries."""
    encoder: Encoder
    parity_model: nn.Module
    if kind == "packed":
        encoder, parity_model = PackedEncoder(2, 1, (6,)), PackedStudents((2, 6), (2, 3), MLP, hidden=(4,))
    else:
        encoder, parity_model = StackingEncoder(2, 1, (6,)), MLP((12,), (2, 3), (4,))
    return CodedModel(MLP((6,), (3,), (8,)), encoder, [parity_model], PositionalDecoder(2, 1, (3,)))


def queries_of(model: CodedModel) -> torch.Tensor:
    if model.blank_query().is_floating_point():
        return torch.randn(2, 6)
    return torch.tensor([[3, 4, 5, 6, 7, 0, 0, 0], [19, 2, 3, 4, 5, 6, 7, 8]])


def pool_of(model: CodedModel) -> Any:
    return make_pool("threads", model, 1, supervision=Supervision(silent_after=SOON))


@pytest.mark.parametrize("make", [partial(text_code, "tokens"), partial(text_code, "embedded"),
                                  partial(larger_code, "packed"), partial(larger_code, "stack")])  # fmt: skip
def test_predictions_of_a_stalled_worker_are_rebuilt(make: Callable[[], CodedModel]) -> None:
    async def test() -> None:
        model = make()
        pool = pool_of(model)
        queries = queries_of(model)
        async with CodedServer(model, Policy(deadline=SOON), pool) as server:
            pool.faults.stall(0)
            replies = await asyncio.gather(*(server.ask(query) for query in queries))
            pool.faults.release(0)
        with torch.no_grad():
            expected = model(queries[None], torch.tensor([[False, False, True]]))[0]
        torch.testing.assert_close(torch.stack([reply.prediction for reply in replies]), expected)
        assert {reply.source for reply in replies} == {Source.REBUILT}

    run(test)


def test_blanks_are_ids_where_queries_are() -> None:
    for kind in ("tokens", "embedded", "replication"):
        assert text_code(kind).blank_query().dtype == torch.int64, kind
    floats = CodedModel(MLP((6,), (3,)), ReplicationEncoder(2, 2, (6,)), [], ReplicationDecoder(2, 2, (3,)))
    assert torch.equal(floats.blank_query(), torch.zeros(6))


@pytest.mark.parametrize(
    "query", [torch.rand(LENGTH), torch.ones(LENGTH, dtype=torch.int32), torch.ones(7).long(), [1]]
)
def test_what_is_not_a_sequence_of_ids_is_refused(query: Any) -> None:
    async def test() -> None:
        model = text_code("tokens")
        async with CodedServer(model, Policy(), pool_of(model)) as server:
            with pytest.raises(ParityError, match=r"a query is a tensor of ids, int64, of shape \(8,\), not"):
                await server.ask(query)

    run(test)


Client = Callable[..., Awaitable[httpx.Response]]


def over_http(test: Callable[[CodedModel, Client], Awaitable[None]]) -> None:
    """Run a test with a client of a service of token cells."""

    async def wrapped() -> None:
        model = text_code("tokens")
        servable = Servable(model, Ids(VOCABULARY), torch.int64, "text", "abc", ids_below=VOCABULARY)
        service = Service(lambda: servable, pool_of, Policy(patience=SOON))
        client = httpx.AsyncClient(transport=httpx.ASGITransport(make_app(service)), base_url="http://service")

        async def post(content: Any, kind: str = JSON) -> httpx.Response:
            if kind == JSON:
                return await client.post("/predict", json={"query": content})
            return await client.post("/predict", content=content, headers={"Content-Type": kind})

        async with service.server, client:
            await test(model, post)

    run(wrapped)


def test_ids_are_posted_in_every_form() -> None:
    async def test(model: CodedModel, post: Client) -> None:
        ids = [3, 4, 5, 6, 7, 0, 0, 0]
        with torch.no_grad():
            expected = model.base_model(torch.tensor([ids]))[0].tolist()
        safe = save_safetensors({"query": torch.tensor(ids)})
        for content, kind in ((ids, JSON), (npy(np.array(ids, np.int32)), NPY), (safe, SAFETENSORS)):
            answer = await post(content, kind)
            assert answer.status_code == 200, answer.text
            assert answer.json()["prediction"] == pytest.approx(expected, rel=1e-5)

    over_http(test)


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        ([3, 4, 5, 6, 7, 0, 0, 20], "whole numbers from 0 to 19"),
        ([-1, 4, 5, 6, 7, 0, 0, 0], "whole numbers from 0 to 19"),
        ([0.5, 4, 5, 6, 7, 0, 0, 0], "whole numbers from 0 to 19"),
        ([2**62, 4, 5, 6, 7, 0, 0, 0], "whole numbers from 0 to 19"),
        ([1, 2, 3], r"a query has shape [8], and this one has [3]"),
        ([1] * 9, r"a query has shape [8], and this one has [9]"),
        (["a"] * 8, "a nested list of numbers"),
    ],
)
def test_ids_beyond_the_vocabulary_and_other_lengths_are_refused(ids: Any, sentence: str) -> None:
    async def test(model: CodedModel, post: Client) -> None:
        answer = await post(ids)
        assert answer.status_code == 422
        assert sentence in answer.json()["error"]
        assert (await post([1] * LENGTH)).status_code == 200  # the workers are unharmed

    over_http(test)


class Scaled(nn.Module):
    """Scales its queries first, so that it takes integers too."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.body = nn.Sequential(nn.Linear(6, 4), nn.ReLU()), nn.Linear(4, 3)

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        predictions: torch.Tensor = self.body(self.front((queries - 0.13) / 0.31))
        return predictions


@pytest.mark.parametrize("ids", [False, None])
def test_a_code_of_what_a_network_makes_of_numbers_is_served_numbers(ids: bool | None, tmp_path: Path) -> None:
    base = Scaled().eval()
    first, second = split_after(base, "front", torch.rand(3, 6))
    encoder = EmbeddedEncoder(2, 1, (6,), first, (4,), LinearEncoder, ids=ids)
    model = CodedModel(base, encoder, [second], LinearDecoder(2, 1, (3,))).eval()
    save(tmp_path / "code", model, Preprocessing((6,)), CARD, onnx=False)

    async def test() -> None:
        for served in (model, load(tmp_path / "code").coded_model):
            assert served.blank_query().is_floating_point()
            query = torch.rand(6)
            async with CodedServer(served, Policy(deadline=SOON), pool_of(served)) as server:
                torch.testing.assert_close((await server.ask(query)).prediction, base(query[None])[0].detach())

    run(test)


def test_blanks_are_numbers_where_a_network_takes_both() -> None:
    model = CodedModel(Scaled(), ReplicationEncoder(2, 2, (6,)), [], ReplicationDecoder(2, 2, (3,)))
    assert model.blank_query().is_floating_point()
