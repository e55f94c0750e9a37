"""The load generator's command line, on a small service of its own."""

import argparse
import asyncio
import json
import logging
from pathlib import Path

import pytest
import torch

from parity.command_line import run_command
from parity.serving import load
from parity.serving.service_times import Trace
from tests.serving.test_http import patient_service, serving

SHORT = ("--service", "0.002", "--workers", "4", "--queries", "40", "--load", "0.3")


def arguments(*options: str) -> argparse.Namespace:
    return load.get_parser().parse_args(options)


def test_every_query_is_answered_and_counted_in_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(load.main, arguments(*SHORT, "--save", "out", "--trace", "trace.json")) == 0
    saved = json.loads(Path("out.json").read_text())
    assert saved["all"]["count"] == saved["queries"] == 40
    assert saved["command"]["policy"] == "coded"
    assert 1 < saved["all"]["p50"] <= saved["all"]["p99.9"]
    assert Path("out.csv").read_text().splitlines()[-1].endswith(",40,inf")
    trace = Trace.load(Path("trace.json"))
    assert len(trace.pools) == 2
    assert all(time > 0.001 for times in trace.pools for time in times)
    assert "40 of 40 queries sent, 0 wait" in capsys.readouterr().out


def test_a_frozen_workers_queries_are_rebuilt() -> None:
    frozen = ("--fault", "frozen", "--freeze", "0.5", "--every", "0.6", "--save", "out")
    assert run_command(load.main, arguments(*SHORT, *frozen, "--seed", "1", "--workers", "2")) == 0
    saved = json.loads(Path("out.json").read_text())
    assert saved["all"]["count"] == 40
    assert saved["all"]["max"] < 400


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--url", "http://127.0.0.1:1"], "needs a --rate"),
        (["--url", "http://127.0.0.1:1", "--rate", "10"], "--shape, or those of an --npy file"),
        (["--url", "ftp://somewhere", "--rate", "10", "--shape", "3"], "begins with http://"),
        (["--url", "http://127.0.0.1:1", "--rate", "10", "--shape", "3"], "there is no service at http://127.0.0.1:1"),
        (["--url", "http://127.0.0.1:1", "--rate", "10", "--npy", "none.npy"], "there is no file none.npy"),
        (["--url", "http://127.0.0.1:1", "--rate", "10", "--shape", "3", "--fault", "slow"], "leave --url out"),
        (["--policy", "codde"], "did you mean 'coded'"),
        (["--k", "3"], "k must divide"),
        (["--queries", "0"], "--queries takes a whole number from 1 to 100,000,000, not 0."),
        (["--rate", "-1"], "--rate takes a number from 0 to 1,000,000,000, not -1.0."),
        (["--rate", "0"], "rate above 0"),
        (["--fault", "slow", "--factor", "0"], "factor must be more than 0"),
        (["--connections", "0"], "--connections takes a whole number from 1 to 4,096, not 0."),
        (["--timeout", "0"], "connections and timeout"),
        (["--save", "."], "--save takes the name of a file"),
        (["--trace", "."], "name a file"),
        (["--service", "0"], "service must be more than 0"),
    ],
)
def test_a_wrong_option_is_refused_with_a_sentence(
    options: list[str], problem: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "parity")
    assert run_command(load.main, arguments(*options)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert problem in error


@pytest.mark.parametrize(
    ("body", "stored"),
    [("json", torch.float32), ("json", torch.uint8), ("npy", torch.uint8), ("safetensors", torch.int16)],
)
def test_a_service_over_http_is_asked_in_each_form_and_shown_and_kept(
    body: str, stored: torch.dtype, capsys: pytest.CaptureFixture[str]
) -> None:
    def offer_load(port: int) -> int:
        url = ("--url", f"http://127.0.0.1:{port}", "--shape", "1", "2", "2", "--body", body)
        return run_command(load.main, arguments(*url, "--rate", "100", "--queries", "30", "--save", body))

    async def test() -> None:
        async with serving(patient_service(stored)) as port:
            assert await asyncio.to_thread(offer_load, port) == 0

    asyncio.run(test())
    saved = json.loads(Path(f"{body}.json").read_text())
    assert saved["sources"]["own"]["count"] == saved["all"]["count"] == saved["queries"] == 30
    assert saved["command"]["body"] == body
    lines = Path(f"{body}.csv").read_text().splitlines()
    assert lines[0] == "Value,Percentile,TotalCount,1/(1-Percentile)"
    assert lines[-1].endswith(",30,inf")
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "30 of 30 queries sent, 0 waiting" in shown
    assert "own 30 100.0%" in shown
