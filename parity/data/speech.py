"""Speech Commands and the Free Spoken Digit Dataset: spoken words as log-spectrograms.

Clips lie in a folder for each word, ``<word>/**/*.wav``, or in another format that soundfile reads.
``validation_list.txt`` and ``testing_list.txt`` beside these folders name the clips of two splits, a line each; all
others are for training.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple, Unpack

import torch
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from parity import settings
from parity.data.cache import cached
from parity.data.datamodule import TensorArguments, TensorDataModule
from parity.data.files import files_of_classes, read_lines, subfolders
from parity.errors import ParityError, in_one_line
from parity.tasks import Classification, Task
from parity.terminal import progress

SAMPLE_RATE = 16_000
WINDOW = 320
"""Samples of a frame, 20 ms."""
HOP = 160
"""Samples from one frame to the next, 10 ms."""
FRAMES = 101

SUFFIXES = (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".ogg", ".opus", ".w64", ".wav")
"""Of clips, in any case."""

RATES = (1000, 1_000_000)
"""The least and the greatest sample rate, in Hz."""

_LISTS = {"val": "validation_list.txt", "test": "testing_list.txt"}

_NO_WORDS = "_."  # what the names of folders begin with that are not of words

_CACHE_FORMAT = 1  # to be raised by whoever changes what spectrograms are

_CLIPS_PER_TASK = 64
_MOST_THREADS = 16

_MOST_STEPS = 1000  # of either rate in their ratio: the kernel that resamples grows with both
_UNKNOWN_SIZE = 0x7FFF0000  # what is written to a pipe states such a size, or a greater one
_CUT_SHORT = re.compile(r"(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)")  # in libsndfile's log


class Clip(NamedTuple):
    """A file, and what shows that it is still the same."""

    name: str
    """``<word>/**/<file>``"""
    size: int
    """bytes"""
    modified: int
    """nanoseconds"""


class SpokenWords(TensorDataModule):
    """Clips of one word each, as log-spectrograms 1 x 161 x 101. Subclasses define where they lie.

    Spectrograms are computed by the first run and kept in ``DATA_ROOT/.cache``, which may be deleted at any time.

    Args:
        k, batch_size, steps_per_epoch, seed, augmentation: as in ``TensorDataModule``.
        num_validation: not used: ``validation_list.txt`` names the validation clips.

    Raises:
        ParityError: (from ``loader``, ``rows`` and ``targets``) the clips are not there, are not those of this data
            set, or one of them cannot be read.
    """

    QUERY_SHAPE = (1, WINDOW // 2 + 1, FRAMES)
    OTHER_REMEDY: ClassVar[str] = ""
    """What else helps against a wrong number of words."""

    def find_folder(self) -> Path:
        """Return the folder that holds the words' folders.

        Raises:
            ParityError: there is none.
        """
        raise NotImplementedError

    def rows(self, split: str) -> Tensor:
        first = len(self._clips["train"]) if split == "val" else 0  # after the training clips, in one tensor
        return torch.arange(first, first + len(self._clips[split]))

    def load(self, train: bool) -> tuple[Tensor, Tensor]:
        clips = [clip for split in (("train", "val") if train else ("test",)) for clip in self._clips[split]]
        number = {word: label for label, word in enumerate(self._words)}
        labels = torch.tensor([number[clip.name.split("/")[0]] for clip in clips], dtype=torch.int64)
        name = f"{self.dataset}-{'train' if train else 'test'}-{self._key(clips)}.safetensors"
        paths = [self._folder / clip.name for clip in clips]
        shape = (len(clips), *self.QUERY_SHAPE)
        return cached(settings.data_path(".cache", name), shape, lambda: read_spectrograms(paths)), labels

    @functools.cached_property
    def _folder(self) -> Path:
        return self.find_folder()

    @functools.cached_property
    def _words(self) -> list[str]:
        words = subfolders(self._folder, hidden=_NO_WORDS)
        (num_classes,) = self.task.prediction_shape
        if len(words) != num_classes:
            raise ParityError(
                f"{self._folder} has folders of {len(words)} words, but {self._described()} has {num_classes} words: "
                f"put its folders there and no others, except such as begin with '_'{self.OTHER_REMEDY}."
            )
        return words

    @functools.cached_property
    def _clips(self) -> dict[str, list[Clip]]:
        """The clips of each split, by name."""
        clips = {clip.name: clip for clip in _clips_in(self._folder, self._words)}
        listed = {split: _listed(self._folder / name, clips) for split, name in _LISTS.items()}
        if twice := listed["val"] & listed["test"]:
            raise ParityError(f"{min(twice)} is in both {' and '.join(_LISTS.values())} of {self._folder}.")
        listed["train"] = clips.keys() - listed["val"] - listed["test"]
        return {split: [clips[name] for name in sorted(names)] for split, names in listed.items()}

    def _described(self) -> str:
        return self.dataset

    def _key(self, clips: Sequence[Clip]) -> str:
        """Name everything that spectrograms of clips depend on, in 16 digits."""
        parts = dict(
            format=_CACHE_FORMAT,
            sizes=(SAMPLE_RATE, WINDOW, HOP, FRAMES),
            torchaudio=importlib.metadata.version("torchaudio"),
            clips=clips,
            lists=[_text(self._folder / name) for name in _LISTS.values()],
        )
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class SpeechCommandsDataModule(SpokenWords):
    """Google's Speech Commands: about 65,000 clips of 30 words in version 0.01, 106,000 of 35 words in 0.02.

    They lie in ``speech_commands_v<version>`` in ``DATA_ROOT/SpeechCommands``, as torchaudio puts them, or in
    ``DATA_ROOT``; or in ``DATA_ROOT/SpeechCommands`` itself.

    Args:
        k, batch_size, num_validation, steps_per_epoch, seed, augmentation: as in ``SpokenWords``.
        version: '0.01' or '0.02'.

    Raises:
        ParityError: there is no such version.
    """

    NUM_CLASSES = 30
    WORDS: ClassVar[dict[str, int]] = {"0.01": 30, "0.02": 35}
    """How many, in each version."""
    OTHER_REMEDY = ", or choose the other version (data.version; 0.01 has 30 words, 0.02 has 35)"

    def __init__(
        self,
        k: int = 1,
        *,
        version: str = "0.01",
        **common: Unpack[TensorArguments],
    ) -> None:
        super().__init__(k, **common)
        if version not in self.WORDS:
            raise ParityError(f"Speech Commands has the versions '0.01' and '0.02', not {version!r}.")
        self.version = version

    @property
    def task(self) -> Task:
        return Classification(self.WORDS[self.version])

    def find_folder(self) -> Path:
        root = settings.data_path()
        name = f"speech_commands_v{self.version}"
        folders = [root / "SpeechCommands" / name, root / name, root / "SpeechCommands"]
        for folder in folders:
            if _holds_words(folder):
                return folder
        program = (
            "from torchaudio.datasets import SPEECHCOMMANDS; "
            f"SPEECHCOMMANDS({str(root)!r}, url={name!r}, folder_in_archive='SpeechCommands', download=True)"
        )
        raise ParityError(
            f"{self._described()} is in none of {', '.join(str(folder) for folder in folders)}: set DATA_ROOT to the "
            f"folder that holds it, or fetch it with: mkdir -p {shlex.quote(str(root))} && "
            f"python -c {_quoted(program)}"
        )

    def _described(self) -> str:
        return f"Speech Commands v{self.version}"


class FSDDDataModule(SpokenWords):
    """The Free Spoken Digit Dataset in Speech Commands' layout: 3,000 clips of the digits, in six voices."""

    NUM_CLASSES = 10

    def find_folder(self) -> Path:
        folder = settings.data_path("FSDD")
        if _holds_words(folder):
            return folder
        raise ParityError(
            f"the Free Spoken Digit Dataset is not in {folder}: set DATA_ROOT to the folder that holds FSDD, or get it "
            "from https://github.com/Jakobovski/free-spoken-digit-dataset and lay it out there as zero/*.wav to "
            f"nine/*.wav, beside {' and '.join(_LISTS.values())} with lines such as zero/george_nohash_0.wav."
        )


