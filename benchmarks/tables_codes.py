"""Which code suits tables? Codes for rows of features, around a small multilayer perceptron; three seeds each.

    python benchmarks/tables_codes.py [--seeds 0 1 2]

Rows of scikit-learn's breast cancer data (30 features), of its digits taken as 64 features without an order, and of a
generated set (50 features, 20 of them informative, 4 classes). Features are standardised; a fifth of each set is test
data. All parity models are trained towards the base model for 120 steps of 128 groups. What a code loses at
most is what protect's "auto" goes by. Half a minute on one idle core.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import store
import torch
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import (
    Decoder,
    Encoder,
    KeyedSumEncoder,
    Learned,
    LearnedGridEncoder,
    LinearDecoder,
    LinearEncoder,
    Orthogonal,
    PositionalDecoder,
    StackingEncoder,
)
from parity.evaluation.costs import multiply_adds, parity_model_costs
from parity.models import MLP, PerCell
from parity.training import KLDivergence, ParityTargetLoss, ReconstructionLoss, parities_alone

HIDDEN = (64, 32)
STEPS, GROUPS, LEARNING_RATE = 120, 128, 1e-2
MOST_MULTIPLY_ADDS = 1.10

Split = tuple[Tensor, Tensor]


def data(name: str) -> tuple[Split, Split]:
    """Return training and test data: standardised rows float32 (N, L) and classes int64 (N,)."""
    made = {
        "breast cancer": partial(load_breast_cancer, return_X_y=True),
        "digits as rows": partial(load_digits, return_X_y=True),
        "generated, 50 features": partial(
            make_classification, n_samples=4000, n_features=50, n_informative=20, n_classes=4, random_state=0
        ),
    }[name]
    rows, classes = made()
    train, test, train_classes, test_classes = train_test_split(
        rows, classes, test_size=0.2, stratify=classes, random_state=0
    )
    scaler = StandardScaler().fit(train)
    train, test = (torch.tensor(scaler.transform(part)).float() for part in (train, test))
    return (train, torch.tensor(train_classes)), (test, torch.tensor(test_classes))


NAMES = ("breast cancer", "digits as rows", "generated, 50 features")


@dataclass(frozen=True)
class Code:
    """A code, and how its parity model is made.

    Args:
        encoder, decoder: called with (k, r, shape).
        parity_model: called with the shapes of a parity query and of its prediction, and the most multiply-adds.
        loss: of its training.
    """

    encoder: Callable[..., Encoder]
    decoder: Callable[..., Decoder]
    parity_model: Callable[[tuple[int, ...], tuple[int, ...], int], nn.Module]
    loss: nn.Module


def plain(query: tuple[int, ...], prediction: tuple[int, ...], most: int) -> nn.Module:
    """Return the base model's architecture, whatever it costs."""
    return MLP(query, prediction, HIDDEN)


