"""The package's prose keeps to the words of docs/development.md: the ruled-out ones that a pattern can find."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = [*ROOT.glob("parity/**/*.py"), *ROOT.glob("*.py")]
PAGES = [*ROOT.glob("docs/*.md"), ROOT / "README.md"]

RULED_OUT = re.compile(
    r"so-manieth|\banew\b|\b(go|goes|going|went) on\b|\b(is|are|was|were) told\b|\bsaid\b|\bsays?\b|\banswers with\b"
    r"|(?<![.\w])tells?\b"  # file.tell() is code
    r"|(?<!there )\b(is|are) no (?!\w+er\b|more\b|less\b)[a-z]"  # there is no ..., is no longer
)

ALLOWED = (
    "a calm day is no reserve",
    "what `--id` says",
    "what each trial has said",
    "says little for AdamW",
    "does not tell which",
)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield what is written for people, by line: comments and strings of code, a page without the list of words."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        lines = enumerate(text.splitlines(), 1)
        yield from ((number, line) for number, line in lines if path.name != "development.md" or line[:1] != "|")
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], " ".join(token.string.split())


def found(text: str) -> list[str]:
    for allowed in ALLOWED:
        text = text.replace(allowed, "")
    return [match.group() for match in RULED_OUT.finditer(text)]


def test_no_ruled_out_word_is_in_the_packages_prose() -> None:
    assert len(CODE) > 100
    bad = [
        f"{path.relative_to(ROOT)}:{number}: {word}"
        for path in (*CODE, *PAGES)
        for number, text in prose(path)
        for word in found(text)
    ]
    assert not bad, "words that docs/development.md rules out:\n" + "\n".join(bad)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the run goes on after epoch 3", ["goes on"]),
        ("what the network said", ["said"]),
        ("a box is no image; there is no file, and it is no larger", ["is no i"]),
        ("file.tell() tells", ["tells"]),
        ("it resumes after epoch 3, and logs every 2 epochs", []),
    ],
)
def test_ruled_out_words_are_found(text: str, words: list[str]) -> None:
    assert found(text) == words
