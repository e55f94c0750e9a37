"""Checkpoints that are none: each gets one clear error with the file's name, and none runs code.

200 of them are made from a real one with a fixed seed.
"""

import contextlib
import io
import pickle
import random
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from parity.coded_model import CodedModel
from parity.data.digits import DigitsDataModule
from parity.errors import DamagedFileError, ParityError
from parity.experiments import Experiment
from parity.models.weights import fingerprint, read_file, read_weights, seal
from parity.runs.training import RunOptions, lit_module, run_training
from parity.training import Hardware, fit
from parity.training.loop.checkpoints import check_checkpoint
from parity.training.loop.lit_module import BurstModule

CPU = Hardware("cpu")
Bytes = bytes
Content = dict[str, Any]


def run(base_directory: Path, name: str, epochs: int) -> Experiment:
    overrides = {"trainer.max_epochs": epochs}
    return Experiment("Digits", "mlp_k2_add", base_directory=base_directory, run_name=name, overrides=overrides)


@pytest.fixture(scope="module")
def trained(trained_digits_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A finished run of 3 epochs."""
    runs = shutil.copytree(trained_digits_base, tmp_path_factory.mktemp("malformed") / "runs")
    experiment = run(runs, "malformed", 3)
    run_training(experiment, RunOptions(hardware=CPU))
    return experiment


@pytest.fixture(scope="module")
def whole(trained: Experiment) -> bytes:
    return trained.checkpoint("last").read_bytes()


@pytest.fixture(scope="module")
def module(trained: Experiment) -> BurstModule:
    model = trained.get_model()
    assert isinstance(model, CodedModel)
    return lit_module(trained, trained.get_datamodule(), model, RunOptions(hardware=CPU))[0]


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """The file that comes to be if code is run."""
    return tmp_path / "canary"


# --- 1: bytes ---


def cut_off(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    for length in (0, 1, 4, len(whole) - 1, len(whole) - 8, len(whole) - 21, len(whole) - 22, len(whole) - 44):
        yield whole[:length]
    for _ in range(27):
        yield whole[: rng.randrange(len(whole))]


def flipped(data: bytes, *bits: int) -> bytes:
    changed = bytearray(data)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def one_bit(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    for _ in range(30):
        yield flipped(whole, rng.randrange(8 * len(whole)))


def several_bits(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    for _ in range(10):
        yield flipped(whole, *rng.sample(range(8 * len(whole)), rng.randrange(2, 20)))


def bits_of_tensors(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        tensors = [part for part in archive.infolist() if "/data/" in part.filename]
    for part in rng.sample(tensors, 15):
        header = part.header_offset
        names = sum(int.from_bytes(whole[header + at : header + at + 2], "little") for at in (26, 28))
        yield flipped(whole, 8 * (header + 30 + names) + rng.randrange(8 * part.file_size))


def bits_of_the_structure(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    """Of the archive's list of its parts and its end, where readers look for nothing but places and lengths."""
    start = whole.rindex(b"PK\5\6") - 1500
    for _ in range(15):
        yield flipped(whole, 8 * start + rng.randrange(8 * (len(whole) - start)))


def other_bytes(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    yield rng.randbytes(1000)
    yield b"PK\3\4" + rng.randbytes(1000)
    yield b"\x80\2" + rng.randbytes(100)
    yield whole + b"\0"
    yield whole[:1000] + rng.randbytes(4096) + whole[5096:]
    yield whole[:4096] + b"\0" * (len(whole) - 4096)
    yield b"{}"
    yield b"<html>404</html>"


def other_archives(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    for names in ((), ("mimetype",), ("archive/data.pkl", "archive/version"), ("last/data.pkl", "last/byteorder")):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name in names:
                archive.writestr(name, rng.randbytes(50))
        yield file.getvalue()
    scripted = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), scripted)
    yield scripted.getvalue()


# --- 2: code ---


class Calls:
    """Calls a function as soon as it is unpickled."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


class SetsState(Calls):
    """Calls it, with one text and a dict, to set the state of an object."""

    def __reduce__(self) -> tuple:
        function, arguments = self.call
        return str, arguments, {}, None, None, function


def code(canary: Path) -> list[object]:
    import os
    import shutil

    touch = f"touch {canary}"
    text = f"open({str(canary)!r}, 'w').close()"
    return [
        Calls(os.system, touch),
        Calls(eval, text),
        Calls(exec, text),
        Calls(open, str(canary), "w"),
        Calls(subprocess.run, ["touch", str(canary)]),
        Calls(Path.touch, canary),
        Calls(shutil.copyfile, __file__, str(canary)),
        Calls(torch.save, {}, str(canary)),
        SetsState(exec, text),
    ]


def saved(content: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def sealed(data: bytes) -> bytes:
    file = io.BytesIO(data)
    seal(file)
    return file.getvalue()


def with_pickle(whole: bytes, pickled: bytes) -> bytes:
    """A real checkpoint with another ``data.pkl`` in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(file, "w") as new:
        for part in old.infolist():
            new.writestr(part.filename, pickled if part.filename.endswith("/data.pkl") else old.read(part))
    return file.getvalue()


def foreign_pickles(whole: bytes, rng: random.Random, canary: Path) -> Iterator[bytes]:
    content = torch.load(io.BytesIO(whole), weights_only=True)
    for bomb in code(canary):
        yield saved({**content, "hidden": [{"deep": bomb}]})
        yield sealed(with_pickle(whole, pickle.dumps(bomb, protocol=2)))
    for protocol, bomb in zip(range(6), code(canary), strict=False):
        yield pickle.dumps({"state_dict": bomb}, protocol=protocol)
    bomb = code(canary)[0]
    yield f"cos\nsystem\n(S'touch {canary}'\ntR.".encode()
    yield f"(S'touch {canary}'\nios\nsystem\n.".encode()
    yield saved({**content, "epoch": bomb}, _use_new_zipfile_serialization=False)
    yield saved(bomb, _use_new_zipfile_serialization=False)
    yield saved({**content, "callbacks": {"Checkpoints": bomb}})
    yield with_pickle(whole, pickle.dumps(bomb, protocol=4))
    old = io.BytesIO()  # what torch wrote before 0.1.10
    with tarfile.open(fileobj=old, mode="w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            data = pickle.dumps(bomb, protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    yield old.getvalue()


# --- 3: content ---

CHECKPOINTS = ("callbacks", "Checkpoints")
RANK = (*CHECKPOINTS, "ranks", 0)
WEIGHT = "model.parity_models.0.layers.0.weight"

MISSING: list[tuple[str | int, ...]] = [
    ("epoch",), ("global_step",), ("state_dict",), ("optimizer_states",), ("lr_schedulers",), ("loops",),
    ("callbacks",), ("loops", "fit_loop"), CHECKPOINTS, (*CHECKPOINTS, "best_value"), (*CHECKPOINTS, "ranks"),
    RANK, (*RANK, "random"), (*RANK, "epoch"), (*RANK, "random", "numpy"), (*RANK, "random", "torch"),
    ("state_dict", WEIGHT), ("optimizer_states", 0), ("optimizer_states", 0, "param_groups"),
]  # fmt: skip

WRONG: list[tuple[tuple[str | int, ...], object]] = [
    (("state_dict", WEIGHT), torch.zeros(200, 65)),
    (("state_dict", WEIGHT), torch.zeros(12800)),
    (("state_dict", WEIGHT), [1.0, 2.0]),
    (("state_dict", "model.extra"), torch.zeros(1)),
    (("state_dict", 3), torch.zeros(1)),
    (("state_dict",), {}),
    (("state_dict",), []),
    (("epoch",), "3"),
    (("loops",), {"fit_loop": 3, "validate_loop": 4}),
    (("optimizer_states", 0, "state", 0, "exp_avg"), torch.zeros(3)),
    (("optimizer_states", 0, "state", 1, "exp_avg_sq"), torch.zeros(200, 64)),
    (("optimizer_states", 0, "state", 77), {"exp_avg": torch.zeros(3)}),
    (("optimizer_states", 0, "param_groups"), []),
    ((*RANK, "random", "torch"), torch.zeros(3)),
    ((*RANK, "random", "python"), (3, (1, 2), None)),
    ((*CHECKPOINTS, "best_value"), "high"),
]


def changed(content: Content, path: tuple[str | int, ...], *value: object) -> Content:
    """A copy with something else at a place, or, without a value, with nothing there."""
    copy: Any = deepcopy(content)
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if value:
        inner[path[-1]] = value[0]
    else:
        del inner[path[-1]]
    return copy


def missing_parts(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    content = torch.load(io.BytesIO(whole), weights_only=True)
    for path in MISSING:
        yield sealed(saved(changed(content, path)))


def wrong_parts(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    content = torch.load(io.BytesIO(whole), weights_only=True)
    for path, value in WRONG:
        yield sealed(saved(changed(content, path, value)))


def other_content(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    content = torch.load(io.BytesIO(whole), weights_only=True)
    for other in ({}, [], torch.zeros(3), "text", 7, [content], content["state_dict"], {"state_dict": content}):
        yield saved(other)
    yield pickle.dumps(7, protocol=2)


KINDS: dict[Callable[..., Iterator[bytes]], int] = {
    cut_off: 35,
    one_bit: 30,
    several_bits: 10,
    bits_of_tensors: 15,
    bits_of_the_structure: 15,
    other_bytes: 8,
    other_archives: 5,
    foreign_pickles: 31,
    missing_parts: 19,
    wrong_parts: 16,
    other_content: 9,
}
FOLDERS = 7
assert sum(KINDS.values()) + FOLDERS == 200

CODE = "so loading it could run code: it was refused"


def error_of(path: Path, module: BurstModule) -> ParityError:
    with pytest.raises(ParityError) as error:
        check_checkpoint(path, module)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 600
    return error.value


@pytest.mark.parametrize("make", KINDS)
def test_each_gets_one_clear_error_and_none_runs_code(
    make: Callable[..., Iterator[bytes]], whole: bytes, module: BurstModule, tmp_path: Path, canary: Path
) -> None:
    rng = random.Random(f"{make.__name__} 0")
    files = list(make(whole, rng, canary) if make is foreign_pickles else make(whole, rng))
    assert len(files) == KINDS[make]
    assert all(data != whole for data in files)
    canary.unlink(missing_ok=True)  # making some pickles may have made it
    for number, data in enumerate(files):
        path = tmp_path / f"{number}.ckpt"
        path.write_bytes(data)
        error = error_of(path, module)
        assert not canary.exists(), number
        if make in (cut_off, one_bit, several_bits, bits_of_tensors, bits_of_the_structure, missing_parts):
            assert isinstance(error, DamagedFileError) or "another model" in str(error), (number, error)
        if make is foreign_pickles:
            assert CODE in str(error) or isinstance(error, DamagedFileError), (number, error)
            with pytest.raises(ParityError, match=path.name):
                read_weights(path)
            assert not canary.exists(), number
        assert path.read_bytes() == data


def test_folders_and_links(tmp_path: Path, module: BurstModule, whole: bytes) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "data.pkl").write_bytes(whole)
    (tmp_path / "to a folder").symlink_to("empty")
    (tmp_path / "to nothing").symlink_to("nothing")
    (tmp_path / "to itself").symlink_to("to itself")
    names = ("empty", "full", "to a folder", "to nothing", "to itself", "nothing", "nothing/last.ckpt")
    assert len(names) == FOLDERS
    for name in names:
        assert "there is no file" in str(error_of(tmp_path / name, module))


def test_the_bombs_work(whole: bytes, canary: Path) -> None:
    """What is refused above would run code in other hands."""
    for bomb in code(canary):
        pickle.loads(pickle.dumps(bomb))
        assert canary.exists()
        canary.unlink()
    worked = 0
    for data in foreign_pickles(whole, random.Random(0), canary):
        try:
            torch.load(io.BytesIO(data), weights_only=False)
        except Exception:
            continue
        finally:
            worked += canary.exists()
            canary.unlink(missing_ok=True)
    assert worked >= 25


# --- every bit ---


def small(path: Path) -> Content:
    content = {"state_dict": {f"{n}.weight": torch.arange(1.0, 6.0) for n in range(3)}, "epoch": 3, "names": ["a", "b"]}
    torch.save(content, path)
    return content


def same(one: Content, other: Content) -> bool:
    plain = [
        {**content, "state_dict": {n: v.tolist() for n, v in content["state_dict"].items()}} for content in (one, other)
    ]
    return plain[0] == plain[1]


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "sealed.ckpt"
    content = small(path)
    data = sealed(path.read_bytes())
    path.write_bytes(data)
    assert same(read_file(path), content)
    assert same(torch.load(path, weights_only=True, mmap=True), content), "it stays a file of torch's"
    rng = random.Random(0)
    for byte in range(len(data)):
        path.write_bytes(flipped(data, 8 * byte + rng.randrange(8)))
        with pytest.raises(DamagedFileError):
            read_file(path)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(DamagedFileError):
            read_file(path)


def test_in_a_file_of_other_origin_nothing_comes_out_changed(tmp_path: Path) -> None:
    """A bit of its padding may be flipped, which nobody reads; torch alone would return changed tensors."""
    path = tmp_path / "plain.pt"
    content = small(path)
    data = path.read_bytes()
    rng = random.Random(0)
    bits = [8 * byte + rng.randrange(8) for byte in range(0, len(data), 2)]
    for start in (data.index(b"PK\3\4", 700), data.index(b"PK\1\2", data.index(b"PK\5\6") - 300)):
        bits += range(8 * start, 8 * (start + 60))  # all of a part's own header and of its entry in the list
    noticed = changed_by_torch = 0
    for bit in bits:
        path.write_bytes(flipped(data, bit))
        with contextlib.suppress(Exception):
            changed_by_torch += not same(torch.load(path, weights_only=True), content)
        try:
            assert same(read_file(path), content)
        except DamagedFileError:
            noticed += 1
    assert changed_by_torch > 50
    assert noticed > changed_by_torch


# --- runs ---


def truncated(whole: bytes) -> bytes:
    return whole[: len(whole) // 3]


def of_a_tensor(whole: bytes) -> bytes:
    return next(bits_of_tensors(whole, random.Random(1)))


def without_random_states(whole: bytes) -> bytes:
    return saved(changed(torch.load(io.BytesIO(whole), weights_only=True), (*RANK, "random")))


def of_another_kind(whole: bytes) -> bytes:
    return saved([torch.zeros(3)])


@pytest.fixture(scope="module")
def longer(trained: Experiment) -> tuple[str, list[dict[str, float]], dict[str, float]]:
    experiment = run(trained.base_directory, "longer", 5)
    run_training(experiment, RunOptions(hardware=CPU))
    return (
        fingerprint(experiment.load_trained_model("last")),
        experiment.load_metrics(),
        experiment.load_test_metrics(),
    )


def arguments(experiment: Experiment, epochs: int) -> tuple[str, ...]:
    return ("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--run_name", experiment.run_name,
            "--base_directory", str(experiment.base_directory), "--set", f"trainer.max_epochs={epochs}")  # fmt: skip


def put(path: Path, data: bytes | None) -> None:
    """Put bytes, or for None a folder, in the place of a file, and of no other that shares its bytes."""
    path.unlink()
    if data is None:
        path.mkdir()
    else:
        path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [truncated, of_a_tensor, without_random_states, of_another_kind, lambda whole: b"", lambda whole: None],
    ids=["truncated", "bit of a tensor", "parts missing", "another kind", "empty", "folder"],
)
def test_train_py_sets_it_aside_and_goes_on_from_the_one_before(
    trained: Experiment,
    longer: tuple[str, list[dict[str, float]], dict[str, float]],
    train: Callable[..., int],
    damage: Callable[[bytes], bytes | None],
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    experiment = run(trained.base_directory, f"damaged-{request.node.callspec.id.replace(' ', '-')}", 3)
    assert train(*arguments(experiment, 3)) == 0
    last = experiment.checkpoint("last")
    put(last, bad := damage(last.read_bytes()))
    caplog.clear()
    assert train(*arguments(experiment, 5)) == 0
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert str(last) in warning
    assert "set aside as last.ckpt.damaged1; resuming from previous.ckpt" in warning
    assert "resuming after epoch 2 of 5" in caplog.text
    aside = last.with_name("last.ckpt.damaged1")
    assert aside.is_dir() if bad is None else aside.read_bytes() == bad
    experiment = run(trained.base_directory, experiment.run_name, 5)
    assert fingerprint(experiment.load_trained_model("last")) == longer[0]
    assert (experiment.load_metrics()[2:], experiment.load_test_metrics()) == (longer[1][2:], longer[2])


@pytest.mark.parametrize("name", ["last", "previous"])
def test_train_py_stops_where_a_checkpoint_would_run_code_or_is_of_another_model(
    trained: Experiment, train: Callable[..., int], canary: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = run(trained.base_directory, f"refused-{name}", 3)
    assert train(*arguments(experiment, 3)) == 0
    content = torch.load(experiment.checkpoint("last"), weights_only=True)
    bombs = [saved({**content, "bomb": bomb}) for bomb in code(canary)[:3]]
    for data in (*bombs, saved(changed(content, ("state_dict", WEIGHT), torch.zeros(2)))):
        if name == "previous":
            put(experiment.checkpoint("last"), b"damaged")
        put(experiment.checkpoint(name), data)
        before = {path: path.read_bytes() for path in experiment.save_dir.rglob("*") if path.is_file()}
        capsys.readouterr()
        assert train(*arguments(experiment, 5)) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert f"{name}.ckpt" in error
        assert error.count("\n") == 1
        assert not canary.exists()
        assert {path: path.read_bytes() for path in experiment.save_dir.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("make", [cut_off, one_bit, other_archives, foreign_pickles, other_content])
def test_resume_from(
    trained: Experiment, whole: bytes, train: Callable[..., int], canary: Path, tmp_path: Path,
    make: Callable[..., Iterator[bytes]], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    rng = random.Random(7)
    files = list(make(whole, rng, canary) if make is foreign_pickles else make(whole, rng))
    canary.unlink(missing_ok=True)
    experiment = run(trained.base_directory, "from-malformed", 3)
    path = tmp_path / "given.ckpt"
    for data in rng.sample(files, 2):
        path.write_bytes(data)
        capsys.readouterr()
        assert train(*arguments(experiment, 5), "--resume_from", str(path)) == 1
        error = capsys.readouterr().err
        assert f"{path}" in error
        assert error.count("\n") == 1
        assert not canary.exists()
        assert not experiment.save_dir.exists()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("loops", "fit_loop", "epoch_progress"), {}),
        (("loops", "fit_loop"), {}),
        (("optimizer_states", 0, "state", 0), {"exp_avg": torch.zeros(200, 64)}),
        ((*RANK, "epoch"), {"groups": [64]}),
    ],
)
def test_what_only_restoring_finds_out_is_one_error_too(
    trained: Experiment, module: BurstModule, whole: bytes, tmp_path: Path, path: tuple[str | int, ...], value: object
) -> None:
    file = tmp_path / "given.ckpt"
    torch.save(changed(torch.load(io.BytesIO(whole), weights_only=True), path, value), file)
    trained_module = lit_module(trained, trained.get_datamodule(), trained.get_model(), RunOptions(hardware=CPU))[0]
    with pytest.raises(ParityError, match=r"given\.ckpt") as error:
        fit(
            trained_module, DigitsDataModule(k=2), tmp_path / "run", {"max_epochs": 5}, hardware=CPU, resume_from=file
        )  # fmt: skip
    assert "\n" not in str(error.value)
