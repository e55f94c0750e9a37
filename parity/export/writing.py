"""A coded model written as an artefact."""

import copy
import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from parity.black_boxes import BlackBox
from parity.coded_model import CodedModel
from parity.errors import ParityError
from parity.export.card import CardFacts, model_card
from parity.export.manifest import FILE, FORMAT, VERSION, hashes, holds_nothing_else
from parity.export.preprocessing import Preprocessing
from parity.export.programs import AnyPattern, can_write_onnx, save_onnx, save_program, trace
from parity.settings import user_path
from parity.storage.files import check_writable, write_json
from parity.storage.folders import folder_written_whole
from parity.versions import code_version

log = logging.getLogger(__name__)

_GET_ONNX = "pip install 'parity[export]'"


class _Part(NamedTuple):
    """A program of an artefact, and the names of its inputs and outputs in ONNX."""

    program: ExportedProgram
    what: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def save(
    folder: str | Path,
    coded_model: CodedModel,
    preprocessing: Preprocessing,
    card: CardFacts,
    onnx: bool | None = None,
) -> Path:
    """Write a coded model as a folder that can be used without parity; whole or not at all.

    The folder holds ``preprocessing``, ``encoder``, ``base``, ``parity_0`` ... and ``decoder``, each as a program of
    ``torch.export`` (.pt2) for any batch size and as ONNX (.onnx); ``weights.safetensors``, the coded model's state
    dict; ``model_card.md``; and ``manifest.json``. An artefact that lies there, and nothing else, is replaced. A base
    model that is a black box is kept where it is an ONNX file or an exported program; another has to be handed over to
    ``load``.

    Args:
        folder: where to.
        coded_model: trained; it is left as it is.
        preprocessing: what its queries have gone through.
        card: what a person has to know.
        onnx: also write ONNX; by default where the packages of the extra 'export' are installed.

    Returns:
        The folder.

    Raises:
        ParityError: a network cannot be traced, or there is something else in the folder, or it cannot be written to.
    """
    folder = user_path(folder)
    if onnx and not can_write_onnx():
        raise ParityError(f"ONNX needs the packages onnx and onnxscript: {_GET_ONNX}, or leave it out (--no-onnx).")
    check_writable(folder)
    check_writable(folder.resolve().parent)  # where it is written before it gets its name
    if folder.is_mount():
        raise ParityError(f"{folder} is a disk's own folder, which cannot be replaced: name one inside it.")
    if folder.is_dir() and not holds_nothing_else(folder):
        raise ParityError(f"{folder} holds other files, which an artefact would replace: name a folder of its own.")
    if onnx is None and not can_write_onnx():
        log.warning("the artefact has no ONNX: %s", _GET_ONNX)
    model = copy.deepcopy(coded_model).cpu().eval().requires_grad_(False)
    preprocessing = copy.deepcopy(preprocessing).cpu()
    parts, programs = _parts(model, preprocessing)
    with folder_written_whole(folder) as made:
        for name, part in parts.items():
            save_program(part.program, made / f"{name}.pt2")
            if can_write_onnx() if onnx is None else onnx:
                save_onnx(part.program, made / f"{name}.onnx", part.what, part.inputs, part.outputs)
        if isinstance(model.base_model, BlackBox):
            _save_black_box(model.base_model, made)
        _save_weights(model, made / "weights.safetensors")
        manifest = _manifest(model, preprocessing, card, programs)
        (made / "model_card.md").write_text(model_card(card, manifest))
        write_json(made / FILE, {**manifest, "files": hashes(made)})
    return folder


