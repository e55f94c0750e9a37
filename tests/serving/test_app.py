"""The service over HTTP, in this process: answers, what bad input gets, and what others need to know of it."""

import asyncio
import contextlib
import gzip
import io
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import BerrutDecoder, BerrutEncoder, LinearDecoder, LinearEncoder
from parity.errors import ParityError
from parity.serving import Policy, Servable, Service, Supervision, WorkerPool, make_pool
from parity.serving.app import make_app
from parity.serving.bodies import JSON, NPY, SAFETENSORS, BadBody, most_bytes, parse
from parity.serving.pools import Pool

SHAPE = (1, 2, 2)
SOON = 60.0
BASE, PARITY = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
PIXELS = [[[0, 255], [51, 102]]]


def coded_model() -> CodedModel:
    """Return a linear code that is exact."""
    base, parity = BASE, PARITY
    parity[1].load_state_dict({"weight": base[1].weight, "bias": 2 * base[1].bias})
    return CodedModel(base, LinearEncoder(2, 1, SHAPE), [parity], LinearDecoder(2, 1, (2,)))


def servable(
    model: CodedModel | None = None,
    version: str = "abc",
    default: Tensor | None = None,
    stored: torch.dtype = torch.uint8,
) -> Servable:
    return Servable(model or coded_model(), lambda stored: stored / 255, stored, "a code", version, default)


def expected(pixels: Any) -> list[float]:
    with torch.inference_mode():
        return BASE(torch.tensor(pixels)[None] / 255)[0].tolist()


class App:
    """An application, a client of it, and its workers."""

    def __init__(self, policy: Policy, **of_servable: Any) -> None:
        self.pools: list[Pool[Tensor, Tensor]] = []
        self.loaded = servable(**of_servable)
        self.service = Service(lambda: self.loaded, self._make_pool, policy)
        self.app: FastAPI = make_app(self.service)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://service")

    def _make_pool(self, model: CodedModel) -> WorkerPool[Tensor, Tensor]:
        # One that stalls is not replaced, however slow the machine.
        self.pools.append(make_pool("threads", model, 1, supervision=Supervision(silent_after=SOON)))
        return self.pools[-1]

    async def post(self, **body: Any) -> httpx.Response:
        return await self.client.post("/predict", json={"query": PIXELS, **body})


@asynccontextmanager
async def running(policy: Policy = Policy(patience=SOON), **of_servable: Any) -> AsyncIterator[App]:
    app = App(policy, **of_servable)
    async with app.service.server, app.client:
        yield app


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), SOON))


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def is_a_sentence(response: httpx.Response) -> bool:
    body = response.json()
    return (
        body.keys() == {"error", "request_id"}
        and body["error"].endswith(".")
        and "\n" not in body["error"]
        and response.headers["X-Request-ID"] == body["request_id"]
    )


def test_a_query_is_preprocessed_and_answered() -> None:
    async def test() -> None:
        async with running() as app:
            response = await app.post()
            answer = response.json()
            assert response.status_code == 200
            assert answer["prediction"] == pytest.approx(expected(PIXELS), rel=1e-5)
            assert answer["source"] == "own"
            assert answer["latency_ms"] > 0
            assert answer["request_id"] == response.headers["X-Request-ID"]

    run(test)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON ; charset=latin-1"])
def test_a_content_type_may_have_parameters(kind: str) -> None:
    async def test() -> None:
        async with running() as app:
            body = json.dumps({"query": PIXELS}).encode()
            response = await app.client.post("/predict", content=body, headers={"Content-Type": kind})
            assert response.json()["prediction"] == pytest.approx(expected(PIXELS), rel=1e-5)

    run(test)


def test_a_tensor_of_a_type_that_numpy_lacks_is_read() -> None:
    query = torch.tensor(PIXELS, dtype=torch.bfloat16)
    body = save_safetensors({"query": query})
    assert parse(body, SAFETENSORS, {}, 10.0).query.tolist() == query.double().tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32, np.float64])
def test_a_query_may_be_an_array_or_a_tensor(dtype: type) -> None:
    async def test() -> None:
        array = np.asfortranarray(np.array(PIXELS, dtype))
        bodies = {NPY: npy(array), SAFETENSORS: save_safetensors({"query": torch.from_numpy(array.copy())})}
        async with running() as app:
            for kind, body in bodies.items():
                response = await app.client.post(
                    "/predict?deadline_ms=500&accept=own", content=body, headers={"Content-Type": kind}
                )
                assert response.json()["prediction"] == pytest.approx(expected(PIXELS), rel=1e-5)

    run(test)


