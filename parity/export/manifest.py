"""``manifest.json``: what an artefact is made of, with the hash of every file, so that nothing else is ever loaded."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from parity.errors import DamagedFileError, ParityError

FILE = "manifest.json"
FORMAT = "parity-artefact"
VERSION = 1

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "code": dict,
    "query_shape": list,
    "prediction_shape": list,
    "parity_shape": list,
    "class_names": list,
    "preprocessing": dict,
    "accuracies": dict,
    "programs": dict,
    "versions": dict,
    "files": dict,
}

_OF_CODE: dict[str, type] = {
    "encoder": str,
    "decoder": str,
    "k": int,
    "r": int,
    "n": int,
    "tolerance": int,
    "copies": int,
    "systematic": bool,
    "parity_workers": int,
}


def sha256(content: bytes) -> str:
    """Return the hash of a file's bytes."""
    return hashlib.sha256(content).hexdigest()


def hashes(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and hash of every file of a folder by its name."""
    contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return {name: {"bytes": len(content), "sha256": sha256(content)} for name, content in contents.items()}


def read_manifest(folder: Path, expected: str | None = None) -> dict[str, Any]:
    """Read the manifest of an artefact.

    Args:
        folder: of the artefact.
        expected: the manifest's own SHA-256, from whoever vouches for the artefact.

    Raises:
        ParityError: the folder is not an artefact, or not one that this version reads, or not the expected one.
    """
    path = folder / FILE
    if not path.is_file():
        raise ParityError(f"{folder} is not an artefact of parity: there is no {FILE} in it.")
    content = path.read_bytes()  # once: what is hashed is what is read
    if expected is not None and (found := sha256(content)) != expected.lower():
        raise ParityError(f"{path} is not the expected one: its SHA-256 is {found}, not {expected}.")
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise DamagedFileError(f"{path} is damaged: {error}.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ParityError(f"{path} was not written by parity.export: {folder} is not an artefact of parity.")
    if manifest.get("version") != VERSION:
        raise ParityError(
            f"{path} is of version {manifest.get('version')!r} of artefacts, and this parity reads version {VERSION}: "
            "load it with the parity that wrote it, or export it again."
        )
    wrong = [name for name, kind in _FIELDS.items() if not isinstance(manifest.get(name), kind)]
    wrong += [f"code.{name}" for name, kind in _OF_CODE.items() if not _is(manifest.get("code"), name, kind)]
    if wrong:
        raise DamagedFileError(f"{path} is damaged: '{wrong[0]}' is missing or of another type.")
    return manifest


def read_files(folder: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """Read every file that a manifest lists and compare it with its hash, before anything is made of any.

    Returns:
        The bytes by name, those that were hashed: what is changed on the disk later is not seen.

    Raises:
        ParityError: a file is missing, or not the one that was written.
    """
    return dict(_checked(folder, manifest["files"]))


def _checked(folder: Path, files: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    for name, stated in files.items():
        if Path(name).name != name or name in ("", ".", "..", FILE) or not isinstance(stated, Mapping):
            raise DamagedFileError(f"{folder / FILE} is damaged: it lists '{name}', which is not a file of its folder.")
        content = None
        with suppress(OSError):
            content = (folder / name).read_bytes()
        if content is None:
            raise ParityError(f"{folder} is not a whole artefact: {name} is missing; copy or export it again.")
        if len(content) != stated.get("bytes") or sha256(content) != stated.get("sha256"):
            raise DamagedFileError(
                f"{folder / name} is not the file that was exported (another size or SHA-256): copy or export it again."
            )
        yield name, content


def _is(values: Any, name: str, kind: type) -> bool:
    return isinstance(values, Mapping) and type(values.get(name)) is kind
