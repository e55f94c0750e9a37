"""serve.py as a user meets it: one process, asked over HTTP, reloaded and ended by signals; and bad options."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import torch

import parity.zoo
from parity.coded_model import CodedModel
from parity.experiments import Experiment, catalogue
from parity.runs.serving import load_artefact, load_servable
from parity.serving import CodedServer, Policy, make_pool

ROOT = Path(__file__).parents[1]
Command = Callable[..., int]
CLIENTS = 16


@pytest.fixture
def run(train: Command, digits_base: Path) -> Path:
    """The folder of a code that is hardly trained."""
    arguments = ("--dataset", "Digits", "--base_directory", str(digits_base), "--experiment_name", "mlp_k2_add")
    assert train(*arguments, "--set", "trainer.max_epochs=1") == 0
    return digits_base / "Digits" / "original" / "mlp_k2_add"


@pytest.fixture
def process(run: Path) -> Iterator["subprocess.Popen[str]"]:
    """serve.py on a free port, ready; it can hold 4 queries."""
    command = [sys.executable, str(ROOT / "serve.py"), str(run), "--workers", "1", "--port", "0", "--most_waiting", "4"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as started:
        try:
            yield started
        finally:
            started.kill()


def address(process: "subprocess.Popen[str]") -> str:
    """Wait until it serves; return where."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://\S+:\d+", line)
    assert found, line
    return found[0]


def body() -> dict[str, object]:
    return {"query": torch.randint(0, 17, (1, 8, 8)).tolist()}


def test_a_service_under_twice_its_load_drops_nothing_that_it_accepted_through_reload_and_end(
    run: Path, process: "subprocess.Popen[str]"
) -> None:
    url, best = address(process), run / "checkpoints" / "best.ckpt"
    answered: list[httpx.Response] = []
    refused: list[httpx.Response] = []

    async def ask(client: httpx.AsyncClient) -> None:
        """Ask one query after another until the service ends; a connection that breaks fails the test."""
        while True:
            response = await client.post("/predict", json=body())
            (answered if response.status_code == 200 else refused).append(response)
            if "closed" in response.text:
                return

    async def line() -> str:
        assert process.stdout is not None
        return await asyncio.to_thread(process.stdout.readline)

    async def wait_for(count: int) -> None:
        while len(answered) < count:
            await asyncio.sleep(0.01)

    async def test() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            assert (await client.get("/readyz")).status_code == 200
            before = (await client.get("/version")).json()
            clients = [asyncio.create_task(ask(client)) for _ in range(CLIENTS)]
            await wait_for(30)
            best.rename(kept := best.with_name("kept"))
            shutil.copy(run.parent / "mlp_base" / "checkpoints" / "best.ckpt", best)
            process.send_signal(signal.SIGHUP)  # which finds another model's weights, and so keeps what it has
            assert (await line()).startswith("not loaded, serving what was there: ")
            assert (await client.get("/version")).json() == before
            kept.replace(best)
            process.send_signal(signal.SIGHUP)
            assert (await line()).startswith("serving Digits mlp_k2_add, version ")
            await wait_for(len(answered) + 30)
            process.send_signal(signal.SIGTERM)
            await asyncio.gather(*clients)

    asyncio.run(asyncio.wait_for(test(), 240))
    assert process.wait(60) == 0
    assert all(len(response.json()["prediction"]) == 10 for response in answered)
    assert {response.status_code for response in refused} == {503}
    assert all(response.headers["Retry-After"] == "1" for response in refused)
    assert any("too many queries" in response.text for response in refused)


def test_a_served_prediction_is_the_base_models_for_the_query_as_the_data_set_stores_it(run: Path) -> None:
    servable = load_servable(Experiment(run), default_class=3)
    datamodule = Experiment(run).get_datamodule()
    loader = datamodule.loader("test")
    stored, _ = datamodule.load(train=False)
    groups, _, indices = next(iter(loader))
    assert servable.stored == stored.dtype
    torch.testing.assert_close(servable.prepared(stored[indices[0, 0]]), groups[0, 0])
    assert servable.default is not None
    assert servable.default.argmax() == 3
    assert len(servable.version) == 64


