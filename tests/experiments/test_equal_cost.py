"""What else the same worker could run: no parity model costs more than 1.10 x the base model."""

import pytest
import torch

from parity.coded_model import CodedModel
from parity.errors import ParityError
from parity.evaluation.costs import multiply_adds
from parity.experiments import Experiment, catalogue
from parity.models import MLP, Downsampled

ENTRIES = [
    entry
    for dataset in ("Digits", "MNIST", "CIFAR10", "FSDD", "CatVsDog")
    for entry in catalogue.experiments(dataset)
    if entry.collection in ("equal_cost", "whitened", "resnet18_gpu") and not entry.name.endswith("_base")
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.dataset}-{entry.name}")
def test_all_predictions_together_cost_a_parity_model_what_one_costs_the_base_model(entry: catalogue.Entry) -> None:
    model = Experiment(entry.dataset, entry.name).get_model()
    assert isinstance(model, CodedModel)
    query = torch.zeros(1, *model.encoder.query_shape)
    parity_query = torch.zeros(1, *model.encoder.parity_query_shape)
    ratio = multiply_adds(model.parity_models[0].eval(), parity_query) / multiply_adds(model.base_model, query)
    # Of a side of 16 pixels, and of 7, pooling drops one.
    without_borders = entry.collection == "whitened" and ("cells" in entry.name or "k4_packed_coarse" in entry.name)
    assert (0.75 if without_borders else 0.9) < ratio <= 1.10


@pytest.mark.parametrize("dataset", ["Digits", "CIFAR10", "FSDD", "CatVsDog"])
def test_base_model_is_trained_as_the_parity_models_are(dataset: str) -> None:
    for entry in (entry for entry in ENTRIES if entry.dataset == dataset):
        experiment = Experiment(dataset, entry.name)
        assert experiment.base_experiment is not None
        ours, base = experiment.config, experiment.base_experiment.config
        for key in ("optimizer", "schedule"):
            assert ours[key] == base[key]
        assert ours["trainer"]["max_epochs"] == base["trainer"]["max_epochs"]
        assert ours["data"].get("augmentation") == base["data"].get("augmentation")


@pytest.mark.parametrize("name", ["mlp_k2_packed_pruned_kl", "mlp_k4_revmux_kl"])
def test_what_starts_from_the_base_model_holds_its_weights(name: str) -> None:
    experiment = Experiment("Digits", name)
    model = experiment.get_model()
    assert isinstance(model, CodedModel)
    experiment.start_parity_models(model)
    base, network = model.base_model.layers[0].weight, model.parity_models[0].network.layers[0].weight
    rows = {tuple(row) for row in base.tolist()}
    assert all(tuple(row) in rows for row in network.tolist())


def test_students_for_a_smaller_image_start_from_the_whole_base_model() -> None:
    experiment = Experiment("CIFAR10", "whitened_k4_packed_coarse_kl")
    model = experiment.get_model()
    assert isinstance(model, CodedModel)
    experiment.start_parity_models(model)
    student = model.parity_models[0].network
    for ours, theirs in zip(student.network.parameters(), model.base_model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    whole = torch.rand(2, 3, 32, 32)
    blurred = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(whole, 2), scale_factor=2)
    torch.testing.assert_close(student.eval()(whole), student(blurred))


@pytest.mark.parametrize(("shape", "side"), [((3, 16, 16), 16), ((12,), 4), ((3, 16, 16), 0)])
def test_what_is_not_a_larger_image_is_refused(shape: tuple[int, ...], side: int) -> None:
    with pytest.raises(ParityError, match=r"are not images \(C, H, W\) larger than"):
        Downsampled(shape, (10,), MLP, side)
