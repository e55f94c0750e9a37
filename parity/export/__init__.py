"""A code as an artefact: programs, weights and a card in a folder that needs no parity, and loading it again."""

from parity.export.card import CardFacts
from parity.export.preprocessing import Preprocessing
from parity.export.reading import LoadedArtefact, load
from parity.export.writing import save

__all__ = ["CardFacts", "LoadedArtefact", "Preprocessing", "load", "save"]
