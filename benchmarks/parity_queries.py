"""What do parity queries look like? Draws docs/images/parity_queries.png from test data of MNIST, CIFAR-10 and FSDD.

    python benchmarks/parity_queries.py [--runs benchmarks/results/better_codes_runs]

One row for each code: the queries of a group, then its parity query. The learned grids are those of trained runs
(``benchmarks/better_codes.py``), of seed 0; a code that is not trained there is left out.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.coders import Encoder, GridEncoder, KeyedSumEncoder, LinearEncoder, Permutation, Shift, Symmetry
from parity.command_line import run_command
from parity.experiments import Experiment

mpl.use("Agg")

from matplotlib import pyplot as plt

TRAINED = [
    ("MNIST", "mlp_k4_cells", "learned grid, MNIST"),
    ("CIFAR10", "small_resnet_k4_cells", "learned grid, CIFAR-10"),
    ("FSDD", "lenet_k2_cells", "learned grid, FSDD"),
]


def untrained() -> Iterator[tuple[str, str, Encoder]]:
    """Yield data set, title and encoder of what needs no training."""
    digit, image, word = (1, 28, 28), (3, 32, 32), (1, 161, 101)
    yield "MNIST", "addition", LinearEncoder(4, 1, digit)
    yield "MNIST", "keyed sum, Permutation", KeyedSumEncoder(4, 1, digit, Permutation())
    yield "MNIST", "keyed sum, Symmetry", KeyedSumEncoder(4, 1, digit, Symmetry())
    yield "MNIST", "grid, k = 8", GridEncoder(8, 1, digit)
    yield "CIFAR10", "grid, CIFAR-10", GridEncoder(4, 1, image)
    yield "FSDD", "keyed sum, Shift of frequencies", KeyedSumEncoder(2, 1, word, Shift(dims=(0,)))


def first_group(dataset: str, k: int) -> Tensor:
    """Return the first group of the test data: (1, k, *Q)."""
    name = next(name for of, name, _ in TRAINED if of == dataset)
    loader = Experiment(dataset, name).get_datamodule(k=k, batch_size=1).loader("test")
    return next(loader.batches()).queries


def pixels(query: Tensor) -> Tensor:
    """Return what matplotlib draws, from 0 to 1: (C, H, W) -> (H, W) or (H, W, 3); spectrograms with time upwards."""
    low, high = query.min(), query.max()
    image = ((query - low) / (high - low)).movedim(0, -1)
    return image if image.shape[-1] == 3 else image[..., 0]


def main(args: argparse.Namespace) -> None:
    """Draw all codes."""
    lines = list(untrained())
    for dataset, name, title in TRAINED:
        experiment = Experiment(dataset, name, seed=0, base_directory=args.runs)
        if experiment.available_checkpoints():
            model = experiment.load_trained_model()
            assert isinstance(model, CodedModel)
            lines.append((dataset, title, model.encoder))
    figure, axes = plt.subplots(len(lines), 9, figsize=(9, 1.15 * len(lines)), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for row, (dataset, title, encoder) in zip(axes, lines, strict=True):
        queries = first_group(dataset, encoder.k)
        with torch.no_grad():
            drawn = [*queries[0], encoder(queries)[0, 0]]
        columns = [*range(encoder.k), 8]
        for column, image in zip(columns, drawn, strict=True):
            row[column].imshow(pixels(image), cmap="gray", aspect="auto", origin="lower" if dataset == "FSDD" else None)
        row[0].set_title(title, fontsize=7, loc="left")
    axes[0, 8].set_title("parity query", fontsize=7)
    figure.tight_layout(pad=0.3)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=110)
    print(args.out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = Path(__file__).parent / "results"
    parser.add_argument("--runs", type=Path, default=results / "better_codes_runs")
    parser.add_argument("--out", type=Path, default=Path("docs/images/parity_queries.png"))
    raise SystemExit(run_command(main, parser.parse_args()))
