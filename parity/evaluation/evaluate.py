"""Coded models compared on data of any form: what ``parity.evaluate`` and evaluate.py do."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from parity.black_boxes import BlackBox
from parity.coded_model import CodedModel
from parity.data import GroupDataModule, groups_of
from parity.data.datamodule import check_split
from parity.data.loaders import Scaling
from parity.data.queries import regrouped
from parity.data.tokens import check_vocabulary
from parity.errors import ParityError, cause
from parity.evaluation.accuracies import evaluate_base
from parity.evaluation.baselines import BACKUP, backups
from parity.evaluation.baselines import baselines as codes_without_training
from parity.evaluation.cascade import cascades
from parity.evaluation.comparison import Candidate, compare, timings
from parity.evaluation.costs import multiply_adds
from parity.evaluation.evaluation import Evaluation
from parity.evaluation.groups import DataInGroups
from parity.models.weights import fingerprint
from parity.tasks import Classification, Task

log = logging.getLogger(__name__)

UNAVAILABLE = (0.0, 0.01, 0.05, 0.1, 0.2)

_QUERIES_AT_ONCE = 1024


def evaluate(
    coded_model: Any,
    data: Any,
    *,
    val_data: Any = None,
    baselines: bool = False,
    backup: nn.Module | None = None,
    ks: Sequence[int] | None = None,
    unavailable: Sequence[float] = UNAVAILABLE,
    paired: bool = False,
    default_class: int | None = None,
    split: str = "test",
    timed: bool = True,
    name: str = "own data",
    **reading: Any,
) -> Evaluation:
    """Evaluate coded models, on the same groups of queries.

    Args:
        coded_model: a ``CodedModel``, or what ``protect`` or ``train_model`` returned; or several, by name.
        data: to evaluate on, in any form that ``groups_of`` takes; of a datamodule of ours its ``split``, of one of
            Lightning what its ``test_dataloader`` returns.
        val_data: validation data, which the smoothing of the baseline NeRCC is chosen on.
        baselines: also evaluate the codes that need no training.
        backup: a smaller network, which every query also goes to.
        ks: of baselines and backup; by default those of the coded models.
        unavailable: f at which A_o(f) is reported.
        paired: workers fail in pairs.
        default_class: what a user gets where nothing can be rebuilt; by default the most frequent class. That, the
            variance of R² and the gallery of embeddings are of a datamodule's training data, and of ``data`` where it
            is not a datamodule.
        split: 'test' or 'val', of a datamodule of ours.
        timed: whether encoding and decoding are timed.
        name: of the data, in the report.
        reading: of ``groups_of``: ``queries``, ``targets``, ``task``, ``scaling``, ``size``.

    Raises:
        ParityError: these are not coded models of one base model, the data cannot be used, or there is no such split.
    """
    check_split(split, ("val", "test"))
    models = _models(coded_model)
    first = next(iter(models.values())).eval()
    base_model, device = first.base_model, first.device
    task: Task | None = reading.pop("task", None)
    _check_kinds(ks, unavailable, default_class, backup, task, reading.get("scaling"))
    if split != "test" and not isinstance(data, GroupDataModule):
        raise ParityError(
            f"split = '{split}' is of a datamodule of ours: leave it out, for all of the data is measured."
        )
    given = _given(data, val_data, first, device, task, name, reading)
    check_vocabulary(given, split, first.vocabulary)
    _check_predictions(given, split, first, device, backup)
    made = DataInGroups(
        lambda k: regrouped(given, k, batch_size=max(1, _QUERIES_AT_ONCE // k)),
        device,
        has_validation=isinstance(data, GroupDataModule) or val_data is not None,
    )
    candidates = [Candidate(name, about(model), True, model.eval()) for name, model in models.items()]
    return Evaluation(
        compare_on(
            made, base_model, _name(base_model), candidates, baselines=baselines,
            backup=None if backup is None else (type(backup).__name__, backup),
            ks=ks or sorted({model.k for model in models.values()}), unavailable=unavailable, paired=paired,
            default_class=default_class, split=split, timed=timed,
        )
    )  # fmt: skip


def _models(given: Any) -> dict[str, CodedModel]:
    """Return coded models by name.

    Raises:
        ParityError: they are something else.
    """
    several = given if isinstance(given, Mapping) else {"": given}
    models = {}
    for name, value in several.items():
        found = value
        for attribute in ("coded_model", "model"):  # of what protect or train_model returned
            found = found if isinstance(found, CodedModel) else getattr(found, attribute, found)
        if not isinstance(found, CodedModel):
            raise ParityError(
                f"what is evaluated is a CodedModel, or what protect or train_model returned, not a "
                f"{type(value).__name__}: protect the network first, parity.protect(network, ...)."
            )
        models[str(name) or f"k{found.k}_{type(found.encoder).__name__}"] = found
    if not models:
        raise ParityError("nothing is to be evaluated: hand over a coded model.")
    check_shared_base_model({name: model.base_model for name, model in models.items()})
    return models


def check_shared_base_model(networks: Mapping[str, nn.Module]) -> None:
    """Make sure that base models by the codes' names have the same weights.

    Raises:
        ParityError: two have not.
    """
    marks = {name: fingerprint(network) for name, network in networks.items()}
    first = next(iter(marks))
    for name, mark in marks.items():
        if mark != marks[first]:
            raise ParityError(
                f"{first} and {name} have base models of other weights, so their accuracies cannot be compared: train "
                "them with the same base model."
            )


def _given(
    data: Any,
    val_data: Any,
    model: CodedModel,
    device: torch.device,
    task: Task | None,
    name: str,
    reading: dict[str, Any],
) -> GroupDataModule:
    if isinstance(data, GroupDataModule):
        return data

    def predict(queries: Tensor) -> Tensor:
        return _predicted(model.base_model, queries.to(device), "the base model")

    return groups_of(
        None, 1, val_data=val_data, test_data=data, network=predict, task=task, name=name,
        vocabulary=lambda _: model.vocabulary, **reading,
    )  # fmt: skip


def _check_predictions(
    data: GroupDataModule, split: str, model: CodedModel, device: torch.device, backup: nn.Module | None
) -> None:
    """Refuse data, or a backup, of other queries or predictions than the coded model's.

    Raises:
        ParityError: they are.
    """
    query, expected = data.loader(split).first_query().to(device), model.decoder.prediction_shape
    networks = {"the base model": model.base_model} | ({} if backup is None else {"the backup": backup.to(device)})
    for name, network in networks.items():
        prediction = _predicted(network.eval(), query, name)
        if not prediction.isfinite().all():
            raise ParityError(f"the predictions of {name.removeprefix('the ')} are NaN or infinite: scale the queries.")
        if tuple(prediction.shape[1:]) != expected:
            raise ParityError(
                f"{name} predicts {tuple(prediction.shape[1:])} for queries of shape {tuple(query.shape[1:])}, and the "
                f"code is made for {expected}: hand over what fits it."
            )
    if data.task.prediction_shape != expected:
        raise ParityError(
            f"the data is of predictions {data.task.prediction_shape}, and the code of {expected}: hand over data, or "
            "a task=..., of the predictions that were protected."
        )


@torch.no_grad()
def _predicted(network: nn.Module, queries: Tensor, name: str) -> Tensor:
    """Return a network's predictions (B, *P) for queries (B, *Q).

    Raises:
        ParityError: it cannot take them.
    """
    try:
        predictions = network(queries)
    except ParityError:
        raise
    except Exception as error:  # of a user's own network
        raise ParityError(
            f"{name} cannot take queries of shape {tuple(queries.shape[1:])} ({cause(error).rstrip('.')}): hand over "
            "such as the code was made for."
        ) from error
    if not isinstance(predictions, Tensor):
        raise ParityError(f"{name} returns a {type(predictions).__name__}, expected one tensor (B, *P).")
    return predictions


def _check_kinds(ks: Any, unavailable: Any, default_class: Any, backup: Any, task: Any, scaling: Any) -> None:
    """Refuse arguments of another type than they have to be: a sentence for each.

    Raises:
        ParityError: one is.
    """

    def listed(values: Any, kind: type[Any], least: int) -> bool:
        fine = isinstance(values, Iterable) and not isinstance(values, str)
        return fine and all(isinstance(item, kind) and item is not True and item >= least for item in values)

    whole = isinstance(default_class, Integral | None) and not isinstance(default_class, bool)
    for name, fine, expected, value in (
        ("ks", ks is None or listed(ks, Integral, 1), "numbers of queries in a group, e.g. (2, 4)", ks),
        ("unavailable", listed(unavailable, Real, 0), "probabilities, e.g. (0.05, 0.1)", unavailable),
        ("default_class", whole, "the number of a class, counted from 0", default_class),
        ("backup", isinstance(backup, nn.Module | None), "a network, an object of nn.Module", backup),
        ("task", isinstance(task, Task | None), "a Task, e.g. Classification(10) of parity.tasks", task),
        ("scaling", isinstance(scaling, Scaling | None), "a Scaling of parity.data, e.g. Scaling(255.0)", scaling),
    ):
        if not fine:
            raise ParityError(f"{name} should be {expected}, not {' '.join(repr(value).split()):.80}.")


def _name(network: nn.Module) -> str:
    """Return what a user's network is called, out of what chooses its output."""
    inner = getattr(network, "network", None)
    return network.name if isinstance(network, BlackBox) else type(inner or network).__name__


