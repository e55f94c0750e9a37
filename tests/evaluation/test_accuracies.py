import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from parity import erasures
from parity.coded_model import CodedModel
from parity.coders import (
    BerrutDecoder,
    BerrutEncoder,
    GridEncoder,
    LinearDecoder,
    LinearEncoder,
    PositionalDecoder,
    coefficients,
)
from parity.data import GroupSampler, TensorLoader
from parity.data.digits import DigitsDataModule
from parity.data.loaders import Scaling
from parity.errors import ParityError
from parity.evaluation import CodeEvaluation, evaluate_base, evaluate_code
from parity.evaluation.comparison import Calibration
from parity.models import MLP
from parity.tasks import Classification

DEFAULT = 3
TASK, DEFAULT_PREDICTION = Classification(10), torch.eye(10)[DEFAULT]
QUERIES = 100
CODES = [(2, 1), (3, 2)]


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """Queries uint8 (N, 1, 8, 8) and labels of the test data."""
    return DigitsDataModule().load(train=False)


def loader(digits: tuple[Tensor, Tensor], k: int, batch_size: int = 7) -> TensorLoader:
    sampler = GroupSampler(torch.arange(QUERIES), k, batch_size, seed=0, shuffle=False)
    return TensorLoader(*digits, sampler, Scaling(16.0), "test")


def mlp() -> nn.Module:
    return MLP((1, 8, 8), (10,), hidden=(30,))


def fit(network: nn.Module, queries: Tensor, targets: Tensor) -> None:
    """Fit the last layer by ridge regression, so that the network is right more often than by chance."""
    with torch.no_grad():
        features = nn.functional.pad(network.layers[:-1](queries.flatten(1)), (0, 1), value=1.0)
        ridge = features.T @ features + torch.eye(features.shape[1])
        solution = torch.linalg.solve(ridge, features.T @ targets)
    network.layers[-1].load_state_dict({"weight": solution[:-1].T, "bias": solution[-1]})


def base_model(digits: tuple[Tensor, Tensor]) -> nn.Module:
    network = mlp()
    fit(network, digits[0] / 16, nn.functional.one_hot(digits[1], 10).float())
    return network


def coded_model(k: int, r: int, digits: tuple[Tensor, Tensor]) -> CodedModel:
    """A base model, and parity models that are wrong in different ways but not everywhere."""
    encoder, decoder = LinearEncoder(k, r, (1, 8, 8)), LinearDecoder(k, r, (10,))
    model = CodedModel(base_model(digits), encoder, [mlp() for _ in range(r)], decoder)
    queries = digits[0][torch.randint(len(digits[0]), (300, k))] / 16
    with torch.no_grad():
        parity_queries, targets = encoder(queries), decoder.parity_targets(model.base_outputs(queries))
    for j, network in enumerate(model.parity_models):
        fit(network, parity_queries[:, j], targets[:, j])
    return model


