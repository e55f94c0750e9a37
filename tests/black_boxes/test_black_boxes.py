"""Programs that cannot be copied are protected by being asked; what cannot be is refused in one sentence."""

import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from torch import Tensor, nn

import parity
from parity.black_boxes import BlackBox, DefaultNetworks, answers, default_network, kept, opened
from parity.black_boxes.onnx_costs import multiply_adds_of_onnx
from parity.errors import ParityError
from parity.models import MLP
from parity.models.weights import fingerprint

QUIET = dict(progress=False, accelerator="cpu", k=2, max_epochs=2)

ROWS = torch.rand(120, 12, generator=torch.Generator().manual_seed(0))
CLASSES = (ROWS[:, 0] > ROWS[:, 1]).long() + (ROWS[:, 2] > 0.5).long()


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3)).eval()


def to_onnx(network: nn.Module, path: Path, *inputs: Tensor, batch: str | None = "batch", **names: Any) -> Path:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    shapes = None if batch is None else tuple({0: torch.export.Dim(batch)} for _ in inputs)
    torch.onnx.export(
        network, inputs, str(path), dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False, **names
    )
    return path


class Counting:
    """A function of arrays that counts the queries it is asked."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.asked = network, 0

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        self.asked += len(queries)
        with torch.no_grad():
            return self.network(torch.from_numpy(queries)).numpy()


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return to_onnx(small(), tmp_path_factory.mktemp("onnx") / "small.onnx", ROWS[:3])


def programs(folder: Path) -> dict[str, Callable[[], Any]]:
    scripted = torch.jit.trace(small(), ROWS[:2])
    scripted.save(str(folder / "scripted.pt"))
    batch = torch.export.Dim("batch")
    exported = torch.export.export(small(), (ROWS[:3],), dynamic_shapes=({0: batch},))
    return {"scripted": lambda: scripted, "file": lambda: folder / "scripted.pt", "exported": lambda: exported}


def test_programs_of_torch_predict_as_the_network_does(tmp_path: Path) -> None:
    for name, program in programs(tmp_path).items():
        box = BlackBox(opened(program()))
        torch.testing.assert_close(box(ROWS[:5]), small()(ROWS[:5]).detach(), msg=name)


def test_an_onnx_file_is_protected_saved_and_loaded(onnx_file: Path, tmp_path: Path) -> None:
    result = parity.protect(onnx_file, (ROWS, CLASSES), **QUIET)
    evaluation = result.evaluate((ROWS, CLASSES), timed=False)
    assert evaluation.results["base"]["name"] == "small.onnx"
    assert evaluation.results["base"]["multiply_adds"] == 12 * 16 + 16 * 3
    result.save(tmp_path / "mine")
    coded = parity.load(tmp_path / "mine")
    queries, available = ROWS[:4].view(2, 2, 12), torch.tensor([[True, True, True], [False, True, True]])
    torch.testing.assert_close(coded(queries, available)[0], small()(ROWS[:2]).detach())
    torch.testing.assert_close(coded(queries, available), result.coded_model(queries, available).detach())


def test_multiply_adds_of_an_onnx_file_are_those_of_its_network(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 25, 6)).eval()
    file = to_onnx(network, tmp_path / "conv.onnx", torch.rand(2, 2, 5, 5))
    assert multiply_adds_of_onnx(file.read_bytes()) == 25 * 4 * 2 * 9 + 100 * 6


def test_an_estimator_is_protected_towards_its_probabilities() -> None:
    queries, classes = load_digits(return_X_y=True)
    queries = (queries / 16).astype(np.float32)
    estimator = MLPClassifier((40,), max_iter=60, random_state=0).fit(queries[:800], classes[:800])
    result = parity.protect(estimator, queries[:800], num_validation=100, **{**QUIET, "max_epochs": 20}, factory=None)
    base = result.coded_model.base_model
    expected = torch.from_numpy(estimator.predict_proba(queries[:5])).float()
    torch.testing.assert_close(base(torch.from_numpy(queries[:5])).softmax(1), expected, rtol=1e-3, atol=1e-6)
    found = result.evaluate((queries[800:], classes[800:]), timed=False)
    code = found.results["codes"][0]
    assert code["multiply_adds"] <= 1
    assert code["A_d"]["1"]["value"] > 0.3  # 0.1 is chance


def test_a_default_network_costs_no_more_than_the_box() -> None:
    estimator = MLPClassifier((24,), max_iter=5, random_state=0).fit(ROWS.numpy(), CLASSES.numpy())
    box = BlackBox(opened(estimator))
    made = DefaultNetworks(box, ROWS[:8])((12,), (2, 3))
    weights = sum(layer.weight.numel() for layer in made.modules() if isinstance(layer, nn.Linear))
    assert 0.5 * 24 * 15 < weights <= 24 * 15
    with pytest.raises(ParityError, match="no default parity model does with"):
        DefaultNetworks(box, ROWS[:8])((12,), (200, 3))


def test_a_box_without_countable_multiply_adds_is_bounded_by_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    box = BlackBox(opened(Counting(small())))
    for seconds, most in ((1.0, 512), (1e-12, 0)):
        monkeypatch.setattr(BlackBox, "seconds_per_query", lambda self, queries, seconds=seconds: seconds)
        make = DefaultNetworks(box, ROWS[:8])
        if most:
            assert (
                max(layer.out_features for layer in make((12,), (3,)).modules() if isinstance(layer, nn.Linear)) == most
            )
        else:
            with pytest.raises(ParityError, match="seconds for a query"):
                make((12,), (3,))


def test_each_query_is_asked_once_and_after_a_restart_not_at_all(tmp_path: Path) -> None:
    first, again = Counting(small()), Counting(small())
    parity.protect(first, (ROWS, CLASSES), checkpoints_path=tmp_path / "kept", factory=mlp, **QUIET)
    again_result = parity.protect(again, (ROWS, CLASSES), checkpoints_path=tmp_path / "kept", factory=mlp, **QUIET)
    probes = again.asked  # to see that it is the same program, whose predictions are looked up then
    assert first.asked == len(ROWS) + probes
    assert probes < 50
    other = parity.protect(Counting(small()), (ROWS, CLASSES), factory=mlp, **QUIET)
    assert str(again_result) == str(other)


def test_the_width_of_a_default_network_is_kept_for_the_same_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(folder: str, seconds: float) -> list[tuple[int, ...]]:
        monkeypatch.setattr(BlackBox, "seconds_per_query", lambda *_: seconds)
        result = parity.protect(Counting(small()), (ROWS, CLASSES), checkpoints_path=tmp_path / folder, **QUIET)
        return [tuple(weight.shape) for weight in result.coded_model.parity_models.parameters()]

    monkeypatch.setattr(default_network, "_seconds_per_query", lambda network, _: max(
        layer.out_features for layer in network.modules() if isinstance(layer, nn.Linear)
    ))  # fmt: skip
    first = weights("kept", 100.0)
    assert weights("kept", 200.0) == first
    assert weights("kept", 1e-9) == first
    assert weights("other", 200.0) != first
    (file,) = (tmp_path / "kept").rglob("widths.json")
    file.write_text("{")  # measured again
    assert weights("kept", 100.0) == first


def mlp(query: tuple[int, ...], prediction: tuple[int, ...]) -> nn.Module:
    return MLP(query, prediction, (20,))


def test_what_is_served_is_remembered_up_to_a_bound_and_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_MOST_BYTES", 10 * (3 * 4 + answers._BESIDE))
    program = Counting(small())
    box = BlackBox(opened(program), None, tmp_path)
    with kept(box):
        expected = box(ROWS[:20])
    files = sorted(tmp_path.rglob("*.safetensors"))
    for query in ROWS[20:100]:
        torch.testing.assert_close(box(query[None]), small()(query[None]).detach())
    assert sorted(tmp_path.rglob("*.safetensors")) == files
    asked = program.asked
    torch.testing.assert_close(box(ROWS[:20]), expected)
    box(ROWS[90:100])
    assert program.asked == asked  # what was kept, and the last ones
    box(ROWS[20:40])
    assert program.asked == asked + 20
    loaded = pickle.loads(pickle.dumps(box._answers))
    assert loaded.unknown(ROWS[:20].numpy()) == 0
    assert loaded.unknown(ROWS[30:40].numpy()) == 10


def test_after_protect_nothing_more_is_kept(tmp_path: Path) -> None:
    result = parity.protect(
        Counting(small()), (ROWS, CLASSES), checkpoints_path=tmp_path / "kept", factory=mlp, **QUIET
    )
    files = sorted(tmp_path.rglob("*.safetensors"))
    result.coded_model.base_model(torch.rand(5, 12))
    assert sorted(tmp_path.rglob("*.safetensors")) == files


def test_a_damaged_file_of_predictions_is_asked_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = BlackBox(opened(Counting(small())), None, tmp_path, keeping=True)
    first(ROWS[:20])
    (file,) = tmp_path.glob("*/*.safetensors")
    file.write_bytes(file.read_bytes()[:40])
    program = Counting(small())
    torch.testing.assert_close(BlackBox(opened(program), None, tmp_path)(ROWS[:20]), first(ROWS[:20]))
    assert "is damaged" in caplog.text


def test_a_file_of_one_batch_size_is_asked_so_many_at_a_time(tmp_path: Path) -> None:
    file = to_onnx(small(), tmp_path / "fixed.onnx", ROWS[:4], batch=None)
    torch.testing.assert_close(BlackBox(opened(file))(ROWS[:7]), small()(ROWS[:7]).detach())


def test_numbers_are_predicted_by_a_regressor() -> None:
    target = ROWS.sum(1)
    result = parity.protect(Ridge().fit(ROWS.numpy(), target.numpy()), (ROWS, target), **QUIET, factory=mlp)
    assert result.measured.results["measure"] == "r2"
    assert " of R²" in str(result)


class Recurrent:
    """Keeps what it saw."""

    def __init__(self) -> None:
        self.state = 0.0

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        self.state = 0.5 * self.state + float(queries.mean())
        return queries[:, :3] + self.state


def centred(queries: np.ndarray) -> np.ndarray:
    """Depends on what else is in the batch."""
    return (queries - queries.mean(0))[:, :3]


def classes_alone(queries: np.ndarray) -> np.ndarray:
    return queries[:, :3].argmax(1)[:, None]


def two(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return queries[:, :3], queries[:, 3:5]


def rows(queries: np.ndarray) -> list[list[float]]:
    return queries[:, :3].tolist()


REFUSED: list[tuple[Any, str]] = [
    (rows, r"a list of 2 parts, not one array: .*let it return np.array"),
    (lambda queries: None, "returns a NoneType, and codes rebuild floats"),
    (lambda queries: queries[:, :0], r"returns \(2, 0\) for 2 queries"),
    (lambda queries: queries[:9, :3], r"returns \(9, 3\) for 14 queries"),
    (lambda queries: np.where(queries[:, :3] > 0, -np.inf, 0.0), "predictions that are NaN or infinite"),
    (Recurrent(), "depend on what came before or beside a query"),
    (centred, "depend on what came before or beside a query"),
    (classes_alone, "returns int64, and codes rebuild floats"),
    (two, "of 2 parts, not one array: choose the predictions by output="),
    (lambda queries: queries.sum(), r"returns \(\) for 2 queries"),
    (lambda queries: queries @ np.ones((7, 3)), r"cannot take queries of shape \(12,\)"),
]


@pytest.mark.parametrize(("program", "sentence"), REFUSED)
def test_what_cannot_be_protected_is_refused_in_one_sentence(program: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=sentence) as refused:
        parity.protect(program, (ROWS, CLASSES), checkpoints_path=tmp_path / "kept", **QUIET)
    assert "\n" not in str(refused.value)
    assert not list((tmp_path / "kept").glob("*.ckpt"))


class LateState:
    """Predicts something else once it was asked for many queries."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        self.asked += len(queries)
        return queries[:, :3] + (self.asked > 100)