def test_a_prediction_may_be_an_array_or_a_tensor() -> None:
    async def test() -> None:
        async with running() as app:
            for kind, read in (
                (NPY, lambda content: np.load(io.BytesIO(content), allow_pickle=False)),
                (SAFETENSORS, lambda content: load_safetensors(content)["prediction"]),
            ):
                response = await app.client.post("/predict", json={"query": PIXELS}, headers={"Accept": kind})
                assert response.headers["Content-Type"] == kind
                assert response.headers["X-Source"] == "own"
                assert read(response.content).tolist() == pytest.approx(expected(PIXELS), rel=1e-5)

    run(test)


@pytest.mark.parametrize(("brought", "kept"), [("order-66", True), ("x" * 129, False), ("two words", False)])
def test_a_request_keeps_the_id_that_it_brings(brought: str, kept: bool) -> None:
    async def test() -> None:
        async with running() as app:
            for path in ("/predict", "/nowhere"):
                response = await app.client.post(path, json={"query": PIXELS}, headers={"X-Request-ID": brought})
                assert (response.headers["X-Request-ID"] == brought) == kept
                assert response.json()["request_id"] == response.headers["X-Request-ID"]

    run(test)


def test_a_stalled_workers_query_is_rebuilt_unless_the_client_accepts_only_its_own() -> None:
    async def test() -> None:
        async with running(Policy(group_timeout=0.01, deadline=SOON)) as app:
            app.pools[0].faults.stall(0)
            response = await app.post()
            assert response.json()["source"] == "rebuilt"
            assert response.json()["prediction"] == pytest.approx(expected(PIXELS), rel=1e-4)
            strict = await app.post(accept="own", deadline_ms=100)
            assert strict.status_code == 504
            assert is_a_sentence(strict)
            app.pools[0].faults.release(0)

    run(test)


def test_a_late_query_is_504_unless_the_client_accepts_the_default() -> None:
    async def test() -> None:
        async with running(default=torch.tensor([0.0, 1.0])) as app:
            app.pools[0].faults.stall(0)
            app.pools[0].faults.stall(1)
            late = await app.post(deadline_ms=20)
            assert late.status_code == 504
            assert is_a_sentence(late)
            answer = (await app.post(deadline_ms=20, accept="default")).json()
            assert (answer["prediction"], answer["source"]) == ([0.0, 1.0], "default")
            app.pools[0].faults.release(0)
            app.pools[0].faults.release(1)

    run(test)


def test_a_code_without_own_answers_refuses_clients_that_accept_no_others() -> None:
    async def test() -> None:
        model = CodedModel(BASE, BerrutEncoder(2, 1, SHAPE), [], BerrutDecoder(2, 1, (2,)))
        async with running(model=model) as app:
            response = await app.post(accept="own")
            assert response.status_code == 409
            assert is_a_sentence(response)

    run(test)


DEEP = b'{"query": ' + b"[" * 5000 + b"]" * 5000 + b"}"