class BruteForce:
    """A_a, A_d(e), reconstruction accuracy and A_o(f), word by word as the README defines them.

    Decoding is written independently: least squares, in float64, for the predictions that are missing.
    """

    def __init__(self, model: CodedModel, source: TensorLoader) -> None:
        self.k, self.r, self.n = model.k, model.r, model.n
        self.code = coefficients(self.k, self.r).numpy()
        self.labels, self.predictions, self.parity_predictions = [], [], []
        for indices in source.sampler.groups():
            queries = source.queries[indices] / 16
            parity_queries = torch.tensor(self.code).float() @ queries.flatten(1)
            with torch.no_grad():
                predictions = [model.base_model(query[None])[0] for query in queries]
                answers = [
                    network(query.view(1, 1, 8, 8))[0]
                    for network, query in zip(model.parity_models, parity_queries, strict=True)
                ]
            self.labels.append(source.targets[indices].tolist())
            self.predictions.append(torch.stack(predictions).double().numpy())
            self.parity_predictions.append(torch.stack(answers).double().numpy())
        self.groups = len(self.labels)

    def rebuilt(self, group: int, missing: list[int], parities: list[int]) -> dict[int, np.ndarray]:
        arrived = [i for i in range(self.k) if i not in missing]
        rest = self.parity_predictions[group][parities]
        rest = rest - self.code[np.ix_(parities, arrived)] @ self.predictions[group][arrived]
        solution = np.linalg.lstsq(self.code[np.ix_(parities, missing)], rest, rcond=None)[0]
        return dict(zip(missing, solution, strict=True))

    def patterns(self, erased: int) -> Iterator[tuple[list[int], list[int]]]:
        """Missing predictions and arrived parity outputs, of every pattern of that many erasures."""
        for positions in itertools.combinations(range(self.n), erased):
            missing = [i for i in positions if i < self.k]
            yield missing, [j for j in range(self.r) if self.k + j not in positions]

    def a_a(self) -> float:
        return float(
            np.mean([self.predictions[g][i].argmax() == self.labels[g][i] for g, i in self.everywhere()]),
        )

    def everywhere(self) -> Iterator[tuple[int, int]]:
        return itertools.product(range(self.groups), range(self.k))

    def degraded(self, erased: int, top: int, against: str, position: int | None = None) -> float:
        """At one position, if given: over the patterns that hit it."""
        of_patterns = []
        for missing, parities in self.patterns(erased):
            counted = [i for i in missing if position in (None, i)]
            if not counted:
                continue
            right = []
            for group in range(self.groups):
                rebuilt = self.rebuilt(group, missing, parities)
                for i in counted:
                    truth = self.labels[group][i] if against == "overall" else self.predictions[group][i].argmax()
                    right.append(truth in np.argsort(-rebuilt[i])[:top])
            of_patterns.append(np.mean(right))
        return float(np.mean(of_patterns))

    def overall(self, f: float) -> float:
        expected = 0.0
        for erased in range(self.n + 1):
            for missing, parities in self.patterns(erased):
                right = []
                for group in range(self.groups):
                    decodable = len(missing) <= len(parities)
                    rebuilt = self.rebuilt(group, missing, parities) if decodable and missing else {}
                    for i in range(self.k):
                        if i not in missing:
                            told = self.predictions[group][i].argmax()
                        elif decodable:
                            told = rebuilt[i].argmax()
                        else:
                            told = DEFAULT
                        right.append(told == self.labels[group][i])
                expected += f**erased * (1 - f) ** (self.n - erased) * np.mean(right)
        return float(expected)


@pytest.fixture(scope="module", params=CODES, ids=str)
def evaluated(
    request: pytest.FixtureRequest, digits: tuple[Tensor, Tensor]
) -> tuple[CodedModel, CodeEvaluation, BruteForce]:
    k, r = request.param
    torch.manual_seed(10 * k + r)
    model = coded_model(k, r, digits)
    source = loader(digits, k)
    return model, evaluate_code(model, source, TASK, DEFAULT_PREDICTION), BruteForce(model, source)


def test_the_example_tells_the_accuracies_apart(evaluated: tuple) -> None:
    _, evaluation, _ = evaluated
    shares = [evaluation.a_a, evaluation.degraded(1), evaluation.degraded(1, against="reconstruction")]
    assert min(shares) > 0.2
    assert max(shares) < 1
    assert len(set(shares)) == 3


def test_a_a(evaluated: tuple) -> None:
    _, evaluation, brute_force = evaluated
    assert evaluation.a_a == pytest.approx(brute_force.a_a())


@pytest.mark.parametrize("against", ["overall", "reconstruction"])
@pytest.mark.parametrize("top", [1, 2, 5])
def test_a_d(evaluated: tuple, against: str, top: int) -> None:
    _, evaluation, brute_force = evaluated
    for erased in range(1, brute_force.r + 1):
        assert evaluation.degraded(erased, f"top{top}", against) == pytest.approx(
            brute_force.degraded(erased, top, against)
        )