def read_spectrograms(paths: Sequence[Path]) -> Tensor:
    """Read clips and return their log-spectrograms: float32 (N, 1, 161, 101). A terminal sees how far it is.

    Raises:
        ParityError: a file is not audio, empty, cut short, not finite, or has a sample rate out of ``RATES``; it is
            named.
    """
    spectrograms = torch.empty(len(paths), 1, WINDOW // 2 + 1, FRAMES)
    parts = [paths[first : first + _CLIPS_PER_TASK] for first in range(0, len(paths), _CLIPS_PER_TASK)]
    other = Console(quiet=True) if getattr(rank_zero_only, "rank", 0) else None
    with (
        progress("spectrograms", len(paths), shown_in=other) as advance,
        ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool,
    ):
        for read in pool.map(_read_into, spectrograms.split(_CLIPS_PER_TASK), parts):
            advance(read)
    return spectrograms


def log_spectrograms(waveforms: Tensor, sample_rate: int) -> Tensor:
    """Return log(1 + |STFT|), cut or zero-padded to 101 frames, then standardised clip by clip.

    At 16 kHz, in centred frames of 20 ms under a periodic Hamming window, 10 ms apart. A silent clip becomes zeros.

    A rate that has no ratio to 16 kHz of small numbers is resampled by the nearest one, to within 0.1 %.

    Args:
        waveforms: (B, samples), of at least one sample.
        sample_rate: theirs, in Hz, within ``RATES``.

    Returns:
        (B, 1, 161, 101)
    """
    resampled = _resampler(sample_rate)(waveforms)
    # The first and the last half frame are mirrored outwards, which takes a sample more.
    resampled = functional.pad(resampled, (0, max(0, WINDOW // 2 + 1 - resampled.shape[-1])))
    logs = _spectrogram()(resampled).log1p()
    framed = functional.pad(logs, (0, FRAMES - logs.shape[-1]))  # less than none cuts
    mean, std = framed.mean((1, 2), keepdim=True), framed.std((1, 2), keepdim=True)
    return framed.sub(mean).div(std.where(std > 0, 1.0)).unsqueeze(1)


# torchaudio is imported only where it is used: a third of a second of start for those who want another data set.


@functools.cache
def _resampler(sample_rate: int) -> nn.Module:
    from torchaudio.transforms import Resample

    ratio = _small_ratio(sample_rate)
    return Resample(ratio.numerator, ratio.denominator)


def _small_ratio(sample_rate: int) -> Fraction:
    """Return a sample rate over 16 kHz, or the nearest ratio of numbers of about 1000 at most."""
    ratio = Fraction(sample_rate, SAMPLE_RATE)
    return ratio.limit_denominator(min(_MOST_STEPS, int(_MOST_STEPS / ratio)))


@functools.cache
def _spectrogram() -> nn.Module:
    from torchaudio.transforms import Spectrogram

    return Spectrogram(n_fft=WINDOW, hop_length=HOP, window_fn=torch.hamming_window, power=1.0)


def _read_into(spectrograms: Tensor, paths: Sequence[Path]) -> int:
    """Read clips and write their log-spectrograms, (B, 1, 161, 101), those of one length together; return B."""
    alike: dict[tuple[int, int], dict[int, Tensor]] = defaultdict(dict)
    for index, path in enumerate(paths):
        waveform, sample_rate = _read(path)
        alike[sample_rate, len(waveform)][index] = waveform
    for (sample_rate, _), waveforms in alike.items():
        spectrograms[list(waveforms)] = log_spectrograms(torch.stack(list(waveforms.values())), sample_rate)
    return len(paths)


def _read(path: Path) -> tuple[Tensor, int]:
    """Return a clip's waveform, (samples,), the mean of its channels, and its sample rate in Hz."""
    import soundfile  # not at the top: without its system library, other data sets still work

    try:
        with soundfile.SoundFile(path) as file:
            sample_rate, frames, format, log = file.samplerate, file.frames, file.format, file.extra_info
            if not RATES[0] <= sample_rate <= RATES[1]:
                raise ParityError(
                    f"{path} has a sample rate of {sample_rate} Hz, and speech is resampled from {RATES[0]} to "
                    f"{RATES[1]} Hz: convert it or remove it."
                )
            samples = file.read(dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:  # soundfile's own errors are RuntimeErrors
        reason = getattr(error, "error_string", None) or in_one_line(error)
        raise ParityError(f"{path} cannot be read as audio, fetch it again ({reason}).") from error
    if len(samples) < frames or _states_more(log) or (format == "OGG" and not _ends_as_ogg(path)):
        raise ParityError(f"{path} is cut off: its header states more samples than there are, fetch it again.")
    waveform = torch.from_numpy(samples).mean(1)
    if len(waveform) == 0:
        raise ParityError(f"{path} is empty: there is not one sample in it.")
    if not waveform.isfinite().all():
        raise ParityError(f"{path} cannot be used: some of its samples are NaN or infinite.")
    return waveform, sample_rate


def _states_more(log: str) -> bool:
    """Whether libsndfile's log of a header has a size of samples beyond the end of the file."""
    return any(int(there) < int(stated) < _UNKNOWN_SIZE for stated, there in _CUT_SHORT.findall(log))


def _ends_as_ogg(path: Path) -> bool:
    """Whether the last page of an Ogg file is there and is marked as its last."""
    content = path.read_bytes()
    start = content.rfind(b"OggS")
    header = content[start : start + 27]
    if len(header) < 27 or not header[5] & 4:
        return False
    lacing = content[start + 27 : start + 27 + header[26]]
    return len(lacing) == header[26] and len(content) >= start + 27 + header[26] + sum(lacing)


def _holds_words(folder: Path) -> bool:
    if any((folder / name).is_file() for name in _LISTS.values()):
        return True
    return any(path.suffix.lower() in SUFFIXES for path in folder.glob("[!_.]*/*"))


def _clips_in(folder: Path, words: Sequence[str]) -> Iterator[Clip]:
    for paths in files_of_classes(folder, words, SUFFIXES, "clip"):
        for name in map(os.fsdecode, paths):
            status = (folder / name).stat()
            yield Clip(name, status.st_size, status.st_mtime_ns)


def _listed(path: Path, clips: dict[str, Clip]) -> set[str]:
    """Return the clips that a list names."""
    names = {str(PurePosixPath(line.strip())) for line in _text(path).splitlines() if line.strip()}
    if missing := names - clips.keys():
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise ParityError(f"{path} names {min(missing)}{others}, but there is no such file in {path.parent}.")
    return names


def _text(path: Path) -> str:
    return read_lines(path, "it names the clips that are held out")


def _quoted(program: str) -> str:
    """Quote a program for the shell; it has only single quotes of its own, but for odd folder names."""
    return f'"{program}"' if not set(program) & set('"$`\\!') else shlex.quote(program)
