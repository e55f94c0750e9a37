"""An artefact read: its programs as a coded model."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from parity.black_boxes import BlackBox, is_black_box, is_probed, opened, probed
from parity.black_boxes.programs import of_onnx
from parity.coded_model import CodedModel
from parity.coders import Decoder, Encoder
from parity.errors import DamagedFileError, ParityError
from parity.export.manifest import FILE, read_files, read_manifest
from parity.export.programs import load_program, save_program
from parity.settings import user_path
from parity.storage.folders import put_back


class Program(nn.Module):
    """An exported program in a module tree; it was exported in eval mode, and stays in it whatever is asked for.

    Args:
        program: as it was loaded.
    """

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__()
        # Without guards, whose source would be run: callers check shapes.
        self.module = program.module(check_guards=False)
        self.training = False
        self._program = program
        self.register_buffer("_where", torch.empty(0), persistent=False)  # the device that it was moved to
        self._where: Tensor

    def __reduce__(self) -> tuple[Any, ...]:
        # What torch makes of a program cannot be pickled, and processes that serve it are sent copies.
        file = io.BytesIO()
        save_program(self._program, file)
        return _copied, (file.getvalue(),)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Program":
        super()._apply(fn, recurse)
        self._make_constants_on(self._where.device)
        return self

    def _make_constants_on(self, device: torch.device) -> None:
        """Have what is computed of no input, indices for instance, made on a device: programs name the CPU for it."""
        for part in self.modules():
            if isinstance(part, GraphModule):
                named = [node for node in part.graph.nodes if node.kwargs.get("device", device) != device]
                for node in named:
                    node.kwargs = {**node.kwargs, "device": device}
                if named:
                    part.recompile()

    def train(self, mode: bool = True) -> "Program":
        return self

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*inputs)


def _copied(content: bytes) -> Program:
    return Program(load_program(content, Path("a copy")))


class ProgramEncoder(Encoder):
    """An encoder that is a program.

    Args:
        program: queries (G, k, *Q) -> coded queries, as ``Encoder.forward``.
        code: of the manifest.
        query_shape: Q.
    """

    def __init__(self, program: Program, code: dict[str, Any], query_shape: tuple[int, ...]) -> None:
        super().__init__(code["k"], code["r"], query_shape)
        self.takes_ids, self.takes_numbers = code.get("takes_ids", False), code.get("takes_numbers", True)
        self.program = program
        self.systematic = code["systematic"]  # type: ignore[misc]  # a class's, but for programs
        self.copies = code["copies"]
        self._parity_workers = code["parity_workers"]

    @property
    def parity_workers(self) -> int:
        return self._parity_workers

    def forward(self, queries: Tensor) -> Tensor:
        return self.program(queries)

    def dispatch(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        self.check(queries)
        coded = self(queries)
        if self.systematic and self.parity_workers == self.r:
            return queries, coded
        asked = torch.cat([queries, coded], dim=1) if self.systematic else coded
        base_workers = self.n - self.parity_workers
        return asked[:, :base_workers], asked[:, base_workers:]


class ProgramDecoder(Decoder):
    """A decoder that is a program.

    Args:
        program: base outputs (G, m, *P), parity outputs (G, n - m, *P'), bool (G, n) -> (G, k, *P) and bool (G, k).
        code: of the manifest.
        prediction_shape: P.
        parity_shape: P'.
    """

    def __init__(
        self, program: Program, code: dict[str, Any], prediction_shape: tuple[int, ...], parity_shape: tuple[int, ...]
    ) -> None:
        super().__init__(code["k"], code["r"], prediction_shape)
        self.program = program
        self._tolerance, self._systematic = code["tolerance"], code["systematic"]
        self._parity_workers, self._parity_shape = code["parity_workers"], parity_shape
        self._name = code["decoder"]

    def _get_name(self) -> str:
        return self._name

    @property
    def tolerance(self) -> int:
        return self._tolerance

    def parity_shape(self, prediction_shape: Any) -> tuple[int, ...]:
        return self._parity_shape

    def can_decode(self, available: Tensor) -> Tensor:
        return self.rebuildable(available).all(1)

    def rebuildable(self, available: Tensor) -> Tensor:
        """Ask the program, which needs outputs to decode: zeros."""
        groups = len(available)
        like = dict(dtype=torch.float32, device=available.device)
        base = torch.zeros(groups, self.n - self._parity_workers, *self.prediction_shape, **like)  # type: ignore
        parity = torch.zeros(groups, self._parity_workers, *self._parity_shape, **like)  # type: ignore
        return self.program(base, parity, available)[1]

    def rebuilt(self, available: Tensor) -> Tensor:
        missing = ~available[:, : self.k]
        return missing if self._systematic else torch.ones_like(missing)

    def decode(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        return self.program(base_outputs, parity_outputs, available)[0]


def _black_box(
    folder: Path, name: str | None, files: Mapping[str, bytes], manifest: Mapping[str, Any], given: Any
) -> nn.Module:
    """Return a base model that is a program of another kind than ours: kept in the artefact, or handed over.

    Raises:
        ParityError: it is neither, or what was handed over predicts something else.
    """
    box = manifest["black_box"]
    if f"{name}.pt2" in files:
        return Program(load_program(files[f"{name}.pt2"], folder / f"{name}.pt2"))
    if f"{name}.onnx" in files:
        return BlackBox(of_onnx(files[f"{name}.onnx"], box["name"], box["output"]))
    if given is None:
        raise ParityError(
            f"{folder} does not hold its base model, {box['name']}: hand it over, parity.load(folder, base_model=...)."
        )
    if not isinstance(given, nn.Module) and not is_black_box(given):
        raise ParityError(
            f"base_model is the program that was protected, {box['name']}, or a network, not {given!r:.80}."
        )
    is_asked = is_black_box(given) and not isinstance(given, BlackBox)
    base: nn.Module = BlackBox(opened(given)) if is_asked else given
    ids = not manifest["code"].get("takes_numbers", True)
    if not is_probed(probed(base.eval(), manifest["query_shape"], ids), box.get("predictions")):
        raise ParityError(
            f"base_model predicts something else than {box['name']}, which was protected: hand over that one, with "
            "the output that was chosen."
        )
    return base


@dataclass(frozen=True)
class LoadedArtefact:
    """A coded model and its preprocessing, as they were saved.

    >>> coded = parity.load("mine/")
    >>> predictions = coded(coded.preprocessing(stored).unflatten(0, (-1, coded.k)), available)

    Args:
        coded_model: of programs: it answers, is evaluated and served like any other, and cannot be trained.
        preprocessing: stored queries (B, *Q) -> what networks see, (B, *Q).
        manifest: as in ``manifest.json``.
    """

    coded_model: CodedModel
    preprocessing: nn.Module
    manifest: dict[str, Any]

    def __call__(self, queries: Tensor, available: Tensor) -> Tensor:
        """Answer as ``CodedModel.forward``: preprocessed queries (G, k, *Q), bool (G, n) -> (G, k, *P)."""
        with torch.no_grad():
            return self.coded_model(queries, available)

    @property
    def k(self) -> int:
        """Queries in a coding group."""
        return self.coded_model.k

    @property
    def n(self) -> int:
        """Outputs of a group."""
        return self.coded_model.n

    @property
    def class_names(self) -> list[str]:
        """Names of the classes; empty where predictions are not classes."""
        return self.manifest["class_names"]


def load(folder: str | Path, sha256: str | None = None, base_model: Any = None) -> LoadedArtefact:
    """Load an artefact; the hash of every file is checked before anything is made of any.

    Programs are code: load what comes from elsewhere by the hash that somebody you trust has given you.

    Args:
        folder: as ``save`` has written it.
        sha256: what the hash of its ``manifest.json`` has to be.
        base_model: the black box that was protected, where the artefact could not keep it.

    Raises:
        ParityError: the folder is not a whole artefact, or not the one with this hash, or needs a base model.
    """
    folder = user_path(folder)
    put_back(folder)
    manifest, files = _read_whole(folder, sha256)

    def program(name: Any) -> Program:
        file = f"{name}.pt2"
        if file not in files:
            raise DamagedFileError(f"{folder / FILE} is damaged: it lists no file {file}.")
        return Program(load_program(files[file], folder / file))

    try:
        programs, code = manifest["programs"], manifest["code"]
        box = manifest.get("black_box")
        loaded: dict[Any, nn.Module] = {name: program(name) for name in programs["parity"]}
        if box is not None:
            loaded[programs["base"]] = _black_box(folder, programs["base"], files, manifest, base_model)
        elif programs["base"] not in loaded:
            loaded[programs["base"]] = program(programs["base"])
        model = CodedModel(
            loaded[programs["base"]],
            ProgramEncoder(program(programs["encoder"]), code, tuple(manifest["query_shape"])),
            [loaded[name] for name in programs["parity"]],
            ProgramDecoder(
                program(programs["decoder"]),
                code,
                tuple(manifest["prediction_shape"]),
                tuple(manifest["parity_shape"]),
            ),
        )
        preprocessing = program(programs["preprocessing"])
        if (vocabulary := manifest["preprocessing"].get("ids_below")) is not None:
            model.vocabulary = vocabulary
    except (KeyError, TypeError) as error:
        raise DamagedFileError(f"{folder / FILE} is damaged: it does not name the programs.") from error
    return LoadedArtefact(model.eval(), preprocessing, manifest)


def _read_whole(folder: Path, sha256: str | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read the manifest and all files of one artefact, also where it is replaced by another one meanwhile."""
    manifest = read_manifest(folder, sha256)
    try:
        return manifest, read_files(folder, manifest)
    except ParityError:
        now = read_manifest(folder, sha256)
        if now == manifest:
            raise
        return now, read_files(folder, now)
