"""Weights in and out: only tensors are ever loaded, never code.

Files are torch state dicts (``torch.load(..., weights_only=True)``), Lightning checkpoints, or safetensors.
"""

import errno
import hashlib
import logging
import os.path
import pickle
import re
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from parity.errors import DamagedFileError, ParityError
from parity.settings import user_path

log = logging.getLogger(__name__)

# How torch words that a pickle asks for something that is not a tensor or a plain value.
_SIGNS_OF_CODE = ("Unsupported global", "Unsupported class", "Trying to", "Can only build")

# How torch words that there is no memory on the CPU.
_CANNOT_ALLOCATE = "can't allocate memory"

# A key of Lightning's checkpoints: there the weights are those under 'state_dict', whatever else is in the file.
_LIGHTNING = "pytorch-lightning_version"

# Levels of dictionaries that are searched for tensors: a pickle can hold a dictionary that contains itself.
_DEEPEST = 4

# Names that a message lists before it counts the others.
_NAMED = 3

# How files begin: a pointer of Git LFS, and what torch.save has written, today and before PyTorch 1.6.
_LFS = b"version https://git-lfs.github.com/spec/"
_TORCH = (b"PK\3\4", b"\x80\2")

# Marks that wrappers leave within names: torch.compile, FSDP, activation checkpointing.
_MARKS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")

_SEAL = b"parity-crc32:"
_SEAL_LENGTH = len(_SEAL) + 8


def seal(file: BinaryIO) -> None:
    """Add a checksum of all bytes to a file that torch has just written, as the comment of its zip archive.

    Args:
        file: open for reading and writing; it stays what ``torch.load`` reads.
    """
    file.seek(-2, 2)  # the comment's length, so far 0
    file.write(_SEAL_LENGTH.to_bytes(2, "little") + _SEAL)
    file.write(f"{_checksum(file, file.tell()):08x}".encode())


def _checksum(file: BinaryIO, length: int) -> int:
    file.seek(0)
    checksum = 0
    while length and (piece := file.read(min(length, 1 << 20))):
        checksum = zlib.crc32(piece, checksum)
        length -= len(piece)
    return checksum


def _is_whole(path: Path) -> bool:
    """Compare a file's bytes with its checksums; True where it has none.

    ``torch.load`` does not: it would return a tensor with a flipped bit. A sealed file has one over all bytes; in any
    other zip archive each part has its own.
    """
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\3\4"
        length = file.seek(0, 2)
        file.seek(max(0, length - 64))
        end = file.read()
        if end[-_SEAL_LENGTH:].startswith(_SEAL):
            return end[-8:] == f"{_checksum(file, length - 8):08x}".encode()
    if not zipped:
        return True
    if end[-22:-18] != b"PK\5\6" or end[-2:] != b"\0\0":  # what torch writes ends with no comment, or with a seal
        return False
    with zipfile.ZipFile(path) as archive:
        # Parts that torch reads otherwise than Python: it returns whatever is in memory for those marked as folders.
        plain = all(part.file_size == part.compress_size and not part.external_attr & 16 for part in archive.infolist())
        return plain and archive.testzip() is None


