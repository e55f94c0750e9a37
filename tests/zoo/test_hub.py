"""push_to_hub, against a local stand-in that keeps to the hub's interface."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from parity import zoo
from parity.errors import ParityError
from parity.export.manifest import FILE, FORMAT, VERSION, hashes

TOKEN = "hf_write"


class StandIn(BaseHTTPRequestHandler):
    """Repositories in memory: their commits, and the bytes of large files."""

    repositories: dict[str, dict[str, bytes]]
    large: dict[str, bytes]

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, content: object, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _is_known(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self._answer({"error": "Invalid credentials"}, 401)
        return False

    def do_GET(self) -> None:
        if self._is_known():
            self._answer({"name": "ann"} if self.path == "/api/whoami-v2" else {}, 200)

    def do_PUT(self) -> None:
        content = self._body()
        oid = hashlib.sha256(content).hexdigest()
        assert self.path == f"/storage/{oid}"
        assert "Authorization" not in self.headers
        self.large[oid] = content
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        if not self._is_known():
            return None
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization'] or 'ann'}/{asked['name']}"
            if name in self.repositories:
                return self._answer({"error": "You already created this model repo"}, 409)
            self.repositories[name] = {}
            return self._answer({"url": name})
        if self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            modes = ["lfs" if file["path"].endswith((".pt2", ".safetensors")) else "regular" for file in files]
            return self._answer(
                {"files": [{"path": file["path"], "uploadMode": mode} for file, mode in zip(files, modes, strict=True)]}
            )
        if self.path.endswith(".git/info/lfs/objects/batch"):
            return self._answer({"objects": [self._wanted(item) for item in json.loads(body)["objects"]]})
        if self.path == "/verify":
            stated = json.loads(body)
            return self._answer({}, 200 if len(self.large[stated["oid"]]) == stated["size"] else 400)
        repo = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
        if repo not in self.repositories:
            return self._answer({"error": "Repository not found"}, 404)
        header, *lines = [json.loads(line) for line in body.splitlines()]
        assert header["key"] == "header"
        for line in lines:
            value = line["value"]
            self.repositories[repo][value["path"]] = (
                self.large[value["oid"]] if line["key"] == "lfsFile" else base64.b64decode(value["content"])
            )
        return self._answer({"commitUrl": f"http://hub/{repo}/commit/1"})

    def _wanted(self, item: dict) -> dict:
        if item["oid"] in self.large:
            return item
        host = f"http://{self.headers['Host']}"
        actions = {"upload": {"href": f"{host}/storage/{item['oid']}"}, "verify": {"href": f"{host}/verify"}}
        return {**item, "actions": actions}

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, type[StandIn]]]:
    """The stand-in's address, and what it holds."""
    handler = type("Handler", (StandIn,), {"repositories": {}, "large": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    """A folder that has what the hub needs of an artefact: files, and a manifest that lists them."""
    folder = tmp_path / "artefact"
    folder.mkdir()
    (folder / "model_card.md").write_text("# A code\n")
    (folder / "base.pt2").write_bytes(b"a program")
    (folder / "weights.safetensors").write_bytes(b"weights")
    code = {
        "encoder": "LinearEncoder", "decoder": "LinearDecoder", "k": 2, "r": 1, "n": 3, "tolerance": 1, "copies": 1,
        "systematic": True, "parity_workers": 1,
    }  # fmt: skip
    shapes = {"query_shape": [4], "prediction_shape": [3], "parity_shape": [3]}
    fields = {"name": "code", "class_names": [], "preprocessing": {"dtype": "float32"}}
    fields |= {"accuracies": {}, "programs": {}}
    written = {"format": FORMAT, "version": VERSION, "versions": {}, "files": hashes(folder)}
    content = {**fields, **shapes, **written, "code": code}
    (folder / FILE).write_text(json.dumps(content))
    return folder


def test_a_published_artefact_is_the_artefact(artefact: Path, hub: tuple[str, type[StandIn]]) -> None:
    endpoint, held = hub
    address = zoo.push_to_hub(artefact, "ann/code", token=TOKEN, endpoint=endpoint)
    assert address == "http://hub/ann/code/commit/1"
    files = {path.name: path.read_bytes() for path in artefact.iterdir()}
    readme = held.repositories["ann/code"].pop("README.md").decode()
    assert readme.startswith("---\nlibrary_name: parity\n")
    assert readme.endswith("# A code\n")
    assert held.repositories["ann/code"] == files


def test_a_second_push_sends_no_large_file_again(artefact: Path, hub: tuple[str, type[StandIn]]) -> None:
    endpoint, held = hub
    zoo.push_to_hub(artefact, "team/code", token=TOKEN, endpoint=endpoint)
    stored = dict(held.large)
    held.do_PUT = lambda self: pytest.fail("sent again")
    zoo.push_to_hub(artefact, "team/code", token=TOKEN, endpoint=endpoint)
    assert held.large == stored
    assert held.repositories["team/code"]["base.pt2"] == b"a program"


@pytest.mark.parametrize(
    ("repo", "token", "message"),
    [
        ("code", TOKEN, "called owner/name"),
        ("ann/code", None, "needs a token"),
        ("ann/code", "hf_read", "the hub refuses GET .*401"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(
    repo: str, token: str | None, message: str, artefact: Path, hub: tuple[str, type], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(ParityError, match=message):
        zoo.push_to_hub(artefact, repo, token=token, endpoint=hub[0])


def test_a_tampered_artefact_is_not_published(artefact: Path, hub: tuple[str, type[StandIn]]) -> None:
    (artefact / "base.pt2").write_bytes(b"A program")
    with pytest.raises(ParityError, match=r"base.pt2 is not the file that was exported"):
        zoo.push_to_hub(artefact, "ann/code", token=TOKEN, endpoint=hub[0])
    assert hub[1].repositories == {}


def test_a_hub_that_is_not_there(artefact: Path) -> None:
    with pytest.raises(ParityError, match="cannot be reached"):
        zoo.push_to_hub(artefact, "ann/code", token=TOKEN, endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize("repo", ["ann/my code", "ann/m\u00f6del", "ann/code?x=1", "ann/../code", "ann/code/more"])
def test_names_that_no_repository_has_are_refused(repo: str, artefact: Path) -> None:
    with pytest.raises(ParityError, match="called owner/name"):
        zoo.push_to_hub(artefact, repo, token=TOKEN, endpoint="http://127.0.0.1:9")


def test_a_token_is_stripped_checked_and_shown_nowhere(artefact: Path, hub: tuple[str, type[StandIn]]) -> None:
    zoo.push_to_hub(artefact, " ann/code\n", token=f" {TOKEN}\n", endpoint=hub[0])
    for token in ("hf_\u0160ECRET", "hf_SECRET\nmore", "hf_SECRET more"):
        with pytest.raises(ParityError, match="the hub's token has characters that no token has") as refused:
            zoo.push_to_hub(artefact, "ann/code", token=token, endpoint=hub[0])
        assert "SECRET" not in str(refused.value)


def test_a_large_file_that_the_hub_does_not_take_is_not_committed(
    artefact: Path, hub: tuple[str, type[StandIn]]
) -> None:
    endpoint, held = hub
    held._wanted = lambda self, item: {**item, "error": {"code": 507, "message": "storage quota exceeded"}}
    with pytest.raises(ParityError, match=r"does not take the file of SHA-256 .*: storage quota exceeded"):
        zoo.push_to_hub(artefact, "ann/code", token=TOKEN, endpoint=endpoint)
    assert held.repositories == {"ann/code": {}}


@pytest.mark.parametrize("content", [b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>login<br>", b"SSH-2.0-x\r\n",
                                     b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"])  # fmt: skip
def test_what_is_not_of_the_hubs_interface_is_one_sentence(
    content: bytes, artefact: Path, hub: tuple[str, type[StandIn]]
) -> None:
    def other(self: StandIn) -> None:
        self.wfile.write(content)
        self.close_connection = True

    hub[1].do_GET = other
    with pytest.raises(ParityError, match=r"not what its interface states|cannot be reached"):
        zoo.push_to_hub(artefact, "ann/code", token=TOKEN, endpoint=hub[0])
