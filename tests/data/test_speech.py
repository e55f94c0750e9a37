import logging
import math
import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from torchaudio.datasets import SPEECHCOMMANDS

from parity import settings
from parity.data import get_datamodule_class
from parity.data.cache import cached
from parity.data.speech import (
    FSDDDataModule,
    SpeechCommandsDataModule,
    SpokenWords,
    _resampler,
    log_spectrograms,
    read_spectrograms,
)
from parity.errors import ParityError
from parity.experiments import Experiment
from tests.conftest import ROOT, need

SPLITS = ("train", "val", "test")
DIGITS = ["eight", "five", "four", "nine", "one", "seven", "six", "three", "two", "zero"]
SHAPE = (1, 161, 101)

# Samples of the clips of each synthetic word: noise is as good as a voice.
LENGTHS = {"a.wav": 4000, "b.wav": 9000, "c.wav": 6500, "d.wav": 16000}


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty DATA_ROOT."""
    root = tmp_path / "data root"
    root.mkdir()
    monkeypatch.setattr(settings, "DATA_ROOT", root)
    return root


@pytest.fixture(scope="module")
def fsdd() -> Path:
    """The folder of the real spoken digits."""
    folder = (ROOT / os.environ.get("DATA_ROOT", "data")).resolve() / "FSDD"
    need(folder / "testing_list.txt", "FSDD is not under DATA_ROOT: ../shared/prepare_data.sh data")
    return folder


@pytest.fixture(scope="module")
def digits(fsdd: Path, tmp_path_factory: pytest.TempPathFactory) -> FSDDDataModule:
    """The real spoken digits, read once, and kept in a folder that is thrown away."""
    root = tmp_path_factory.mktemp("fsdd")
    (root / "FSDD").symlink_to(fsdd)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "DATA_ROOT", root)
        data = FSDDDataModule(k=2)
        for split in SPLITS:
            data.loader(split)
    return data


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(samples)


def write(path: Path, samples: np.ndarray, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def make_words(folder: Path, words: list[str], rate: int = 16000) -> Path:
    """Four clips of each word: a and d are for training, b for validation, c for test."""
    for number, word in enumerate(words):
        for place, (name, length) in enumerate(LENGTHS.items()):
            write(folder / word / name, noise(length, 10 * number + place), rate)
    (folder / "validation_list.txt").write_text("".join(f"{word}/b.wav\n" for word in words))
    (folder / "testing_list.txt").write_text("".join(f"{word}/c.wav\n" for word in reversed(words)))
    return folder


def tensors(data: SpokenWords, split: str) -> tuple[Tensor, Tensor]:
    """All queries and targets of a split, in the order of its rows."""
    _, queries, targets = (torch.cat(part) for part in zip(*data.loader(split).every_query(), strict=True))
    return queries, targets


def reference(samples: np.ndarray, rate: int = 16000) -> np.ndarray:
    """The spectrogram as the reference page has it, frame by frame in float64: samples (T,) -> (161, 101)."""
    ratio = Fraction(16000, rate)
    signal = resampled(samples.astype(np.float64), ratio)
    mirrored = np.concatenate([signal[160:0:-1], signal, signal[-2:-162:-1]])
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(320) / 320)
    frames = [np.abs(np.fft.rfft(window * mirrored[160 * t : 160 * t + 320])) for t in range(len(signal) // 160 + 1)]
    logs = np.zeros((161, max(101, len(frames))))
    logs[:, : len(frames)] = np.log1p(np.stack(frames, axis=1))
    logs = logs[:, :101]
    return (logs - logs.mean()) / logs.std(ddof=1)


def resampled(samples: np.ndarray, ratio: Fraction) -> np.ndarray:
    """Interpolation by a sinc under a Hann window of six zero crossings that passes 99 % of the lower band."""
    if ratio == 1:
        return samples
    cutoff = 0.99 * min(1.0, float(ratio))  # of the old rate's band
    reach = math.ceil(6 / cutoff) + 1
    times = np.arange(math.ceil(len(samples) * ratio)) / float(ratio)
    near = np.floor(times).astype(int)[:, None] + np.arange(-reach, reach + 1)
    x = (near - times[:, None]) * cutoff
    kernel = np.sinc(x) * np.cos(np.pi * x.clip(-6, 6) / 12) ** 2 * cutoff
    return (kernel * np.pad(samples, reach + 1)[near + reach + 1]).sum(1)


def assert_close(found: Tensor, expected: np.ndarray, tolerance: float = 1e-3) -> None:
    assert found.shape == SHAPE
    assert np.abs(found[0].double().numpy() - expected).max() < tolerance


# Real clips


def test_splits_of_the_spoken_digits(digits: FSDDDataModule, fsdd: Path) -> None:
    assert [len(digits.rows(split)) for split in SPLITS] == [2400, 300, 300]
    assert torch.equal(torch.cat([digits.rows("train"), digits.rows("val")]), torch.arange(2700))
    assert torch.equal(digits.rows("test"), torch.arange(300))
    for split, each in zip(SPLITS, (240, 30, 30), strict=True):
        assert digits.targets(split)[digits.rows(split)].bincount().tolist() == [each] * 10
    assert digits.targets("train") is digits.targets("val"), "they lie in one tensor"


def test_spoken_digits_are_standardised_one_by_one(digits: FSDDDataModule) -> None:
    for split in SPLITS:
        queries, _ = tensors(digits, split)
        assert queries.shape[1:] == SHAPE == digits.query_shape
        assert queries.dtype == torch.float32
        assert queries.mean((1, 2, 3)).abs().max() < 1e-4
        assert (queries.std((1, 2, 3)) - 1).abs().max() < 1e-4


def test_a_spoken_digit_has_the_reference_spectrogram(digits: FSDDDataModule, fsdd: Path) -> None:
    for split, list_name in (("val", "validation_list.txt"), ("test", "testing_list.txt")):
        names = sorted((fsdd / list_name).read_text().split())
        queries, targets = tensors(digits, split)
        for place in (0, 137, 299):
            samples, rate = soundfile.read(fsdd / names[place])
            assert rate == 8000
            assert_close(queries[place], reference(samples, rate))
            assert DIGITS[targets[place]] == names[place].split("/")[0]


def test_training_clips_are_those_of_no_list(digits: FSDDDataModule, fsdd: Path) -> None:
    held_out = {line for name in ("validation_list.txt", "testing_list.txt") for line in (fsdd / name).open()}
    names = sorted({f"{path.parent.name}/{path.name}" for path in fsdd.glob("*/*.wav")} - {n.strip() for n in held_out})
    queries, _ = tensors(digits, "train")
    for place in (0, 1000, 2399):
        assert_close(queries[place], reference(*soundfile.read(fsdd / names[place])))


# Spectrograms


@pytest.mark.parametrize("samples", [2, 100, 160, 161, 5000, 15999, 16000, 16001, 40000])
def test_clips_of_any_length_have_101_frames(samples: int) -> None:
    clip = noise(samples)
    short = np.pad(clip, (0, max(0, 161 - samples)))
    assert_close(log_spectrograms(torch.tensor(clip[None], dtype=torch.float32), 16000)[0], reference(short))


def test_missing_frames_are_zero_before_standardising() -> None:
    found = log_spectrograms(torch.tensor(noise(8000)[None], dtype=torch.float32), 16000)[0, 0]
    padding = found[:, 51:]
    assert (padding == padding[0, 0]).all()
    assert (found[:, :51] > padding[0, 0]).all(), "no magnitude is below that of silence"


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
def test_a_tone_is_found_at_its_frequency_whatever_the_rate(rate: int) -> None:
    tone = np.sin(2 * np.pi * 1500 * np.arange(rate) / rate)
    found = log_spectrograms(torch.tensor(tone[None], dtype=torch.float32), rate)[0, 0]
    assert (found[:, 5:95].argmax(0) == 30).all(), "1500 Hz at 50 Hz a bin"


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = noise(12000, 1), noise(12000, 2)
    path = write(tmp_path / "stereo.wav", np.stack([left, right], axis=1))
    assert_close(read_spectrograms([path])[0], reference((left + right) / 2))


def test_silence_is_zeros(tmp_path: Path) -> None:
    found = read_spectrograms([write(tmp_path / "silent.wav", np.zeros(16000))])
    assert torch.equal(found, torch.zeros(1, *SHAPE))


def test_clips_stay_in_order_whatever_their_lengths_and_rates(tmp_path: Path) -> None:
    clips = [(noise(5000 + 1000 * (i % 3), i), (16000, 8000)[i % 2]) for i in range(150)]
    found = read_spectrograms([write(tmp_path / f"{i}.wav", *clip) for i, clip in enumerate(clips)])
    for i in (0, 1, 2, 63, 64, 149):
        assert_close(found[i], reference(*clips[i]))


# Folders


def test_folders_of_words(data_root: Path) -> None:
    folder = make_words(data_root / "FSDD", DIGITS)
    write(folder / "_background_noise_" / "rain.wav", noise(90000))
    (folder / "zero" / "._a.wav").write_bytes(b"what macOS leaves on other systems' disks")
    (folder / "zero" / "notes.txt").write_text("no clip")
    data = FSDDDataModule(num_validation=3)
    assert [len(data.rows(split)) for split in SPLITS] == [20, 10, 10]
    for split, names in (("train", ("a.wav", "d.wav")), ("val", ("b.wav",)), ("test", ("c.wav",))):
        queries, targets = tensors(data, split)
        assert targets.tolist() == [label for label in range(10) for _ in names]
        for label in (0, 9):
            for i, name in enumerate(names):
                samples, _ = soundfile.read(folder / DIGITS[label] / name)
                assert_close(queries[label * len(names) + i], reference(samples))


def test_test_clips_are_read_for_test_alone(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, opened, names = make_words(data_root / "FSDD", DIGITS), soundfile.SoundFile, set()

    def noting(path: Path) -> soundfile.SoundFile:
        names.add(path.relative_to(folder).name)
        return opened(path)

    monkeypatch.setattr(soundfile, "SoundFile", noting)
    data = FSDDDataModule()
    data.loader("train"), data.loader("val")
    assert names == {"a.wav", "b.wav", "d.wav"}
    names.clear()
    FSDDDataModule().loader("test")
    assert names == {"c.wav"}


@pytest.mark.parametrize("place", ["SpeechCommands", "SpeechCommands/speech_commands_v0.02", "speech_commands_v0.02"])
def test_both_versions_of_speech_commands_are_found(data_root: Path, place: str) -> None:
    words = [f"word{i:02}" for i in range(35)]
    folder = make_words(data_root / place, words)
    data = SpeechCommandsDataModule(version="0.02")
    assert data.find_folder() == folder
    assert data.task.prediction_shape == (35,)
    assert data.default_prediction().shape == (35,)
    assert tensors(data, "test")[1].tolist() == list(range(35))
    with pytest.raises(ParityError, match=r"35 words, but Speech Commands v0\.01 has 30|v0\.01 is in none of"):
        SpeechCommandsDataModule().loader("train")


def test_the_folder_of_the_version_comes_first(data_root: Path) -> None:
    make_words(data_root / "SpeechCommands", ["yes"])
    folder = make_words(data_root / "speech_commands_v0.01", [f"word{i:02}" for i in range(30)])
    data = SpeechCommandsDataModule()
    assert data.find_folder() == folder
    assert data.task.prediction_shape == (data.NUM_CLASSES,) == (30,)
    assert len(data.rows("train")) == 60


@pytest.mark.parametrize("version", ["0.03", "1", "", 0.01])
def test_other_versions_are_refused(version: Any) -> None:
    with pytest.raises(ParityError, match=rf"the versions '0\.01' and '0\.02', not {version!r}"):
        SpeechCommandsDataModule(version=version)


@pytest.mark.parametrize("words", [DIGITS[:9], [*DIGITS, "ten"]])
def test_a_wrong_number_of_words_is_refused(data_root: Path, words: list[str]) -> None:
    folder = make_words(data_root / "FSDD", words)
    message = rf"{re.escape(str(folder))} has folders of {len(words)} words, but FSDD has 10 words"
    with pytest.raises(ParityError, match=message):
        FSDDDataModule().rows("train")


# What is wrong with files


def test_missing_data_is_said_with_how_to_get_it(data_root: Path) -> None:
    with pytest.raises(
        ParityError, match=r"Free Spoken Digit Dataset.*DATA_ROOT.*Jakobovski.*testing_list\.txt"
    ) as error:
        FSDDDataModule().loader("train")
    assert str(data_root / "FSDD") in str(error.value)
    for version in ("0.01", "0.02"):
        with pytest.raises(
            ParityError, match=r"set DATA_ROOT .* or fetch it with: mkdir -p '.*' && python -c"
        ) as error:
            SpeechCommandsDataModule(version=version).loader("train")
        assert str(data_root / "SpeechCommands") in str(error.value)


def test_the_command_that_fetches_it_puts_it_where_it_is_found(data_root: Path) -> None:
    data = SpeechCommandsDataModule()
    with pytest.raises(ParityError) as error:
        data.loader("train")
    command = re.search('python -c "(.*)"$', str(error.value))
    assert command is not None
    # What is there already is not fetched: torchaudio takes the folder for its own.
    folder = make_words(data_root / "SpeechCommands" / "speech_commands_v0.01", ["yes_nohash_"])
    names: dict[str, Any] = {}
    exec(command[1].replace("; ", "; fetched = "), names)
    assert isinstance(names["fetched"], SPEECHCOMMANDS)
    assert Path(names["fetched"]._path) == folder == data.find_folder()


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no audio at all" * 100, b"version https://git-lfs.github.com"])
def test_a_corrupt_clip_is_named(data_root: Path, content: bytes) -> None:
    path = make_words(data_root / "FSDD", DIGITS) / "six" / "d.wav"
    path.write_bytes(content)
    with pytest.raises(ParityError, match=rf"^{re.escape(str(path))} cannot be read as audio"):
        FSDDDataModule().loader("train")
    FSDDDataModule().loader("test")
    assert not list((data_root / ".cache").glob("*train*")), "half of the clips are not kept"


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_clips_of_24_bits_are_read(suffix: str, tmp_path: Path) -> None:
    samples = noise(8000, 1) / 10
    soundfile.write(tmp_path / f"a{suffix}", samples, 16000, subtype="PCM_24")
    found = read_spectrograms([tmp_path / f"a{suffix}", write(tmp_path / "b.wav", samples)])
    assert (found[0] - found[1]).abs().max() < 1e-3


def test_clips_without_sound_or_numbers_are_named(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"empty\.wav is empty"):
        read_spectrograms([write(tmp_path / "empty.wav", np.zeros(0))])
    with pytest.raises(ParityError, match=r"nan\.wav cannot be used: some of its samples are NaN or infinite"):
        read_spectrograms([write(tmp_path / "nan.wav", np.array([0.0, np.nan, 1.0]))])


@pytest.mark.parametrize("split", SPLITS)
def test_a_listed_clip_that_is_not_there_is_named(data_root: Path, split: str) -> None:
    folder = make_words(data_root / "FSDD", DIGITS)
    (folder / "six" / "b.wav").unlink()
    with pytest.raises(
        ParityError, match=r"validation_list\.txt names six/b\.wav, but there is no such file in .*FSDD"
    ):
        FSDDDataModule().loader(split)


def test_a_link_that_leads_nowhere_is_named(data_root: Path) -> None:
    (make_words(data_root / "FSDD", DIGITS) / "six" / "e.wav").symlink_to("nowhere.wav")
    with pytest.raises(ParityError, match=r"six/e\.wav is a link to nothing"):
        FSDDDataModule().loader("train")


def test_lists_must_be_there_and_disjoint(data_root: Path) -> None:
    folder = make_words(data_root / "FSDD", DIGITS)
    (folder / "validation_list.txt").write_text("./two/a.wav\n\nsix/c.wav\n")
    with pytest.raises(ParityError, match=r"six/c\.wav is in both validation_list\.txt and testing_list\.txt"):
        FSDDDataModule().rows("test")
    (folder / "validation_list.txt").unlink()
    with pytest.raises(
        ParityError, match=r"validation_list\.txt cannot be read \(.*\): it names the clips that are held out"
    ):
        FSDDDataModule().rows("train")


def test_clips_are_listed_as_images_are(data_root: Path) -> None:
    folder = make_words(data_root / "FSDD", DIGITS)
    (folder / "six" / "a.wav").rename(folder / "six" / "a.WAV")
    for suffix, options in ((".flac", {}), (".ogg", {}), (".aiff", {}), (".mp3", {})):
        soundfile.write(folder / "two" / f"e{suffix}", noise(8000), 16000, **options)
    (folder / "nine" / "a.wav").rename(write(folder / "nine" / "anna" / "a.wav", noise(1)))
    (folder / "validation_list.txt").write_bytes(
        b"\xef\xbb\xbf" + (folder / "validation_list.txt").read_bytes().replace(b"\n", b"\r\n")
    )
    data = FSDDDataModule()
    assert [len(tensors(data, split)[1]) for split in SPLITS] == [24, 10, 10]
    assert tensors(data, "train")[1].bincount(minlength=10)[DIGITS.index("two")] == 6


def test_a_word_without_clips_is_refused(data_root: Path) -> None:
    folder = make_words(data_root / "FSDD", DIGITS)
    for path in (folder / "six").iterdir():
        path.unlink()
    with pytest.raises(ParityError, match=r"six holds no clip \(\.aif, .*\): put some there"):
        FSDDDataModule().rows("train")


@pytest.mark.parametrize("suffix", ["wav", "aiff", "flac", "ogg", "mp3", "opus", "w64", "rf64"])
def test_a_clip_that_is_cut_off_is_named_and_not_read_as_a_shorter_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"half.{suffix}"
    format = {"opus": {"format": "OGG", "subtype": "OPUS"}, "rf64": {"format": "RF64"}}.get(suffix, {})
    soundfile.write(path, noise(48000), 16000, **format)
    assert read_spectrograms([path]).shape == (1, *SHAPE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ParityError, match=rf"half\.{suffix} (is cut off|cannot be read as audio)"):
        read_spectrograms([path])


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_that_was_written_to_a_pipe_is_read(tmp_path: Path, size: int) -> None:
    path = tmp_path / "pipe.wav"
    soundfile.write(path, noise(16000), 16000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    whole = read_spectrograms([path])
    at = content.index(b"data") + 4
    content[at : at + 4] = size.to_bytes(4, "little")
    content[4:8] = size.to_bytes(4, "little")
    path.write_bytes(content)
    assert torch.equal(read_spectrograms([path]), whole)


@pytest.mark.parametrize("rate", [1000, 7999, 8000, 11025, 11127, 16001, 22050, 44100, 48000, 96001, 999_983])
def test_odd_rates_need_little_memory_and_keep_pitch_and_length(rate: int) -> None:
    resample = _resampler(rate)
    assert getattr(resample, "kernel", torch.empty(0)).nbytes < 100 * 2**20
    pitch = min(1500, rate / 4)
    found = resample(torch.tensor(np.sin(2 * np.pi * pitch * np.arange(rate // 2) / rate)[None], dtype=torch.float32))
    assert len(found[0]) == pytest.approx(8000, rel=1e-3, abs=2)
    spectrum = np.abs(np.fft.rfft(found[0].numpy() * np.hanning(found.shape[1]), 2**19))
    assert spectrum.argmax() * 16000 / 2**19 == pytest.approx(pitch, rel=1e-3)


@pytest.mark.parametrize("rate", [1, 999, 10_000_000])
def test_rates_that_are_not_of_speech_are_refused(tmp_path: Path, rate: int) -> None:
    with pytest.raises(ParityError, match=rf"a\.wav has a sample rate of {rate} Hz, and speech is resampled from 1000"):
        read_spectrograms([write(tmp_path / "a.wav", noise(100), rate)])


# What is kept on disk


def cache_files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".cache").iterdir())


def test_later_runs_read_no_clip(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_words(data_root / "FSDD", DIGITS)
    first, second = FSDDDataModule(), FSDDDataModule()
    expected = {split: tensors(first, split) for split in SPLITS}
    names = cache_files(data_root)
    assert [re.sub("-[0-9a-f]{16}", "", name) for name in names] == ["FSDD-test.safetensors", "FSDD-train.safetensors"]
    monkeypatch.delattr(soundfile, "SoundFile")
    for split in SPLITS:
        for found, one in zip(tensors(second, split), expected[split], strict=True):
            assert torch.equal(found, one)
    assert cache_files(data_root) == names


def test_a_change_of_clips_or_lists_is_noticed(data_root: Path) -> None:
    folder = make_words(data_root / "FSDD", DIGITS)
    before, _ = tensors(FSDDDataModule(), "train")
    clip = folder / "eight" / "a.wav"  # the first
    status = clip.stat()
    write(clip, noise(LENGTHS["a.wav"], 77))
    os.utime(clip, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    after, _ = tensors(FSDDDataModule(), "train")
    assert clip.stat().st_size == status.st_size
    assert_close(after[0], reference(noise(LENGTHS["a.wav"], 77)))
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1:], after[1:])
    assert len(cache_files(data_root)) == 2

    (folder / "validation_list.txt").write_text("two/a.wav")
    data = FSDDDataModule()
    assert [len(tensors(data, split)[0]) for split in SPLITS] == [29, 1, 10]


def test_a_change_of_the_computation_is_noticed(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_words(data_root / "FSDD", DIGITS)
    FSDDDataModule().loader("test")
    monkeypatch.setattr("importlib.metadata.version", lambda package: f"another {package}")
    FSDDDataModule().loader("test")
    monkeypatch.setattr("parity.data.speech._CACHE_FORMAT", 0)
    FSDDDataModule().loader("test")
    assert len(cache_files(data_root)) == 3


def flipped(content: bytes) -> bytes:
    return content[:-1000] + bytes([content[-1000] ^ 16]) + content[-999:]


@pytest.mark.parametrize(
    "damage", [lambda content: b"", lambda content: content[:-4], flipped, lambda content: b"?" * 99]
)
def test_a_damaged_file_is_replaced(data_root: Path, caplog: pytest.LogCaptureFixture, damage: Any) -> None:
    make_words(data_root / "FSDD", DIGITS)
    expected, _ = tensors(FSDDDataModule(), "test")
    (path,) = (data_root / ".cache").iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with caplog.at_level(logging.WARNING):
        found, _ = tensors(FSDDDataModule(), "test")
    assert torch.equal(found, expected)
    assert f"{path} cannot be used, so its content is computed again (" in caplog.text
    assert path.read_bytes() == whole
    assert len(cache_files(data_root)) == 1
    caplog.clear()
    FSDDDataModule().loader("test")
    assert not caplog.records


def test_a_place_that_cannot_be_written_is_only_a_warning(data_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_words(data_root / "FSDD", DIGITS)
    (data_root / ".cache").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert len(tensors(FSDDDataModule(), "test")[0]) == 10
    assert len(caplog.records) == 1
    assert re.search(r"\.cache/FSDD-test.* cannot be written, so its content is computed again", caplog.text)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cache" / "a.safetensors"

    def stop(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            cached(path, (3,), lambda: torch.ones(3))
    assert list(path.parent.iterdir()) == []
    cached(path, (3,), lambda: torch.ones(3))
    (tmp_path / "usual").touch()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode, "others who share the data may read it"
    assert torch.equal(cached(path, (3,), lambda: torch.zeros(3)), torch.ones(3))
    assert torch.equal(cached(path, (4,), lambda: torch.zeros(4)), torch.zeros(4)), "of another shape"


def test_an_empty_split_is_kept_as_well(tmp_path: Path) -> None:
    for _ in range(2):
        assert cached(tmp_path / "empty.safetensors", (0, *SHAPE), lambda: read_spectrograms([])).shape == (0, *SHAPE)


# Experiments


def test_the_data_sets_are_found_by_their_names() -> None:
    assert get_datamodule_class("SpeechCommands") is SpeechCommandsDataModule
    assert get_datamodule_class("FSDD") is FSDDDataModule


@pytest.mark.parametrize(("dataset", "words"), [("SpeechCommands", 30), ("FSDD", 10)])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_experiments_need_no_data_to_be_made(data_root: Path, dataset: str, words: int, k: int) -> None:
    experiment = Experiment(dataset, f"lenet_k{k}_add")
    assert experiment.config["data"]["batch_size"] == (64 if k == 2 else 32)
    assert experiment.base_experiment is not None
    assert experiment.base_experiment.get_model()(torch.zeros(2, *SHAPE)).shape == (2, words)