BAD: dict[str, tuple[Any, ...]] = {
    "broken JSON": (400, b'{"query": [[', JSON),
    "not text": (400, b"\xff\xfe\x00", JSON),
    "deep nesting": (400, DEEP, JSON),
    "nothing": (400, b"", JSON),
    "a list": (400, b"[[1, 2], [3, 4]]", JSON),
    "no query": (400, b'{"querry": 1}', JSON),
    "an unknown field": (400, json.dumps({"query": PIXELS, "k": 4}).encode(), JSON),
    "another accept": (400, json.dumps({"query": PIXELS, "accept": ["own"]}).encode(), JSON),
    "a deadline of text": (400, json.dumps({"query": PIXELS, "deadline_ms": "1"}).encode(), JSON),
    "a deadline of truth": (400, json.dumps({"query": PIXELS, "deadline_ms": True}).encode(), JSON),
    "no time": (400, json.dumps({"query": PIXELS, "deadline_ms": 0}).encode(), JSON),
    "too much time": (400, json.dumps({"query": PIXELS, "deadline_ms": 1e9}).encode(), JSON),
    "NaN as deadline": (400, b'{"query": [[[0, 0], [0, 0]]], "deadline_ms": NaN}', JSON),
    "another shape": (422, b'{"query": [[0, 0], [0, 0]]}', JSON),
    "ragged": (422, b'{"query": [[[0, 0], [0]]]}', JSON),
    "text": (422, b'{"query": [[["0", "0"], ["0", "0"]]]}', JSON),
    "null": (422, b'{"query": [[[null, 0], [0, 0]]]}', JSON),
    "an object": (422, b'{"query": {"a": 1}}', JSON),
    "NaN": (422, b'{"query": [[[NaN, 0], [0, 0]]]}', JSON),
    "infinity": (422, b'{"query": [[[1e999, 0], [0, 0]]]}', JSON),
    "too large a number": (422, b'{"query": [[[1' + b"0" * 400 + b", 0], [0, 0]]]}", JSON),
    "too large for its type": (422, b'{"query": [[[1e300, 0], [0, 0]]]}', JSON),
    "preprocessed already": (422, b'{"query": [[[-0.42, 2.8], [0, 0]]]}', JSON),
    "pixels that are scaled to 1": (422, b'{"query": [[[0.0, 1.0], [0.2, 0.4]]]}', JSON),
    "an npy of pixels that are scaled to 1": (422, npy(np.full(SHAPE, 0.5)), NPY),
    "another type": (415, b"0 0 0 0", "text/plain"),
    "an npy of another shape": (422, npy(np.zeros((2, 2))), NPY),
    "an npy with NaN": (422, npy(np.full(SHAPE, np.nan)), NPY),
    "an npy of text": (400, npy(np.full(SHAPE, "a")), NPY),
    "an npy of complex numbers": (400, npy(np.zeros(SHAPE, complex)), NPY),
    "a cut-off npy": (400, npy(np.zeros(SHAPE))[:-1], NPY),
    "a long npy": (400, npy(np.zeros(SHAPE)) + b"1234567", NPY),
    "an npy that needs a terabyte": (
        400, npy(np.zeros(SHAPE)).replace(b"(1, 2, 2), }        ", b"(1000000000000,), }"), NPY,
    ),
    "an npz": (400, b"PK\x03\x04 and so on", NPY),
    "safetensors that are none": (400, b"\x00" * 64, SAFETENSORS),
    "two tensors": (400, save_safetensors({"a": torch.zeros(2), "b": torch.zeros(2)}), SAFETENSORS),
    "a tensor of another shape": (422, save_safetensors({"a": torch.zeros(2)}), SAFETENSORS),
    "truth values": (400, save_safetensors({"a": torch.zeros(SHAPE, dtype=torch.bool)}), SAFETENSORS),
    "an npy of objects": (400, npy(np.zeros(SHAPE, object)), NPY),
    "an npy of dates": (400, npy(np.zeros(SHAPE, "M8[s]")), NPY),
    "a scalar": (422, npy(np.array(1.0)), NPY),
    "no tensor": (400, save_safetensors({}), SAFETENSORS),
    "a header of an exabyte": (400, (2**62).to_bytes(8, "little") + b"{}", SAFETENSORS),
    "compressed": (415, gzip.compress(json.dumps({"query": PIXELS}).encode()), JSON, ("Content-Encoding", "gzip")),
    "JSON with a deadline in the URL": (400, json.dumps({"query": PIXELS}).encode(), JSON, ("deadline_ms", "5")),
    "an unknown parameter of the URL": (400, npy(np.zeros(SHAPE)), NPY, ("acept", "own")),
    "an empty deadline in the URL": (400, npy(np.zeros(SHAPE)), NPY, ("deadline_ms", "")),
    "NaN as deadline in the URL": (400, npy(np.zeros(SHAPE)), NPY, ("deadline_ms", "nan")),
    "a negative deadline in the URL": (400, npy(np.zeros(SHAPE)), NPY, ("deadline_ms", "-1")),
}  # fmt: skip


def test_bad_input_gets_one_sentence_and_harms_nobody() -> None:
    async def test() -> None:
        async with running(Policy(group_timeout=0.05, deadline=SOON)) as app:
            app.pools[0].faults.stall(0)
            good = asyncio.create_task(app.post())  # in a group that the bad ones must not get into
            await asyncio.sleep(0.01)
            for what, (status, body, kind, *more) in BAD.items():
                headers, parameters = {"Content-Type": kind}, {}
                for name, value in more:
                    (headers if name[0].isupper() else parameters)[name] = value
                response = await app.client.post("/predict", content=body, headers=headers, params=parameters)
                assert (what, response.status_code) == (what, status)
                assert is_a_sentence(response), what
            assert (await good).json()["prediction"] == pytest.approx(expected(PIXELS), rel=1e-4)
            assert app.service.server.waiting == 0
            assert app.service.server.statistics.sent.total() == 2
            app.pools[0].faults.release(0)

    run(test)