@pytest.mark.parametrize("against", ["overall", "reconstruction"])
def test_a_d_by_position(evaluated: tuple, against: str) -> None:
    _, evaluation, brute_force = evaluated
    for erased, position in itertools.product(range(1, brute_force.r + 1), range(brute_force.k)):
        expected = brute_force.degraded(erased, 1, against, position)
        assert evaluation.degraded_at(erased, position, "top1", against) == pytest.approx(expected)


@pytest.mark.parametrize("f", [0.0, 0.01, 0.1, 0.5, 0.9, 1.0])
def test_a_o(evaluated: tuple, f: float) -> None:
    _, evaluation, brute_force = evaluated
    assert evaluation.overall_accuracy(f) == pytest.approx(brute_force.overall(f), abs=1e-12)


def test_a_o_goes_from_a_a_to_the_share_of_the_default(evaluated: tuple) -> None:
    _, evaluation, brute_force = evaluated
    default = np.mean([label == DEFAULT for labels in brute_force.labels for label in labels])
    assert evaluation.overall_accuracy(0.0) == pytest.approx(evaluation.a_a)
    assert evaluation.overall_accuracy(1.0) == pytest.approx(default)


def test_a_o_to_first_order(evaluated: tuple) -> None:
    _, evaluation, _ = evaluated
    f = 1e-4
    first_order = (1 - f) * evaluation.a_a + f * evaluation.degraded(1)
    assert abs(evaluation.a_a - evaluation.degraded(1)) * f > 1e-5
    assert evaluation.overall_accuracy(f) == pytest.approx(first_order, abs=1e-6)


def test_a_d_is_what_forward_answers(evaluated: tuple, digits: tuple[Tensor, Tensor]) -> None:
    model, evaluation, _ = evaluated
    right, total = 0, 0
    with torch.no_grad():
        for batch in loader(digits, model.k).batches():
            for i in range(model.k):
                available = torch.ones(len(batch.queries), model.n, dtype=torch.bool)
                available[:, i] = False
                answers = model(batch.queries, available)[:, i]
                right += int((answers.argmax(-1) == batch.targets[:, i]).sum())
                total += len(answers)
    assert evaluation.degraded(1) == pytest.approx(right / total)


@pytest.mark.parametrize("batch_size", [1, 16, 1000])
def test_batch_size_changes_nothing(evaluated: tuple, digits: tuple[Tensor, Tensor], batch_size: int) -> None:
    model, evaluation, _ = evaluated
    other = evaluate_code(model, loader(digits, model.k, batch_size), TASK, DEFAULT_PREDICTION)
    assert other.summary() == evaluation.summary()


def test_the_summary_holds_the_same_values(evaluated: tuple) -> None:
    model, evaluation, _ = evaluated
    summary = evaluation.summary(unavailable=(0.0, 0.2))
    assert (summary["k"], summary["r"]) == (model.k, model.r)
    assert summary["groups"] == QUERIES // model.k
    assert summary["queries_left_over"] == QUERIES % model.k
    assert summary["A_a"] == evaluation.a_a
    assert summary["floor"] == pytest.approx(evaluation.overall_accuracy(1.0))
    assert summary["A_o"] == {"0.0": evaluation.overall_accuracy(0.0), "0.2": evaluation.overall_accuracy(0.2)}
    assert list(summary["A_d"]) == [str(erased) for erased in range(1, model.r + 1)]
    for erased, table in summary["A_d"].items():
        for against, top in itertools.product(("overall", "reconstruction"), (1, 2, 5, 10)):
            assert table[f"{against}_top{top}"] == evaluation.degraded(int(erased), f"top{top}", against)
            by_position = [evaluation.degraded_at(int(erased), i, None, against) for i in range(model.k)]
            assert table[f"{against}_top1_by_position"] == by_position


@pytest.mark.parametrize("f", [-0.1, 1.1, float("nan")])
def test_f_must_be_a_probability(evaluated: tuple, f: float) -> None:
    with pytest.raises(ParityError, match="f is a probability"):
        evaluated[1].overall_accuracy(f)


