"""Artefacts of every code, each exported once; to be copied, not written to."""

from collections.abc import Callable
from functools import cache

import pytest
import torch

from parity.export import save
from tests.export.codes import CARD, Exported, all_patterns, make, preprocessing, stored_queries


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """exported(name of a code, onnx=False)"""
    parent = tmp_path_factory.mktemp("artefacts")

    @cache
    def export(name: str, onnx: bool = False) -> Exported:
        torch.manual_seed(0)
        model = make(name)
        available = all_patterns(model.n)
        folder = save(parent / f"{name}{'_onnx' * onnx}", model, preprocessing(), CARD, onnx=onnx)
        return Exported(folder, model, stored_queries(len(available), model.k), available)

    return export