class Exploding:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return pytest.exit, ("a pickle was loaded",)


def test_a_pickle_in_an_array_is_not_loaded() -> None:
    with pytest.raises(BadBody, match="array of numbers"):
        parse(npy(np.array([Exploding()], dtype=object)), NPY, {}, 10.0)


@given(body=st.binary(max_size=300), kind=st.sampled_from([JSON, NPY, SAFETENSORS, "", "a/b"]), start=st.booleans())
def test_no_bytes_do_more_than_to_be_refused(body: bytes, kind: str, start: bool) -> None:
    if start:
        body = npy(np.zeros(2))[:-10] + body if kind == NPY else b'{"query": ' + body
    with pytest.raises(ParityError):
        parse(body, kind, {"accept": "nothing"}, 10.0)


def test_unknown_pages_and_methods_get_one_sentence() -> None:
    async def test() -> None:
        async with running() as app:
            for response, status in (
                (await app.client.get("/nowhere"), 404),
                (await app.client.get("/predict"), 405),
                (await app.client.post("/predict/../../etc/passwd"), 404),
                (await app.client.post("/predict/"), 404),
            ):
                assert response.status_code == status
                assert is_a_sentence(response)

    run(test)


Scope = dict[str, Any]


def scope(length: int | None = None) -> Scope:
    headers = [(b"content-type", JSON.encode())]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/predict", "raw_path": b"/predict", "query_string": b"", "root_path": "", "headers": headers,
        "client": ("1.2.3.4", 5), "server": ("service", 80),
    }  # fmt: skip


class Connection:
    """A client whose messages come one by one."""

    def __init__(self, *messages: Any) -> None:
        self.messages = list(messages)
        self.taken = 0
        self.more: asyncio.Event = asyncio.Event()
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        while self.taken == len(self.messages):
            await self.more.wait()
            self.more.clear()
        self.taken += 1
        return self.messages[self.taken - 1]

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def hang_up(self) -> None:
        self.messages.append({"type": "http.disconnect"})
        self.more.set()

    @property
    def status(self) -> int:
        return self.sent[0]["status"]


def chunk(body: bytes, more: bool = True) -> Any:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_of_a_gigabyte_is_not_read() -> None:
    async def test() -> None:
        most = most_bytes(SHAPE)
        async with running() as app:
            announced = Connection()
            await app.app(scope(length=10**9), announced.receive, announced.send)
            assert (announced.status, announced.taken) == (413, 0)
            streamed = Connection(*[chunk(b" " * 1024)] * 10**6)
            await app.app(scope(), streamed.receive, streamed.send)
            assert streamed.status == 413
            assert streamed.taken * 1024 <= most + 1024
            lying = Connection(*[chunk(b" " * 1024)] * 10**6)
            await app.app(scope(length=10), lying.receive, lying.send)
            assert lying.status == 413

    run(test)


def test_a_body_that_does_not_arrive_is_not_waited_for() -> None:
    async def test() -> None:
        async with running(Policy(deadline=0.05)) as app:
            slow = Connection(chunk(b'{"query":'))
            await app.app(scope(), slow.receive, slow.send)
            assert slow.status == 408

    run(test)


def test_a_client_that_hangs_up_is_forgotten_and_its_group_unharmed() -> None:
    async def test() -> None:
        async with running(Policy(group_timeout=SOON, deadline=SOON)) as app:
            server = app.service.server
            app.pools[0].faults.stall(0)
            body = json.dumps({"query": PIXELS}).encode()
            leaving = Connection(chunk(body, more=False))
            request = asyncio.create_task(app.app(scope(), leaving.receive, leaving.send))  # type: ignore[arg-type]
            while server.waiting < 1:
                await asyncio.sleep(0.001)
            staying = asyncio.create_task(app.post())
            while server.waiting < 2:
                await asyncio.sleep(0.001)
            leaving.hang_up()
            await request
            assert server.waiting == 1
            assert server.statistics.dropped == 1
            app.pools[0].faults.release(0)
            assert (await staying).json()["prediction"] == pytest.approx(expected(PIXELS), rel=1e-4)

    run(test)