def test_workers_that_differ_or_fail_together_change_what_users_get(evaluated: tuple) -> None:
    _, evaluation, _ = evaluated
    usual, n = evaluation.overall_accuracy(0.1), evaluation.n
    assert evaluation.overall_accuracy_of([0.1] * n) == pytest.approx(usual)
    assert evaluation.overall_accuracy_beside_a_slow_worker(0.1, times=1) == pytest.approx(usual)
    assert evaluation.overall_accuracy_together(0.1, 0.0) == usual
    assert evaluation.overall_accuracy_together(0.1, 1.0) == pytest.approx(
        0.9 * evaluation.a_a + 0.1 * evaluation.floor
    )
    one_down = [float(worker == 0) for worker in range(n)]
    assert evaluation.overall_accuracy_of(one_down) == pytest.approx(
        (evaluation.degraded_at(1, 0) + float(evaluation.base[1:, 0].sum() / evaluation.groups)) / evaluation.k
    )


def test_perfect_parity_models_lose_nothing_that_can_be_decoded(digits: tuple[Tensor, Tensor]) -> None:
    base = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    model = CodedModel(base, LinearEncoder(3, 2, (1, 8, 8)), [base, base], LinearDecoder(3, 2, (10,)))
    evaluation = evaluate_code(model, loader(digits, 3), TASK, DEFAULT_PREDICTION)
    for erased in (1, 2):
        assert evaluation.degraded(erased, against="reconstruction") == 1
        assert [evaluation.degraded_at(erased, i, against="reconstruction") for i in range(3)] == [1, 1, 1]


def test_beyond_twelve_outputs_a_d_is_exact_and_a_o_is_sampled(digits: tuple[Tensor, Tensor]) -> None:
    k, f = 13, 0.3
    model, source = coded_model(k, 1, digits), loader(digits, k)
    evaluation = evaluate_code(model, source, TASK, DEFAULT_PREDICTION)
    assert evaluation.degraded(1) == pytest.approx(BruteForce(model, source).degraded(1, 1, "overall"))
    floor = evaluation.floor
    rebuilt = f * (1 - f) ** k  # a prediction is missing, and nothing else
    exact = (1 - f) * evaluation.a_a + rebuilt * evaluation.degraded(1) + (f - rebuilt) * floor
    sampled, error = evaluation.overall_accuracy_with_error(f)
    assert 0 < error < 0.01
    assert abs(sampled - exact) < 4 * error
    assert evaluation.overall_accuracy_with_error(0.0) == (pytest.approx(evaluation.a_a), 0)


