"""What does evaluating and decoding cost? All erasure patterns beside the base model alone; one group beside one query.

    python benchmarks/evaluation.py

On real MNIST with untrained networks of the base model's size: nothing timed here depends on weights. The reaches: less
than 5 times the base model's time over the 10,000 test images at (k, r) = (4, 2), with memory that does not grow with
the number of patterns; and at k = 2, G = 1, encoding and decoding in less than one query's pass. Ratios are of medians,
the two taking turns in one process; absolute times mean nothing.
"""

import argparse
import gc
import tracemalloc
from collections.abc import Callable
from statistics import median
from time import perf_counter

import store
import tables
import torch

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.command_line import run_command
from parity.evaluation import evaluate_base, evaluate_code
from parity.evaluation.comparison import Candidate, timings
from parity.experiments import Experiment

ROUNDS = 7


def coded(experiment: Experiment, k: int, r: int) -> CodedModel:
    """Return a linear code with networks of the base model's kind."""
    shapes = experiment.get_datamodule().query_shape, experiment.get_datamodule().task.prediction_shape
    networks = [experiment.get_network() for _ in range(r + 1)]
    encoder, decoder = LinearEncoder(k, r, shapes[0]), LinearDecoder(k, r, shapes[1])
    return CodedModel(networks[0], encoder, networks[1:], decoder).eval()


def evaluation() -> list[store.Row]:
    """Time the evaluation of (4, 2) and of its base model, in turn."""
    experiment = Experiment("MNIST", "mlp_k4_linear_r2")
    datamodule = experiment.get_datamodule(batch_size=experiment.larger_batches)
    model, loader, task = coded(experiment, 4, 2), datamodule.loader("test"), datamodule.task
    default, times = datamodule.default_prediction(), []
    for _ in range(ROUNDS):
        begun = perf_counter()
        evaluate_base(model.base_model, loader, task)
        between = perf_counter()
        evaluate_code(model, loader, task, default)
        times.append((between - begun, perf_counter() - between))
    base, code = (median(column) for column in zip(*times, strict=True))
    what = f"seconds for 10,000 images, median of {ROUNDS}"
    sides = {"beside": "base model alone", "theirs": base, "ours": code}
    return [{"what": what, **sides, "ratio": code / base, "reach": 5}]


def memory() -> list[store.Row]:
    """Compare the peak of Python's and torch's results by the number of patterns, in bytes that outlive a pattern."""
    rows = []
    for k, r in ((4, 1), (4, 2), (4, 3)):
        experiment = Experiment("MNIST", "mlp_k4_linear_r2")
        datamodule = experiment.get_datamodule(batch_size=experiment.larger_batches)
        model, loader = coded(experiment, k, r), datamodule.loader("test")
        gc.collect()
        tracemalloc.start()
        with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            evaluate_code(model, loader, datamodule.task, datamodule.default_prediction())
        tracemalloc.stop()
        running = peak = 0
        for event in profiler.profiler.kineto_results.events():
            if event.name() == "[memory]":
                running += event.nbytes()
                peak = max(peak, running)
        rows.append({"code": f"({k}, {r})", "patterns": 2 ** (k + r), "mib": peak / 2**20})
    return rows


def decoding() -> list[store.Row]:
    """Time one group's encoding and decoding beside one query's pass."""
    experiment = Experiment("MNIST", "mlp_k2_add")
    lines = timings(
        [Candidate("linear, k = 2", "", True, coded(experiment, 2, 1))],
        lambda k: experiment.get_datamodule(k=k).loader("test"),
        rounds=200,
    )
    return [
        {
            "G": line["G"],
            "encode": line["encode_ms"] * 1e3,
            "decode": line["decode_ms"] * 1e3,
            "forward": line["forward_ms"] * 1e3,
            "ratio": (line["encode_ms"] + line["decode_ms"]) / line["forward_ms"],
        }
        for line in lines
    ]


MEASURES: dict[str, tuple[Callable[[], list[store.Row]], str]] = {
    "evaluation": (evaluation, "Evaluation of all 64 patterns of a (4, 2) code on MNIST beside the base model alone"),
    "evaluation_memory": (memory, "Peak memory of tensors while all patterns are evaluated, by their number"),
    "evaluation_decoding": (decoding, "Encoding and decoding of a group beside one query's pass, MNIST's MLP, k = 2"),
}


def main(_: argparse.Namespace) -> None:
    """Measure, keep and print."""
    torch.set_num_threads(1)
    for name, (measure, about) in MEASURES.items():
        store.write(name, about, measure())
        print(tables.TABLES[name](), end="\n\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    raise SystemExit(run_command(main, parser.parse_args()))
