"""Experiment: a config, its data, model and runs, with the same calls in a notebook as on the command line."""

import importlib
import os
import shlex
from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from parity.coded_model import CodedModel
from parity.data import GroupDataModule, get_datamodule_class
from parity.errors import ParityError, did_you_mean
from parity.experiments import catalogue, check
from parity.experiments.config import Config, NotedConfig, apply_overrides, frozen, update_config
from parity.models import load_into
from parity.plain import as_before
from parity.schema import Field
from parity.settings import check_name, user_path
from parity.storage.files import read_json
from parity.training.loggers.epoch_table import read_table
from parity.training.loop.checkpoints import check_checkpoint, model_weights
from parity.training.loop.run_folder import CONFIG_FILE, METRICS_FILE, Identity, RunFolder
from parity.training.objectives.averaging import averaged

BASE_DIRECTORY = "experiments"

_EACH_RUN_ITS_OWN = {"augmentation", "batch_size", "num_validation", "steps_per_epoch", "num_workers"}
"""Keys of ``data`` that a parity experiment and its base model need not agree on."""

_DEFAULTS = dict(trainer=dict(precision="32-true", gradient_clip_val=None, accumulate_grad_batches=1))
"""What a config may leave out, and a user can override all the same."""


_RUN = {
    **{name: Field((str,), needed=False) for name in ("dataset", "collection", "experiment_name")},
    "seed": Field((int, type(None)), 0, 2**32 - 1, needed=False),
    "overrides": Field((dict,), needed=False, values=Field((str, int, float, bool, type(None)))),
    "config": Field((dict,), needed=False),
}
"""What the file of a run's settings holds; one of something else has none of it."""

if TYPE_CHECKING:
    import pandas as pd


def _run_name(experiment_name: str, seed: int | None, own: Config, overridden: Config) -> str:
    """Return the name of a run's folder; other k or r than the experiment's own are part of it, as is a seed."""
    code = overridden.get("code", {})
    changed = [name for name in ("k", "r") if code.get(name) != own.get("code", {}).get(name)]
    return (
        experiment_name
        + "".join(f"-code.{name}={code[name]}" for name in changed)
        + ("" if seed is None else f"-seed={seed}")
    )


def _where(folder: Path, dataset: str, collection: str) -> tuple[Path, str]:
    """Return the base directory and the name of the run in a folder, which may be a copy or a link."""
    named, real = Path(os.path.abspath(folder)), folder.resolve()
    for path in (named, real):
        if path.parts[-3:-1] == (dataset, collection):
            return path.parents[2], path.name
    return Path(BASE_DIRECTORY), named.name


