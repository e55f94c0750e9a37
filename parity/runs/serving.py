"""An experiment's run, or an artefact, turned into a code that is ready to be served."""

from pathlib import Path

import torch
from torch.nn import functional

from parity.coded_model import CodedModel
from parity.data import GroupDataModule, Ids, TensorDataModule
from parity.errors import DamagedFileError, ParityError
from parity.experiments.experiment import Experiment
from parity.export import load
from parity.export.manifest import FILE, sha256
from parity.models.weights import fingerprint
from parity.serving import Servable
from parity.tasks import Classification


def load_servable(
    experiment: Experiment, *, reload: str = "best", ema: bool = False, default_class: int | None = None
) -> Servable:
    """Return what an experiment has trained, with the preprocessing of its data set.

    Args:
        experiment: whose run.
        reload: 'best', 'last' or 'epoch_<N>'.
        ema: serve the averaged weights of that checkpoint.
        default_class: the class that is predicted where there is no other prediction; by default there is none.

    Raises:
        ParityError: it is a base model, or not trained; the data is not there, or has no such class.
    """
    model = experiment.load_trained_model(reload, ema)
    if not isinstance(model, CodedModel):
        raise ParityError(f"{experiment.experiment_name} is a base model, and has no code to serve: name one that has.")
    datamodule = experiment.get_datamodule()
    if default_class is not None and not isinstance(datamodule.task, Classification):
        raise _no_classes(f"{experiment.dataset} {experiment.run_name}")
    stored = _stored(datamodule)
    scaling = datamodule.scaling(stored)
    return Servable(
        model,
        scaling,
        stored,
        name=f"{experiment.dataset} {experiment.run_name}",
        version=fingerprint(model),
        default=None if default_class is None else _one_hot(default_class, model.decoder.prediction_shape),
        ids_below=scaling.vocabulary if isinstance(scaling, Ids) else None,
    )


def load_artefact(folder: Path, *, default_class: int | None = None) -> Servable:
    """Return an artefact as ``parity.export.save`` has written it; nothing of its run or its data is needed.

    Args:
        folder: of the artefact.
        default_class: as in ``load_servable``.

    Raises:
        ParityError: the folder is not a whole artefact, or it has no such class.
    """
    artefact = load(folder)
    model = artefact.coded_model
    if default_class is not None and not artefact.manifest["class_names"]:
        raise _no_classes(f"the artefact {folder}")
    stored = getattr(torch, artefact.manifest["preprocessing"]["dtype"], None)
    if not isinstance(stored, torch.dtype):
        raise DamagedFileError(f"{folder / FILE} is damaged: 'preprocessing.dtype' is not a type of tensors.")
    return Servable(
        model,
        artefact.preprocessing,
        stored,
        name=artefact.manifest["name"],
        version=sha256((folder / FILE).read_bytes()),
        default=None if default_class is None else _one_hot(default_class, model.decoder.prediction_shape),
        ids_below=artefact.manifest["preprocessing"].get("ids_below"),
    )


def _stored(datamodule: GroupDataModule) -> torch.dtype:
    """Return the type of the data set's queries, which only the data itself shows; image files are read as uint8."""
    return datamodule.load(train=False)[0].dtype if isinstance(datamodule, TensorDataModule) else torch.uint8


def _no_classes(what: str) -> ParityError:
    return ParityError(f"--default_class is for networks that predict a class, and {what} does not: leave it out.")


def _one_hot(number: int, prediction_shape: tuple[int, ...]) -> torch.Tensor:
    if len(prediction_shape) != 1 or not 0 <= number < prediction_shape[0]:
        raise ParityError(f"--default_class is one of the classes of predictions {prediction_shape}, not {number}.")
    return functional.one_hot(torch.tensor(number), prediction_shape[0]).float()