@pytest.mark.parametrize("paired", [False, True])
def test_a_d_of_too_many_patterns_is_sampled_and_its_interval_is_wider(
    digits: tuple[Tensor, Tensor], paired: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, decoder = BerrutEncoder(8, 6, (1, 8, 8)), BerrutDecoder(8, 6, (10,))
    model, source = CodedModel(base_model(digits), encoder, [], decoder), loader(digits, 8)
    erased = 5  # of which there are 2002
    exact = evaluate_code(model, source, TASK, DEFAULT_PREDICTION, paired)
    monkeypatch.setattr(erasures, "ENUMERATED", 500)
    sampled, again = (evaluate_code(model, source, TASK, DEFAULT_PREDICTION, paired) for _ in range(2))
    assert sampled.degraded(erased) == again.degraded(erased) != exact.degraded(erased)
    rows, hit = exact._rows_and_hit(erased)
    of_patterns = (exact.overall[rows][..., 0] * hit).sum(1) / hit.sum(1) / exact.groups
    error = float(of_patterns.std()) / 1000**0.5
    assert abs(sampled.degraded(erased) - exact.degraded(erased)) < 4 * error
    for name in ("degraded_interval", "loss_interval"):
        value, low, high = getattr(exact, name)(erased)
        wider = getattr(sampled, name)(erased)
        assert wider.value - wider.low == pytest.approx(((value - low) ** 2 + (1.96 * error) ** 2) ** 0.5, rel=0.05)
        assert wider.high - wider.value == pytest.approx(((high - value) ** 2 + (1.96 * error) ** 2) ** 0.5, rel=0.05)
    for few in (1, 2, 3):  # all are looked at
        assert sampled.degraded_interval(few) == exact.degraded_interval(few)
        assert sampled.loss_interval(few) == exact.loss_interval(few)


def test_a_code_that_tolerates_very_many_erasures_is_evaluated(digits: tuple[Tensor, Tensor]) -> None:
    encoder, decoder = BerrutEncoder(12, 13, (1, 8, 8)), BerrutDecoder(12, 13, (10,))
    model = CodedModel(base_model(digits), encoder, [], decoder)
    evaluation = evaluate_code(model, loader(digits, 12), TASK, DEFAULT_PREDICTION)
    assert len(evaluation.patterns) < 25_000
    assert evaluation.degraded_interval(1).low < evaluation.degraded(1)


def test_intervals_are_of_the_spread_over_groups(digits: tuple[Tensor, Tensor]) -> None:
    model, source = coded_model(2, 1, digits), loader(digits, 2)
    evaluation = evaluate_code(model, source, TASK, DEFAULT_PREDICTION, unavailable=(0.0, 0.2))
    queries, targets = (torch.cat([getattr(batch, name) for batch in source]) for name in ("queries", "targets"))
    with torch.no_grad():
        predictions = model.base_outputs(queries)
        rebuilt = model.decoder.rebuild_each(*model.outputs(queries))
    for answers, interval in ((predictions, evaluation.base_interval()), (rebuilt, evaluation.degraded_interval(1))):
        of_groups = (answers.argmax(-1) == targets).double().mean(1)
        margin = 1.96 * of_groups.std(correction=0) / len(of_groups) ** 0.5
        assert interval.value == pytest.approx(float(of_groups.mean()))
        assert interval.high == pytest.approx(min(1.0, float(of_groups.mean() + margin)))
        assert interval.low == pytest.approx(float(of_groups.mean() - margin))
    told = [(answers.argmax(-1) == targets).double() for answers in (predictions, rebuilt)] + [
        (targets == DEFAULT).double()
    ]
    f, alone = 0.2, 0.2 * 0.8**2
    of_groups = ((1 - f) * told[0] + alone * told[1] + (f - alone) * told[2]).mean(1)
    margin = 1.96 * of_groups.std(correction=0) / len(of_groups) ** 0.5
    assert evaluation.overall_interval(f).value == pytest.approx(float(of_groups.mean()))
    assert evaluation.overall_interval(f).high == pytest.approx(float(of_groups.mean() + margin))
    assert evaluation.overall_interval(0.0) == pytest.approx(evaluation.base_interval())
    error = (rebuilt - predictions).square().mean()
    assert evaluation.mean_squared_error() == pytest.approx(float(error), rel=1e-5)


def test_a_o_is_exact_up_to_twelve_outputs(digits: tuple[Tensor, Tensor]) -> None:
    k, f = 11, 0.3
    evaluation = evaluate_code(coded_model(k, 1, digits), loader(digits, k), TASK, DEFAULT_PREDICTION)
    default = float((loader(digits, k).targets[loader(digits, k).sampler.groups()] == DEFAULT).double().mean())
    rebuilt = f * (1 - f) ** k  # a prediction is missing, and nothing else
    expected = (1 - f) * evaluation.a_a + rebuilt * evaluation.degraded(1) + (f - rebuilt) * default
    assert evaluation.overall_accuracy(f) == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 3])
def test_a_base_model_is_evaluated_on_every_query(digits: tuple[Tensor, Tensor], k: int) -> None:
    network = nn.Sequential(nn.Dropout(0.9), base_model(digits)).train()
    with torch.no_grad():
        scores = network[1](digits[0][:QUERIES] / 16)
    right = int((scores.argmax(1) == digits[1][:QUERIES]).sum())
    assert 20 < right < QUERIES
    result = evaluate_base(network, loader(digits, k), TASK)
    assert result["queries"] == QUERIES
    assert result["top1"] == pytest.approx(right / QUERIES)
    in_five = (scores.topk(5).indices == digits[1][:QUERIES, None]).any(1).double().mean()
    assert result["top5"] == pytest.approx(float(in_five))
    assert result["top10"] == 1


