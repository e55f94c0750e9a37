"""An experiment's run turned into its accuracies."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from parity.coded_model import CodedModel
from parity.errors import ParityError
from parity.evaluation import evaluate_base, evaluate_code, unavailability
from parity.evaluation.detection import check_rates, wrong_outputs
from parity.evaluation.report.frame import frame_of
from parity.experiments.experiment import Experiment
from parity.models import load_into, read_weights
from parity.models.layout import lay_out
from parity.models.weights import check_finite
from parity.runs.comparison import run_comparison
from parity.training.loop.hardware import Hardware, make_trainer


def run_evaluation(
    experiment: Experiment,
    *,
    reload: str = "best",
    ema: bool = False,
    weights: Path | None = None,
    split: str = "test",
    batch_size: int | None = None,
    accelerator: str = "auto",
    wrong: Sequence[float] = (),
    false_alarms: float = 0.01,
) -> dict[str, Any]:
    """Evaluate what an experiment has trained.

    Args:
        experiment: whose run.
        reload: 'best', 'last' or 'epoch_<N>'.
        ema: evaluate the averaged weights of that checkpoint.
        weights: a file of weights to evaluate instead of a checkpoint: of the network of a base experiment, or of the
            whole coded model.
        split: 'test' or 'val'.
        batch_size: coding groups in a batch; by default four times the config's.
        accelerator: as Lightning names it.
        wrong: probabilities g of a wrong output, for what users get and how much of it is noticed; none: not measured.
        false_alarms: share of groups without faults in which something may be suspect, on validation data.

    Returns:
        'dataset', 'experiment_name', 'weights', 'split', 'base' (every query: queries, top-k or IoU, 'in_words'), and
        for parity experiments 'code' (``CodeEvaluation.summary``) and
        'unavailability' (``unavailability.lines``), and 'wrong' (``detection.wrong_outputs``) where it is asked for.

    Raises:
        ParityError: the checkpoint or the data is missing, or they do not fit.
    """
    if ema and weights is not None:
        raise ParityError("averaged weights are those of a run's checkpoint: leave out --ema or --weights.")
    if wrong and (split == "val" or experiment.is_base):
        raise ParityError(
            "wrong outputs are looked for in a code's test data, with a threshold from its validation data: name a "
            "parity experiment, without --split val."
        )
    check_rates(wrong, false_alarms)
    trainer = make_trainer(Hardware(accelerator), logger=False, enable_checkpointing=False)
    datamodule = experiment.get_datamodule(batch_size=batch_size or experiment.larger_batches)
    if weights is None:
        source, model = experiment.checkpoint(reload), experiment.load_trained_model(reload, ema)
    else:
        source, model = weights, experiment.get_model()
        load_into(model, read_weights(weights), weights)
    check_finite(model)
    datamodule.device = trainer.strategy.root_device
    model.to(datamodule.device).eval()
    lay_out(model, datamodule.device)
    loader = datamodule.loader(split)
    noticed: list[dict[str, Any]] = []
    if wrong and isinstance(model, CodedModel):  # first of all, since there may be too few groups for it
        val = datamodule.loader("val")
        noticed = wrong_outputs(model, val, loader, datamodule.task, wrong, false_alarms)
    network = model.base_model if isinstance(model, CodedModel) else model
    base = evaluate_base(network, loader, datamodule.task)
    results: dict[str, Any] = {
        "dataset": experiment.dataset,
        "experiment_name": experiment.experiment_name,
        "weights": f"{source} (averaged)" if ema else str(source),
        "split": split,
        "base": base | {"in_words": datamodule.task.describe(base, base["queries"])},
    }
    if isinstance(model, CodedModel):
        evaluation = evaluate_code(model, loader, datamodule.task, datamodule.default_prediction())
        results |= {"code": evaluation.summary(), "unavailability": unavailability.lines(evaluation)}
        if noticed:
            results["wrong"] = noticed
    return results


def results_frame(experiment: Experiment, **options: Any) -> pd.DataFrame:
    """Return the numbers of a report's ``results.csv``: a row for the experiment's code, and for each baseline.

    Args:
        experiment: trained; a base experiment needs ``baselines=True``.
        options: of ``run_comparison``.

    Raises:
        ParityError: it is not trained, or nothing is to be compared.
    """
    return frame_of(run_comparison([experiment], **options))
