import importlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from parity import settings
from parity.errors import ParityError
from parity.experiments import Experiment, catalogue
from parity.plain import to_plain


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
    tmp_path: Path, train: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
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
    capsys.readouterr()
    assert train("--list", "--json", "--experiments_path", str(own)) == 0
    listed = {row["experiment"] for row in json.loads(capsys.readouterr().out) if row["collection"] == "mine"}
    assert listed == {"tiny_base", "tiny_k2_add"}


def test_a_collection_may_make_its_networks_itself(tmp_path: Path) -> None:
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


def test_a_key_that_a_collections_own_get_model_never_reads_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "own4" / "Digits" / "misspelled"
    write(folder, "CONFIGS = {'a': dict(model=dict(widht=7)), 'b': dict(model=dict(width=7, deep=1))}")
    model = (
        "from torch import nn\n"
        "def get_model(config, query_shape, prediction_shape):\n"
        "    width = config['model'].get('width', 3)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, *prediction_shape))\n"
    )
    write(folder, model, "model.py")
    catalogue.add_experiments_path(tmp_path / "own4")
    with pytest.raises(ParityError, match=r"Digits a has 'model.widht', .* read: did you mean 'width'\?"):
        Experiment("Digits", "a").get_model()
    with pytest.raises(ParityError, match=r"Digits b has 'model.deep'"):
        Experiment("Digits", "b").get_model()


@pytest.mark.parametrize("configs", ["{'x': None}", "{1: {}}", "{None: {}}", "{'x': [1]}"])
def test_what_is_no_config_by_name_is_refused_with_its_file(configs: str, tmp_path: Path) -> None:
    root = tmp_path / f"own{abs(hash(configs))}"
    file = write(root / "Digits" / "odd", f"CONFIGS = {configs}")
    catalogue.add_experiments_path(root)
    with pytest.raises(ParityError, match=f"CONFIGS of {file} holds configs, dicts, by the experiments' names"):
        catalogue.experiments("Digits")


def test_two_experiments_of_one_name_are_an_error(tmp_path: Path) -> None:
    file = write(tmp_path / "own3" / "Digits" / "twice", "CONFIGS = {'mlp_base': {}}")
    catalogue.add_experiments_path(tmp_path / "own3")
    with pytest.raises(ParityError) as caught:
        catalogue.experiments("Digits")
    original = Path(catalogue.__file__).parent / "Digits" / "original" / "experiment_parameters.py"
    assert f"'mlp_base' of Digits is in two files, {original} and {file}" in str(caught.value)


def write(folder: Path, text: str, name: str = "experiment_parameters.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


COLLECTION = """
from Digits.new.helper import Net as ByName
from .helper import Net
from torch import nn

class Wrapped(Net):
    pass

CONFIGS = {"$_base": dict(model=dict(network=Net, by_name=ByName, wrapped=Wrapped), data=dict(batch_size=$BATCH))}
"""
HELPER = "from torch import nn\nclass Net(nn.Module):\n    of = '$'\n"


def test_two_folders_with_the_same_collection_are_both_loaded(tmp_path: Path) -> None:
    for batch, name in enumerate(("first", "second"), 1):
        folder = tmp_path / name / "Digits" / "new"
        write(folder, COLLECTION.replace("$BATCH", str(batch)).replace("$", name))
        write(folder, HELPER.replace("$", name), "helper.py")
        catalogue.add_experiments_path(tmp_path / name)
    first, second = find("first"), find("second")
    for name, entry in (("first", first), ("second", second)):
        model = entry.config["model"]
        assert model["network"].of == model["by_name"].of == model["wrapped"].of == name
        assert pickle.loads(pickle.dumps(model["wrapped"])) is model["wrapped"]
        assert to_plain(model["wrapped"]) == "Digits.new.experiment_parameters.Wrapped"  # whichever folder came first
    assert find("second").config["model"]["wrapped"] is second.config["model"]["wrapped"]
    assert importlib.import_module("Digits.new.helper").Net is first.config["model"]["by_name"]


def test_a_helper_of_the_same_name_is_that_of_the_files_own_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):  # nothing else has the same name
        write(tmp_path / name, f"OF = '{name}'", "helping.py")
        text = f"from helping import OF\nCONFIGS = {{'{name}_base': dict(model=dict(of=OF))}}"
        write(tmp_path / name / "Digits" / f"helped_{name}", text)
        catalogue.add_experiments_path(tmp_path / name)
    for name in ("two", "one", "two"):
        assert catalogue.find("Digits", f"{name}_base").config["model"]["of"] == name


