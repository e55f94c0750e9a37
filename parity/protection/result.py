"""What ``protect`` returns: a coded model, what it loses, and what is done with it next."""

import importlib
from pathlib import Path
from typing import Any

from torch import nn

from parity.black_boxes import BlackBox
from parity.coded_model import CodedModel
from parity.data import GroupDataModule
from parity.data.queries import QueriesDataModule
from parity.errors import ParityError
from parity.evaluation.evaluate import evaluate
from parity.evaluation.evaluation import Evaluation
from parity.experiments import Experiment
from parity.tasks import Classification


class Protected:
    """A protected network.

    >>> print(result)
    >>> result.evaluate(test_data, baselines=True).report("report/")
    >>> result.save("mine/")

    Args:
        coded_model: trained.
        data: what it was trained on.
        measured: its evaluation on validation data.
        code: name of the code.
        why: it was chosen.
        history: what was logged of each epoch.
    """

    def __init__(
        self,
        coded_model: CodedModel,
        data: GroupDataModule,
        measured: Evaluation,
        code: str,
        why: str,
        history: list[dict[str, float]],
    ) -> None:
        self.coded_model, self.data, self.measured = coded_model, data, measured
        self.code, self.why, self.history = code, why, history

    def __str__(self) -> str:
        """Return what it loses when a worker is missing, on validation data."""
        return str(self.measured)

    def __repr__(self) -> str:
        model = self.coded_model
        return f"<Protected by '{self.code}', k = {model.k}, r = {model.r}: {self}>"

    def evaluate(self, test_data: Any = None, **options: Any) -> Evaluation:
        """Evaluate on test data, beside codes without training if asked for.

        Args:
            test_data: in any form that ``protect`` takes, read as the training data was; None for the test data of a
                datamodule of ours.
            options: of ``parity.evaluate``: ``baselines``, ``backup``, ``unavailable``, ...

        Raises:
            ParityError: it cannot be used, or there is none.
        """
        return evaluate({self.code: self.coded_model}, self._with(test_data), **options)

    def _with(self, test_data: Any) -> Any:
        """Return test data as a datamodule with the training data's task, scaling and validation split."""
        own = isinstance(self.data, QueriesDataModule)
        if test_data is None and own:
            raise ParityError("there is no test data: hand it over, result.evaluate(test_data).")
        if test_data is None or isinstance(test_data, GroupDataModule) or not isinstance(self.data, QueriesDataModule):
            return self.data if test_data is None else test_data
        device = self.coded_model.device
        return self.data.with_split("test", test_data, lambda queries: self.coded_model.base_model(queries.to(device)))

    def save(self, folder: str | Path) -> Path:
        """Save an artefact, which ``parity.load`` loads in any process, without the network's own code.

        Args:
            folder: made if it is not there.

        Returns:
            The folder.
        """
        export: Any = importlib.import_module("parity.export")
        path: Path = export.save(
            folder, self.coded_model, export.Preprocessing.of(self.data), export.CardFacts(**self.card())
        )
        return path

    def card(self) -> dict[str, Any]:
        """Return what a reader of the artefact should know, by the names of ``parity.export.CardFacts``."""
        results = self.measured.results
        (measured,) = results["codes"]
        classes = self.data.class_names if isinstance(self.data.task, Classification) else []
        return {
            "name": f"{results['base']['name']}-k{self.coded_model.k}-{self.code}",
            "what": f"{results['base']['name']}, protected by the code '{self.code}': it {self}.",
            "data": f"{self.data.dataset}, {results['split']} split, {measured['groups']} groups of {measured['k']}",
            "accuracies": {name: measured[name] for name in ("A_a", "A_d", "loss", "reconstruction")},
            "class_names": classes,
            "provenance": _provenance(self.coded_model.base_model),
            "command": f"parity.protect(network, train_data, val_data, k={self.coded_model.k}, code='{self.code}')",
        }


def _provenance(network: nn.Module) -> str:
    lost = ", which this artefact does not hold" if isinstance(network, BlackBox) and not network.is_kept else ""
    return f"the network that was handed to parity.protect{lost}"


def of_experiment(experiment: Experiment, reload: str = "best") -> Protected:
    """Return what an experiment has trained as ``protect`` returns it, measured on validation data.

    Raises:
        ParityError: it is not trained, or is a base experiment.
    """
    if experiment.is_base:
        raise ParityError(
            f"{experiment.experiment_name} is a base model: protect it, by parity.protect with what its "
            "load_trained_model() and get_datamodule() return."
        )
    model = experiment.load_trained_model(reload)
    assert isinstance(model, CodedModel), "a parity experiment's model"
    data = experiment.get_datamodule()
    measured = evaluate({experiment.run_name: model}, data, split="val", unavailable=(), timed=False)
    return Protected(model, data, measured, experiment.run_name, f"by {experiment!r}", experiment.load_metrics())