def _parts(model: CodedModel, preprocessing: Preprocessing) -> tuple[dict[str, _Part], dict[str, Any]]:
    """Trace everything: programs by the names of their files, and which of them do what."""
    encoder, decoder = model.encoder, model.decoder
    query = encoder.query_shape
    base_workers = model.n - len(model.parity_models)
    outputs = (base_workers, *decoder.prediction_shape)
    parity_outputs = (model.n - base_workers, *decoder.parity_shape(decoder.prediction_shape))
    floats = torch.float32
    kind = _queries_of(preprocessing).dtype  # ids of tokens are integers
    asked = encoder(torch.zeros(1, model.k, *query, dtype=kind))
    parts = {
        "preprocessing": _Part(
            trace(preprocessing, "the preprocessing", (query, preprocessing.dtype)),
            "the preprocessing", ("stored",), ("queries",),
        ),
        "encoder": _Part(
            trace(encoder, type(encoder).__name__, ((model.k, *query), kind)),
            type(encoder).__name__, ("queries",), ("coded_queries",),
        ),
        "decoder": _Part(
            trace(
                AnyPattern(decoder).eval(), type(decoder).__name__,
                (outputs, floats), (parity_outputs, floats), ((model.n,), torch.bool),
            ),
            type(decoder).__name__, ("base_outputs", "parity_outputs", "available"), ("predictions", "there"),
        ),
    }  # fmt: skip
    base = model.base_model
    names: dict[nn.Module, str] = {} if isinstance(base, BlackBox) else {base: "base"}
    if isinstance(base, BlackBox) and (program := base.kept_program) is not None:
        parts["base"] = _Part(program, base.name, ("queries",), ("outputs",))
    for number, network in enumerate(model.parity_models):  # some of which may be the same, or the base model
        names.setdefault(network, f"parity_{number}")
    for network, name in names.items():
        what = f"the network '{name}' ({type(network).__name__})"
        taken = (query, kind) if network is model.base_model else (tuple(asked.shape[2:]), asked.dtype)
        parts[name] = _Part(trace(network, what, taken), what, ("queries",), ("outputs",))
    return parts, {
        "preprocessing": "preprocessing",
        "encoder": "encoder",
        "base": "base" if not isinstance(base, BlackBox) or base.is_kept else None,
        "parity": [names[network] for network in model.parity_models],
        "decoder": "decoder",
    }


def _queries_of(preprocessing: Preprocessing) -> Tensor:
    """Return a query as networks see it, (1, *Q)."""
    queries: Tensor = preprocessing(torch.zeros(1, *preprocessing.query_shape, dtype=preprocessing.dtype))
    return queries


def _save_black_box(box: BlackBox, folder: Path) -> None:
    if box.kept_content is not None:
        (folder / "base.onnx").write_bytes(box.kept_content)
    if not box.is_kept:
        log.warning(
            "the artefact does not hold the base model, %s, which is not a file that is safe to load: hand it over to "
            "parity.load(folder, base_model=...)",
            box.name,
        )


def _save_weights(model: CodedModel, path: Path) -> None:
    from safetensors.torch import save as to_bytes

    state: dict[str, Tensor] = {name: value.contiguous().clone() for name, value in model.state_dict().items()}
    path.write_bytes(to_bytes(state))  # which takes no tensors that share memory, hence the clones


def _manifest(
    model: CodedModel, preprocessing: Preprocessing, card: CardFacts, programs: dict[str, Any]
) -> dict[str, Any]:
    encoder, decoder = model.encoder, model.decoder
    described, numbers = preprocessing.describe(), _queries_of(preprocessing).is_floating_point()
    described["ids_below"] = described["ids_below"] or model.vocabulary
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": card.name,
        "code": {
            "encoder": type(encoder).__name__,
            "decoder": type(decoder).__name__,
            "k": model.k,
            "r": model.r,
            "n": model.n,
            "tolerance": decoder.tolerance,
            "copies": encoder.copies,
            "systematic": encoder.systematic,
            "takes_ids": not numbers,
            "takes_numbers": numbers,
            "parity_workers": encoder.parity_workers,
        },
        "query_shape": list(encoder.query_shape),
        "prediction_shape": list(decoder.prediction_shape),
        "parity_shape": list(decoder.parity_shape(decoder.prediction_shape)),
        "class_names": list(card.class_names),
        "input_range": None if card.input_range is None else list(card.input_range),
        "preprocessing": described,
        "data": card.data,
        "accuracies": dict(card.accuracies),
        "weights": {"base": _size(model.base_model), "parity": [_size(network) for network in model.parity_models]},
        "provenance": card.provenance,
        "licences": dict(card.licences),
        "command": card.command,
        "programs": programs,
        "versions": code_version(),
        "black_box": (
            model.base_model.described(encoder.query_shape, not numbers)
            if isinstance(model.base_model, BlackBox)
            else None
        ),
    }


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
