"""Weights in and out: only tensors are ever loaded, never code.

Files are torch state dicts (``torch.load(..., weights_only=True)``), Lightning checkpoints, or safetensors.
"""

import errno
import hashlib
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Container
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from parity.errors import DamagedFileError, ParityError

# How torch words that a pickle asks for something that is no tensor or plain value.
_SIGNS_OF_CODE = ("Unsupported global", "Unsupported class", "Trying to", "Can only build")


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
    if path.is_dir():
        raise DamagedFileError(f"there is no file {path}: it is a folder.")
    if not path.is_file():
        raise ParityError(f"there is no file {path}.")
    try:
        if not _is_whole(path):
            raise DamagedFileError(f"{path} is damaged: its bytes are not those that were written.")
        with warnings.catch_warnings(action="ignore"):  # of unusual pickles: what is wrong ends in one sentence
            content = torch.load(path, map_location="cpu", weights_only=True)
    except DamagedFileError:
        raise
    except pickle.UnpicklingError as error:
        if any(sign in str(error) for sign in _SIGNS_OF_CODE):
            raise ParityError(
                f"{path} holds more than tensors and plain values, so loading it could run code: it was refused. "
                "Save the state dict alone, with torch.save(model.state_dict(), file) or as safetensors."
            ) from error
        raise DamagedFileError(f"{path} is damaged or was not written by torch.save.") from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # sent to a place before the file's beginning
            raise DamagedFileError(f"{path} is damaged, cut off or was not written by torch.save.") from error
        raise ParityError(f"{path} cannot be read: {error.strerror}.") from error
    except Exception as error:  # torch.load raises whatever the damaged bytes lead it to
        raise DamagedFileError(f"{path} is damaged, cut off or was not written by torch.save.") from error
    if not isinstance(content, dict):
        what = type(content).__name__
        raise DamagedFileError(f"{path} holds a {what}, where a state dict or a checkpoint was expected.")
    return content


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict: safetensors by its suffix, else a torch file that is one or has one under 'state_dict'.

    Raises:
        ParityError: the file is missing, damaged, holds code, or holds no tensors by name.
    """
    path = Path(path).expanduser()
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    content = read_file(path)
    state = content.get("state_dict", content)
    named = isinstance(state, dict) and all(isinstance(name, str) for name in state)
    if not named or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ParityError(f"{path} holds no state dict (tensors by name), so there are no weights in it.")
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ParityError(f"there is no file {path}.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DamagedFileError(f"{path} is damaged or no safetensors file.") from error


def load_into(network: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    """Load weights into a network, all of them or none.

    The marks of ``nn.DataParallel`` and ``torch.compile`` are removed from names. In names that the network does not
    know, dotted components are renamed by its ``RENAMED_KEYS``, if it has any. The batch counters of batch
    normalisation may be missing, as they are in files from before PyTorch 0.4.1, torchvision's among them.

    Args:
        network: what to load into.
        state: tensors by name.
        source: where they came from, for messages.

    Raises:
        ParityError: names or shapes do not fit; the network is left as it was.
    """
    expected = network.state_dict()
    counters = {name: value for name, value in expected.items() if name.endswith("num_batches_tracked")}
    state = counters | {_own_name(network, name, expected): value for name, value in state.items()}
    what = f"the weights in {source} do not fit {type(network).__name__}"
    if missing := sorted(expected.keys() - state.keys()):
        raise ParityError(f"{what}: {_first_of(missing)} missing.")
    if foreign := sorted(state.keys() - expected.keys()):
        raise ParityError(f"{what}: {_first_of(foreign)} unknown to it.")
    for name, value in expected.items():
        if state[name].shape != value.shape:
            raise ParityError(f"{what}: '{name}' has shape {tuple(state[name].shape)}, expected {tuple(value.shape)}.")
    network.load_state_dict(state)


def _first_of(names: list[str]) -> str:
    return f"'{names[0]}' is" if len(names) == 1 else f"'{names[0]}' and {len(names) - 1} more are"


def _own_name(network: nn.Module, name: str, expected: Container[str]) -> str:
    name = name.replace("_orig_mod.", "")  # torch.compile's mark
    if name not in expected:
        name = name.removeprefix("module.")  # nn.DataParallel's
    if name not in expected:
        renamed: dict[str, str] = getattr(network, "RENAMED_KEYS", {})
        name = ".".join(renamed.get(component, component) for component in name.split("."))
    return name


def fingerprint(network: nn.Module) -> str:
    """Return the SHA-256 of a network's weights: of names, types, shapes and values, not of the file they came in."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
