"""docs/serving.md is right: its Python runs, its commands parse, and its tables are complete."""

import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from parity.serving.app import _RESPONSES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "serving.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_pages_python_runs_and_its_application_answers() -> None:
    names: dict[str, object] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in blocks("python"):
            exec(block, names)
    assert re.match(r"(own|rebuilt) tensor\(", printed.getvalue())
    ask = names["asyncio"].run(post(names["app"]))  # type: ignore[attr-defined]
    assert len(ask.json()["prediction"]) == 3


async def post(app: object) -> httpx.Response:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport) as client:  # type: ignore[attr-defined]
        return await client.post("http://service/digits/predict", json={"query": [0.5] * 16})


@pytest.mark.parametrize("script", ["train", "serve", "parity.serving.simulate"])
def test_the_pages_commands_have_options_that_exist(script: str, parser_of: Callable) -> None:
    start = f"python -m {script}" if "." in script else f"python {script}.py"
    commands = [line for block in blocks("bash") for line in block.splitlines() if line.startswith(f"{start} ")]
    assert commands
    for command in commands:
        arguments = shlex.split(command.removeprefix(start), comments=True)
        parser_of(script).parse_args(arguments)


@pytest.fixture
def parser_of() -> Callable:
    def find(script: str) -> object:
        if "." in script:
            return importlib.import_module(script).get_parser()
        spec = importlib.util.spec_from_file_location(script, ROOT / f"{script}.py")
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        spec.loader.exec_module(module)  # type: ignore[union-attr]
        return module.get_parser()

    return find


def test_the_page_lists_every_status() -> None:
    table = PAGE.partition("| status | why |")[2].partition("\n\n")[0]
    listed = {int(number) for number in re.findall(r"\b[45]\d\d\b", table)}
    assert listed >= {int(status) for status in _RESPONSES if int(status) != HTTPStatus.OK}
