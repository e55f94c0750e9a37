"""The codes that come with the package answer, and state what they are."""

import pytest
import torch

from parity import zoo
from parity.errors import ParityError

MOST_BYTES = 8 << 20


def test_they_are_small_together() -> None:
    folders = [zoo.folder(name) for name in zoo.list()]
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir()) <= MOST_BYTES


@pytest.mark.parametrize("name", zoo.list())
def test_every_one_answers_under_every_pattern_it_promises(name: str) -> None:
    coded = zoo.load(name)
    code, measured = coded.manifest["code"], coded.manifest["accuracies"]
    stored = torch.randint(0, 16, (coded.n * coded.k, *coded.manifest["query_shape"]), dtype=torch.uint8)
    queries = coded.preprocessing(stored).unflatten(0, (coded.n, coded.k))
    available = ~torch.eye(coded.n, dtype=torch.bool)
    assert coded(queries, available).isfinite().all()
    assert coded.manifest["versions"]["git_dirty"] is False  # else nobody can look up what made it
    assert (measured["k"], measured["r"]) == (code["k"], code["r"])
    card = (zoo.folder(name) / "model_card.md").read_text()
    for part in ("base weights: ", "data: ", "## Limits", "| A_a |"):
        assert part in card


def test_the_measured_accuracy_is_that_of_what_is_shipped(mnist: object) -> None:
    from parity.data import get_datamodule_class
    from parity.evaluation import evaluate_code

    coded = zoo.load("mnist-mlp-k4-cells_kl")
    datamodule = get_datamodule_class("MNIST")(k=4, batch_size=256)
    found = evaluate_code(
        coded.coded_model, datamodule.loader("test"), datamodule.task, datamodule.default_prediction()
    ).summary()
    assert found["A_a"] == pytest.approx(coded.manifest["accuracies"]["A_a"], abs=1e-9)
    stated = coded.manifest["accuracies"]["A_d"]["1"]["overall_top1"]
    assert found["A_d"]["1"]["overall_top1"] == pytest.approx(stated, abs=2e-4)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ParityError, match="did you mean 'mnist-mlp-k4-cells_kl'"):
        zoo.load("mnist-mlp-k4-cells")
