"""What is not a whole artefact is refused in one sentence, before anything is made of any file."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from parity.errors import DamagedFileError, ParityError
from parity.export import load, reading
from parity.export.manifest import FILE, hashes, sha256
from parity.runs.serving import load_artefact
from tests.export.codes import PREDICTION, Exported


@pytest.fixture
def mine(exported: Callable[..., Exported], tmp_path: Path) -> Path:
    """An artefact to be spoilt."""
    return shutil.copytree(exported("add").folder, tmp_path / "mine")


def rewrite(folder: Path, **changes: Any) -> None:
    """Change fields of the manifest; hashes are those of the files as they are."""
    files = {name: stated for name, stated in hashes(folder).items() if name != FILE}
    manifest = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps({**manifest, "files": files, **changes}))


@pytest.mark.parametrize("name", ["encoder.pt2", "base.pt2", "decoder.pt2", "weights.safetensors", "model_card.md"])
@pytest.mark.parametrize("spoil", ["change", "truncate", "remove"])
def test_a_damaged_file_is_named(name: str, spoil: str, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.export, "load", lambda *_: pytest.fail("loaded before all hashes were checked"))
    content = bytearray((mine / name).read_bytes())
    content[len(content) // 2] ^= 1
    if spoil == "remove":
        (mine / name).unlink()
    else:
        (mine / name).write_bytes(content if spoil == "change" else content[: len(content) // 2])
    with pytest.raises(ParityError, match=f"{name} is (missing|not the file that was exported)"):
        load(mine)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not an artefact of parity: there is no manifest.json"),
        ("{", "is damaged"),
        ("[]", "it holds no JSON object"),
        ('{"format": "other"}', "was not written by parity.export"),
        ('{"format": "parity-artefact", "version": 99}', "of version 99"),
        ('{"format": "parity-artefact", "version": 1}', "it holds no 'name'"),
    ],
)
def test_a_foreign_folder_is_refused(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / FILE).write_text(content)
    with pytest.raises(ParityError, match=message):
        load(tmp_path)


def test_a_manifest_that_lacks_a_field_is_damaged(mine: Path) -> None:
    manifest = json.loads((mine / FILE).read_text())
    rewrite(mine, code={**manifest["code"], "k": "2"})
    with pytest.raises(ParityError, match=r"'code.k' should be a whole number from 1"):
        load(mine)
    rewrite(mine, code=manifest["code"], programs={"encoder": "encoder"})
    with pytest.raises(ParityError, match="does not name the programs"):
        load(mine)
    rewrite(mine, programs={**manifest["programs"], "base": "elsewhere"})
    with pytest.raises(ParityError, match=r"it lists no file elsewhere.pt2"):
        load(mine)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_shape": ["1", 8, 8]}, "'query_shape' should be a list of a whole number from 1"),
        ({"query_shape": [10**30]}, "'query_shape'"),
        ({"prediction_shape": [True]}, "'prediction_shape'"),
        ({"class_names": [[]]}, "'class_names'"),
        ({"preprocessing": {"dtype": 3}}, r"'preprocessing.dtype' should be a text"),
        ({"preprocessing": {"dtype": "nn"}}, "not a type of tensors"),
        ({"files": {"encoder.pt2": None}}, "'files'"),
        ({"code": None}, "'code' should be an object, and is None"),
        ({"programs": {"encoder": ["a"] * 9}}, "does not name the programs"),
        ({"accuracies": []}, "'accuracies'"),
    ],
)
def test_a_manifest_that_was_changed_by_hand_is_damaged(changes: dict[str, Any], message: str, mine: Path) -> None:
    rewrite(mine, **changes)
    with pytest.raises(DamagedFileError, match=message):
        load_artefact(mine)


def test_a_manifest_nested_too_deeply_is_damaged(mine: Path) -> None:
    (mine / FILE).write_text("[" * 200_000)
    with pytest.raises(DamagedFileError, match="is damaged"):
        load(mine)


def test_a_manifest_with_a_key_twice_or_in_other_bytes_is_damaged(mine: Path) -> None:
    whole = (mine / FILE).read_text()
    for content in (whole.replace("{", '{"name": "other",', 1).encode(), whole.encode("utf-16"), whole.encode()[:-9]):
        (mine / FILE).write_bytes(content)
        with pytest.raises(DamagedFileError, match="is damaged"):
            load(mine)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(mine: Path) -> None:
    (mine / "encoder.pt2").unlink()
    os.mkfifo(mine / "encoder.pt2")
    with pytest.raises(ParityError, match=r"encoder.pt2 is missing"):
        load(mine)


@pytest.mark.parametrize("name", ["../outside.pt2", "/etc/hostname", FILE])
def test_files_outside_the_folder_are_never_read(name: str, mine: Path) -> None:
    rewrite(mine, files={name: {"bytes": 1, "sha256": "0"}})
    with pytest.raises(ParityError, match="which is not a file of its folder"):
        load(mine)


def test_the_hash_of_the_manifest_vouches_for_all_of_it(mine: Path) -> None:
    expected = sha256((mine / FILE).read_bytes())
    assert load(mine, sha256=expected.upper()).k == 2
    rewrite(mine, name="another")  # whoever changes a file can change the manifest as well
    with pytest.raises(ParityError, match="is not the expected one"):
        load(mine, sha256=expected)


def test_an_artefact_that_is_replaced_while_it_is_read_is_the_old_or_the_new_one(
    mine: Path, exported: Callable[..., Exported], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = reading.read_manifest

    def then_replaced(folder: Path, expected: str | None = None) -> dict[str, Any]:
        manifest = read(folder, expected)
        shutil.rmtree(folder)
        shutil.copytree(exported("linear_r2").folder, folder)
        return manifest

    monkeypatch.setattr(reading, "read_manifest", then_replaced)
    assert load(mine).k == 4


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("pwned"),)


def with_pickle(content: bytes, where: str) -> bytes:
    """Put a pickle into a program, where torch would unpickle it."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            part = old.read(name)
            if where == "sample inputs" and "/sample_inputs/" in name:
                pickled = io.BytesIO()
                torch.save(Evil(), pickled)
                part = pickled.getvalue()
            elif where == "weights" and name.endswith("weights_config.json"):
                part = part.replace(b'"use_pickle": false', b'"use_pickle": true')
            new.writestr(name, part)
    return made.getvalue()