def find(name: str) -> catalogue.Entry:
    return catalogue.find("Digits", f"{name}_base", "new")


def test_two_datamodules_of_one_data_set_are_an_error(tmp_path: Path) -> None:
    text = DATAMODULE.replace("Dice", "Coins")
    files = [write(tmp_path / name / "Coins", text, "datamodule.py") for name in ("first", "second")]
    for name in ("first", "second"):
        write(tmp_path / name / "Coins" / "mine", f"CONFIGS = {{'{name}_base': {{}}}}")
        catalogue.add_experiments_path(tmp_path / name)
    assert len(catalogue.experiments("Coins")) == 2  # a copy is not another data set
    files[1].write_text(text.replace("300", "600"))
    with pytest.raises(ParityError, match=f"data set 'Coins' is in two files, {files[0]} and {files[1]}"):
        catalogue.experiments("Coins")


@pytest.mark.parametrize("second", ["first/Beans/other", "second/Beans/mine"])
def test_two_files_that_define_a_data_set_are_an_error(second: str, tmp_path: Path) -> None:
    text = DATAMODULE.replace("Dice", "Beans")
    files = [
        write(tmp_path / place, f"{text}\nCONFIGS = {{'{name}_base': {{}}}}")
        for name, place in (("first", "first/Beans/mine"), ("second", second))
    ]
    for name in {"first", second.partition("/")[0]}:
        catalogue.add_experiments_path(tmp_path / name)
    for _ in range(2):  # also when both are imported already
        with pytest.raises(ParityError, match="data set 'Beans' is in two files") as caught:
            catalogue.experiments("Beans")
        assert all(str(file) in str(caught.value) for file in files)


def test_the_command_that_trains_an_experiment_names_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, of_environment = tmp_path / "own 6", tmp_path / "own7"
    write(named / "Digits" / "mine", "CONFIGS = {'mine_base': {}}")
    of_environment.mkdir()
    monkeypatch.setattr(settings, "EXPERIMENTS_PATHS", (of_environment,))
    catalogue.add_experiments_path(named)
    command = Experiment("Digits", "mine_base").command()
    assert (
        command == f"python -m parity train --dataset Digits --experiment_name mine_base --experiments_path '{named}'"
    )


def test_a_folder_may_be_given_from_home(
    tmp_path: Path, train: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "own5" / "Digits" / "at_home", "CONFIGS = {'home_base': {}}")
    assert train("--list", "--json", "--experiments_path", "~/own5") == 0
    listed = [row["experiment"] for row in json.loads(capsys.readouterr().out) if row["collection"] == "at_home"]
    assert listed == ["home_base"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CONFIGS = {", r" cannot be imported \(line 1: SyntaxError: '{' was never closed\)"),
        ("import torch\n\nx = torch.tensor('a')", r" cannot be imported \(line 3: TypeError: "),
        ("from Digits.broken.helper import x", r" cannot be imported \(\S+helper.py, line 2: ZeroDivisionError: "),
        ("from parity.models import Missing", r" cannot be imported \(line 1: ImportError: cannot import name"),
        ("x = 1", " has no CONFIGS"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "own4" / "Digits" / "broken", text)
    write(tmp_path / "own4" / "Digits" / "broken", "x = 1\ny = 1 / 0", "helper.py")
    catalogue.add_experiments_path(tmp_path / "own4")
    with pytest.raises(ParityError, match=rf"broken/experiment_parameters\.py{message}"):
        catalogue.experiments("Digits")


def test_globs_and_names(train: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert catalogue.matching("Digits", ["mlp_k*_add", "mlp_k2_add"]) == ["mlp_k2_add", "mlp_k3_add", "mlp_k4_add"]
    with pytest.raises(ParityError, match="no experiment of Digits matches 'cnn_"):
        catalogue.matching("Digits", ["cnn_*"])
    with pytest.raises(ParityError, match="did you mean 'Digits'"):
        catalogue.experiments("digits")
