import pickle
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from parity.errors import DamagedFileError, ParityError
from parity.models import MLP, load_into, read_weights
from parity.models.weights import fingerprint, read_file


def network(seed: int = 0) -> MLP:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MLP((2, 3), (4,), hidden=(5,))


def same(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in state.items())


def assert_refused(file: Path, match: str | None = None) -> None:
    with pytest.raises(ParityError, match=match) as error:
        read_weights(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_torch_files_are_read(tmp_path: Path, old: bool, wrap: Callable) -> None:
    state = network().state_dict()
    torch.save(wrap(state), tmp_path / "weights.pt", _use_new_zipfile_serialization=not old)
    assert same(read_weights(str(tmp_path / "weights.pt")), state)


def test_safetensors_are_read(tmp_path: Path) -> None:
    state = network().state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    assert same(read_weights(tmp_path / "weights.safetensors"), state)


@pytest.mark.parametrize("write", [save_file, torch.save])
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors", "weights", "pytorch_model.bin"])
def test_a_file_is_what_it_holds_whatever_its_suffix(tmp_path: Path, write: Callable, name: str) -> None:
    state = network().state_dict()
    write(state, tmp_path / name)
    assert same(read_weights(tmp_path / name), state)


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_pointer_of_git_lfs_is_named_as_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n")
    assert_refused(tmp_path / name, "is a pointer of Git LFS, and not the file itself: fetch it with git lfs pull")


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_missing_and_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    file, state = tmp_path / name, network().state_dict()
    assert_refused(file, "there is no file")
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    whole = file.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert_refused(file)
    file.write_bytes(bytes(byte ^ 0xFF for byte in whole[:64]) + whole[64:])
    assert_refused(file, "damaged")
    file.write_text("These are no weights.\n")
    assert_refused(file)
    file.unlink()
    file.mkdir()
    assert_refused(file, "there is no file")


@pytest.mark.parametrize("content", [[torch.ones(2)], {}, {"epoch": 3}, {"state_dict": {}}, {"state_dict": 3}])
def test_files_without_a_state_dict_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pt")
    assert_refused(tmp_path / "weights.pt", "state dict")


class Bomb:
    """Creates a file as soon as it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return open, (str(self.marker), "w")


def write_pickle(content: object, file: Path) -> None:
    file.write_bytes(pickle.dumps(content, protocol=2))


def write_old(content: object, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [write_pickle, torch.save, write_old])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, write: Callable) -> None:
    marker, file = tmp_path / "marker", tmp_path / "weights.pt"
    pickle.loads(pickle.dumps(Bomb(marker))).close()
    assert marker.exists(), "the bomb works"
    marker.unlink()
    write({"state_dict": network().state_dict(), "extra": Bomb(marker)}, file)
    assert_refused(file, "could run code: it was refused")
    assert not marker.exists()


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name,
        lambda name: name.replace("layers.", "nn."),
        lambda name: "module." + name.replace("layers.", "nn."),
        lambda name: "_orig_mod." + name,
        lambda name: "module._orig_mod." + name,
        lambda name: name.replace("layers.", "layers._orig_mod."),
    ],
)
def test_published_and_wrapped_names_are_understood(rename: Callable[[str], str]) -> None:
    source, target = network(seed=0), network(seed=1)
    assert not same(source.state_dict(), target.state_dict())
    load_into(target, {rename(name): value for name, value in source.state_dict().items()}, "file.pt")
    assert same(source.state_dict(), target.state_dict())


def test_the_published_base_model_fits(published_weights: Path) -> None:
    target = MLP((1, 28, 28), (10,))
    state = read_weights(published_weights)
    load_into(target, state, published_weights)
    assert {name.split(".")[0] for name in state} == {"nn"}
    assert torch.equal(target.layers[0].weight, state["nn.0.weight"])


class Named(nn.Module):
    """A network of layers by their names, which renames two components."""

    RENAMED_KEYS: ClassVar[dict[str, str]] = {"old": "new", "shortcut": "downsample"}

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            at: nn.Module = self
            *outer, last = name.split(".")
            for component in outer:
                if not hasattr(at, component):
                    at.add_module(component, nn.Module())
                at = at.get_submodule(component)
            at.add_module(last, nn.Linear(1, 1, bias=False))


def renamed(published: str, *own: str) -> dict[str, float]:
    """Load 1, 2, ... by published names into a network of other names, and return what is in it."""
    target = Named(*own)
    state = {f"{name}.weight": torch.full((1, 1), float(i)) for i, name in enumerate(published.split(), start=1)}
    load_into(target, state, "published.pt")
    return {name.removesuffix(".weight"): value.item() for name, value in target.state_dict().items()}


def test_components_are_renamed_at_any_depth() -> None:
    assert renamed("old", "new") == {"new": 1}
    assert renamed("a.old.b", "a.new.b") == {"a.new.b": 1}
    assert renamed("old.shortcut.old a.shortcut", "new.downsample.new", "a.downsample") == {
        "new.downsample.new": 1,
        "a.downsample": 2,
    }
    assert renamed("module.a._orig_mod.old", "a.new") == {"a.new": 1}


def test_names_that_the_network_expects_are_not_renamed() -> None:
    assert renamed("old new", "old", "new") == {"old": 1, "new": 2}
    assert renamed("module.old a.shortcut b.shortcut", "old", "a.shortcut", "b.downsample") == {
        "old": 1,
        "a.shortcut": 2,
        "b.downsample": 3,
    }


@pytest.mark.parametrize(
    ("name", "own"), [("older", "newer"), ("bold", "bnew"), ("a.old_one", "a.new_one"), ("Old", "new")]
)
def test_only_whole_components_are_renamed(name: str, own: str) -> None:
    with pytest.raises(ParityError, match=f"'{own}.weight' is missing"):
        renamed(name, own)


def test_only_the_batch_counters_of_batch_normalisation_may_be_missing() -> None:
    source, target = (
        nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)),
        nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)),
    )
    source(torch.randn(4, 2))
    old = {name: value for name, value in source.state_dict().items() if name != "1.num_batches_tracked"}
    load_into(target, old, "old.pth")
    assert same({**target.state_dict(), "1.num_batches_tracked": torch.tensor(1)}, source.state_dict())
    with pytest.raises(ParityError, match=r"'1\.running_mean' is missing"):
        load_into(target, {name: value for name, value in old.items() if name != "1.running_mean"}, "old.pth")
    load_into(target, source.state_dict(), "new.pth")
    assert target[1].num_batches_tracked.item() == 1


def test_real_wrappers_are_understood() -> None:
    source, target = network(seed=0), network(seed=1)
    load_into(target, nn.DataParallel(torch.compile(source)).state_dict(), "file.pt")
    assert same(source.state_dict(), target.state_dict())


def without(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {own: value for own, value in state.items() if own != name}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda state: state | {"layers.2.bias": torch.zeros(3)}, r"'layers.2.bias' has shape \(3,\), expected \(4,\)"),
        (lambda state: state | {"layers.2.bias": torch.zeros(4, 1)}, r"'layers.2.bias' has shape \(4, 1\)"),
        (without("layers.0.weight"), "'layers.0.weight' is missing"),
        (lambda state: {}, "'layers.0.bias', 'layers.0.weight', 'layers.2.bias' and 1 more are missing"),
        (lambda state: state | {"layers.3.bias": torch.zeros(4)}, "'layers.3.bias' is unknown"),
        (lambda state: state | {"nn.7": torch.zeros(4), "x": torch.zeros(1)}, "'layers.7' and 'x' are unknown to it"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_the_network_is_left_as_it_was(change: Callable, match: str) -> None:
    target = network(seed=1)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(ParityError, match=match) as error:
        load_into(target, change(dict(network(seed=0).state_dict())), "some/file.pt")
    assert "weights in some/file.pt do not fit MLP" in str(error.value)
    assert "\n" not in str(error.value)
    assert same(target.state_dict(), before)


def test_the_fingerprint_is_of_the_weights() -> None:
    assert fingerprint(network(seed=0)) == fingerprint(network(seed=0))
    assert fingerprint(network(seed=0)) != fingerprint(network(seed=1))
    changed = network(seed=0)
    with torch.no_grad():
        changed.layers[2].bias[3] = torch.nextafter(changed.layers[2].bias[3], torch.tensor(9.0))
    assert fingerprint(changed) != fingerprint(network(seed=0))


def test_the_fingerprint_tells_names_types_and_shapes_apart() -> None:
    def zeros(shape: tuple[int, ...], name: str = "weight", dtype: torch.dtype = torch.float32) -> str:
        module = nn.Module()
        module.register_buffer(name, torch.zeros(shape, dtype=dtype))
        return fingerprint(module)

    different = [zeros((2, 3)), zeros((3, 2)), zeros((6,)), zeros((2, 3), "bias"), zeros((2, 3), dtype=torch.int32)]
    assert len({*different, zeros(()), zeros((2, 3), dtype=torch.bfloat16)}) == 7


def test_the_fingerprint_does_not_depend_on_the_file(tmp_path: Path) -> None:
    source, target = network(seed=0), network(seed=1)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    load_into(target, read_weights(tmp_path / "weights.safetensors"), "weights.safetensors")
    assert fingerprint(target) == fingerprint(source)


@pytest.mark.parametrize("text", ['{"a": 1}', "# a comment", "<!DOCTYPE html><html>", "\x80"])
def test_a_failed_download_is_called_damaged_and_not_dangerous(tmp_path: Path, text: str) -> None:
    (tmp_path / "weights.pt").write_text(text)
    assert_refused(tmp_path / "weights.pt", "damaged")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_name_that_is_too_long_is_refused(suffix: str) -> None:
    with pytest.raises(ParityError, match="at most 255 bytes"):
        read_weights("x" * 300 + suffix)


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    torch.save({0: torch.ones(2)}, tmp_path / "weights.pt")
    assert_refused(tmp_path / "weights.pt", "no state dict")


def test_marks_of_wrappers_are_told_from_a_networks_own_names() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    target, source = Wrapped(), Wrapped()
    load_into(target, source.state_dict(), "its own")
    assert fingerprint(target) == fingerprint(source)
    both = {f"_orig_mod.module.{name}": value for name, value in network(1).state_dict().items()}
    plain = network(2)
    load_into(plain, both, "compiled and parallel")
    assert fingerprint(plain) == fingerprint(network(1))


@pytest.mark.parametrize("mark", ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_marks_of_wrappers_around_a_part_of_a_network_are_understood(mark: str) -> None:
    inner = {name.replace(".", f".{mark}.", 1): value for name, value in network(1).state_dict().items()}
    assert any(f".{mark}." in name for name in inner)
    target = network(2)
    load_into(target, {f"features.{name}": value for name, value in inner.items()}, "wrapped within")
    assert fingerprint(target) == fingerprint(network(1))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")]
)
def test_too_little_memory_to_read_a_file_is_not_damage(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.ones(1)}, path)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(ParityError, match="not enough memory to read") as raised:
        read_file(path)
    assert not isinstance(raised.value, DamagedFileError)


@pytest.mark.parametrize("counter", [torch.tensor(1.5), torch.tensor(2**63 + 1, dtype=torch.uint64)])
def test_a_counter_that_would_be_cut_off_is_named(counter: Tensor) -> None:
    network = nn.BatchNorm1d(2)
    state = network.state_dict() | {"num_batches_tracked": counter}
    with pytest.raises(
        ParityError, match=r"'num_batches_tracked' is (float32|uint64), with numbers that are not int64"
    ):
        load_into(network, state, "file")
    load_into(network, state | {"num_batches_tracked": torch.tensor(3, dtype=torch.int32)}, "file")
    assert network.num_batches_tracked == 3
