"""``manifest.json``: what an artefact is made of, with the hash of every file, so that nothing else is ever loaded."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parity.errors import DamagedFileError, ParityError
from parity.schema import Field, Schema, check_fields
from parity.storage.files import parse_json, read_bytes

FILE = "manifest.json"
FORMAT = "parity-artefact"
VERSION = 1

_TEXT, _SHAPE = Field((str,)), Field((list,), values=Field((int,), 1, 2**31))
_COUNT, _FROM_0 = Field((int,), 1, 2**31), Field((int,), 0, 2**31)
_SCHEMA: Schema = {
    "name": _TEXT,
    "code": Field(
        (dict,),
        fields={
            "encoder": _TEXT, "decoder": _TEXT, "k": _COUNT, "r": _FROM_0, "n": _COUNT, "tolerance": _FROM_0,
            "copies": _COUNT, "systematic": Field((bool,)), "parity_workers": _FROM_0,
        },
    ),
    "query_shape": _SHAPE,
    "prediction_shape": _SHAPE,
    "parity_shape": _SHAPE,
    "class_names": Field((list,), values=_TEXT),
    "preprocessing": Field(
        (dict,), fields={"dtype": _TEXT, "ids_below": Field((int, type(None)), 1, 2**31, needed=False)}
    ),
    "accuracies": Field((dict,)),
    "programs": Field((dict,)),
    "versions": Field((dict,)),
    "files": Field((dict,), values=Field((dict,), fields={"bytes": Field((int,), 0), "sha256": _TEXT})),
}  # fmt: skip


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
    content = read_bytes(path)  # once: what is hashed is what is read
    if expected is not None and (found := sha256(content)) != expected.lower():
        raise ParityError(f"{path} is not the expected one: its SHA-256 is {found}, not {expected}.")
    manifest = parse_json(content, path)
    if manifest.get("format") != FORMAT:
        raise ParityError(f"{path} was not written by parity.export: {folder} is not an artefact of parity.")
    if manifest.get("version") != VERSION:
        raise ParityError(
            f"{path} is of version {manifest.get('version')!r} of artefacts, and this parity reads version {VERSION}: "
            "load it with the parity that wrote it, or export it again."
        )
    check_fields(manifest, _SCHEMA, str(path))
    return manifest


def holds_nothing_else(folder: Path) -> bool:
    """Return whether all that lies in a folder is an artefact: its manifest, and files that this lists."""
    found = {path.name for path in folder.iterdir()}
    if not found:
        return True
    try:
        manifest = parse_json(read_bytes(folder / FILE), folder / FILE)
    except ParityError:
        return False
    listed = manifest.get("files")
    return manifest.get("format") == FORMAT and isinstance(listed, dict) and found <= {FILE, *listed}


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
        if Path(name).name != name or name in ("", ".", "..", FILE):
            raise DamagedFileError(f"{folder / FILE} is damaged: it lists '{name}', which is not a file of its folder.")
        try:
            content = read_bytes(folder / name)
        except ParityError as error:
            raise ParityError(
                f"{folder} is not a whole artefact: {name} is missing; copy or export it again."
            ) from error
        if len(content) != stated.get("bytes") or sha256(content) != stated.get("sha256"):
            raise DamagedFileError(
                f"{folder / name} is not the file that was exported (another size or SHA-256): copy or export it again."
            )
        yield name, content
