"""Do codes on spoken digits hold for a voice that no network has heard? Cross-validation over the six speakers of FSDD.

    python benchmarks/speakers.py                       packed students that start from the base model, and cells
    python benchmarks/speakers.py --codes lenet_k2_packed_pruned_kl --speakers theo

For each speaker in turn the base model and the parity models are trained on the other five's clips, and compared on all
of this one's. Validation data are the other five's clips 0 to 4 of each digit. Each (code, speaker) is a file under
``results/speakers``; a run that was cut off is resumed, and the same command again fills the gaps. A base model takes
about 5 minutes of one core, a parity model 3. ``benchmarks/tables.py`` makes the table of docs/equal_cost.md.
"""

import argparse
from pathlib import Path

import store
from better_codes import check_config, config_hash

from parity import settings
from parity.coded_model import CodedModel
from parity.command_line import run_command
from parity.evaluation.accuracies import evaluate_code
from parity.experiments import Experiment
from parity.runs.training import RunOptions, run_training
from parity.training import Hardware

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
CODES = tuple(f"lenet_k{k}_{code}" for k in (2, 4) for code in ("packed_pruned_kl", "cells_kl"))
HELD_OUT = 5
"""Of each digit and speaker, so many clips are validation data."""


def lay_out(source: Path, folder: Path, speaker: str) -> None:
    """Lay the data set out as links, with all of a speaker's clips as test data."""
    words = sorted(path for path in source.iterdir() if path.is_dir())
    folder.mkdir(parents=True, exist_ok=True)
    clips = [path for word in words for path in sorted(word.glob("*.wav"))]
    for word in words:
        if not (link := folder / word.name).exists():
            link.symlink_to(word.resolve())
    test = [path for path in clips if path.name.startswith(f"{speaker}_")]
    validation = [path for path in clips if path not in set(test) and int(path.stem.split("_")[-1]) < HELD_OUT]
    for name, paths in (("testing_list.txt", test), ("validation_list.txt", validation)):
        (folder / name).write_text("".join(f"{path.parent.name}/{path.name}\n" for path in paths))


def experiment_of(code: str, runs: Path) -> Experiment:
    """Return a code's experiment beside a base model that has its augmentation and epochs."""
    return Experiment("FSDD", code, overrides={"base": "lenet_augmented_base"}, base_directory=runs)


def measure(code: str, speaker: str, runs: Path) -> None:
    """Train a code and its base model without a speaker, and compare them on this one's clips, unless that is done."""
    experiment, result = experiment_of(code, runs), f"speakers/{code}-{speaker}"
    if result in store.names("speakers"):
        check_config(result, experiment)
        return
    print(f"{code}, without {speaker}", flush=True)
    run_training(experiment, RunOptions(hardware=Hardware("cpu"), refresh_rate=1000))
    datamodule, model = experiment.get_datamodule(batch_size=experiment.larger_batches), experiment.load_trained_model()
    assert isinstance(model, CodedModel)
    found = evaluate_code(model, datamodule.loader("test"), datamodule.task, datamodule.default_prediction())
    row = {
        "code": code, "speaker": speaker, "k": model.k, "groups": found.groups, "A_a": found.a_a,
        "A_d": found.degraded(1), "reconstruction": found.degraded(1, against="reconstruction"),
        "loss": found.loss_interval(1)._asdict(),
    }  # fmt: skip
    about = f"FSDD {code}, trained without {speaker}'s clips, on {speaker}'s"
    store.write(result, about, [row], config=config_hash(experiment), seeds=[0])


def main(args: argparse.Namespace) -> None:
    """Measure what is missing."""
    source = settings.data_path("FSDD")
    for speaker in args.speakers:
        folder = args.runs / speaker
        lay_out(source, folder / "data" / "FSDD", speaker)
        settings.DATA_ROOT = folder / "data"
        for code in args.codes:
            measure(code, speaker, folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speakers", nargs="+", choices=SPEAKERS, default=SPEAKERS, help="(default: all)")
    parser.add_argument("--codes", nargs="+", metavar="NAME", default=CODES, help=f"(default: {' '.join(CODES)})")
    parser.add_argument("--runs", type=Path, default=store.RESULTS / "speakers_runs", help="where the runs lie")
    raise SystemExit(run_command(main, parser.parse_args()))
