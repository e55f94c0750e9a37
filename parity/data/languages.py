"""Languages: which of ten languages a message is in, of the catalogues that the package sphinx carries."""

import gettext
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from parity.data.tokens import TokensDataModule
from parity.errors import ParityError

_FEWEST_CHARACTERS = 12
_OTHER = 1
"""The id of all characters beyond the vocabulary."""


class LanguagesDataModule(TokensDataModule):
    """Messages of Sphinx in ten languages with Latin letters, by their characters; a fifth of them is the test split.

    An id is a character's number in Unicode, up to Latin Extended-A, and 0 is padding. A message is cut off after 64
    characters. What is a translation of the same message is in the same split. Nothing is fetched: the catalogues are
    part of the package sphinx, of the extra 'docs'.
    """

    LANGUAGES: ClassVar[tuple[str, ...]] = ("ca", "es", "fr", "gl", "id", "pt_BR", "sk", "sq", "sv", "tr")
    NUM_CLASSES = len(LANGUAGES)
    QUERY_SHAPE = (64,)
    VOCABULARY = 384
    NUM_VALIDATION = 500

    @property
    def class_names(self) -> list[str]:
        return list(self.LANGUAGES)

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        found = importlib.util.find_spec("sphinx")
        if found is None or found.origin is None:
            raise ParityError("Languages are read from the package sphinx: pip install 'parity[docs]'.")
        queries, classes = [], []
        for number, language in enumerate(self.LANGUAGES):
            path = Path(found.origin).parent / "locale" / language / "LC_MESSAGES" / "sphinx.mo"
            for message in _messages(path, train):
                queries.append(self._ids(message))
                classes.append(number)
        return torch.tensor(queries), torch.tensor(classes)

    def _ids(self, message: str) -> list[int]:
        length = self.QUERY_SHAPE[0]
        ids = [ord(character) if ord(character) < self.VOCABULARY else _OTHER for character in message[:length]]
        return ids + [0] * (length - len(ids))


def _messages(path: Path, train: bool) -> Iterator[str]:
    """Yield the translated messages of a catalogue that are in the training or in the test split."""
    try:
        with path.open("rb") as file:
            catalogue: dict[object, str] = vars(gettext.GNUTranslations(file))["_catalog"]
    except OSError as error:
        raise ParityError(f"the package sphinx here has no {path}: install another version of it.") from error
    for original, translated in catalogue.items():
        if isinstance(original, str) and translated != original and len(translated) >= _FEWEST_CHARACTERS:
            in_test = hashlib.sha256(original.encode()).digest()[0] % 5 == 0
            if in_test != train:
                yield translated.replace("\0", " ")
