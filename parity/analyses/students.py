"""Which student is worth packing?

    python -m parity.analyses.students --dataset Digits --experiment_name mlp_k4_packed_kl
    python -m parity.analyses.students --dataset CIFAR10 --experiment_name small_resnet_k4_packed_kl --epochs 2

Makes students of other depths and, for images, for smaller images of the experiment's own student, each as wide as the
budget of multiply-adds allows, trains all of them for a few epochs by the experiment's own recipe, from scratch, and
compares them by A_d on validation data, which is what users get. Test data is not looked at. Prints a table, the best
first, and the ``model`` of a config that makes the best.

Writes students.json and a folder for each student under <run name>-students, beside the run; the same command resumes,
and another base model, budget or number of epochs trains others.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity import terminal
from parity.command_line import add_experiment_arguments, parsed, run_command
from parity.errors import ParityError

if TYPE_CHECKING:
    from parity.analyses.student_shapes import Shape
    from parity.coded_model import CodedModel
    from parity.experiments import Experiment

log = logging.getLogger(__name__)

BUDGET = 1.10
"""Of the base model's multiply-adds for a query, for the k students together."""


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_experiment_arguments(parser)
    parser.add_argument("--experiment_name", metavar="NAME", help="name of the experiment of packed students")
    parser.add_argument(
        "--epochs", type=int, default=5, metavar="N", help="number of epochs of each student (default: %(default)s)"
    )
    parser.add_argument(
        "--budget", type=float, default=BUDGET, metavar="X",
        help="multiply-adds of k students, of the base model's for one query (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--base_weights", type=Path, metavar="FILE", help="weights of the base model, instead of what the config names"
    )
    parser.add_argument("--accelerator", default="auto", help="as Lightning names it (default: %(default)s)")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(args: argparse.Namespace) -> None:
    """Search, and print what was found."""
    from parity.experiments import catalogue
    from parity.runs.naming import named_run

    for folder in args.experiments_path:
        catalogue.add_experiments_path(folder)
    if not (args.dataset and args.experiment_name):
        raise ParityError("name --dataset and --experiment_name.")
    experiment = named_run(args, args.experiment_name)
    found = search(experiment, args.epochs, args.budget, args.accelerator, args.base_weights)
    _show(found)


def search(
    experiment: "Experiment",
    epochs: int = 5,
    budget: float = BUDGET,
    accelerator: str = "auto",
    base_weights: Path | None = None,
) -> list[dict[str, Any]]:
    """Train students of several shapes and compare them on validation data, or resume that.

    Args:
        experiment: ``Experiment`` of ``PackedStudents``; its base model is trained first where it is not.
        epochs: of each student.
        budget: multiply-adds of k students, of the base model's for one query.
        accelerator: as Lightning names it.
        base_weights: a file of weights for the base model, instead of what the config names.

    Returns:
        A dict for each shape, the best first: ``shape``, ``accuracy`` (A_d on validation data, in the task's first
        measure, of the epoch that training keeps, which is the one whose reconstruction accuracy is highest),
        ``multiply_adds`` of k students and ``parameters`` of one, both of the base model's, and ``model``, the settings
        that make it, as text.

    Raises:
        ParityError: the experiment packs no students, or none is within the budget.
    """
    from parity.analyses.student_shapes import student_shapes
    from parity.coded_model import CodedModel
    from parity.evaluation.costs import multiply_adds
    from parity.models import PackedStudents
    from parity.models.weights import fingerprint
    from parity.storage.files import write_json
    from parity.storage.locks import RunLock

    if epochs < 1:
        raise ParityError(f"--epochs counts epochs, 1 or more, not {epochs}.")
    if not 0 < budget < float("inf"):
        raise ParityError(f"--budget is a share of the base model's multiply-adds, above 0, not {budget}.")
    settings = dict(experiment.config.get("model", {}))
    if settings.pop("network", None) is not PackedStudents:
        raise ParityError(f"{experiment.experiment_name} packs no students: name an experiment such as *_packed_kl.")
    student = settings.pop("student")
    model = experiment.get_model()
    assert isinstance(model, CodedModel), "packed students are a code's"
    whole = multiply_adds(model.base_model, model.blank_query().unsqueeze(0))
    query_shape, prediction_shape = model.encoder.query_shape, model.decoder.prediction_shape
    shapes = student_shapes(student, settings, query_shape, prediction_shape, budget * whole / model.k)
    folder = experiment.save_dir.with_name(f"{experiment.run_name}-students")
    _load_base_model(model, experiment, accelerator, base_weights)
    base = fingerprint(model.base_model)[:8]
    with RunLock(folder):
        rows = []
        with terminal.progress("students", len(shapes), transient=False) as advance:
            for shape in shapes:
                own = folder / f"{shape.name}-{budget:g}x-{epochs}-{base}"
                rows.append(_row(experiment, model, shape, own, epochs, accelerator))
                rows[-1]["multiply_adds"] = model.k * shape.multiply_adds / whole
                advance()
        rows.sort(key=lambda row: -row["accuracy"])
        write_json(folder / "students.json", {"epochs": epochs, "budget": budget, "students": rows})
    log.info("%s", folder)
    return rows


