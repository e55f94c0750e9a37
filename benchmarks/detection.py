"""Are wrong outputs noticed? Faults in one worker's outputs, for codes on MNIST; thresholds from validation data.

    python benchmarks/detection.py --runs RUNS --base_weights FILE

RUNS holds the trained runs of ``mlp_k{2,4}_cells_kl`` and ``mlp_k{2,4}_add``; those that are missing are trained first
(minutes each). ApproxIFER's locator needs no training: k = 12, outputs times -5 in E workers of each group.
Writes benchmarks/results/detection.json and located.json, from which ``benchmarks/tables.py`` makes the tables of
docs/detection.md. A minute on 2 cores once all are trained.
"""

import argparse
from pathlib import Path
from typing import Any

import store
import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.coders import BerrutDecoder, BerrutEncoder
from parity.coders.locator import RationalLocator
from parity.command_line import run_command
from parity.evaluation.detection import FAULTS, calibrated, detection, outputs_of
from parity.experiments import Experiment
from parity.models import load_into, read_weights
from parity.runs.training import RunOptions, run_training
from parity.training import Hardware

CODES = ("cells_kl", "add")
FALSE_ALARMS = (0.001, 0.01)


def measured(args: argparse.Namespace, k: int, code: str) -> list[dict[str, Any]]:
    """Return a row for each fault and rate of false alarms."""
    experiment = Experiment("MNIST", f"mlp_k{k}_{code}", base_directory=args.runs)
    if not (experiment.save_dir / "test_metrics.json").exists():
        run_training(experiment, RunOptions(hardware=Hardware("cpu")), args.base_weights)
    model, datamodule = experiment.load_trained_model(), experiment.get_datamodule()
    assert isinstance(model, CodedModel)
    outputs = outputs_of(model, datamodule.loader("test"))
    rows = []
    for allowed in FALSE_ALARMS:
        detector = calibrated(model, datamodule.loader("val"), datamodule.task, allowed)
        for name, fault in FAULTS.items():
            found = detection(model, detector, outputs, datamodule.task, fault)
            rows.append({"code": code, "k": k, "r": model.r, "allowed": allowed, "fault": name, **found})
    return rows


@torch.no_grad()
def located(args: argparse.Namespace, errors: int, k: int = 12) -> dict[str, Any]:
    """Return how often E wrong outputs are found among workers that all run the base model, and what users get."""
    n = 2 * (k + errors) - 1
    base = Experiment("MNIST", "mlp_base").get_network().eval()
    load_into(base, read_weights(args.base_weights), args.base_weights)
    loader = Experiment("MNIST", "mlp_k2_add").get_datamodule(k=k).loader("test")
    query = loader.first_query().shape[1:]
    model = CodedModel(base, BerrutEncoder(k, n - k, query), [], BerrutDecoder(k, n - k, (10,)))
    locator, generator = RationalLocator(k, n, errors), torch.Generator().manual_seed(0)
    outputs = outputs_of(model, loader)
    which = torch.rand(len(outputs.base), n, generator=generator).argsort(1) < errors
    broken = torch.where(which.unsqueeze(-1), -5 * outputs.base, outputs.base)
    everything = torch.ones_like(which)
    suspect = locator(broken, outputs.parity, everything)

    def accuracy(available: Tensor) -> float:
        predictions = model.decoder(broken, outputs.parity, available).argmax(-1)
        return float((predictions == outputs.targets).double().mean())

    return {
        "k": k, "E": errors, "workers": n, "groups": float((suspect == which).all(1).double().mean()),
        "outputs": float((suspect & which).sum() / which.sum()), "ignored": accuracy(everything),
        "acted_on": accuracy(~suspect), "known": accuracy(~which), "authors": {1: 0.97, 2: 0.95, 3: 0.93}[errors],
    }  # fmt: skip


def main(args: argparse.Namespace) -> None:
    """Measure and write."""
    rows = [located(args, errors) for errors in (1, 2, 3)]
    store.write("located", "Wrong outputs among ApproxIFER's workers on MNIST, published base model, times -5", rows)
    rows = [row for k in args.k for code in args.codes for row in measured(args, k, code)]
    store.write(
        "detection",
        "Wrong outputs of one worker on MNIST, published base model: noticed, found, and what users get",
        rows,
    )
    for row in rows:
        print(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--codes", nargs="+", default=CODES)
    parser.add_argument("--runs", type=Path, default=Path("experiments"), help="folder of the runs")
    parser.add_argument("--base_weights", type=Path, help="file of the published base model's weights")
    raise SystemExit(run_command(main, parser.parse_args()))