def test_an_artefact_is_served_with_its_own_preprocessing_and_without_its_run() -> None:
    artefact = parity.zoo.load("digits-mlp-k2-add")
    servable = load_artefact(next(Path(parity.__file__).parent.rglob("digits-mlp-k2-add")))
    stored = torch.randint(0, 17, (1, 8, 8))
    expected = artefact.preprocessing(stored[None].to(servable.stored))
    torch.testing.assert_close(servable.prepared(stored.double()), expected[0])

    async def test() -> torch.Tensor:
        pool = make_pool("threads", servable.model, workers=1)
        async with CodedServer(servable.model, Policy(patience=60, deadline=60), pool) as server:
            return (await server.ask(servable.prepared(stored))).prediction

    with torch.inference_mode():
        torch.testing.assert_close(asyncio.run(test()), artefact.coded_model.base_model(expected)[0])


def test_workers_in_other_processes_run_networks_of_a_users_own_files() -> None:
    catalogue.add_experiments_path(ROOT / "docs" / "extending")
    model = Experiment("Digits", "convnet_k2_add").get_model().eval()
    assert isinstance(model, CodedModel)
    query = torch.rand(1, 8, 8)

    async def test() -> torch.Tensor:
        policy = Policy(patience=60, deadline=60)
        async with CodedServer(model, policy, make_pool("processes", model, workers=1)) as server:
            return (await server.ask(query)).prediction

    prediction = asyncio.run(asyncio.wait_for(test(), 240))
    with torch.inference_mode():
        torch.testing.assert_close(prediction, model.base_model(query[None])[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a --dataset and an --experiment_name"),
        (("--dataset", "Digits"), "name a --dataset and an --experiment_name"),
        (("nowhere",), "nowhere"),
        (("--dataset", "Digits", "--experiment_name", "mlp_k2_ad"), "did you mean 'mlp_k2_add'?"),
        (("--dataset", "Digits", "--experiment_name", "mlp_k2_add"), "train first"),
        (
            ("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--patience", "-1"),
            "--patience takes a number from 0",
        ),
        (("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--most_waiting", "0"), "--most_waiting takes"),
        (("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--batch_wait", "-1"), "--batch_wait takes"),
        (
            (
                "--dataset",
                "Digits",
                "--experiment_name",
                "mlp_k2_add",
                "--max_batch_size=4",
                "--batch_wait=9",
                "--deadline=9",
            ),
            "--batch_wait below the --deadline",
        ),
        (("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--port", "70000"), "from 0 to 65,535, not"),
        (("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--experiments_path", "no"), "is not a folder"),
    ],
)
def test_bad_options_get_one_sentence(
    serve: Command, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve(*arguments, *([] if "--port" in arguments else ["--port", "0"])) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_what_cannot_be_served_gets_one_sentence(serve: Command, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, message in (
            ((str(run), "--port", port), "choose another --port"),
            ((str(run.parent / "mlp_base"), "--port", "0"), "is a base model"),
            ((str(run), "--port", "0", "--default_class", "10"), "--default_class"),
            ((str(run), "--port", "0", "--engine", "thread"), "did you mean 'threads'?"),
            ((str(run), "--port", "0", "--workers", "0"), "--workers takes a whole number from 1"),
            ((str(run), "--port", "0", "--address", "auto"), "Ray"),
            ((str(run), "--port", "0", "--reload", "epoch_9"), "epoch_9"),
            ((str(run), "--port", "0", "--seed", "1"), "--seed would be ignored beside the folder"),
            ((str(run), "--port", "0", "--dataset", "Digits"), "--dataset would be ignored beside the folder"),
            ((str(run), "--port", "0", "--deadline", "inf"), "--deadline takes a number from 0 to 31,622,400"),
        ):
            assert serve(*arguments) == 1
            error = capsys.readouterr().err
            assert message in error
            assert error.count("\n") == 1


@pytest.mark.parametrize("option", [("--reload", "last"), ("--ema",), ("--set", "code.k=2"), ("--seed", "0")])
def test_an_artefact_takes_no_options_of_runs(
    option: tuple[str, ...], serve: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve(str(parity.zoo.folder(parity.zoo.list()[0])), "--port", "0", *option) == 1
    assert f"{option[0]} would be ignored beside the folder" in capsys.readouterr().err


def test_several_seeds_are_not_served(serve: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serve("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--seeds=1")
    assert "unrecognized arguments: --seeds=1" in capsys.readouterr().err


def test_without_its_extra_serving_names_it(
    serve: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert serve("--dataset", "Digits", "--experiment_name", "mlp_k2_add") == 1
    assert "pip install 'parity[serve]'" in capsys.readouterr().err
