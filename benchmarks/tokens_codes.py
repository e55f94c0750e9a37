"""Which code suits sequences of tokens? Codes around a small text transformer that recognises languages.

    python benchmarks/tokens_codes.py [--seeds 0 1 2] [--steps 400]

The messages of Sphinx in ten languages, by characters (``LanguagesDataModule``). Base model: two blocks of width 64,
trained on true classes. Parity models are copies of it, trained towards its predictions for as many steps. What is lost
has its 95 % interval over test groups, of all seeds. A quarter of an hour for a seed on one busy core.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import store
import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.coded_model import CodedModel
from parity.coders import Encoder, Head, Important, Strided, Tail, TokenCellsEncoder
from parity.data.languages import LanguagesDataModule
from parity.evaluation.costs import parity_model_costs
from parity.evaluation.intervals import paired_interval
from parity.models import TextTransformer
from parity.protection.codes import Choice, choose, coded_model, loss_for
from parity.protection.protectable import Protectable
from parity.tasks import Classification

QUERIES, LEARNING_RATE = 64, 2e-3
SHORTENINGS: dict[str, Callable[[int], nn.Module]] = {
    "head": Head,
    "tail": Tail,
    "strided": Strided,
    "learned": partial(Important, vocabulary=LanguagesDataModule.VOCABULARY),
}
EMBEDDED = ("add", "keyed", "cells")


def fit(parameters: list[nn.Parameter], steps: int, loss: Callable[[], Tensor]) -> None:
    """Take so many steps of AdamW."""
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


def base_model(ids: Tensor, classes: Tensor, steps: int, seed: int) -> nn.Module:
    """Return a transformer trained on true classes."""
    torch.manual_seed(seed)
    vocabulary, number = LanguagesDataModule.VOCABULARY, LanguagesDataModule.NUM_CLASSES
    network = TextTransformer(LanguagesDataModule.QUERY_SHAPE, (number,), vocabulary, width=64)

    def loss() -> Tensor:
        rows = torch.randint(len(ids), (QUERIES,))
        return functional.cross_entropy(network(ids[rows]), classes[rows])

    fit(list(network.parameters()), steps, loss)
    return network.eval().requires_grad_(False)


def choices(base: nn.Module, ids: Tensor, k: int) -> Iterator[tuple[str, Choice, Protectable]]:
    """Yield the codes by name."""
    with torch.no_grad():
        of = Protectable(base, ids[:8], base(ids[:8]), k, 1)
    for name, shortening in SHORTENINGS.items():
        choice = choose("tokens", of)
        encoder: Callable[..., Encoder] = partial(TokenCellsEncoder, shortening=shortening)
        made = Choice(choice.name, choice.why, choice.parity_model, encoder, choice.decoder)
        yield f"cells of ids, {name}", made, of
    after = Protectable(base, of.queries, of.predictions, k, 1, encode_after="embedding")
    for name in EMBEDDED:
        yield f"`{name}` of embeddings", choose(name, after), after


def train(model: CodedModel, loss: nn.Module, ids: Tensor, steps: int) -> None:
    """Train encoder and parity model."""
    model.train()

    def of_groups() -> Tensor:
        queries = ids[torch.randint(len(ids), (QUERIES // model.k, model.k))]
        base_outputs, parity_outputs = model.outputs(queries)
        return loss(model.decoder, base_outputs, parity_outputs, torch.zeros(queries.shape[:2], dtype=torch.long))

    fit([parameter for parameter in model.parameters() if parameter.requires_grad], steps, of_groups)
    model.eval()


@torch.no_grad()
def right(model: CodedModel, ids: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the shares of each group that are right, of what is predicted and of what is rebuilt: (G,) each."""
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))
    order = order[: len(order) // model.k * model.k].view(-1, model.k)
    base_outputs, parity_outputs = model.outputs(ids[order])
    rebuilt = model.decoder.rebuild_each(base_outputs, parity_outputs)
    own, again = ((outputs.argmax(-1) == classes[order]).double().mean(1) for outputs in (base_outputs, rebuilt))
    return own, again


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    data = LanguagesDataModule()
    (ids, classes), (test, test_classes) = data.load(True), data.load(False)
    found: dict[tuple[int, str], list[tuple[Tensor, Tensor]]] = {}
    costs: dict[tuple[int, str], float] = {}
    for seed in options.seeds:
        base = base_model(ids, classes, options.steps, seed)
        for k in (2, 4):
            for name, choice, of in choices(base, ids, k):
                torch.manual_seed(seed)
                model = coded_model(choice, of)
                loss = loss_for(choice, Classification(data.NUM_CLASSES), "network", 2.0)
                train(model, loss, ids, options.steps)
                costs[k, name] = parity_model_costs(model, test[:1]).multiply_adds
                own, again = right(model, test, test_classes)
                found.setdefault((k, name), []).append((own, again))
                print(f"seed {seed}, k = {k}, {name}: A_a {own.mean():.4f}, A_d {again.mean():.4f}", flush=True)
    rows = []
    for (k, name), values in found.items():
        lost = paired_interval(*(torch.cat(shares) for shares in zip(*values, strict=True)))
        rows.append(
            dict(k=k, code=name, A_a=[own.mean().item() for own, _ in values],
                 A_d=[again.mean().item() for _, again in values], loss=lost.value,
                 low=lost.low, high=lost.high, multiply_adds=costs[k, name],
                 steps=options.steps)
        )  # fmt: skip
    store.write("tokens_codes", "what codes for ids of tokens lose, towards a transformer", rows, seeds=options.seeds)


if __name__ == "__main__":
    main()