def read_file(path: Path) -> dict[str, Any]:
    """Read a file that torch wrote, on the CPU, as plain types and tensors only.

    Raises:
        ParityError: no such file, or a pickle that would run code.
        DamagedFileError: it is cut off, damaged or not written by torch.
    """
    if os.path.isdir(path):  # unlike Path.is_dir, False for a name that is too long
        raise DamagedFileError(f"there is no file {path}: it is a folder.")
    if not os.path.isfile(path):
        raise ParityError(f"there is no file {path}.")
    try:
        if kind := _other_archive(path):
            raise ParityError(
                f"{path} is {kind}, not a state dict: load it where it was made, and save its state_dict() alone, with "
                "torch.save(model.state_dict(), file)."
            )
        if not _is_whole(path):
            raise DamagedFileError(f"{path} is damaged: its bytes are not those that were written.")
        with warnings.catch_warnings(action="ignore"):  # of unusual pickles: what is wrong ends in one sentence
            content = torch.load(path, map_location="cpu", weights_only=True)
    except ParityError:
        raise
    except pickle.UnpicklingError as error:
        if any(sign in str(error) for sign in _SIGNS_OF_CODE):
            raise ParityError(
                f"{path} holds more than tensors and plain values, so loading it could run code: it was refused. "
                "Save the state dict alone, with torch.save(model.state_dict(), file) or as safetensors."
            ) from error
        raise DamagedFileError(f"{path} is damaged or was not written by torch.save.") from error
    except MemoryError as error:
        raise ParityError(f"there is not enough memory to read {path}: free some, and try again.") from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # sent to before the file's beginning
            raise DamagedFileError(f"{path} is damaged, cut off or was not written by torch.save.") from error
        raise ParityError(f"{path} cannot be read: {error.strerror}.") from error
    except Exception as error:  # torch.load raises whatever the damaged bytes lead it to
        if _CANNOT_ALLOCATE in str(error):
            raise ParityError(f"there is not enough memory to read {path}: free some, and try again.") from error
        raise DamagedFileError(f"{path} is damaged, cut off or was not written by torch.save.") from error
    if not isinstance(content, dict):
        what = type(content).__name__
        raise DamagedFileError(f"{path} holds a {what}, where a state dict or a checkpoint was expected.")
    return content


def _other_archive(path: Path) -> str | None:
    """Return which of torch's other archives a file is, that hold programs; None where it is none of them."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        parts = {name.partition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in parts:
        return "a TorchScript program (of torch.jit.save)"
    return "an exported program (of torch.export.save)" if "archive_format" in parts else None


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a file by name: of a safetensors file, or of one that torch wrote, whatever its suffix.

    Tensors in dictionaries have dotted names, {'ema': {'fc.bias': ...}} -> 'ema.fc.bias'. Those of a Lightning
    checkpoint, and of a file without others, are the ones under 'state_dict', by their names there.

    Raises:
        ParityError: the file is missing, damaged, holds code, or holds no tensors by name.
    """
    path = user_path(path)
    if _is_safetensors(path):
        return _read_safetensors(path)
    content = read_file(path)
    if _LIGHTNING in content:
        content = {"state_dict": content.get("state_dict")}
    weights = dict(_tensors(content))
    if not weights:
        raise ParityError(f"{path} holds no state dict (tensors by name), so there are no weights in it.")
    if all(name.startswith("state_dict.") for name in weights):
        return {name.removeprefix("state_dict."): value for name, value in weights.items()}
    return weights


def _is_safetensors(path: Path) -> bool:
    """Return whether a file is one of safetensors, by how it begins; where that shows nothing, by its suffix.

    Raises:
        ParityError: it stands for a file that Git LFS has not fetched.
    """
    if not os.path.isfile(path):
        return path.suffix == ".safetensors"
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS))
    except OSError as error:
        raise ParityError(f"{path} cannot be read: {error.strerror}.") from error
    if start == _LFS:
        raise ParityError(f"{path} is a pointer of Git LFS, and not the file itself: fetch it with git lfs pull.")
    if start.startswith(_TORCH):
        return False
    return path.suffix == ".safetensors" or start[8:9] == b"{"


