import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2.functional import pil_to_tensor

from parity.data.images import ImageFiles, class_names, image_files, read_image, read_images
from parity.errors import ParityError


def save(path: Path, width: int = 5, height: int = 4, mode: str = "RGB") -> Tensor:
    """Write random pixels without loss; return them in RGB, uint8 (3, height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).numpy()).convert(mode)
    image.save(path, format="PNG")
    return pil_to_tensor(image.convert("RGB"))


def names(files: ImageFiles) -> list[str]:
    return [files.path(place).relative_to(files.folder).as_posix() for place in range(len(files))]


def listed(folder: Path, number: int) -> ImageFiles:
    return image_files(folder, class_names(folder, number))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_images_are_read_in_rgb(mode: str, tmp_path: Path) -> None:
    pixels = save(tmp_path / "image.png", width=7, height=3, mode=mode)
    image = read_image(tmp_path / "image.png")
    assert image.dtype == torch.uint8
    assert image.shape == (3, 3, 7)
    assert torch.equal(image, pixels)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_is_converted_to_rgb(name: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.full((8, 8, 3), 200, dtype=np.uint8)).convert("CMYK")
    image.save(tmp_path / name)
    assert (read_image(tmp_path / name).int() - 200).abs().max() <= 2


def test_an_orientation_noted_in_a_file_is_left_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    Image.fromarray(np.zeros((3, 5, 3), dtype=np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (3, 3, 5)


def test_of_a_gif_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4), level, dtype=np.uint8)) for level in (40, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif").unique().tolist() == [40]


def test_a_pointer_of_git_lfs_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ParityError, match=r"a\.png cannot be read as an image: put a whole copy in its place"):
        read_image(tmp_path / "a.png")


def test_a_class_of_heic_files_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.heic").touch()
    with pytest.raises(ParityError, match="/a holds no image"):
        listed(tmp_path, 1)


RAMP = np.arange(64, dtype=np.uint16)[None] * 1040


def ramp(path: Path, kind: str) -> Path:
    """Write a ramp of 64 levels, from black to almost white, in more than 8 bits."""
    if kind.startswith("pgm"):
        white = int(kind.removeprefix("pgm"))
        values = (RAMP.astype(int) * white // 65535).astype(">u2" if white > 255 else "u1")
        path = path.with_suffix(".pgm")
        path.write_bytes(f"P5 64 1 {white}\n".encode() + values.tobytes())
    elif kind == "white is 0":
        path = path.with_suffix(".tif")
        Image.fromarray(65535 - RAMP).save(path, tiffinfo={262: 0})
    else:
        path = path.with_suffix(f".{kind}")
        Image.fromarray(RAMP).save(path)
    return path


@pytest.mark.parametrize("kind", ["png", "tif", "pgm65535", "pgm4095", "pgm1000", "pgm255", "pgm100", "white is 0"])
def test_16_bit_images_are_scaled_and_not_clipped(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = ramp(tmp_path / "a" / "ramp", kind)
    found = read_image(path)
    assert found.shape == (3, 1, 64)
    coarse = kind == "pgm100"
    assert (found.double() - torch.from_numpy(RAMP / 257.0)).abs().max() < (3 if coarse else 1.01)
    assert len(found.unique()) == 64
    assert torch.equal(read_images(listed(tmp_path, 1), (3, 1, 64))[0], found)


def test_16_bit_values_are_rounded(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 65406, 65407, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [0, 0, 1, 1, 254, 255, 255]


def test_the_bits_of_a_tiff_are_its_own(tmp_path: Path) -> None:
    bits = np.unpackbits((np.arange(64) * 65).astype(">u2").view("u1")).reshape(64, 16)[:, 4:]
    packed = np.packbits(bits.reshape(-1)).tobytes()
    entries = [(256, 64), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, len(packed))]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    header = struct.pack("<2sHI", b"II", 42, 8 + len(packed))
    (tmp_path / "a.tif").write_bytes(header + packed + struct.pack("<H", len(entries)) + table + bytes(4))
    found = read_image(tmp_path / "a.tif")[0, 0]
    assert found.tolist() == [round(65 * level * 255 / 4095) for level in range(64)]


@pytest.mark.parametrize(
    ("values", "kind"), [(RAMP.astype(np.int32), "32-bit integers"), ((RAMP / 65535).astype(np.float32), "floats")]
)
def test_images_without_a_known_white_are_refused_by_name(values: np.ndarray, kind: str, tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(ParityError, match=rf"a\.tiff is an image of .*{kind}.*: convert it to 8 or 16 bits"):
        read_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_integers_are_refused_by_name(bits: int, tmp_path: Path) -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[339] = 2  # the format of samples; PIL reads those of 8 bits as if they were unsigned
    Image.fromarray(RAMP if bits == 16 else (RAMP // 257).astype(np.uint8)).save(tmp_path / "a.tif", tiffinfo=info)
    with pytest.raises(ParityError, match=r"a\.tif is an image of signed or 32-bit integers"):
        read_image(tmp_path / "a.tif")


def test_what_is_not_a_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png")
    os.mkfifo(tmp_path / "a" / "2.png")
    with pytest.raises(ParityError, match=r"/a/2\.png is not a file"):
        listed(tmp_path, 1)


def test_files_of_other_kinds_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "a" / "1.png")
    for name in ("2.heic", "deep/3.HEIC", "notes.txt", ".hidden"):
        (tmp_path / "a" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "a" / name).touch()
    assert len(listed(tmp_path, 1)) == 1
    (line,) = caplog.messages
    assert line == f"3 files in {tmp_path} left out, without the suffix of any image: 2 of .heic, 1 of .txt"


def test_files_beside_the_folders_of_classes_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a/1.png", "3.PNG", "2.png", ".4.png"):
        save(tmp_path / name)
    (tmp_path / "readme.txt").touch()
    assert len(listed(tmp_path, 1)) == 1
    assert caplog.messages == [f"2 files in {tmp_path} left out, in no folder of a class: 2.png"]


def test_a_link_to_a_folder_above_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    with pytest.raises(ParityError, match="a/again is a link to a folder that it lies in"):
        image_files(tmp_path, ["a"])


def test_what_is_read_may_be_written_to(tmp_path: Path) -> None:
    pixels = save(tmp_path / "image.png")
    read_image(tmp_path / "image.png").zero_()
    assert torch.equal(read_image(tmp_path / "image.png"), pixels)


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    else:
        content = path.read_bytes()
        path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "text": b"no image"}[how])


@pytest.mark.parametrize("how", ["missing", "a folder", "empty", "truncated", "text"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_damaged_file_is_named_in_one_sentence(suffix: str, how: str, tmp_path: Path) -> None:
    path = tmp_path / f"cat{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    damage(path, how)
    with pytest.raises(ParityError, match=r"cannot be read as an image: put a whole copy in its place") as error:
        read_image(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_images_are_listed_class_by_class_and_sorted(tmp_path: Path) -> None:
    expected = ["a/1.png", "a/10.jpg", "a/2.JPEG", "a/deep/er/0.Png", "b/x.webp", "b/z.png"]
    others = ["a/notes.txt", "a/.hidden.png", "a/.git/1.png", "b/jpg", "b/x.png.part", "top.png", ".hidden/1.png"]
    for name in [*reversed(expected), *others]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = listed(tmp_path, 2)
    assert names(files) == expected
    assert files.targets.tolist() == [0, 0, 0, 0, 1, 1]
    assert len(files) == 6


def test_the_order_is_that_of_torchvision(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "B/0.png", "a b/3.png", "a/10.png", "a/9.png", "é/1.png"):
        save(tmp_path / name)
    files, theirs = listed(tmp_path, 5), ImageFolder(str(tmp_path))
    assert [(str(files.path(i)), int(files.targets[i])) for i in range(len(files))] == theirs.samples


def test_names_of_any_bytes(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/a/\xff\xfe.png"
    pixels = save(tmp_path / "a" / "plain.png")
    os.rename(tmp_path / "a" / "plain.png", path)
    files = listed(tmp_path, 1)
    assert os.fsencode(files.path(0)) == path
    assert torch.equal(read_image(files.path(0)), pixels)


def test_links_are_followed(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "1.png")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a").symlink_to(tmp_path / "elsewhere")
    (folder / "b").mkdir()
    (folder / "b" / "2.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    assert names(listed(folder, 2)) == ["a/1.png", "b/2.png"]


def test_files_are_not_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1.png", "a/deep/2.png", "b/1.png"):
        save(tmp_path / name)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file's state was asked for")

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "lstat", refuse)
    files = listed(tmp_path, 2)
    assert files.paths.tolist() == [b"a/1.png", b"a/deep/2.png", b"b/1.png"]


def test_paths_are_held_compactly(tmp_path: Path) -> None:
    for place in range(500):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / f"n01440764_{place}.JPEG").touch()
    files = listed(tmp_path, 1)
    assert files.paths.dtype.kind == "S", "bytes in one array, not Python objects"
    assert files.paths.nbytes == 500 * len("a/n01440764_100.JPEG")


def test_other_numbers_of_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"each of 2 classes, and it holds 0 folders\."):
        class_names(tmp_path, 2)
    (tmp_path / "a").mkdir()
    (tmp_path / ".b").mkdir()
    with pytest.raises(ParityError, match=r"each of 2 classes, and it holds 1 folder \(a\)\."):
        class_names(tmp_path, 2)
    for name in "bcdefg":
        (tmp_path / name).mkdir()
    with pytest.raises(ParityError, match=r"holds 7 folders \(a, b, c, d, e, \.\.\.\)\."):
        class_names(tmp_path, 2)
    with pytest.raises(ParityError, match=r"nowhere cannot be listed: No such file"):
        class_names(tmp_path / "nowhere", 2)


def test_an_empty_class_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").touch()
    with pytest.raises(ParityError, match=r"/b holds no image \(\.bmp, .*\): put some there"):
        listed(tmp_path, 2)


@pytest.mark.parametrize(("found", "message"), [("ac", "it has no folder 'b'"), ("abc", "holds 3 folders")])
def test_other_classes_are_refused(found: str, message: str, tmp_path: Path) -> None:
    for name in found:
        save(tmp_path / name / "1.png")
    with pytest.raises(ParityError, match=message):
        image_files(tmp_path, ["a", "b"])


@pytest.mark.parametrize("count", [1, 255, 256, 257, 600])
def test_many_images_are_read_each_in_its_place(count: int, tmp_path: Path) -> None:
    pixels = {f"a/{place:03d}.png": save(tmp_path / "a" / f"{place:03d}.png") for place in range(count)}
    files = listed(tmp_path, 1)
    images = read_images(files, (3, 4, 5))
    assert images.dtype == torch.uint8
    assert torch.equal(images, torch.stack([pixels[name] for name in names(files)]))


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    for place in range(300):
        save(tmp_path / "a" / f"{place:03d}.png")
    save(tmp_path / "a" / "290.png", width=4, height=5)
    with pytest.raises(ParityError, match=r"/a/290\.png has 4 x 5 pixels, and all images should have 5 x 4"):
        read_images(listed(tmp_path, 1), (3, 4, 5))


def test_a_damaged_one_of_many_is_named(tmp_path: Path) -> None:
    for place in range(20):
        save(tmp_path / "a" / f"{place:03d}.png")
    damage(tmp_path / "a" / "013.png", "truncated")
    with pytest.raises(ParityError, match=r"/a/013\.png cannot be read as an image"):
        read_images(listed(tmp_path, 1), (3, 4, 5))
