"""What save writes, and what it refuses before it writes anything."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.data.datamodule import get_datamodule_class
from parity.data.loaders import Scaling
from parity.errors import ParityError
from parity.export import CardFacts, Preprocessing, load, save, writing
from tests.export.codes import CARD, PREDICTION, QUERY, Exported, make, preprocessing


def protected(network: nn.Module) -> CodedModel:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    return CodedModel(network, LinearEncoder(2, 1, QUERY), [model], LinearDecoder(2, 1, PREDICTION))


class BranchesOnValues(nn.Module):
    def forward(self, queries: Tensor) -> Tensor:
        flat = queries.flatten(1)[:, :5]
        return flat if flat.sum() > 0 else -flat


class FixesTheBatchSize(nn.Module):
    def forward(self, queries: Tensor) -> Tensor:
        return queries.reshape(len(queries), -1)[:, :5]


@pytest.mark.parametrize(("network", "hint"), [(BranchesOnValues(), "branch on values"), (FixesTheBatchSize(), "len")])
def test_a_network_that_cannot_be_traced_is_named_and_nothing_is_written(
    network: nn.Module, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(ParityError, match=rf"the network 'base' \({type(network).__name__}\) cannot be.*{hint}"):
        save(tmp_path / "mine", protected(network), preprocessing(), CARD, onnx=False)
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_not_replaced_and_an_older_artefact_is(
    exported: Callable[..., Exported], tmp_path: Path
) -> None:
    model = make("no_redundancy")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.tex").write_text("years of work")
    with pytest.raises(ParityError, match="holds other files"):
        save(tmp_path / "notes", model, preprocessing(), CARD, onnx=False)
    folder = save(tmp_path / "mine", model, preprocessing(), CARD, onnx=False)
    older = (folder / "base.pt2").stat().st_ino
    save(folder, model, preprocessing(), CARD, onnx=False)
    assert (folder / "base.pt2").stat().st_ino != older
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "notes"]


@pytest.mark.parametrize(
    ("manifest", "beside"),
    [
        ('{"name": "My web app", "start_url": "/"}', "index.html"),
        ('{"format": "parity-artefact", "files": {"base.pt2": {}}}', "thesis.tex"),
        ('{"format": "parity-artefact", "files": 3}', "base.pt2"),
        ("[1]", "base.pt2"),
        ("{", "base.pt2"),
    ],
)
def test_a_folder_with_a_manifest_of_something_else_is_not_replaced(manifest: str, beside: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    (tmp_path / beside).write_text("years of work")
    with pytest.raises(ParityError, match="holds other files"):
        save(tmp_path, make("no_redundancy"), preprocessing(), CARD, onnx=False)
    assert (tmp_path / beside).read_text() == "years of work"


def test_without_the_packages_of_onnx_it_is_left_out_or_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writing, "can_write_onnx", lambda: False)
    model = make("no_redundancy")
    with pytest.raises(ParityError, match=r"pip install 'parity\[export\]'"):
        save(tmp_path / "mine", model, preprocessing(), CARD, onnx=True)
    folder = save(tmp_path / "mine", model, preprocessing(), CARD)
    assert not list(folder.glob("*.onnx"))
    assert "has no ONNX" in caplog.text


def test_the_weights_are_the_state_dict(exported: Callable[..., Exported]) -> None:
    made = exported("learned")  # whose parity model is the base model
    found, expected = load_file(made.folder / "weights.safetensors"), made.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_network_of_several_workers_is_written_once(exported: Callable[..., Exported]) -> None:
    learned, backup = exported("learned"), exported("backup")
    assert json.loads((learned.folder / "manifest.json").read_text())["programs"]["parity"] == ["base"]
    assert json.loads((backup.folder / "manifest.json").read_text())["programs"]["parity"] == ["parity_0", "parity_0"]
    assert not (learned.folder / "parity_0.pt2").exists()


def test_files_name_no_folder_of_this_machine(exported: Callable[..., Exported]) -> None:
    root = str(Path(writing.__file__).parents[2]).encode()
    for path in exported("cells", onnx=True).folder.iterdir():
        assert root not in path.read_bytes(), path.name


def test_the_model_is_left_as_it_is(tmp_path: Path) -> None:
    model = make("add").train()
    model.parity_models.requires_grad_(True)
    save(tmp_path / "mine", model, preprocessing(), CARD, onnx=False)
    assert model.parity_models.training
    assert all(parameter.requires_grad for parameter in model.parity_models.parameters())


def test_the_card_and_the_manifest_state_what_was_handed_over(tmp_path: Path) -> None:
    card = CardFacts(
        "birds", "The base model predicts birds.", "real birds",
        {"A_a": 0.75, "A_d": {"1": {"top1": 0.5}}, "loss": {"1": {"value": 0.25, "low": -0.0, "high": 0.5}}},
        class_names=("wren", "crow", "owl", "kite", "tit"), input_range=(-2.0, 2.5), provenance="a forest",
        licences={"base weights": "Apache-2.0"}, command="python train.py",
    )  # fmt: skip
    folder = save(tmp_path / "mine", make("no_redundancy"), preprocessing(), card, onnx=False)
    text = (folder / "model_card.md").read_text()
    for part in (
        "# birds", "real birds", "| A_a | 0.7500 |", "| A_d 1 top1 | 0.5000 |",
        "| loss 1 | 0.2500 (0.0000 to 0.5000) |", "wren, crow", "from -2 to 2.5",
        "from a forest", "- base weights: Apache-2.0", "python train.py", "red, green, blue", "divide by 255",
        "subtract 0.4, 0.5, 0.6", "k = 2 queries",
    ):  # fmt: skip
        assert part in text
    manifest = load(folder).manifest
    assert manifest["class_names"] == ["wren", "crow", "owl", "kite", "tit"]
    assert manifest["accuracies"] == dict(card.accuracies)
    assert manifest["preprocessing"]["std"] == [0.2, 0.25, 0.3]
    assert re.fullmatch(r"\d+\.\d+.*", manifest["versions"]["torch"])


def test_names_on_the_card_are_shown_as_they_are(tmp_path: Path) -> None:
    odd = "<script>[a](b)|*x*\n# y"
    card = CardFacts(
        odd, odd, odd, {odd: 0.5, "nested": {odd: odd}}, class_names=[odd] * 5, limits=odd, provenance=odd,
        licences={odd: odd}, command=f"python {odd}",
    )  # fmt: skip
    folder = save(tmp_path / "mine", make("no_redundancy"), preprocessing(), card, onnx=False)
    text = (folder / "model_card.md").read_text()
    shown = r"&lt;script&gt;\[a\](b)\|\*x\* \# y"
    assert text.count(shown) == 15
    assert f"\n    python {' '.join(odd.split())}\n" in text
    assert text.count("<script>") == 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int16])
def test_preprocessing_leaves_what_it_is_given(dtype: torch.dtype) -> None:
    stored = torch.randint(0, 100, (2, *QUERY)).to(dtype)
    before = stored.clone()
    scaled = Preprocessing(QUERY, dtype, Scaling(100.0, (0.5, 0.5, 0.5)))(stored)
    assert torch.equal(stored, before)
    assert torch.allclose(scaled, before.float() / 100 - 0.5, atol=1e-6)


def test_preprocessing_of_a_datamodule_is_its_own() -> None:
    datamodule = get_datamodule_class("Digits")(k=2)
    found = Preprocessing.of(datamodule)
    assert (found.dtype, found.query_shape, found.channels) == (torch.uint8, (1, 8, 8), "one")
    loader = datamodule.loader("val")
    stored, scaled = loader.queries[loader.sampler.rows[:5]], next(loader.every_query(5))[1]
    assert torch.equal(found(stored), scaled)
    assert "8 x 8" in found.describe()["source"]
