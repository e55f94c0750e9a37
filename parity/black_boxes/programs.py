"""Programs as they are handed over, each as a function of arrays that states what is known of it."""

import copy
import importlib
import math
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from parity.black_boxes.onnx_costs import multiply_adds_of_onnx
from parity.errors import ParityError, cause, did_you_mean, in_one_line
from parity.models.counting import multiply_adds_of_call
from parity.settings import user_path

_LEAST_PROBABILITY = 1e-9
_OF_RUNTIME = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (/\S+:\d+ .*?\) (?=[A-Z]))?")
"""What stands before the reason in errors of onnxruntime: codes, and functions of its source."""
_FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


@dataclass(frozen=True, eq=False)
class Asked:
    """A program that takes arrays.

    Args:
        name: in reports and messages.
        ask: float32 (B, *Q) -> what it returns: an array, a tensor, or several by name or index.
        content: the bytes that are all of it, of an ONNX file; None where it is not a file.
        output: the name of its output that is asked for, where it is of ONNX.
        outputs: how many it has.
        program: of ``torch.export``, where it is one.
        batch: the one batch size that it takes; None where it takes any.
        multiply_adds: of one query; None where they cannot be counted.
    """

    name: str
    ask: Callable[[np.ndarray], Any]
    content: bytes | None = None
    output: str | None = None
    outputs: int = 1
    program: ExportedProgram | None = None
    batch: int | None = None
    multiply_adds: int | None = None


def is_black_box(network: object) -> bool:
    """Return whether this is asked as it is: anything but a network of torch whose weights can be copied."""
    if isinstance(network, torch.jit.ScriptModule | ExportedProgram | str | os.PathLike):
        return True
    if isinstance(network, nn.Module | type):
        return False
    return _is_session(network) or hasattr(network, "predict") or callable(network)


def opened(network: Any, output: str | int | None = None) -> Asked:
    """Open a program.

    Args:
        network: a path of an ONNX or a TorchScript file, a session of onnxruntime, a TorchScript or exported program,
            an estimator of scikit-learn, or a function of arrays.
        output: which of an ONNX file's outputs is the prediction, where it has several.

    Raises:
        ParityError: it cannot be opened, or is not one that takes a batch of float queries and returns floats.
    """
    if isinstance(network, str | os.PathLike):
        return _of_file(user_path(Path(network)), output)
    if isinstance(network, torch.jit.ScriptModule):
        return _of_torch(network if not network.training else copy.deepcopy(network).eval(), network.original_name)
    if isinstance(network, torch.jit.ScriptFunction):
        return _of_torch(network, str(network.name))
    if isinstance(network, ExportedProgram):
        return _of_torch(network.module(), "an exported program", network)
    if _is_session(network):
        return _of_session(network, output, "an ONNX session", None)
    if hasattr(network, "predict"):
        return _of_estimator(network)
    return Asked(getattr(network, "__name__", type(network).__name__), network)


def of_onnx(content: bytes, name: str, output: str | int | None = None) -> Asked:
    """Open the bytes of an ONNX file.

    Raises:
        ParityError: onnxruntime is not installed, or they are not such a file, or see ``opened``.
    """
    try:
        runtime: Any = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ParityError(f"{name} needs onnxruntime: pip install 'parity[export]'.") from error
    try:
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # of onnxruntime's own types
        if "external data" in str(error).lower():
            raise ParityError(
                f"{name} keeps its weights in other files, and an artefact keeps one: write them into it, "
                "onnx.save(onnx.load(path), path)."
            ) from error
        why = _OF_RUNTIME.sub("", in_one_line(error), count=1).rstrip(".")
        raise ParityError(f"{name} is not an ONNX file that onnxruntime reads ({why}).") from error
    return _of_session(session, output, name, content)


def _of_file(path: Path, output: str | int | None) -> Asked:
    if not path.is_file():
        raise ParityError(f"there is no file {path}: the network is a torch.nn.Module, or a file of a program.")
    if not zipfile.is_zipfile(path):
        if path.suffix != ".onnx":
            raise ParityError(
                f"{path} is not a program: hand over an ONNX file (.onnx), a file of torch.jit.save, or the network "
                "itself as a torch.nn.Module."
            )
        return of_onnx(path.read_bytes(), path.name, output)
    if path.suffix == ".pt2":
        raise ParityError(f"{path} is an exported program: hand over what torch.export.load('{path}') returns.")
    try:
        program: Any = torch.jit.load(str(path), map_location="cpu")
    except Exception as error:  # whatever the archive's content leads torch to
        raise ParityError(
            f"{path} holds weights, and not a TorchScript program: make the network, load them into it, and hand it "
            f"over ({cause(error).partition('. ')[0]})."
        ) from error
    return _of_torch(program.eval(), path.name)


