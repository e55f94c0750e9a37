"""Are wrong outputs noticed? Faults in one worker's outputs, weights or activations; thresholds from validation data.

    python benchmarks/detection.py --runs RUNS --base_weights FILE
    python benchmarks/detection.py --dataset Digits --seed 0 --false_alarms 0.05 --runs RUNS

RUNS holds the trained runs of ``mlp_k{2,4}_cells_kl`` and ``mlp_k{2,4}_add``; those that are missing are trained first
(minutes each). Codes without training and their locators need none: k = 12, outputs times -5 in E workers of a group.
Writes benchmarks/results/detection.json and located.json, or detection_Digits.json, from which
``benchmarks/tables.py`` makes the tables of docs/detection.md. A minute on 2 cores once all are trained.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import store
import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.coders import BerrutDecoder, BerrutEncoder, Decoder, Encoder, NeRCCDecoder, NeRCCEncoder
from parity.coders.interpolation import Nodes, dct_nodes, worker_nodes
from parity.coders.likely_locator import LikelyLocator
from parity.coders.locator import RationalLocator
from parity.command_line import run_command
from parity.evaluation.detection import calibrated, detection, with_wrong_workers, wrong_outputs
from parity.evaluation.faults import FAULTS, outputs_of, with_fault
from parity.experiments import Experiment
from parity.models import load_into, read_weights
from parity.runs.training import RunOptions, run_training
from parity.training import Hardware

CODES = ("cells_kl", "add")
WRONG = (0.01, 0.05, 0.1)
"""Probabilities g of a wrong output."""


def measured(args: argparse.Namespace, k: int, code: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each fault and rate of false alarms."""
    experiment = Experiment(args.dataset, f"mlp_k{k}_{code}", seed=args.seed, base_directory=args.runs)
    if not (experiment.save_dir / "test_metrics.json").exists():
        run_training(experiment, RunOptions(hardware=Hardware("cpu")), args.base_weights)
    model, datamodule = experiment.load_trained_model(), experiment.get_datamodule()
    assert isinstance(model, CodedModel)
    val, test = datamodule.loader("val"), datamodule.loader("test")
    outputs, stale = outputs_of(model, test), outputs_of(with_an_older_base_model(args, model), test)
    for allowed in args.false_alarms:
        for row in wrong_outputs(model, val, test, datamodule.task, WRONG, allowed):
            yield {"code": code, "k": k, "r": model.r, **row}
        detector = calibrated(model, val, datamodule.task, allowed)
        yield {
            "code": code, "k": k, "r": model.r, "fault": "older base model", "allowed": allowed,
            **detection(model, detector, outputs, stale, datamodule.task, workers=range(k)),
            "users": [with_wrong_workers(model, detector, outputs, stale, datamodule.task, g) for g in WRONG],
        }  # fmt: skip


def with_an_older_base_model(args: argparse.Namespace, model: CodedModel) -> CodedModel:
    """Return a code whose base workers run a base model that was trained for one epoch alone."""
    experiment = Experiment(
        args.dataset, "mlp_base", run_name="mlp_base_one_epoch", seed=args.seed, base_directory=args.runs,
        overrides={"trainer.max_epochs": 1},
    )  # fmt: skip
    if not (experiment.save_dir / "test_metrics.json").exists():
        run_training(experiment, RunOptions(hardware=Hardware("cpu")))
    older = experiment.load_trained_model()
    return CodedModel(older, model.encoder, list(model.parity_models), model.decoder)


@dataclass(frozen=True)
class Located:
    """A code whose workers all run the base model, and the nodes of its curves."""

    encoder: Callable[..., Encoder]
    decoder: Callable[..., Decoder]
    nodes: Nodes = worker_nodes


LOCATED = {
    "ApproxIFER": Located(BerrutEncoder, BerrutDecoder),
    "ApproxIFER, SBACC's nodes": Located(
        partial(BerrutEncoder, nodes=dct_nodes), partial(BerrutDecoder, nodes=dct_nodes), dct_nodes
    ),
    "NeRCC": Located(NeRCCEncoder, NeRCCDecoder),
}
AUTHORS = {1: 0.97, 2: 0.95, 3: 0.93}
"""Of ApproxIFER, by E, at k = 12, for larger networks."""


@torch.no_grad()
def located(args: argparse.Namespace, name: str, errors: int, k: int = 12) -> Iterator[dict[str, Any]]:
    """Yield how often locators find E wrong outputs among workers that all run the base model, and what users get."""
    code = LOCATED[name]
    n = 2 * (k + errors) - 1
    base = Experiment("MNIST", "mlp_base").get_network().eval()
    load_into(base, read_weights(args.base_weights), args.base_weights)
    datamodule = Experiment("MNIST", "mlp_k2_add").get_datamodule(k=k)
    loader = datamodule.loader("test")
    query = loader.first_query().shape[1:]
    model = CodedModel(base, code.encoder(k, n - k, query), [], code.decoder(k, n - k, (10,)))
    locators = {
        "rational": RationalLocator(k, n, errors, code.nodes),
        "likely": LikelyLocator(outputs_of(model, datamodule.loader("val")).base, errors),
    }
    outputs = outputs_of(model, loader)
    which = torch.rand(len(outputs.base), n, generator=torch.Generator().manual_seed(0)).argsort(1) < errors
    broken, mixed_up = (
        torch.where(which.unsqueeze(-1), with_fault(outputs, FAULTS[fault]).base, outputs.base)
        for fault in ("times −5", "prediction of another query")
    )
    everything = torch.ones_like(which)

    def accuracy(available: Tensor) -> float:
        predictions = model.decoder(broken, outputs.parity, available).argmax(-1)
        return float((predictions == outputs.targets).double().mean())

    for by, locator in locators.items():
        suspect = locator(broken, outputs.parity, everything)
        yield {
            "code": name, "k": k, "E": errors, "workers": n, "locator": by,
            "groups": float((suspect == which).all(1).double().mean()),
            "mixed_up": float((locator(mixed_up, outputs.parity, everything) == which).all(1).double().mean()),
            "outputs": float((suspect & which).sum() / which.sum()), "ignored": accuracy(everything),
            "acted_on": accuracy(~suspect), "known": accuracy(~which),
            "authors": AUTHORS[errors] if name == "ApproxIFER" and by == "rational" else None,
        }  # fmt: skip


def main(args: argparse.Namespace) -> None:
    """Measure and write."""
    if args.dataset == "MNIST":
        rows = [row for name in LOCATED for errors in (1, 2, 3) for row in located(args, name, errors)]
        about = "Wrong outputs among workers that all run the base model on MNIST, published, times -5"
        store.write("located", about, rows)
    if not args.k:
        return
    rows = [row for k in args.k for code in args.codes for row in measured(args, k, code)]
    about = f"Wrong outputs of one worker on {args.dataset}: noticed, found, and what users get"
    store.write("detection" if args.dataset == "MNIST" else f"detection_{args.dataset}", about, rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="MNIST", choices=["MNIST", "Digits"])
    parser.add_argument("--seed", type=int, help="of the runs")
    parser.add_argument("--false_alarms", type=float, nargs="+", default=[0.001, 0.01], help="shares of groups")
    parser.add_argument("--k", type=int, nargs="*", default=[2, 4], help="no number: the locator alone")
    parser.add_argument("--codes", nargs="+", default=CODES)
    parser.add_argument("--runs", type=Path, default=Path("experiments"), help="folder of the runs")
    parser.add_argument("--base_weights", type=Path, help="file of the published base model's weights")
    raise SystemExit(run_command(main, parser.parse_args()))
