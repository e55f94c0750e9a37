"""Text in Markdown, where names and messages of users stand beside our own."""

import html
import re


def escaped(text: str) -> str:
    """Return text as Markdown that shows it as it is, on one line; underscores within a word need nothing."""
    text = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*\[\]|~$#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", text)
