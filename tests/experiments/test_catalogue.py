from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from parity.errors import ParityError
from parity.experiments import Experiment, catalogue


def test_names_are_unique_within_a_data_set() -> None:
    entries = [entry for dataset in catalogue.datasets() for entry in catalogue.experiments(dataset)]
    names = [(entry.dataset, entry.name) for entry in entries]
    assert len(set(names)) == len(names) > 0
    assert {"Digits", "MNIST", "FashionMNIST"} <= {entry.dataset for entry in entries}


NETWORK = """
from torch import nn

class Tiny(nn.Module):
    def __init__(self, query_shape, prediction_shape, width):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(6, width), nn.ReLU(), nn.Linear(width, prediction_shape[0]))

    def forward(self, queries):
        return self.net(queries)
"""

DATAMODULE = """
import torch
from parity.data import TensorDataModule

class DiceDataModule(TensorDataModule):
    NUM_CLASSES = 3
    QUERY_SHAPE = (1, 2, 3)
    NUM_VALIDATION = 40

    def load(self, train):
        labels = torch.arange(300 if train else 60) % 3
        return (labels.view(-1, 1, 1, 1) * 100).byte().expand(-1, 1, 2, 3).contiguous(), labels
"""

PARAMETERS = """
from torch import nn
from my_network import Tiny
from parity.coders import LinearDecoder, LinearEncoder
from parity.experiments.config import update_config
from parity.training import Adam, ParityTargetLoss

DEFAULTS = dict(data=dict(batch_size=8), model=dict(network=Tiny, width=16), optimizer=Adam(lr=1e-2),
                trainer=dict(max_epochs=4))
CONFIGS = {
    "tiny_base": update_config(DEFAULTS, dict(loss=nn.CrossEntropyLoss())),
    "tiny_k2_add": update_config(DEFAULTS, dict(
        base="tiny_base", loss=ParityTargetLoss(nn.MSELoss()),
        code=dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder))),
}
"""


def test_own_network_and_data_live_outside_the_package(
    tmp_path: Path, train: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "_added_paths", [])
    own = tmp_path / "own"
    (own / "Dice" / "mine").mkdir(parents=True)
    (own / "my_network.py").write_text(NETWORK)
    (own / "Dice" / "datamodule.py").write_text(DATAMODULE)
    (own / "Dice" / "mine" / "experiment_parameters.py").write_text(PARAMETERS)
    arguments = ("--dataset", "Dice", "--experiments_path", str(own), "--experiment_name", "tiny_k2_add")
    assert train(*arguments) == 0
    experiment = Experiment("Dice", "tiny_k2_add")
    assert experiment.save_dir == Path("experiments/Dice/mine/tiny_k2_add")
    assert experiment.load_test_metrics()["test/overall_top1"] > 0.5
    assert train("--list", "--experiments_path", str(own)) == 0
    assert "mine: tiny_base tiny_k2_add" in capsys.readouterr().out


def test_a_collection_may_make_its_networks_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_added_paths", [])
    folder = tmp_path / "own2" / "Digits" / "by_model_file"
    folder.mkdir(parents=True)
    (folder / "experiment_parameters.py").write_text("CONFIGS = {'flat_base': dict(model=dict(width=7))}")
    (folder / "model.py").write_text(
        "from torch import nn\n"
        "def get_model(config, query_shape, prediction_shape):\n"
        "    width = config['model']['width']\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, *prediction_shape))\n"
    )
    catalogue.add_experiments_path(tmp_path / "own2")
    assert Experiment("Digits", "flat_base").get_model()(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_two_experiments_of_one_name_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_added_paths", [])
    folder = tmp_path / "own3" / "Digits" / "twice"
    folder.mkdir(parents=True)
    (folder / "experiment_parameters.py").write_text("CONFIGS = {'mlp_base': {}}")
    catalogue.add_experiments_path(tmp_path / "own3")
    with pytest.raises(ParityError, match="'mlp_base' of Digits is in two collections, original and twice"):
        catalogue.experiments("Digits")


@pytest.mark.parametrize(("text", "message"), [("CONFIGS = {", "cannot be imported"), ("x = 1", "has no CONFIGS")])
def test_a_broken_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.setattr(catalogue, "_added_paths", [])
    collection = "broken" + str(len(text))
    folder = tmp_path / "own4" / "Digits" / collection
    folder.mkdir(parents=True)
    (folder / "experiment_parameters.py").write_text(text)
    catalogue.add_experiments_path(tmp_path / "own4")
    with pytest.raises(ParityError, match=rf"{collection}/experiment_parameters\.py {message}"):
        catalogue.experiments("Digits")


def test_globs_and_names(train: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert catalogue.matching("Digits", ["mlp_k*_add", "mlp_k2_add"]) == ["mlp_k2_add", "mlp_k3_add", "mlp_k4_add"]
    with pytest.raises(ParityError, match="no experiment of Digits matches 'cnn_"):
        catalogue.matching("Digits", ["cnn_*"])
    with pytest.raises(ParityError, match="did you mean 'Digits'"):
        catalogue.experiments("digits")
