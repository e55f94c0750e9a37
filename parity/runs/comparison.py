"""Experiments turned into a comparison of codes, with those that need no training beside them."""

import logging
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from parity.coded_model import CodedModel
from parity.coders import (
    BackupDecoder,
    BackupEncoder,
    BerrutDecoder,
    BerrutEncoder,
    NeRCCDecoder,
    NeRCCEncoder,
    ReplicationDecoder,
    ReplicationEncoder,
)
from parity.data import GroupDataModule, GroupLoader
from parity.errors import ParityError
from parity.evaluation import choose_smoothing, evaluate_base
from parity.evaluation.comparison import Candidate, compare, timings
from parity.evaluation.costs import multiply_adds
from parity.experiments.experiment import Experiment
from parity.models.weights import fingerprint
from parity.tasks import Classification
from parity.training.loop.hardware import Hardware, make_trainer

log = logging.getLogger(__name__)

UNAVAILABLE = (0.0, 0.01, 0.05, 0.1, 0.2)
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

    Returns:
        What ``write_report`` takes.

    Raises:
        ParityError: an experiment is not trained, they do not share a base model, or nothing is to be compared.
    """
    for f in unavailable:
        if not 0 <= f <= 1:
            raise ParityError(f"--unavailable takes probabilities, from 0 to 1, not {f:g}.")
    if not experiments:
        raise ParityError("name the experiments to compare; parity train --list shows what there is.")
    base = experiments[0] if experiments[0].is_base else experiments[0].base_experiment or experiments[0]
    trained_ks = {experiment.config["code"]["k"] for experiment in experiments if not experiment.is_base}
    ks = sorted(set(ks or trained_ks or DEFAULT_K))
    device = make_trainer(Hardware(accelerator), logger=False, enable_checkpointing=False).strategy.root_device
    data = _Data(base, device)
    data.check_enough(trained_ks.union(ks if baselines or backup else ()), split)
    if baselines:
        data.check_enough(ks, "val")
    models = [
        experiment.load_trained_model(reload, ema and not experiment.is_base).to(device) for experiment in experiments
    ]
    base_model = _shared_base_model(experiments, models)
    trained = [
        (experiment, model)
        for experiment, model in zip(experiments, models, strict=True)
        if isinstance(model, CodedModel)
    ]
    task = data.module(1).task
    default = data.module(1).default_prediction()
    if default_class is not None:
        default = _one_hot(default_class, default)
    candidates = [
        Candidate(experiment.experiment_name, _about(model), True, model.eval()) for experiment, model in trained
    ]
    if baselines:
        candidates += _baselines(base_model, data, ks)
    if backup is not None:
        candidates += _backups(base_model, backup, data, ks, reload)
    if not candidates:
        raise ParityError("nothing is to be compared: name parity experiments, or add --baselines.")
    classes = data.module(1).class_names if isinstance(task, Classification) else None

    def loader(k: int) -> GroupLoader:
        return data.loader(k, split)

    counted = evaluate_base(base_model, loader(1), task)
    query = next(loader(1).every_query(1))[1]
    codes = compare(
        candidates, loader, task, default, unavailable, paired, classes, lambda name: log.info("evaluating %s", name)
    )
    log.info("timing")
    return {
        "dataset": base.dataset,
        "split": split,
        "measure": task.measures[0],
        "base": {
            "name": base.experiment_name,
            "weights": fingerprint(base_model)[:16],
            "in_words": task.describe(counted, counted["queries"]),
            "queries": counted["queries"],
            "parameters": sum(parameter.numel() for parameter in base_model.parameters()),
            "multiply_adds": multiply_adds(base_model, query),
        },
        "classes": classes,
        "unavailable": list(unavailable),
        "paired": paired,
        "codes": codes,
        "timing": timings(candidates, loader),
    }


class _Data:
    """The same data set in groups of any k."""

    def __init__(self, base: Experiment, device: torch.device) -> None:
        self._base, self._device = base, device
        self.module = cache(self._module)

    def _module(self, k: int) -> GroupDataModule:
        module = self._base.get_datamodule(k=k, batch_size=self._base.larger_batches)
        module.device = self._device
        return module

    def loader(self, k: int, split: str) -> GroupLoader:
        return self.module(k).loader(split)

    def check_enough(self, ks: Iterable[int], split: str) -> None:
        """Make sure that a split has queries for at least one coding group of each k.

        Raises:
            ParityError: it has not.
        """
        for k in sorted(ks):
            queries = len(self.module(k).rows(split))
            if queries < k:
                raise ParityError(
                    f"k = {k} is too many: the '{split}' split of {self._base.dataset} has {queries} queries, too few "
                    f"for one coding group; choose a k of at most {queries}."
                )


def _shared_base_model(experiments: Sequence[Experiment], models: Sequence[nn.Module]) -> nn.Module:
    """Return the base model that all share."""
    networks = [model.base_model if isinstance(model, CodedModel) else model for model in models]
    prints = [fingerprint(network) for network in networks]
    for experiment, mark in zip(experiments, prints, strict=True):
        if mark != prints[0]:
            raise ParityError(
                f"{experiments[0].experiment_name} and {experiment.experiment_name} have base models of other weights, "
                "so their accuracies cannot be compared: train them with the same base model."
            )
    return networks[0]


def _about(model: CodedModel) -> str:
    return f"{type(model.encoder).__name__}, {type(model.decoder).__name__}; trained"


def _one_hot(number: int, default: torch.Tensor) -> torch.Tensor:
    if default.dim() != 1 or not 0 <= number < len(default):
        raise ParityError(f"--default_class is one of the {len(default)} classes, counted from 0, not {number}.")
    return nn.functional.one_hot(torch.tensor(number), len(default)).float()


def _baselines(base_model: nn.Module, data: _Data, ks: Sequence[int]) -> list[Candidate]:
    candidates = []
    for k in ks:
        module = data.module(k)
        shapes = module.query_shape, module.task.prediction_shape
        log.info("choosing the smoothing of NeRCC for k = %d on validation data", k)
        smoothing = choose_smoothing(base_model, data.loader(k, "val"), module.task)
        for name, about, r, encoder, decoder in (
            ("no redundancy", "what is unavailable is lost", 0, ReplicationEncoder, ReplicationDecoder),
            ("replication x2", "every query goes to two workers", k, ReplicationEncoder, ReplicationDecoder),
            ("ApproxIFER", "Berrut's rational interpolation", 1, BerrutEncoder, BerrutDecoder),
        ):
            model = CodedModel(base_model, encoder(k, r, shapes[0]), [], decoder(k, r, shapes[1]))
            candidates.append(Candidate(name, about, False, model.to(data.loader(k, "val").device)))
        spline = CodedModel(
            base_model,
            NeRCCEncoder(k, 1, shapes[0], smoothing.encoder),
            [],
            NeRCCDecoder(k, 1, shapes[1], smoothing.decoder),
        )
        about = f"smoothing splines, lambda {smoothing.encoder:g} and {smoothing.decoder:g}"
        candidates.append(Candidate("NeRCC", about, False, spline.to(data.loader(k, "val").device)))
    return candidates


def _backups(base_model: nn.Module, backup: Experiment, data: _Data, ks: Sequence[int], reload: str) -> list[Candidate]:
    network = backup.load_trained_model(reload)
    if not backup.is_base:
        raise ParityError(
            f"--backup names a base experiment, a network of its own, and {backup.experiment_name} is not one."
        )
    candidates = []
    for k in ks:
        module = data.module(k)
        model = CodedModel(
            base_model,
            BackupEncoder(k, k, module.query_shape),
            [network] * k,
            BackupDecoder(k, k, module.task.prediction_shape),
        )
        about = f"every query also goes to {backup.experiment_name}"
        candidates.append(Candidate("cheaper backup", about, False, model.to(data.loader(k, "val").device)))
    return candidates