def _load_base_model(
    model: "CodedModel", experiment: "Experiment", accelerator: str, base_weights: Path | None
) -> None:
    """Give an untrained model the weights of its base model, which is trained first where it is not."""
    from parity.models import load_into, read_weights
    from parity.runs.training import RunOptions, run_training
    from parity.training import Hardware

    base = experiment.base_experiment
    if (path := base_weights or (None if base else Path(experiment.config["base"]))) is not None:
        load_into(model.base_model, read_weights(path), path)
    elif base is not None:
        run_training(base, RunOptions(hardware=Hardware(accelerator)))
        model.base_model = base.load_trained_model()
    model.eval()


def _row(
    experiment: "Experiment", model: "CodedModel", shape: "Shape", folder: Path, epochs: int, accelerator: str
) -> dict[str, Any]:
    """Train a student of a shape, and return what is kept of it."""
    import pytorch_lightning as pl

    from parity.coded_model import CodedModel
    from parity.models import PackedStudents
    from parity.training import train_model
    from parity.training.defaults import accuracy_of

    config, encoder = experiment.config, model.encoder
    pl.seed_everything(experiment.seed or 0, verbose=False)
    asked = encoder.parity_query_shape, model.decoder.parity_shape(model.decoder.prediction_shape)
    networks = [PackedStudents(*asked, **shape.model) for _ in range(encoder.parity_workers)]
    coded = CodedModel(model.base_model, encoder, networks, model.decoder)
    coded.requires_grad_(False)
    coded.parity_models.requires_grad_(True)
    data = experiment.get_datamodule()
    monitor = f"val/{accuracy_of(coded, data.task).monitor}"
    degraded = f"val/overall_{data.task.measures[0]}"
    log.info("%s: %s", shape.name, _settings(shape))
    trainer = {name: value for name, value in config["trainer"].items() if name != "max_epochs"}
    history = train_model(
        coded, data, epochs, criterion=config["loss"], optimizer=config["optimizer"], schedule=config.get("schedule"),
        log_path=folder, checkpoints_path=folder / "checkpoints", accelerator=accelerator,
        averaging=config.get("averaging"), **trainer, **config.get("policies", {}),
    ).history  # fmt: skip
    return {
        "shape": shape.name,
        "accuracy": max(history, key=lambda row: row[monitor])[degraded],
        "parameters": _parameters(networks[0]) / _parameters(model.base_model),
        "model": _settings(shape),
    }


def _parameters(network: Any) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _settings(shape: "Shape") -> str:
    parts = [f"{name}={getattr(value, '__name__', None) or repr(value)}" for name, value in shape.model.items()]
    return f"dict(network=PackedStudents, {', '.join(parts)})"


def _show(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for head in ("student", "A_d on validation data", "multiply-adds of k", "parameters"):
        table.add_column(head)
    for row in rows:
        table.add_row(
            row["shape"], f"{row['accuracy']:.4f}", f"{row['multiply_adds']:.2f} x", f"{row['parameters']:.2f} x"
        )
    terminal.console().print(table)
    terminal.print_line(f"{rows[0]['shape']}: model={rows[0]['model']}")


if __name__ == "__main__":
    sys.exit(run_command(main, parsed(get_parser())))