@pytest.mark.parametrize("where", ["sample inputs", "weights"])
def test_a_program_with_a_pickle_is_refused_although_its_hash_is_right(where: str, mine: Path) -> None:
    base = mine / "base.pt2"
    base.write_bytes(with_pickle(base.read_bytes(), where))
    rewrite(mine)
    with pytest.raises(ParityError, match=r"base.pt2 (holds pickled objects|is not a program)"):
        load(mine)
    assert not Path("pwned").exists()


def test_a_program_of_another_kind_is_refused(mine: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), mine / "base.pt2")
    rewrite(mine)
    with pytest.raises(ParityError, match=r"base.pt2 is not a program that torch"):
        load(mine)


def test_a_copy_in_another_process_answers_the_same(exported: Callable[..., Exported]) -> None:
    made = exported("backup")
    model = load(made.folder).coded_model
    copied = pickle.loads(pickle.dumps(model))
    available = torch.ones(2, 4, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(copied(made.queries[:2], available), model(made.queries[:2], available))


def test_the_usual_errors(exported: Callable[..., Exported]) -> None:
    made = exported("linear_r2")
    coded = load(made.folder)
    queries, lost = made.queries[:2], torch.zeros(2, 6, dtype=torch.bool)
    with pytest.raises(ParityError, match=r"LinearDecoder \(k = 4, r = 2\) cannot rebuild group 0: outputs 0, 1"):
        coded(queries, lost)
    with pytest.raises(ParityError, match="expected groups of k = 4 queries"):
        coded(queries[:, :3], ~lost)
    with pytest.raises(ParityError, match="scale them first"):
        coded(queries.byte(), ~lost)
    assert coded.coded_model.train().base_model.training is False


def test_programs_make_constants_on_the_device_that_they_are_moved_to(exported: Callable[..., Exported]) -> None:
    decoder = load(exported("add").folder).coded_model.decoder
    inputs = torch.rand(3, 2, *PREDICTION), torch.rand(3, 1, *PREDICTION), torch.tensor([[True, False, True]] * 3)
    expected = decoder.program(*inputs)[0]
    decoder.to("meta").half()  # a device without numbers
    devices = {node.kwargs["device"].type for node in decoder.program.module.graph.nodes if "device" in node.kwargs}
    assert devices == {"meta"}
    decoder = load(exported("add").folder).coded_model.decoder.to("meta")
    assert decoder.program(*(each.to("meta") for each in inputs))[0].shape == expected.shape