def _of_torch(program: Callable[[Tensor], Any], name: str, exported: ExportedProgram | None = None) -> Asked:
    example = _example(exported)

    def ask(queries: np.ndarray) -> Any:
        asked = torch.from_numpy(queries)
        if example is not None and asked.is_floating_point() and example.is_floating_point():
            asked = asked.to(example.dtype)
        with torch.no_grad():
            return program(asked)

    def count() -> int | None:
        if example is None:
            return None
        with torch.no_grad():
            zeros = torch.zeros_like(example, device="cpu")
            return multiply_adds_of_call(lambda: program(zeros)) // len(example) or None

    return Asked(name, ask, program=exported, batch=_fixed_batch(exported), multiply_adds=count())


def _example(exported: ExportedProgram | None) -> Tensor | None:
    """Return the example that a program was exported with, (B, *Q)."""
    inputs = exported.example_inputs[0] if exported is not None and exported.example_inputs else ()
    return inputs[0] if inputs and isinstance(inputs[0], Tensor) else None


def _fixed_batch(exported: ExportedProgram | None) -> int | None:
    """Return the batch size that a program was exported for, where it is not for any."""
    if exported is None:
        return None
    names = exported.graph_signature.user_inputs
    if len(names) != 1:
        raise ParityError(f"an exported program with {len(names)} inputs is not one of queries alone: wrap the others.")
    (node,) = (node for node in exported.graph.nodes if node.name == names[0])
    size = node.meta["val"].shape[0]
    return size if isinstance(size, int) else None


def _is_session(network: object) -> bool:
    return hasattr(network, "get_inputs") and hasattr(network, "run")


def _of_session(session: Any, output: str | int | None, name: str, content: bytes | None) -> Asked:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        names = ", ".join(entry.name for entry in inputs) or "only constants"
        raise ParityError(
            f"{name} has {len(inputs)} inputs, {names}, and codes are of one query each: write a file whose other "
            "inputs are constants."
        )
    if inputs[0].type not in _FLOATS:
        raise ParityError(f"{name} takes {inputs[0].type}, and codes encode floats: write a file that takes floats.")
    chosen = _chosen(outputs, output, name)
    if chosen.type not in _FLOATS:
        raise ParityError(
            f"{name} returns {chosen.type} as '{chosen.name}', and codes rebuild floats: choose an output of logits "
            "or probabilities by output='...'."
        )
    dtype, size = _FLOATS[inputs[0].type], inputs[0].shape[0] if inputs[0].shape else None

    def ask(queries: np.ndarray) -> Any:
        (returned,) = session.run([chosen.name], {inputs[0].name: queries.astype(dtype)})
        return returned

    return Asked(
        name, ask, content, chosen.name, len(outputs), batch=size if isinstance(size, int) else None,
        multiply_adds=None if content is None else multiply_adds_of_onnx(content),
    )  # fmt: skip


def _chosen(outputs: list[Any], output: str | int | None, name: str) -> Any:
    names = [entry.name for entry in outputs]
    if output is None and len(outputs) > 1:
        raise ParityError(f"{name} has {len(outputs)} outputs, {', '.join(names)}: choose one by output='{names[0]}'.")
    if isinstance(output, str):
        if output not in names:
            raise ParityError(f"{name} has no output '{output}': {did_you_mean(output, names)}")
        return outputs[names.index(output)]
    if not -len(names) <= (output or 0) < len(names):
        raise ParityError(f"{name} has no output {output}: it has {len(names)}, counted from 0.")
    return outputs[output or 0]


def _of_estimator(estimator: Any) -> Asked:
    name = type(estimator).__name__
    if getattr(estimator, "decision_function_shape", "ovr") == "ovo" and not hasattr(estimator, "predict_proba"):
        raise ParityError(f"{name} has scores of pairs of classes: make it with decision_function_shape='ovr'.")
    if hasattr(estimator, "predict_proba"):

        def ask(queries: np.ndarray) -> Any:
            probabilities = estimator.predict_proba(queries.reshape(len(queries), -1))
            if isinstance(probabilities, list):
                raise ParityError(f"{name} predicts several targets at once: protect an estimator of one of them.")
            return np.log(np.clip(probabilities, _LEAST_PROBABILITY, None))

    elif hasattr(estimator, "decision_function"):

        def ask(queries: np.ndarray) -> Any:
            scores = estimator.decision_function(queries.reshape(len(queries), -1))
            return scores if scores.ndim > 1 else np.stack([-scores, scores], 1) / 2

    else:

        def ask(queries: np.ndarray) -> Any:
            predicted = np.asarray(estimator.predict(queries.reshape(len(queries), -1)))
            return predicted[:, None] if predicted.ndim == 1 else predicted

    weights = getattr(estimator, "coefs_", None) or [getattr(estimator, "coef_", np.empty(0))]
    return Asked(name, ask, multiply_adds=sum(math.prod(np.shape(weight)) for weight in weights) or None)
