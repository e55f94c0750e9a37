"""The trained codes that come with the package."""

from pathlib import Path

from parity.errors import ParityError, did_you_mean
from parity.export import LoadedArtefact
from parity.export import load as load_artefact
from parity.export.manifest import FILE

ARTEFACTS = Path(__file__).parent / "artefacts"


def names() -> tuple[str, ...]:
    """Return the names of the codes that ``load`` knows, sorted."""
    return tuple(sorted(path.parent.name for path in ARTEFACTS.glob(f"*/{FILE}")))


def folder(name: str) -> Path:
    """Return the folder of a code's artefact, with its model card.

    Raises:
        ParityError: there is no such code; the closest name is in the message.
    """
    if name not in names():
        raise ParityError(f"the zoo has no code '{name}': {did_you_mean(name, names())}")
    return ARTEFACTS / name


def load(name: str) -> LoadedArtefact:
    """Load a trained code by its name.

    >>> coded = parity.zoo.load("mnist-mlp-k4-cells_kl")

    Raises:
        ParityError: there is no such code; the closest name is in the message.
    """
    return load_artefact(folder(name))