def test_a_program_that_changes_while_it_is_asked_is_refused() -> None:
    with pytest.raises(ParityError, match="depend on what came before"):
        parity.protect(LateState(), (ROWS, CLASSES), factory=mlp, **QUIET)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            (torch.arange(60).view(20, 3), torch.arange(20) % 3),
            r"ids of tokens, which no default parity model takes: give ",
        ),
        (
            (torch.rand(20, 1, 8, 8), torch.arange(1280).view(20, 8, 8) % 3),
            r"makes dense predictions, of shape \(3, 8, 8\)",
        ),
    ],
)
def test_what_no_default_network_stands_in_for_needs_a_factory(data: tuple[Tensor, Tensor], sentence: str) -> None:
    def threefold(queries: np.ndarray) -> np.ndarray:
        return np.float32(queries) if queries.ndim == 2 else np.repeat(queries, 3, 1)

    with pytest.raises(ParityError, match=sentence) as refused:
        parity.protect(threefold, data, **QUIET)
    assert "\n" not in str(refused.value)


def test_one_of_several_arrays_is_chosen() -> None:
    result = parity.protect(two, (ROWS, CLASSES), output=0, factory=mlp, **QUIET)
    torch.testing.assert_close(result.coded_model.base_model(ROWS[:3]), ROWS[:3, :3])