def test_evaluation_is_in_eval_mode(digits: tuple[Tensor, Tensor]) -> None:
    model = coded_model(2, 1, digits)
    model.parity_models[0] = nn.Sequential(nn.Dropout(0.5), model.parity_models[0])
    first, second = (
        evaluate_code(model.train(), loader(digits, 2), TASK, DEFAULT_PREDICTION).summary() for _ in range(2)
    )
    assert first == second


def test_nan_is_never_right(digits: tuple[Tensor, Tensor]) -> None:
    class Broken(nn.Module):
        def forward(self, queries: Tensor) -> Tensor:
            return torch.full((len(queries), 10), torch.nan)

    source = loader(digits, 1)
    assert evaluate_base(Broken(), source, TASK)["top10"] == 0


def test_nan_has_no_confidence() -> None:
    calibration = Calibration(torch.device("cpu"))
    nothing = torch.full((2, 3, 4), torch.nan)
    calibration.update(nothing, nothing, torch.zeros(2, 3, dtype=torch.long))
    for sums in calibration.sums.values():
        assert (sums[0, 0], sums[0, 1:].sum(), sums[1].sum()) == (6, 0, 0)


def test_a_o_of_a_code_that_rebuilds_every_prediction() -> None:
    """A non-systematic code of k = 2 that needs all three outputs, always right then; the default, half the time."""
    patterns = erasures.Strata(3).patterns
    sums = torch.full((8, 2, 1), 10.0, dtype=torch.double)
    evaluation = CodeEvaluation(
        k=2, n=3, groups=10, leftover=0, task=Classification(1), strata=erasures.Strata(3), separate=0,
        patterns=patterns,
        rebuildable=patterns.all(1)[:, None].expand(8, 2), rebuilt=torch.ones(8, 2, dtype=torch.bool),
        overall=sums, reconstruction=sums, base=sums[0], squared_error=sums[..., 0],
        default=torch.tensor([[5.0], [5.0]], dtype=torch.double), squares={}, most_erased=1,
        base_by_group=sums[0, 0], degraded_by_group=sums[:2, 0],
    )  # fmt: skip
    assert evaluation.overall_accuracy(0.5) == pytest.approx(0.125 + 0.875 * 0.5)
    with pytest.raises(ParityError, match="cannot rebuild every pattern of 1"):
        evaluation.degraded(1)


@pytest.mark.parametrize("paired", [False, True])
def test_any_number_of_missing_predictions_is_measured_where_it_can_be_rebuilt(digits, paired: bool) -> None:
    encoder, decoder = GridEncoder(2, 2, (1, 8, 8)), PositionalDecoder(2, 2, (10,))
    networks = [MLP((1, 8, 8), (2, 10), hidden=(30,)) for _ in range(2)]
    model = CodedModel(base_model(digits), encoder, networks, decoder)
    evaluation = evaluate_code(model, loader(digits, 2), TASK, DEFAULT_PREDICTION, paired)
    right, agrees = [], []
    for indices in loader(digits, 2).sampler.groups():
        queries = digits[0][indices][None] / 16
        with torch.no_grad():
            base, parity = model.outputs(queries)
        said = parity[0].mean(0).argmax(-1)
        right.append(said == digits[1][indices])
        agrees.append(said == base[0].argmax(-1))
    for predictions in (1, 2):  # what is read at a position does not depend on what else is missing
        assert evaluation.can_miss(predictions)
        assert evaluation.missing(predictions) == pytest.approx(torch.cat(right).float().mean().item())
        agreement = evaluation.missing(predictions, "reconstruction")
        assert agreement == pytest.approx(torch.cat(agrees).float().mean().item())
    linear = evaluate_code(coded_model(3, 1, digits), loader(digits, 3), TASK, DEFAULT_PREDICTION)
    assert linear.missing(1) == pytest.approx(sum(linear.degraded_at(1, position) for position in range(3)) / 3)
    assert not linear.can_miss(2)
    with pytest.raises(ParityError, match="cannot rebuild 2 of 3 predictions"):
        linear.missing(2)
