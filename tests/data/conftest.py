"""Real images, where they are laid out."""

from pathlib import Path

import pytest

from parity import settings
from tests.conftest import need

HOW_TO_GET = "{} is not under DATA_ROOT: ../shared/prepare_data.sh data"


@pytest.fixture
def cifar10() -> Path:
    """The folder of CIFAR-10 as image files."""
    return need(settings.DATA_ROOT / "CIFAR10" / "test", HOW_TO_GET.format("CIFAR10")).parent


@pytest.fixture
def cat_vs_dog() -> Path:
    """The folder of photographs of cats and dogs."""
    return need(settings.DATA_ROOT / "CatVsDog" / "test", HOW_TO_GET.format("CatVsDog")).parent