def test_a_client_that_hangs_up_within_its_body_is_forgotten() -> None:
    async def test() -> None:
        async with running() as app:
            leaving = Connection(chunk(b'{"query":'), {"type": "http.disconnect"})
            await app.app(scope(), leaving.receive, leaving.send)
            assert app.service.server.statistics.sent.total() == 0
            assert (await app.post()).status_code == 200

    run(test)


def test_clients_that_send_slowly_do_not_take_the_places_of_others() -> None:
    async def test() -> None:
        async with running(Policy(most_waiting=2, patience=SOON, deadline=SOON)) as app:
            slow = [Connection(chunk(b'{"query":')) for _ in range(8)]
            sending = [asyncio.create_task(app.app(scope(), each.receive, each.send)) for each in slow]  # type: ignore[arg-type]
            await asyncio.sleep(0.01)
            assert (await app.post()).status_code == 200
            for each in slow:
                each.hang_up()
            await asyncio.gather(*sending)

    run(test)


def test_overload_is_refused_at_once_with_a_time_to_ask_again() -> None:
    async def test() -> None:
        async with running(Policy(most_waiting=3, deadline=SOON)) as app:
            app.pools[0].faults.stall(0)
            app.pools[0].faults.stall(1)
            accepted = [asyncio.create_task(app.post()) for _ in range(3)]
            while app.service.server.waiting < 3:
                await asyncio.sleep(0.001)
            unread = Connection()
            await app.app(scope(), unread.receive, unread.send)
            assert (unread.status, unread.taken) == (503, 0)
            refused = await app.post()
            assert refused.headers["Retry-After"] == "1"
            assert is_a_sentence(refused)
            metrics = (await app.client.get("/metrics")).text
            assert 'parity_unanswered_total{reason="refused"} 2.0' in metrics.splitlines()
            app.pools[0].faults.release(0)
            app.pools[0].faults.release(1)
            assert [(await task).status_code for task in accepted] == [200] * 3
            assert (await app.post()).status_code == 200

    run(test)


@pytest.mark.parametrize("seed", range(3))
def test_in_a_storm_of_faults_and_clients_every_query_is_answered_once_and_rightly(seed: int) -> None:
    chance = random.Random(seed)

    async def ask(app: App) -> None:
        pixels = [[[chance.randrange(256) for _ in range(2)] for _ in range(2)]]
        await asyncio.sleep(chance.random() / 5)
        kind = chance.choice(["well", "well", "well", "hurried", "broken", "leaving"])
        if kind == "leaving":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(app.post(query=pixels), 0.003)
        elif kind == "broken":
            assert (await app.post(query=[1])).status_code == 422
        else:
            response = await app.post(query=pixels, **({"deadline_ms": 5} if kind == "hurried" else {}))
            assert response.status_code in ((200,) if kind == "well" else (200, 502, 504))
            if response.status_code == 200:
                assert response.json()["prediction"] == pytest.approx(expected(pixels), rel=1e-3, abs=1e-4)

    async def harm(pool: Pool[Tensor, Tensor]) -> None:
        """One fault at a time, of one of the two workers."""
        while True:
            worker, faults = chance.randrange(2), pool.faults
            match chance.choice(["stall", "slow", "damage"]):
                case "stall":
                    faults.stall(worker)
                case "slow":
                    faults.slow(worker, 8)
                case "damage":
                    faults.damage(worker)
            await asyncio.sleep(0.02)
            faults.release(worker)
            faults.slow(worker, 1)

    async def test() -> None:
        async with running(Policy(group_timeout=0.002, deadline=SOON, retries=3)) as app:
            harming = asyncio.create_task(harm(app.pools[0]))
            await asyncio.gather(*(ask(app) for _ in range(150)))
            harming.cancel()
            assert app.service.server.waiting == 0
            await app.service.server.close()
            assert app.service.server.queued() == [0, 0]

    run(test)


