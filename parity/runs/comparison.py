"""Experiments turned into a comparison of codes, with those that need no training beside them."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from parity.coded_model import CodedModel
from parity.errors import ParityError
from parity.evaluation.comparison import Candidate
from parity.evaluation.evaluate import UNAVAILABLE, about, check_shared_base_model, compare_on
from parity.evaluation.groups import DataInGroups
from parity.evaluation.seeds import over_seeds
from parity.experiments.experiment import Experiment
from parity.models.layout import lay_out
from parity.training.loop.hardware import Hardware, make_trainer

DEFAULT_K = (2, 3, 4)


def run_comparison(
    experiments: Sequence[Experiment],
    *,
    baselines: bool = False,
    backup: Experiment | None = None,
    ks: Sequence[int] | None = None,
    unavailable: Sequence[float] = UNAVAILABLE,
    paired: bool = False,
    default_class: int | None = None,
    split: str = "test",
    reload: str = "best",
    ema: bool = False,
    accelerator: str = "auto",
    together: bool = False,
) -> dict[str, Any]:
    """Compare what experiments have trained, on the base model that they share.

    Args:
        experiments: trained ones of one data set; a base experiment among them is compared by the baselines alone.
        baselines: also no redundancy, replication, ApproxIFER and NeRCC, whose smoothing is chosen on validation data.
        backup: an experiment of a smaller network, which every query also goes to.
        ks: of the baselines; by default those of the experiments, or 2, 3 and 4.
        unavailable: f at which A_o(f) is reported.
        paired: workers fail in pairs.
        default_class: what a user gets where nothing can be rebuilt; by default the most frequent class.
        split: 'test' or 'val'.
        reload: which checkpoints.
        ema: the averaged weights of parity experiments' checkpoints.
        accelerator: as Lightning names it.
        together: put runs that differ by their seed alone into one row, of means and standard deviations.

    Returns:
        What ``write_report`` takes.

    Raises:
        ParityError: an experiment is not trained, they do not share a base model, or nothing is to be compared.
    """
    if not experiments:
        raise ParityError("name the experiments to compare; parity train --list shows what there is.")
    base = experiments[0] if experiments[0].is_base else experiments[0].base_experiment or experiments[0]
    trained_ks = {experiment.config["code"]["k"] for experiment in experiments if not experiment.is_base}
    if not (trained_ks or baselines or backup):
        raise ParityError("nothing is to be compared: name parity experiments, or add --baselines.")
    device = make_trainer(Hardware(accelerator), logger=False, enable_checkpointing=False).strategy.root_device
    data = DataInGroups(lambda k: base.get_datamodule(k=k, batch_size=base.larger_batches), device)
    ks = sorted(set(ks or trained_ks or DEFAULT_K))
    data.check_enough(trained_ks.union(ks if baselines or backup else ()), split)
    models = [
        experiment.load_trained_model(reload, ema and not experiment.is_base).to(device) for experiment in experiments
    ]
    for model in models:
        lay_out(model, device)
    networks = [model.base_model if isinstance(model, CodedModel) else model for model in models]
    names = [experiment.run_name for experiment in experiments]
    check_shared_base_model(dict(zip(names, networks, strict=True)))
    compared = compare_on(
        data, networks[0], base.experiment_name,
        [
            Candidate(experiment.run_name, about(model), True, model.eval())
            for experiment, model in zip(experiments, models, strict=True)
            if isinstance(model, CodedModel)
        ],
        baselines=baselines,
        backup=None if backup is None else (backup.experiment_name, _backup(backup, reload).to(device)),
        ks=ks, unavailable=unavailable, paired=paired, default_class=default_class, split=split,
    )  # fmt: skip
    if not together:
        return compared
    return over_seeds(compared, {experiment.run_name: experiment.name_without_seed for experiment in experiments})


def _backup(backup: Experiment, reload: str) -> nn.Module:
    network = backup.load_trained_model(reload)
    if not backup.is_base:
        raise ParityError(
            f"--backup names a base experiment, a network of its own, and {backup.experiment_name} is not one."
        )
    return network
