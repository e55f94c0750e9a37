"""The localisation analysis: which images it takes, what it measures, what it leaves in a run's folder."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from parity.analyses import localisation
from parity.analyses.localisation_grids import choose, config_named, shares_of_grids
from parity.data import TensorDataModule
from parity.errors import ParityError
from parity.experiments import Experiment
from parity.runs.training import run_training

pytest.importorskip("bcos", reason="the extra explain is not installed")
pytest.importorskip("captum", reason="the extra explain is not installed")


class OwnChannelDataModule(TensorDataModule):
    """Five classes of images of which only the class's channel is bright."""

    NUM_CLASSES = 5
    QUERY_SHAPE = (5, 4, 4)
    DIVISOR = 1.0
    PER_CLASS = 6

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        targets = torch.arange(self.NUM_CLASSES).repeat(self.PER_CLASS)
        queries = torch.zeros(len(targets), *self.QUERY_SHAPE, dtype=torch.uint8)
        for row, target in enumerate(targets.tolist()):
            queries[row, target] = row + 1  # later rows are brighter, and predicted with more certainty
        return queries, targets


class Sums(nn.Module):
    """Predicts class c by the sum of channel c, and ``mixed`` times that of all channels."""

    def __init__(self, mixed: float = 0.0) -> None:
        super().__init__()
        self.mixed = mixed

    def forward(self, queries: Tensor) -> Tensor:
        sums = queries.mean((2, 3))
        return sums + self.mixed * sums.sum(1, keepdim=True)


@pytest.fixture
def data() -> OwnChannelDataModule:
    return OwnChannelDataModule(num_validation=1)


def test_grids_are_of_different_classes_that_the_network_is_most_sure_of(data: OwnChannelDataModule) -> None:
    chosen = choose(Sums(), data, "test", grids=5, cells=4)
    assert chosen.queries.shape == (5, 4, 5, 4, 4)
    assert all(len(set(grid)) == 4 for grid in chosen.classes.tolist())
    rows = chosen.rows.flatten().tolist()
    assert len(set(rows)) == 20
    assert min(rows) >= 10  # four of six of each class, the brightest
    assert torch.equal(chosen.rows % 5, chosen.classes)
    again = choose(Sums(), data, "test", grids=5, cells=4)
    assert torch.equal(again.rows, chosen.rows)
    assert len({tuple(grid) for grid in chosen.classes.tolist()}) > 1


def test_too_few_images_or_classes_get_one_sentence_that_says_how_many_there_are(data: OwnChannelDataModule) -> None:
    with pytest.raises(ParityError, match="right for 7 grids of 4 different classes, not for 8"):
        choose(Sums(), data, "test", grids=8, cells=4)
    with pytest.raises(ParityError, match="a grid of 9 images has as many classes, and OwnChannel has 5"):
        choose(Sums(), data, "test", grids=1, cells=9)


def test_a_network_that_looks_at_its_own_class_alone_scores_one_and_one_that_looks_at_all_scores_less(
    data: OwnChannelDataModule,
) -> None:
    chosen = choose(Sums(), data, "test", grids=3, cells=4)
    right = shares_of_grids(Sums(), chosen, 2, "InputXGradient", smooth=1, batch_size=5)
    assert torch.allclose(right, torch.ones(3, 4))
    # Gradients in all pixels are alike, so that an image's part is that of its brightness.
    mixed = shares_of_grids(Sums(mixed=1e6), chosen, 2, "InputXGradient", smooth=1, batch_size=5)
    light = chosen.queries.flatten(2).sum(2)
    assert torch.allclose(mixed, light / light.sum(1, keepdim=True), atol=1e-4)