def test_an_error_of_the_service_itself_is_a_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("secret")

    async def test() -> None:
        async with running() as app:
            monkeypatch.setattr(app.service, "ask", fail)
            transport = httpx.ASGITransport(app.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                response = await client.post("/predict", json={"query": PIXELS})
            assert response.status_code == 500
            assert is_a_sentence(response)
            assert "secret" not in response.text
            assert app.service.server.waiting == 0

    run(test)


def test_readyz_is_ready_only_between_warm_and_draining() -> None:
    async def test() -> None:
        app = App(Policy())
        async with app.client:
            for path in ("/readyz", "/predict"):
                response = await (app.client.get(path) if path == "/readyz" else app.post())
                assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
                assert "starting" in response.json()["error"]
            assert (await app.client.get("/healthz")).status_code == 200
            assert (await app.client.head("/healthz")).status_code == 200
            await app.service.server.start()
            assert (await app.client.get("/readyz")).status_code == 200
            await app.service.server.close()
            assert (await app.client.get("/readyz")).status_code == 503
            late = await app.post()
            assert late.status_code == 503
            assert late.headers["Connection"] == "close"
            assert is_a_sentence(late)

    run(test)


def test_a_reloaded_version_is_served_and_shown() -> None:
    async def test() -> None:
        async with running() as app:
            assert (await app.client.get("/version")).json()["version"] == "abc"
            other = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
            model = CodedModel(other, LinearEncoder(2, 1, SHAPE), [PARITY], LinearDecoder(2, 1, (2,)))
            app.loaded = servable(model, version="def")
            await app.service.reload()
            version = (await app.client.get("/version")).json()
            assert (version["version"], version["name"]) == ("def", "a code")
            with torch.inference_mode():
                prediction = other(torch.tensor(PIXELS)[None] / 255)[0].tolist()
            assert (await app.post()).json()["prediction"] == pytest.approx(prediction, rel=1e-5)

    run(test)


def test_a_reloaded_version_comes_with_its_default() -> None:
    async def test() -> None:
        async with running(Policy(deadline=SOON), default=torch.zeros(2)) as app:
            app.loaded = servable(version="def", default=torch.ones(2))
            await app.service.reload()
            for worker in range(2):
                app.pools[1].faults.stall(worker)
            response = await app.post(accept="default", deadline_ms=50)
            for worker in range(2):
                app.pools[1].faults.release(worker)
            assert (response.json()["source"], response.json()["prediction"]) == ("default", [1.0, 1.0])

    run(test)


def test_metrics_count_what_happened() -> None:
    async def test() -> None:
        async with running(Policy(group_timeout=0.01, deadline=SOON)) as app:
            app.pools[0].faults.stall(0)
            await app.post()
            await app.post(accept="own", deadline_ms=50)
            text = (await app.client.get("/metrics")).text
            app.pools[0].faults.release(0)
        samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        for name, value in {
            'parity_latency_seconds_count{source="rebuilt"}': 1,
            'parity_latency_seconds_bucket{le="+Inf",source="own"}': 0,
            "parity_share_rebuilt": 1,
            'parity_unanswered_total{reason="late"}': 1,
            "parity_partial_groups_total": 2,
            "parity_group_fill_seconds_count": 2,
            'parity_tasks_total{pool="0"}': 2,
            "parity_waiting_queries": 0,
            'parity_workers{pool="0",state="busy"}': 1,
            'parity_workers{pool="1",state="idle"}': 1,
            'parity_queue_length{pool="0"}': 0,
        }.items():
            assert float(samples[name]) == value, name
        assert float(samples["parity_abandoned_tasks_total"]) >= 1

    run(test)


def test_the_openapi_page_describes_the_query() -> None:
    async def test() -> None:
        async with running() as app:
            described = (await app.client.get("/openapi.json")).json()["paths"]["/predict"]["post"]
            assert described["requestBody"]["content"].keys() == {JSON, NPY, SAFETENSORS}
            assert {"200", "413", "422", "503", "504"} <= described["responses"].keys()

    run(test)


@pytest.mark.parametrize(
    ("stored", "posted", "kept"),
    [(torch.uint8, [[[0.0, 254.0], [255, 1]]], [[[0, 254], [255, 1]]]), (torch.float32, [[[-1e3, 0.5], [2, 3]]], None)],
)
def test_a_query_is_preprocessed_in_the_type_of_stored_ones(stored: torch.dtype, posted: Any, kept: Any) -> None:
    seen: list[Tensor] = []

    def preprocess(query: Tensor) -> Tensor:
        seen.append(query.clone())
        return query.float().mul_(0)

    query = torch.tensor(posted, dtype=torch.float64)
    Servable(coded_model(), preprocess, stored, "a code", "abc").prepared(query)
    torch.testing.assert_close(seen[0], torch.tensor(kept or posted, dtype=stored)[None])
    assert query.tolist() == posted