class Experiment:
    """One entry of a ``CONFIGS``, and one run of it.

    >>> Experiment("MNIST", "mlp_k2_add").load_trained_model()(queries, available)
    >>> Experiment("experiments/MNIST/original/mlp_k2_add-seed=1").load_metrics()

    Args:
        dataset: name of the data set; or, alone, the folder of a run.
        experiment_name: name of the experiment.
        collection: only needed to be sure which one is meant, names are unique within a data set.
        base_directory: under which runs lie, as <dataset>/<collection>/<run name>.
        run_name: of the run; by default the experiment's name, with ``-code.k=<k>`` and ``-code.r=<r>`` where these are
            overridden, and ``-seed=<seed>`` where a seed is given.
        seed: of everything random in the run; None is seed 0.
        overrides: scalars of the config to replace, ``{"trainer.max_epochs": 40}``.

    Raises:
        ParityError: unknown data set, experiment or override, or a folder that is not a run's.
    """

    def __init__(
        self,
        dataset: str | Path,
        experiment_name: str | None = None,
        *,
        collection: str | None = None,
        base_directory: str | Path = BASE_DIRECTORY,
        run_name: str | None = None,
        seed: int | None = None,
        overrides: Config | None = None,
    ) -> None:
        folder: Path | None = None
        if experiment_name is None:
            folder = user_path(dataset)
            run = self._read_run(folder)
            dataset, experiment_name, collection = run["dataset"], run["experiment_name"], run["collection"]
            base_directory, run_name = _where(folder, run["dataset"], run["collection"])
            seed, overrides = run["seed"], {**run["overrides"], **(overrides or {})}
        entry = catalogue.find(str(dataset), experiment_name, collection)
        self.dataset, self.collection, self.experiment_name = entry.dataset, entry.collection, entry.name
        self.base_directory = user_path(base_directory)
        self.seed, self.overrides = seed, dict(overrides or {})
        self.config = frozen(apply_overrides(update_config(_DEFAULTS, entry.config), self.overrides))
        self._default_run_name = _run_name(entry.name, seed, entry.config, self.config)
        self.run_name = run_name or self._default_run_name
        if seed is not None and not 0 <= seed < 2**32:
            raise ParityError(f"a seed is a number from 0 to 2^32 - 1, not {seed}.")
        if Path(self.run_name).name != self.run_name or self.run_name == "..":
            raise ParityError(f"a run name is the name of one folder, not '{self.run_name}'.")
        check_name(self.run_name)
        self.save_dir = folder or self.base_directory / self.dataset / self.collection / self.run_name
        self._get_network = entry.get_network

    @staticmethod
    def _read_run(folder: Path) -> dict[str, Any]:
        run = read_json(folder / CONFIG_FILE, "the folder of a run", _RUN)
        if not {"dataset", "experiment_name", "collection", "seed", "overrides"} <= run.keys():
            raise ParityError(f"{folder / CONFIG_FILE} was not written by a run of parity.")
        return run

    @property
    def name_without_seed(self) -> str:
        """The run's name, which runs that differ by their seed alone share."""
        return self.run_name.removesuffix(f"-seed={self.seed}")

    def __repr__(self) -> str:
        return f"Experiment({self.dataset!r}, {self.experiment_name!r}, run {str(self.save_dir)!r})"

    @property
    def is_base(self) -> bool:
        """Whether this experiment trains a base model, and no code."""
        return "code" not in self.config

    @property
    def base_experiment(self) -> "Experiment | None":
        """The run whose best checkpoint is the base model; None where the config names a file of weights.

        Overrides of what the data is are its too, and part of its run's name: ``mlp_base-data.fold=1``. A run that was
        trained with them under the name of the base alone is it as well.
        """
        base = self.config.get("base")
        if not isinstance(base, str):
            return None
        overrides = {
            path: value
            for path, value in self.overrides.items()
            if path.startswith("data.") and path.split(".")[1] not in _EACH_RUN_ITS_OWN
        }
        made = partial(Experiment, self.dataset, base, base_directory=self.base_directory, overrides=overrides)
        experiment = made()
        if not experiment.is_base:
            raise ParityError(f"'{base}' is not a base model: it has a code of its own.")
        own = Experiment(self.dataset, base).config.get("data", {})
        data = experiment.config.get("data", {})
        if all(own.get(name) == data[name] for name in {path.split(".")[1] for path in overrides}):
            return experiment
        if experiment.folder.stored_settings() is not None and not experiment.trained_otherwise():
            return experiment
        values = "".join(f"-{path}={str(value).replace('/', '_')}" for path, value in sorted(overrides.items()))
        return made(run_name=f"{experiment.run_name}{values}")

    def trained_otherwise(self) -> list[str]:
        """Return what data or network of the run in ``save_dir`` differ from this config's: 'config.data.fold: 1 -> 0'.

        Raises:
            ParityError: the file of its settings is damaged.
        """
        if (stored := self.folder.stored_settings()) is None:
            return []
        ignored = {f"config.data.{name}" for name in _EACH_RUN_ITS_OWN}
        found = ((text, text.partition(":")[0]) for text in self.as_before(stored).identity(None).differences(stored))
        return [
            text
            for text, path in found
            if f"{path}.".startswith(("config.data.", "config.model."))
            and not any(f"{path}.".startswith(f"{name}.") for name in ignored)
        ]

    @property
    def larger_batches(self) -> int:
        """How many groups are evaluated at a time: nothing is kept for gradients, and no number depends on it."""
        return 4 * int(self.config["data"].get("batch_size", 64))

    def get_datamodule(self, **changes: Any) -> GroupDataModule:
        """Make the datamodule; ``changes`` replace its arguments, e.g. ``batch_size=256``."""
        data_class = get_datamodule_class(self.dataset)
        check.check_data(self.config, self.dataset, f"the config of {self.dataset} {self.experiment_name}")
        k = 1 if self.is_base else self.config["code"]["k"]
        return data_class(**{"k": k, "seed": self.seed or 0, **self.config.get("data", {}), **changes})

    def get_network(self) -> nn.Module:
        """Make this config's network, untrained: the base model's, or a parity model's of the base model's shape."""
        datamodule = self.get_datamodule()
        return self._network(datamodule.query_shape, datamodule.task.prediction_shape)

    def _network(self, query_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> nn.Module:
        if self._get_network is not None:
            return self._own_network(self._get_network, query_shape, output_shape)
        arguments = dict(self.config["model"])
        return arguments.pop("network")(query_shape, output_shape, **arguments)

    def _own_network(
        self, get_network: Callable[..., nn.Module], query_shape: tuple[int, ...], output_shape: tuple[int, ...]
    ) -> nn.Module:
        """Make a network by the collection's own function, which uses every key of ``model``, as constructors do."""
        arguments = NotedConfig(self.config.get("model", {}))
        network = get_network({**self.config, "model": arguments}, query_shape, output_shape)
        if ignored := sorted(arguments.keys() - arguments.asked):
            raise ParityError(
                f"the config of {self.dataset} {self.experiment_name} has 'model.{ignored[0]}', which get_model of its "
                f"model.py does not read: {did_you_mean(ignored[0], arguments.asked)}"
            )
        return network

    def get_model(self) -> nn.Module:
        """Make the model, untrained: a network for a base experiment, else a ``CodedModel``.

        Raises:
            ParityError: the code cannot do its (k, r) or this data set's queries, or a network cannot be made.
        """
        try:
            return self._make_model()
        except (TypeError, ValueError, RuntimeError, LookupError) as error:
            what = f"the model of {self.dataset} {self.experiment_name} cannot be made"
            raise ParityError(f"{what} ({type(error).__name__}: {' '.join(str(error).split())}).") from error

    def _make_model(self) -> nn.Module:
        if self.is_base:
            return self.get_network()
        datamodule, code, base = self.get_datamodule(), self.config["code"], self.base_experiment
        query_shape, prediction_shape = datamodule.query_shape, datamodule.task.prediction_shape
        if base is not None and base.get_datamodule().query_shape != query_shape:
            raise ParityError(
                f"{self.experiment_name} has queries of shape {query_shape}, its base model {base.experiment_name} of "
                f"{base.get_datamodule().query_shape}: give both the same data."
            )
        trained = check.trained_parts(self.config)
        encoder = code["encoder"](code["k"], code["r"], query_shape)
        decoder = code["decoder"](code["k"], code["r"], prediction_shape)
        parity_shape = decoder.parity_shape(prediction_shape)
        base_model = (base or self).get_network()
        if "parity_models" in trained:
            asked = encoder.parity_query_shape
            parity_models = [self._network(asked, parity_shape) for _ in range(encoder.parity_workers)]
            if (initialise := self.config.get("parity_init")) is not None:
                for parity_model in parity_models:
                    initialise(parity_model)
        elif parity_shape == prediction_shape and encoder.parity_query_shape == query_shape:
            parity_models = [base_model] * encoder.parity_workers
        else:
            raise ParityError(
                f"a parity model that is not trained is the base model, of queries {query_shape} and predictions "
                f"{prediction_shape}, but the code needs {encoder.parity_query_shape} and {parity_shape}."
            )
        model = CodedModel(base_model, encoder, parity_models, decoder)
        model.requires_grad_(False)
        for name in trained:
            getattr(model, name).requires_grad_(True)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ParityError(f"nothing in {' and '.join(trained)} can be trained: there are no parameters.")
        return model

    def start_parity_models(self, model: CodedModel) -> None:
        """Start the parity models from the base model's weights, by the config's ``parity_start``, if it has one."""
        if (start := self.config.get("parity_start")) is not None:
            for parity_model in model.parity_models:
                start(parity_model, model.base_model)

    @property
    def folder(self) -> RunFolder:
        """What lies in ``save_dir``."""
        return RunFolder.of_experiment(self.save_dir)

    def available_checkpoints(self) -> list[str]:
        """Return what ``reload`` can name: 'best', 'last', 'previous', and 'epoch_<N>' in order."""
        return self.folder.available_checkpoints()

    def checkpoint(self, reload: str = "best") -> Path:
        """Return the path of a checkpoint.

        Raises:
            ParityError: the run has none of this name.
        """
        return self.folder.checkpoint(reload, f"train first, with {self.command()}")

    def command(self) -> str:
        """Return the command that trains this experiment."""
        options = ["--dataset", self.dataset, "--experiment_name", self.experiment_name]
        if str(self.base_directory) != BASE_DIRECTORY:
            options += ["--base_directory", str(self.base_directory)]
        for folder in catalogue.given_paths():
            options += ["--experiments_path", str(folder)]
        if self.seed is not None:
            options += ["--seed", str(self.seed)]
        if self.run_name != self._default_run_name:
            options += ["--run_name", self.run_name]
        if self.overrides:
            options += ["--set", *(f"{path}={value}" for path, value in self.overrides.items())]
        return f"python -m parity train {shlex.join(options)}"

    def load_trained_model(self, reload: str = "best", ema: bool = False) -> nn.Module:
        """Make the model and load what was trained, in eval mode.

        Args:
            reload: 'best', 'last' or 'epoch_<N>'.
            ema: load the averaged weights of that time; the config asks for averaging.

        Returns:
            A ``CodedModel``, called with (queries, available), or a base experiment's network.

        Raises:
            ParityError: there is no such checkpoint, it is damaged or of another model, or has no averaged weights.
        """
        path = self.checkpoint(reload)
        model, checkpoint = self.get_model(), check_checkpoint(path)
        load_into(model, model_weights(averaged(checkpoint, path) if ema else checkpoint["state_dict"]), path)
        return model.eval().requires_grad_(False)

    def evaluate(self, split: str = "test", reload: str = "best", **options: Any) -> "pd.DataFrame":
        """Return the numbers of a report's ``results.csv`` as a data frame: a row for this code, accuracies and costs.

        Args:
            split: 'test' or 'val'.
            reload: 'best', 'last' or 'epoch_<N>'.
            options: of ``run_comparison``: ``baselines=True`` adds the codes without training, a row each.

        Raises:
            ParityError: it is not trained, or is a base experiment and there are no baselines.
        """
        # Imported by name, for it is built on this layer.
        runs = importlib.import_module("parity.runs.evaluation")
        frame: pd.DataFrame = runs.results_frame(self, split=split, reload=reload, **options)
        return frame

    def result(self, reload: str = "best") -> Any:
        """Return what was trained as ``parity.protect`` returns it: to print, evaluate and save as an artefact.

        Args:
            reload: 'best', 'last' or 'epoch_<N>'.

        Raises:
            ParityError: it is not trained, or is a base experiment.
        """
        return importlib.import_module("parity.protection.result").of_experiment(self, reload)

    def load_metrics(self) -> list[dict[str, float]]:
        """Return the run's metrics, a dict for each epoch."""
        return [
            {name: float(value) for name, value in row.items() if value}
            for row in read_table(self.save_dir / METRICS_FILE)
        ]

    def load_test_metrics(self) -> dict[str, float]:
        """Return the test metrics of the best checkpoint.

        Raises:
            ParityError: the run is not finished.
        """
        return self.folder.test_metrics()

    def identity(self, base_fingerprint: str | None) -> Identity:
        """Return what makes a run this run: what ``config.json`` holds."""
        settings = {
            "dataset": self.dataset,
            "collection": self.collection,
            "experiment_name": self.experiment_name,
            "seed": self.seed,
            "overrides": self.overrides,
            "base_weights_sha256": base_fingerprint,
            "config": self.config,
        }
        return Identity(
            settings,
            epochs="config.trainer.max_epochs",
            extends=self.config.get("schedule") is None,  # a schedule is made for its number of epochs
            not_compared={"overrides", "config.data.num_workers"},  # in the config already; of the machine
            defaults={"config": _DEFAULTS},
        )

    def as_before(self, stored: Mapping[str, Any] | None) -> "Experiment":
        """Return this experiment as it is in a run that began before some of today's fields were there.

        Args:
            stored: the settings that the run has stored; None changes nothing.
        """
        older = copy(self)
        if stored is not None:
            older.config = frozen(apply_overrides(as_before(self.config, stored.get("config")), self.overrides))
        return older

    def check_config(self) -> None:
        """Make sure that this config, and its base model's, have what training needs and nothing that it does not use.

        Raises:
            ParityError: they do not.
        """
        check.check_config(self.config, self.dataset, self.experiment_name, self._get_network is not None)
        if (base := self.base_experiment) is not None:
            base.check_config()