class TwoOutputs(nn.Module):
    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        return queries[:, :3] * 1.0, queries[:, 3:6] * 1.0


def test_another_output_of_a_file_is_another_program(tmp_path: Path) -> None:
    file = to_onnx(TwoOutputs().eval(), tmp_path / "two.onnx", ROWS[:3], output_names=["first", "second"])
    boxes = [BlackBox(opened(file, name), None, tmp_path / "kept", keeping=True) for name in ("first", "second")]
    assert not torch.equal(boxes[0].digest, boxes[1].digest)
    torch.testing.assert_close(boxes[0](ROWS[:20]), ROWS[:20, :3])
    torch.testing.assert_close(boxes[1](ROWS[:20]), ROWS[:20, 3:6])
    doubled = BlackBox(opened(file, "first"), lambda found: 2 * found, tmp_path / "kept", keeping=True)
    torch.testing.assert_close(doubled(ROWS[:20]), 2 * ROWS[:20, :3])


def test_programs_are_told_apart_before_they_are_asked() -> None:
    programs = Counting(small()), Counting(small())
    first, second = (fingerprint(BlackBox(opened(program))) for program in programs)
    assert first != second
    assert fingerprint(BlackBox(opened(programs[0]))) == first


class TwoInputs(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return first[:, :3] + second[:, :3]


class ClassAndLogits(nn.Module):
    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        return queries[:, :3].argmax(1), queries[:, :3] * 1.0


def test_onnx_files_of_other_forms_are_refused_or_choose_an_output(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="has 2 inputs"):
        opened(to_onnx(TwoInputs(), tmp_path / "two.onnx", ROWS[:3], ROWS[:3]))
    file = to_onnx(ClassAndLogits(), tmp_path / "both.onnx", ROWS[:3], output_names=["class", "logits"])
    with pytest.raises(ParityError, match="has 2 outputs, class, logits: choose one by output="):
        opened(file)
    with pytest.raises(ParityError, match=r"returns tensor\(int64\) as 'class'"):
        opened(file, "class")
    with pytest.raises(ParityError, match="did you mean 'logits'"):
        opened(file, "logit")
    torch.testing.assert_close(BlackBox(opened(file, "logits"))(ROWS[:4]), ROWS[:4, :3])


def test_what_onnx_cannot_hold_is_refused_in_one_sentence(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    kind = onnx.TensorProto

    def file(name: str, taken: int, opset: int = 17, shape: Any = ("n", 12)) -> Path:
        inputs = [onnx.helper.make_tensor_value_info("x", taken, shape)]
        outputs = [onnx.helper.make_tensor_value_info("y", kind.FLOAT, shape)]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Cast", ["x"], ["y"], to=kind.FLOAT)], "g", inputs, outputs
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
        (tmp_path / name).write_bytes(model.SerializeToString())
        return tmp_path / name

    for path, sentence in (
        (file("text.onnx", kind.STRING), r"takes tensor\(string\), and codes encode floats"),
        (file("late.onnx", kind.FLOAT, opset=99), r"onnxruntime reads \(ONNX Runtime only .*Opset 99"),
        (file("other.onnx", kind.FLOAT, shape=(None, 7)), r"cannot take queries of shape \(12,\)"),
    ):
        with pytest.raises(ParityError, match=sentence) as refused:
            parity.protect(path, (ROWS, CLASSES), **QUIET)
        assert "\n" not in str(refused.value)
    for path in (file("any.onnx", kind.FLOAT, shape=None), file("double.onnx", kind.DOUBLE)):
        torch.testing.assert_close(BlackBox(opened(path))(ROWS[:4]), ROWS[:4])


def test_scores_of_pairs_of_classes_are_refused() -> None:
    pairs = SVC(decision_function_shape="ovo").fit(ROWS.numpy(), CLASSES.numpy())
    with pytest.raises(ParityError, match="make it with decision_function_shape='ovr'"):
        opened(pairs)


def test_a_function_in_torchscript_is_asked() -> None:
    traced = torch.jit.trace(lambda queries: queries[:, :3] * 2, ROWS[:4])
    torch.testing.assert_close(BlackBox(opened(traced))(ROWS[:9]), ROWS[:9, :3] * 2)


def test_files_of_weights_are_refused_as_programs(tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / "weights.pt")
    torch.export.save(torch.export.export(small(), (ROWS[:2],)), tmp_path / "exported.pt2")
    (tmp_path / "text.onnx").write_text("not a program")
    (tmp_path / "notes.txt").write_text("not a program")
    for name, sentence in (
        ("weights.pt", "holds weights, and not a TorchScript program"),
        ("exported.pt2", "is an exported program: hand over what torch.export.load"),
        ("text.onnx", "is not an ONNX file that onnxruntime reads"),
        ("notes.txt", "is not a program"),
        ("none.onnx", "there is no file"),
    ):
        with pytest.raises(ParityError, match=sentence):
            parity.protect(tmp_path / name, (ROWS, CLASSES), **QUIET)


def test_an_artefact_names_the_base_model_that_it_does_not_hold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    estimator = HistGradientBoostingClassifier(max_iter=3).fit(ROWS.numpy(), CLASSES.numpy())
    result = parity.protect(estimator, (ROWS, CLASSES), factory=mlp, **QUIET)
    result.save(tmp_path / "mine")
    assert "does not hold the base model, HistGradientBoostingClassifier" in caplog.text
    assert "which this artefact does not hold" in (tmp_path / "mine" / "model_card.md").read_text()
    with pytest.raises(ParityError, match=r"hand it over, parity\.load\(folder, base_model="):
        parity.load(tmp_path / "mine")
    coded = parity.load(tmp_path / "mine", base_model=estimator)
    queries = ROWS[:4].view(2, 2, 12)
    for available in itertools.islice(itertools.product([True, False], repeat=3), 2):
        pattern = torch.tensor(available).expand(2, -1)
        torch.testing.assert_close(coded(queries, pattern), result.coded_model(queries, pattern).detach())


def test_an_artefact_refuses_another_base_model(tmp_path: Path) -> None:
    result = parity.protect(two, (ROWS, CLASSES), output=0, factory=mlp, **QUIET)
    result.save(tmp_path / "mine")

    def first(queries: np.ndarray) -> np.ndarray:
        return queries[:, :3]

    for given, sentence in (
        (lambda queries: 2 - queries[:, :3], "predicts something else than two, which was protected"),
        (nn.Linear(12, 3), "predicts something else than two, which was protected"),
        (5, "base_model is the program that was protected, two, or a network, not 5"),
        (dict, "base_model is the program that was protected, two, or a network, not <class 'dict'>"),
    ):
        with pytest.raises(ParityError, match=sentence):
            parity.load(tmp_path / "mine", base_model=given)
    queries, available = ROWS[:4].view(2, 2, 12), torch.ones(2, 3, dtype=torch.bool)
    for program in (first, result.coded_model.base_model):
        loaded = parity.load(tmp_path / "mine", base_model=program)
        torch.testing.assert_close(loaded(queries, available), queries[..., :3])


def test_predictions_of_any_form_and_precision_are_converted() -> None:
    import scipy.sparse

    for program in (
        lambda queries: torch.from_numpy(queries[:, :3]).bfloat16(),
        lambda queries: torch.from_numpy(queries[:, :3]).to_sparse(),
        lambda queries: scipy.sparse.csr_matrix(queries[:, :3]),
    ):
        torch.testing.assert_close(BlackBox(opened(program))(ROWS[:4]), ROWS[:4, :3], rtol=1e-2, atol=1e-2)


def test_exported_programs_take_the_type_that_they_were_exported_with() -> None:
    batch = ({0: torch.export.Dim("batch")},)
    double = torch.export.export(small().double(), (ROWS[:3].double(),), dynamic_shapes=batch)
    torch.testing.assert_close(BlackBox(opened(double))(ROWS[:5]), small()(ROWS[:5]).detach())
    assert opened(double).multiply_adds == 12 * 16 + 16 * 3
    words = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 3)).eval()
    ids = torch.arange(15).view(3, 5) % 9
    taken = opened(torch.export.export(words, (ids,), dynamic_shapes=batch))
    assert taken.multiply_adds == 20 * 3
    torch.testing.assert_close(BlackBox(taken)(ids), words(ids).detach())


def test_a_script_module_stays_in_the_mode_that_it_is_in() -> None:
    script = torch.jit.script(nn.Sequential(nn.Linear(12, 3), nn.Dropout(0.5)))
    predictions = BlackBox(opened(script.train()))(ROWS[:9])
    torch.testing.assert_close(predictions, script[0](ROWS[:9]).detach())
    assert script.training


def test_a_function_chooses_among_what_an_onnx_file_returns(onnx_file: Path) -> None:
    result = parity.protect(onnx_file, (ROWS, CLASSES), output=lambda logits: 2 * logits, factory=mlp, **QUIET)
    torch.testing.assert_close(result.coded_model.base_model(ROWS[:3]), 2 * small()(ROWS[:3]).detach())