def _tensors(content: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    for name, value in content.items():
        if not isinstance(name, str):  # an optimiser's state, by number
            continue
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, Mapping) and depth < _DEEPEST:
            yield from _tensors(value, f"{prefix}{name}.", depth + 1)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not os.path.isfile(path):
        raise ParityError(f"there is no file {path}.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DamagedFileError(f"{path} is damaged or is not a safetensors file.") from error


def load_into(network: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load weights into a network, all of them or none; ``find_weights`` describes which names are understood.

    Args:
        network: what to load into.
        state: tensors by name.
        source: where they came from, for messages.

    Raises:
        ParityError: names, shapes or types do not fit; the network is left as it was.
    """
    weights = find_weights(network, state, source)
    for name, expected in network.state_dict().items():
        if wrong := _misfit(weights[name], expected):
            raise ParityError(f"{_unfit(network, source)}: '{name}' {wrong}.")
    network.load_state_dict(weights)


def find_weights(network: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> dict[str, Tensor]:
    """Find the one prefix under which tensors by name are a network's, and return them by its own names.

    All of the network's names must be there, and no others under that prefix; which prefix was taken is logged. The
    marks of ``nn.DataParallel``, ``torch.compile``, FSDP and activation checkpointing are removed from names, wherever
    they are. In names that the network does not know, dotted components are renamed by its ``RENAMED_KEYS``, if it has
    any. The batch counters of batch normalisation may be missing, as they are in files from before PyTorch 0.4.1,
    torchvision's among them.

    Args:
        network: whose weights.
        state: tensors by name.
        source: where they came from, for messages.

    Raises:
        ParityError: no prefix fits, or several fit, with different weights.
    """
    state = _once(((name, _MARKS.sub("", name), value) for name, value in state.items()), source)
    expected = network.state_dict()
    prefixes = _prefixes(state)
    fitting = {
        prefix: weights
        for prefix, number in prefixes.items()
        if number >= len(expected) - len(_counters(expected))
        and (weights := _under(prefix, network, state, expected, source)).keys() == expected.keys()
    }
    if not fitting:
        raise ParityError(f"{_unfit(network, source)}: {_differences(network, state, expected, source)}.")
    prefix = _choose(fitting, expected, network, source)
    if prefix:
        left = len(state) - prefixes[prefix]
        log.info("took the weights under '%s' of %s, and left out %d other tensors", prefix, source, left)
    return fitting[prefix]


def _prefixes(state: Mapping[str, Tensor]) -> Counter[str]:
    """Return what names begin with, up to any of their dots, and how many do; the whole state, '', comes first."""
    prefixes = Counter({"": len(state)})
    for name in state:
        prefixes.update(accumulate(f"{component}." for component in name.split(".")[:-1]))
    return prefixes


def _counters(expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in expected.items() if name.endswith("num_batches_tracked")}


def _under(
    prefix: str,
    network: nn.Module,
    state: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    source: str | Path,
) -> dict[str, Tensor]:
    """Return the tensors under a prefix by the network's names, with batch counters where they are missing."""
    named = (
        (name, _own_name(network, name.removeprefix(prefix), expected), value)
        for name, value in state.items()
        if name.startswith(prefix)
    )
    return _counters(expected) | _once(named, source, expected)


def _once(
    named: Iterable[tuple[str, str, Tensor]], source: str | Path, expected: Container[str] | None = None
) -> dict[str, Tensor]:
    """Return tensors by new names: (name, new name, tensor) for each.

    Raises:
        ParityError: two have the same new name, one of those expected, and other values.
    """
    found: dict[str, tuple[str, Tensor]] = {}
    for name, new, value in named:
        first, earlier = found.setdefault(new, (name, value))
        if earlier is value or (expected is not None and new not in expected):
            continue
        if earlier.shape != value.shape or not torch.equal(earlier, value):
            raise ParityError(
                f"{source} has several weights of one name, '{first}' and '{name}': save the ones to load in a file of "
                "their own."
            )
    return {new: value for new, (_, value) in found.items()}


def _own_name(network: nn.Module, name: str, expected: Container[str]) -> str:
    if name not in expected:
        name = name.removeprefix("module.")  # nn.DataParallel's mark
    if name not in expected:  # around a part of the network
        without = ".".join(component for component in name.split(".") if component != "module")
        name = without if without in expected else name
    if name not in expected:
        renamed: dict[str, str] = getattr(network, "RENAMED_KEYS", {})
        name = ".".join(renamed.get(component, component) for component in name.split("."))
    return name


def _choose(
    fitting: Mapping[str, Mapping[str, Tensor]], expected: Mapping[str, Tensor], network: nn.Module, source: str | Path
) -> str:
    """Choose among prefixes whose names fit: by shapes and types, then a coded model's base model."""
    shaped = [
        prefix
        for prefix, weights in fitting.items()
        if len(fitting) == 1 or not any(_misfit(weights[name], value) for name, value in expected.items())
    ] or list(fitting)[:1]
    bases = [prefix for prefix in shaped if prefix.endswith("base_model.")]
    first, *others = bases if len(bases) == 1 else shaped
    for other in others:
        if any(not torch.equal(fitting[first][name], fitting[other][name]) for name in expected):
            raise ParityError(
                f"{source} has several weights that fit {type(network).__name__}, under "
                f"{_listed(sorted([first, *others]))}: save the ones to load in a file of their own."
            )
    return first


def _differences(
    network: nn.Module, state: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str | Path
) -> str:
    """Return what is missing and what is left over under the prefix that fits best."""
    own = {prefix: _under(prefix, network, state, expected, source).keys() for prefix in _prefixes(state)}
    prefix = min(own, key=lambda prefix: len(own[prefix] ^ expected.keys()))
    under = f"under '{prefix}', " if prefix else ""
    missing, left_over = sorted(expected.keys() - own[prefix]), sorted(own[prefix] - expected.keys())
    parts = [f"{_listed(missing)} {_are(missing)} missing"] if missing else []
    parts += [f"{_listed(left_over)} {_are(left_over)} unknown to it"] if left_over else []
    return under + ", and ".join(parts)


def _unfit(network: nn.Module, source: str | Path) -> str:
    return f"the weights in {source} do not fit {type(network).__name__}"


def _listed(names: list[str]) -> str:
    some = [f"'{name}'" for name in names[:_NAMED]]
    more = len(names) - len(some)
    *others, last = [*some, f"{more} more"] if more else some
    return f"{', '.join(others)} and {last}" if others else last


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _misfit(value: Tensor, expected: Tensor) -> str | None:
    """Return why a tensor cannot be copied into a network's, unchanged but for rounding; None where it can."""
    kind = str(value.dtype).removeprefix("torch.")
    if value.is_nested or value.layout is not torch.strided:
        layout = "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
        return f"is a {layout} tensor: save it as a dense one, with .to_dense()"
    if value.is_meta:
        return "is a tensor of the meta device, which has a shape and no values: save the weights themselves"
    if value.shape != expected.shape:
        return f"has shape {tuple(value.shape)}, expected {tuple(expected.shape)}"
    narrow = value.dtype.itemsize == 1  # also float8, which is kept with scales beside it
    if value.is_quantized or (expected.is_floating_point() and (narrow or not value.is_floating_point())):
        return f"is {kind}, expected floating-point numbers: save the weights before they are quantised or converted"
    wanted = str(expected.dtype).removeprefix("torch.")
    if value.is_complex() and not expected.is_complex():
        return f"is {kind}, expected {wanted}"
    of_numbers = expected.is_floating_point() or expected.is_complex() or value.dtype == expected.dtype
    if not of_numbers and value.tolist() != value.to(expected.dtype).tolist():  # a counter that would be cut off
        return f"is {kind}, with numbers that are not {wanted}"
    return None


def check_finite(network: nn.Module) -> None:
    """Make sure that a network can compute numbers: none of its parameters is NaN or infinite, no buffer is NaN.

    Raises:
        ParityError: one is; it is named.
    """
    parameters = dict(network.named_parameters())
    for name, value in (parameters | dict(network.named_buffers())).items():
        if is_lazy(value):
            continue
        if value.is_meta:
            raise ParityError(
                f"'{name}' of {type(network).__name__} is on the meta device and has no values: load some."
            )
        # A buffer may be infinite, as an attention's mask is.
        broken = int((~value.isfinite() if name in parameters else value.isnan()).sum())
        if broken:
            raise ParityError(
                f"the weights of {type(network).__name__} are not finite: {broken} of {value.numel()} numbers in "
                f"'{name}' are NaN or infinite; load weights of a training that did not diverge."
            )


def fingerprint(network: nn.Module) -> str:
    """Return the SHA-256 of a network's weights: of names, types, shapes and values, not of the file they came in."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