def for_cells(query: tuple[int, ...], prediction: tuple[int, ...], most: int) -> nn.Module:
    """Return one network for all cells, as wide as the multiply-adds allow."""

    def made(width: int) -> nn.Module:
        return PerCell(query, prediction, MLP, hidden=(width, width // 2))

    width = next(width for width in range(4, 1000) if multiply_adds(made(width + 1), torch.zeros(1, *query)) > most)
    return made(width)


KL = ReconstructionLoss(KLDivergence(2.0), parities_alone)
PROJECTED = partial(LearnedGridEncoder, resampling=Learned(Orthogonal()))
CODES = {
    "addition": Code(LinearEncoder, LinearDecoder, plain, ParityTargetLoss(nn.MSELoss())),
    "keyed sum, a prediction for each position": Code(KeyedSumEncoder, PositionalDecoder, plain, KL),
    "learned projection to cells, one network for all": Code(PROJECTED, PositionalDecoder, for_cells, KL),
    "stacked, a wider first layer": Code(StackingEncoder, PositionalDecoder, plain, KL),
    "stacked, one narrow network for all": Code(StackingEncoder, PositionalDecoder, for_cells, KL),
}


def groups(rows: Tensor, k: int, number: int, seed: int) -> Iterator[Tensor]:
    """Yield so many batches of groups (G, k, L)."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(number):
        yield rows[torch.randint(len(rows), (GROUPS, k), generator=generator)]


def fit(parameters: list[nn.Parameter], losses: Iterator[Callable[[], Tensor]]) -> None:
    """Take a step of AdamW for each loss."""
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    for loss in losses:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


def base_model(train: Split, classes: int, seed: int) -> nn.Module:
    """Return a perceptron trained on true classes."""
    torch.manual_seed(seed)
    network = MLP(train[0].shape[1:], (classes,), HIDDEN)
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        rows = torch.randint(len(train[0]), (256,), generator=generator)
        return nn.functional.cross_entropy(network(train[0][rows]), train[1][rows])

    fit(list(network.parameters()), (loss for _ in range(STEPS)))
    return network.eval().requires_grad_(False)


def coded(code: Code, base: nn.Module, k: int, shape: tuple[int, ...], classes: int, seed: int) -> CodedModel:
    """Return a coded model, untrained."""
    torch.manual_seed(seed)
    encoder, decoder = code.encoder(k, 1, shape), code.decoder(k, 1, (classes,))
    most = int(MOST_MULTIPLY_ADDS * multiply_adds(base, torch.zeros(1, *shape)))
    parity_model = code.parity_model(encoder.parity_query_shape, decoder.parity_shape((classes,)), most)
    return CodedModel(base, encoder, [parity_model], decoder)


def train(model: CodedModel, loss: nn.Module, rows: Tensor, seed: int) -> None:
    """Train encoder and parity model."""

    def of(queries: Tensor) -> Tensor:
        base_outputs, parity_outputs = model.outputs(queries)
        return loss(model.decoder, base_outputs, parity_outputs, torch.zeros(queries.shape[:2], dtype=torch.long))

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fit(trained, (partial(of, queries) for queries in groups(rows, model.k, STEPS, seed)))


@torch.no_grad()
def degraded(model: CodedModel, test: Split) -> float:
    """Return A_d over five permutations of the test data."""
    right = []
    for seed in range(5):
        order = torch.randperm(len(test[0]), generator=torch.Generator().manual_seed(seed))
        order = order[: len(order) // model.k * model.k].view(-1, model.k)
        rebuilt = model.decoder.rebuild_each(*model.outputs(test[0][order]))
        right.append((rebuilt.argmax(-1) == test[1][order]).float().mean().item())
    return statistics.mean(right)


def measure(name: str, seeds: list[int]) -> Iterator[store.Row]:
    """Measure all codes on a set."""
    train_data, test = data(name)
    classes = int(train_data[1].max()) + 1
    shape = tuple(train_data[0].shape[1:])
    for k in (2, 4):
        found: dict[str, list[float]] = {code: [] for code in CODES}
        accuracies, cost = [], {}
        for seed in seeds:
            base = base_model(train_data, classes, seed)
            accuracies.append((base(test[0]).argmax(-1) == test[1]).float().mean().item())
            for code, parts in CODES.items():
                model = coded(parts, base, k, shape, classes, seed)
                train(model, parts.loss, train_data[0], seed)
                found[code].append(degraded(model, test))
                cost[code] = parity_model_costs(model, test[0][:1]).multiply_adds
        for code, values in found.items():
            lost = [100 * (accuracy - value) for accuracy, value in zip(accuracies, values, strict=True)]
            row = dict(
                data=name, k=k, code=code, A_a=accuracies, A_d=values, lost=statistics.mean(lost),
                spread=statistics.stdev(lost) if len(lost) > 1 else 0.0, multiply_adds=cost[code],
            )  # fmt: skip
            print(
                f"{name}, k = {k}, {code}: loses {row['lost']:.1f} points, {cost[code]:.2f} x multiply-adds", flush=True
            )
            yield row


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    rows = [row for name in NAMES for row in measure(name, seeds)]
    store.write("tables_codes", "what codes for tables lose, trained towards a perceptron", rows, seeds=seeds)


if __name__ == "__main__":
    main()
