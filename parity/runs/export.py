"""An experiment's run turned into an artefact."""

from collections.abc import Mapping
from copy import copy
from pathlib import Path

from parity.coded_model import CodedModel
from parity.data import GroupDataModule
from parity.errors import ParityError
from parity.experiments.experiment import BASE_DIRECTORY, Experiment
from parity.export import CardFacts, Preprocessing, save
from parity.models import load_into, read_weights
from parity.runs.evaluation import run_evaluation
from parity.storage.files import read_json
from parity.tasks import BoxLocalisation, Classification, DensePrediction, Embeddings, MultiLabel, Regression
from parity.training.loop.run_folder import CONFIG_FILE


def export_run(
    experiment: Experiment,
    folder: Path | None = None,
    *,
    reload: str = "best",
    ema: bool = False,
    weights: Path | None = None,
    accelerator: str = "auto",
    onnx: bool | None = None,
    name: str | None = None,
    provenance: str | None = None,
    licences: Mapping[str, str] | None = None,
) -> Path:
    """Evaluate what an experiment has trained on test data, and write it as an artefact.

    Args:
        experiment: whose run.
        folder: where to; by default 'artefact' in the run's folder.
        reload: 'best', 'last' or 'epoch_<N>'.
        ema: export the averaged weights of that checkpoint.
        weights: a file of the whole coded model's weights, as an artefact's, to export instead of a checkpoint.
        accelerator: to evaluate on, as Lightning names it.
        onnx: also write ONNX; by default where its packages are installed.
        name: of the artefact; by default the data set's and the run's.
        provenance: where the base model's weights come from; by default the run that they are of.
        licences: by what they are of.

    Returns:
        The folder.

    Raises:
        ParityError: it is a base model or not trained, the data is not there, or it cannot be exported.
    """
    if experiment.is_base:
        raise ParityError(
            f"{experiment.experiment_name} is a base model, which has no code: export an experiment that protects it."
        )
    model = experiment.load_trained_model(reload, ema) if weights is None else experiment.get_model()
    assert isinstance(model, CodedModel)  # as it is not a base model
    if weights is not None:
        load_into(model, read_weights(weights), weights)
    datamodule = experiment.get_datamodule()
    preprocessing = Preprocessing.of(datamodule, "test")
    measured = run_evaluation(experiment, reload=reload, ema=ema, weights=weights, accelerator=accelerator)["code"]
    is_classes = isinstance(datamodule.task, Classification)
    card = CardFacts(
        name=name or f"{experiment.dataset} {experiment.run_name}",
        what=f"The base model predicts {_predicted(datamodule)}.",
        data=f"the test data of {experiment.dataset}, in {measured['groups']} coding groups",
        accuracies=measured,
        class_names=datamodule.class_names if is_classes else (),
        input_range=_range(datamodule),
        provenance=provenance or (_provenance(experiment) if weights is None else f"the file {weights.name}"),
        licences=licences or {},
        command=_command(experiment),
    )
    return save(folder or experiment.save_dir / "artefact", model, preprocessing, card, onnx)


def _command(experiment: Experiment) -> str:
    """Return the command that trains it, without the folder of this machine that its runs lie in."""
    anywhere = copy(experiment)
    anywhere.base_directory = Path(BASE_DIRECTORY)
    return anywhere.command()


def _predicted(datamodule: GroupDataModule) -> str:
    """Return what a base model predicts, in words; of a task of a user's own, its name and shape."""
    task, dataset = datamodule.task, datamodule.dataset
    shape = task.prediction_shape
    match task:
        case Classification():
            return f"which of {shape[0]} classes a query of {dataset} is of"
        case MultiLabel():
            return f"which of {shape[0]} labels a query of {dataset} has"
        case DensePrediction():
            return f"which of {shape[0]} classes each of {' x '.join(map(str, shape[1:]))} parts of a query is of"
        case BoxLocalisation():
            return f"the box of the object in an image of {dataset}, as (x, y, w, h)"
        case Embeddings():
            return f"an embedding of {shape[0]} numbers of a query of {dataset}"
    numbers = "a number" if shape == (1,) else f"numbers of shape {shape}"
    what = "" if isinstance(task, Regression) else f", for the task {type(task).__name__}"
    return f"{numbers} for a query of {dataset}{what}"


def _range(datamodule: GroupDataModule) -> tuple[float, float]:
    """Return the least and the greatest number of the first test queries."""
    _, queries, _ = next(datamodule.loader("test").every_query())
    return float(queries.min()), float(queries.max())


def _provenance(experiment: Experiment) -> str:
    stored = read_json(experiment.save_dir / CONFIG_FILE, "the folder of a run").get("base_weights_sha256")
    return f"the base model of the run, of which the SHA-256 of all weights is {stored}"