def about(model: CodedModel) -> str:
    """Return what a trained code is, in a few words."""
    return f"{type(model.encoder).__name__}, {type(model.decoder).__name__}; trained"


def compare_on(
    data: DataInGroups,
    base_model: nn.Module,
    base_name: str,
    candidates: Sequence[Candidate],
    *,
    baselines: bool,
    backup: tuple[str, nn.Module] | None,
    ks: Sequence[int],
    unavailable: Sequence[float],
    paired: bool,
    default_class: int | None,
    split: str,
    timed: bool = True,
) -> dict[str, Any]:
    """Compare trained codes, and those that need no training, on one base model and the same groups.

    Args:
        data: in groups.
        base_model: the network, on the data's device.
        base_name: of it.
        candidates: the trained codes.
        baselines: also compare those without training.
        backup: name and network of a smaller one, which every query also goes to; and which, in a row of its own,
            answers first.
        ks: of baselines and backups.
        unavailable, paired, default_class, split, timed: see ``evaluate``.

    Returns:
        What ``write_report`` and ``Evaluation`` take.

    Raises:
        ParityError: nothing is to be compared, or an argument cannot be used.
    """
    for f in unavailable:
        if not 0 <= f <= 1:
            raise ParityError(f"unavailable takes probabilities, from 0 to 1, not {f:g}.")
    trained = {candidate.model.k for candidate in candidates}
    data.check_enough(trained.union(ks if baselines or backup else ()), split)
    if baselines and data.has_validation:
        data.check_enough(ks, "val")
    task = data.module(1).task
    default = data.module(1).default_prediction()
    if default_class is not None and not isinstance(task, Classification):
        raise ParityError(f"default_class is for classes, which {type(task).__name__} does not predict: leave it out.")
    if default_class is not None:
        default = _one_hot(default_class, default)
    candidates = [
        *candidates,
        *(codes_without_training(base_model, data, ks) if baselines else ()),
        *(backups(base_model, backup[1], backup[0], data, ks) if backup else ()),
    ]
    if not candidates:
        raise ParityError("nothing is to be compared: name codes, or ask for baselines.")
    with_cascade = backup is not None and not paired and isinstance(task, Classification)
    if with_cascade and (split == "val" or not data.has_validation or not len(data.module(1).rows("val"))):
        with_cascade = False
        log.warning(
            "the cascade is left out: its threshold is chosen on validation data (val_data=...), and measured on other"
        )
    classes = data.module(1).class_names if isinstance(task, Classification) else None
    counted = evaluate_base(base_model, data.loader(1, split), task)
    query = next(data.loader(1, split).every_query(1))[1]
    codes = compare(
        candidates, lambda k: data.loader(k, split), task, default, unavailable, paired, classes,
        lambda name: log.info("evaluating %s", name),
    )  # fmt: skip
    if backup and with_cascade:
        rows = [code for code in codes if code["name"] == BACKUP]
        codes += cascades(*backup, base_model, data.loader, split, task, default.to(data.device), rows)
    if timed:
        log.info("timing")
    return {
        "dataset": data.module(1).dataset,
        "split": split,
        "measure": task.measures[0],
        "base": {
            "name": base_name,
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
        "timing": timings(candidates, lambda k: data.loader(k, split)) if timed else [],
    }


def _one_hot(number: int, default: torch.Tensor) -> torch.Tensor:
    if default.dim() != 1 or not 0 <= number < len(default):
        raise ParityError(f"default_class is one of the {len(default)} classes, counted from 0, not {number}.")
    return nn.functional.one_hot(torch.tensor(number), len(default)).float()
