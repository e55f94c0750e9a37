"""Publishing artefacts to the Hugging Face Hub, or to a server with the same HTTP interface.

A commit is made of four kinds of requests: which files go where, what large files are not there yet, their bytes, and
the commit itself, a JSON object a line.
"""

import base64
import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parity.errors import ParityError, cause
from parity.export.manifest import FILE, read_files, read_manifest, sha256
from parity.settings import user_path

ENDPOINT = "https://huggingface.co"
_SAMPLE = 512  # bytes of a file that the hub chooses by whether it is large
_LFS = "application/vnd.git-lfs+json"
_SECONDS = 60
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_TOKEN = re.compile(r"[!-~]+")


def push_to_hub(
    folder: str | Path,
    repo: str,
    *,
    token: str | None = None,
    endpoint: str = ENDPOINT,
    private: bool = False,
    message: str = "Upload an artefact of parity",
) -> str:
    """Publish an artefact as a model repository, in one commit; the repository is made if it is not there.

    Args:
        folder: of the artefact; its files are checked before anything is sent.
        repo: 'owner/name'.
        token: with write access; by default that of the environment's HF_TOKEN.
        endpoint: of the hub.
        private: whether a repository that is made is private.
        message: of the commit.

    Returns:
        The commit's address.

    Raises:
        ParityError: the folder is not a whole artefact, there is no token, or the hub refuses.
    """
    folder = user_path(folder)
    repo = repo.strip()
    if not _REPOSITORY.fullmatch(repo):
        raise ParityError(
            "a repository of the hub is called owner/name, each of letters, digits, '-', '_' and '.', not "
            f"{repo!r:.80}."
        )
    owner, _, name = repo.partition("/")
    token = (token or os.environ.get("HF_TOKEN") or "").strip()
    if not token:
        raise ParityError("the hub needs a token with write access: hand it over (token=), or set HF_TOKEN.")
    if not _TOKEN.fullmatch(token):
        raise ParityError("the hub's token has characters that no token has: copy it again from the hub's settings.")
    files = read_files(folder, read_manifest(folder))
    files[FILE] = (folder / FILE).read_bytes()
    files["README.md"] = _readme(files)
    hub = _Hub(endpoint.rstrip("/"), token)
    hub.create(owner, name, private)
    large = hub.large_files(repo, files)
    hub.upload(repo, {name: files[name] for name in large})
    return hub.commit(repo, files, large, message)


def _readme(files: Mapping[str, bytes]) -> bytes:
    """Return the model card with the header that the hub reads."""
    return b"---\nlibrary_name: parity\ntags: [erasure-code]\n---\n\n" + files.get("model_card.md", b"")


@contextmanager
def _understood() -> Iterator[None]:
    """Raise one sentence where what the hub returns is not of its interface."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ParityError(
            f"what the hub returns is not what its interface states ({cause(error)}): check the address (endpoint=)."
        ) from error


class _Hub:
    """The hub's HTTP interface.

    Args:
        endpoint: its address.
        token: of whoever writes.
    """

    def __init__(self, endpoint: str, token: str) -> None:
        self.endpoint, self._authorization = endpoint, {"Authorization": f"Bearer {token}"}

    def create(self, owner: str, name: str, private: bool) -> None:
        """Make a repository, if it is not there."""
        who = self._json(f"{self.endpoint}/api/whoami-v2")
        organization = None if who.get("name") == owner else owner
        asked = {"name": name, "organization": organization, "private": private, "type": "model"}
        self._json(f"{self.endpoint}/api/repos/create", asked, allowed=(409,))

    def large_files(self, repo: str, files: Mapping[str, bytes]) -> list[str]:
        """Return which files the hub wants apart from the commit."""
        asked = [
            {"path": name, "size": len(content), "sample": base64.b64encode(content[:_SAMPLE]).decode()}
            for name, content in files.items()
        ]
        modes = self._json(f"{self.endpoint}/api/models/{repo}/preupload/main", {"files": asked})
        with _understood():
            return [file["path"] for file in modes["files"] if file["uploadMode"] == "lfs"]

    def upload(self, repo: str, files: Mapping[str, bytes]) -> None:
        """Send the bytes of large files that the hub does not have yet."""
        if not files:
            return
        contents = {sha256(content): content for content in files.values()}
        batch = self._json(
            f"{self.endpoint}/{repo}.git/info/lfs/objects/batch",
            {
                "operation": "upload",
                "transfers": ["basic"],
                "hash_algo": "sha256",
                "objects": [{"oid": oid, "size": len(content)} for oid, content in contents.items()],
            },
            kind=_LFS,
        )
        with _understood():
            objects = {wanted["oid"]: wanted for wanted in batch["objects"]}
            for oid, content in contents.items():
                self._upload(objects[oid], content)

    def _upload(self, wanted: Mapping[str, Any], content: bytes) -> None:
        if (error := wanted.get("error")) is not None:
            reason = " ".join(str(error.get("message", error)).split())[:200]
            raise ParityError(f"the hub does not take the file of SHA-256 {wanted['oid']}: {reason}")
        actions = wanted.get("actions") or {}
        if upload := actions.get("upload"):  # the place may be another server's, and has its own authorization
            self._send("PUT", upload["href"], content, upload.get("header", {}))
        if verify := actions.get("verify"):
            stated = {"oid": wanted["oid"], "size": len(content)}
            headers = {**self._authorization, **verify.get("header", {}), "Content-Type": _LFS}
            self._send("POST", verify["href"], json.dumps(stated).encode(), headers)

    def commit(self, repo: str, files: Mapping[str, bytes], large: list[str], message: str) -> str:
        """Commit all files; return the commit's address."""
        lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": message, "description": ""}}]
        for name, content in files.items():
            if name in large:
                stated = {"path": name, "algo": "sha256", "oid": sha256(content), "size": len(content)}
                lines.append({"key": "lfsFile", "value": stated})
            else:
                encoded = base64.b64encode(content).decode()
                lines.append({"key": "file", "value": {"path": name, "content": encoded, "encoding": "base64"}})
        body = "".join(json.dumps(line) + "\n" for line in lines).encode()
        headers = {**self._authorization, "Content-Type": "application/x-ndjson"}
        answer = self._send("POST", f"{self.endpoint}/api/models/{repo}/commit/main", body, headers)
        with _understood():
            address: str = json.loads(answer)["commitUrl"]
        return address

    def _json(
        self, url: str, content: Any = None, kind: str = "application/json", allowed: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        headers = {**self._authorization, "Content-Type": kind, "Accept": kind}
        body = None if content is None else json.dumps(content).encode()
        answer = self._send("GET" if body is None else "POST", url, body, headers, allowed)
        with _understood():
            found = json.loads(answer) if answer else {}
            if not isinstance(found, dict):
                raise TypeError("no JSON object")
        return found

    def _send(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], allowed: tuple[int, ...] = ()
    ) -> bytes:
        if not url.startswith(("http://", "https://")):
            raise ParityError(f"the hub is an address that begins with http:// or https://, not '{url}'.")
        request = urllib.request.Request(url, data=body, headers=dict(headers), method=method)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code in allowed:
                return b""
            reason = " ".join(error.read().decode(errors="replace").split())[:200]
            raise ParityError(
                f"the hub refuses {method} {url}: {error.code} {error.reason} {reason}".rstrip()
            ) from error
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise ParityError(f"the hub at {url} cannot be reached ({cause(error)}).") from error