@pytest.mark.parametrize("name", ["500", "500_3x2", "0_3x3", "500_1x1", "500_code", "500_3x3_", "x_3x3"])
def test_a_name_that_does_not_fit_says_which_do(name: str) -> None:
    with pytest.raises(ParityError, match=r"such as 500_3x3 or 250_2x2"):
        config_named(name, is_base=True)
    assert config_named("250_2x2", is_base=True) == (250, 2)
    assert config_named("40_code", is_base=False) == (40, None)
    with pytest.raises(ParityError, match="such as 500_code"):
        config_named("500_3x3", is_base=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name in ("bcos_base", "bcos_k2_cells", "bcos_k2_add"):
        run_training(Experiment("Digits", name, base_directory=folder, overrides=epochs(name)))
    return folder


def epochs(name: str) -> dict[str, int]:
    return {"trainer.max_epochs": 4 if name.endswith("_base") else 1}


def command(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["localisation", *options])
    localisation.main(localisation.get_parser().parse_args())


def test_results_lie_in_the_runs_folder_and_the_same_command_resumes(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs / "Digits" / "bcos" / "bcos_base"
    options = ["--save_path", str(run), "--analysis_config", "6_2x2", "--batch_size", "8", "--reload", "last"]
    command(monkeypatch, *options, "--explainer_name", "Ours", "GradCAM")
    folder = run / "localisation_analysis" / "last_6_2x2"
    assert {path.name for path in folder.iterdir()} == {
        "Ours_smooth1.json", "Ours_smooth1.parquet", "GradCAM_smooth1.json", "GradCAM_smooth1.parquet",
        "localisation.png",
    }  # fmt: skip
    path = folder / "Ours_smooth1.json"
    whole = path.read_text()
    result = json.loads(whole)
    shares = torch.tensor(result["shares"])
    assert shares.shape == (6, 4)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert result["score"]["value"] == pytest.approx(float(shares.mean()))
    assert result["score"]["low"] <= result["score"]["value"] <= result["score"]["high"]
    assert result["chance"] == 0.25
    table = pd.read_parquet(path.with_suffix(".parquet"))
    assert table["share"].tolist() == [share for grid in result["shares"] for share in grid]
    assert table.groupby("grid")["class"].nunique().eq(4).all()

    # Stopped after two grids, whose shares are kept as they are; the rest comes out the same.
    kept = [[0.123] * 4, *result["shares"][1:2]]
    path.write_text(json.dumps({"identity": result["identity"], "shares": kept}))
    command(monkeypatch, *options)
    resumed = json.loads(path.read_text())["shares"]
    assert resumed[0] == [0.123] * 4
    assert torch.allclose(torch.tensor(resumed[1:]), shares[1:])
    # Of other weights nothing is used.
    path.write_text(json.dumps({"identity": {**result["identity"], "weights_sha256": "0"}, "shares": kept}))
    command(monkeypatch, *options)
    assert path.read_text() == whole
    path.write_text("{")
    with pytest.raises(ParityError, match="Remove it, and the same command starts over"):
        command(monkeypatch, *options)
    for bad in ([["x"] * 4] * 6, [[0.5] * 4, [0.5]], [0.5] * 4, [[0.5] * 4] * 9, [[None] * 4], [[7.0] * 4]):
        path.write_text(json.dumps({"identity": result["identity"], "shares": bad}))
        with pytest.raises(ParityError, match=r"its shares are not those of 6 grids of 4 cells\. Remove it"):
            command(monkeypatch, *options)
    path.write_text(whole)
    # What lies beside it and is damaged is left out of the figure.
    for number, content in enumerate(
        ['{"identity": {}, "shares": []}', "{", '{"identity": {"smooth": "x"}, "shares": []}']
    ):
        (folder / f"Other{number}_smooth1.json").write_text(content)
    command(monkeypatch, *options)
    assert path.read_text() == whole
    path.unlink()


def test_codes_are_analysed_on_their_own_groups(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--base_directory", str(runs), "--dataset", "Digits", "--analysis_config", "5_code"]
    command(monkeypatch, *options, "--experiment_name", "bcos_k2_cells")
    folder = runs / "Digits" / "bcos"
    cells = json.loads((folder / "bcos_k2_cells/localisation_analysis/best_5_code/Ours_smooth1.json").read_text())
    assert cells["shares"] == [[1.0, 1.0]] * 5
    assert cells["chance"] == 0.5
    command(monkeypatch, *options, "--experiment_name", "bcos_k2_add", "--through_base_model")
    name = "bcos_k2_add/localisation_analysis/best_5_code_through_base_model/Ours_smooth1.json"
    assert 0 < json.loads((folder / name).read_text())["score"]["value"] < 1


def test_what_does_not_fit_is_refused_before_any_work(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs / "Digits" / "bcos" / "bcos_base"
    for options, message in (
        ([], "name --dataset and --experiment_name"),
        (["--save_path", str(run), "--analysis_config", "6_code"], "such as 500_3x3 or 250_2x2"),
        (["--save_path", str(run), "--explainer_name", "our"], "no explainer 'our'"),
        (["--save_path", str(run), "--explainer_name", "DeepLIFT"], "such as ResNet and MLP"),
        (["--save_path", str(run), "--batch_size", "0"], "not 0"),
        (["--save_path", str(run), "--smooth", "4"], "an odd number"),
        (["--save_path", str(run), "--reload", "epoch_77"], "epoch_77"),
        (["--save_path", str(run), "--through_base_model"], "is a base model: through_base_model is of codes"),
        (["--save_path", f"{run.parent}/bcos_k2_add", "--explainer_name", "GradCAM"], "have no places of their own"),
    ):
        with pytest.raises(ParityError, match=message):
            command(monkeypatch, *options)
    with pytest.raises(ParityError, match="name one explainer or more"):
        localisation.analyse(Experiment(run), "2_2x2", [])
    with pytest.raises(ParityError, match="batch_size counts explanations"):
        localisation.analyse(Experiment(run), "2_2x2", batch_size=0)
    assert not (run / "localisation_analysis" / "best_500_3x3").exists()


def test_a_network_for_images_of_one_size_gets_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_training(Experiment("Digits", "mlp_base", base_directory=tmp_path, overrides={"trainer.max_epochs": 1}))
    with pytest.raises(ParityError, match="does not take a grid of 2 x 2 images"):
        command(
            monkeypatch, "--save_path", str(tmp_path / "Digits/original/mlp_base"), "--analysis_config", "2_2x2",
            "--explainer_name", "Saliency",
        )  # fmt: skip
