"""The grid pointing game: which images are put together, and how much evidence lies where it should."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.data import GroupDataModule
from parity.errors import ParityError
from parity.explanations import explain, explain_reconstruction, positive_shares
from parity.grids import Grid
from parity.tasks import Classification

_NAME = re.compile(r"([1-9]\d{0,5})_(?:([2-9])x([2-9])|(code))")


class AnalysisConfig(NamedTuple):
    """What ``--analysis_config`` names.

    Args:
        grids: how many.
        side: images along a side, of base models; None for codes, whose groups are the grids.
    """

    grids: int
    side: int | None


def config_named(name: str, is_base: bool) -> AnalysisConfig:
    """Read a name, such as ``500_3x3`` or ``500_code``.

    Raises:
        ParityError: it is not such a name, or not one for this kind of model.
    """
    found = _NAME.fullmatch(name)
    fits = "<grids>_<n>x<n>, such as 500_3x3 or 250_2x2" if is_base else "<groups>_code, such as 500_code"
    if found is None or found[2] != found[3] or (found[4] is None) != is_base:
        what = "a base model" if is_base else "a code, which lays out its own groups,"
        raise ParityError(f"--analysis_config {name} does not fit: for {what} it is {fits}.")
    return AnalysisConfig(int(found[1]), int(found[2]) if is_base else None)


class Chosen(NamedTuple):
    """Images of different classes for each grid.

    Args:
        queries: (N, cells, *Q).
        classes: int64 (N, cells).
        rows: their row indices in the data, int64 (N, cells).
    """

    queries: Tensor
    classes: Tensor
    rows: Tensor


def choose(network: nn.Module, data: GroupDataModule, split: str, grids: int, cells: int) -> Chosen:
    """Choose images that a network predicts right, and is most sure of: those with the class's highest probability.

    Each image is in one grid at most. The choice is the same in every process.

    Args:
        network: the base model, (B, *Q) -> (B, C), in eval mode.
        data: of which ``split`` is looked through.
        split: its name.
        grids: how many grids N.
        cells: images in each.

    Raises:
        ParityError: there are too few classes, or too few such images; how many grids there are images for is in the
            message.
    """
    task = data.task
    if not isinstance(task, Classification):
        raise ParityError(f"the localisation analysis is of classes, and {data.dataset} has another task.")
    classes = task.prediction_shape[0]
    if cells > classes:
        raise ParityError(
            f"a grid of {cells} images has as many classes, and {data.dataset} has {classes}: choose a smaller grid."
        )
    loader = data.loader(split)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    with torch.no_grad():
        for rows, queries, targets in loader.every_query():
            predicted = network(queries).log_softmax(1)
            sure, best = predicted.max(1)
            right = best == targets
            found.append((rows[right].cpu(), targets[right].cpu(), sure[right].cpu()))
    rows, targets, sure = (torch.cat(parts) for parts in zip(*found, strict=True))
    by_class = [rows[targets == number][sure[targets == number].argsort(descending=True, stable=True)].tolist()
                for number in range(classes)]  # fmt: skip
    picked_classes = _deal([len(images) for images in by_class], grids, cells)
    if len(picked_classes) < grids:
        raise ParityError(
            f"the {split} data of {data.dataset} has images that the network predicts right for {len(picked_classes)} "
            f"grids of {cells} different classes, not for {grids}: choose fewer grids."
        )
    taken = [iter(images) for images in by_class]
    picked = torch.tensor([[next(taken[number]) for number in grid] for grid in picked_classes])
    return Chosen(_gather(loader.every_query(), picked), torch.tensor(picked_classes), picked)


def _deal(counts: list[int], grids: int, cells: int) -> list[list[int]]:
    """Deal out classes to grids, those with the most images left first; fewer grids where images run out."""
    generator = torch.Generator().manual_seed(0)
    left, dealt = list(counts), []
    for _ in range(grids):
        order = torch.randperm(len(left), generator=generator).tolist()
        grid = sorted(order, key=lambda number: -left[number])[:cells]
        if left[grid[-1]] == 0:
            break
        for number in grid:
            left[number] -= 1
        places = torch.randperm(cells, generator=generator).tolist()
        dealt.append([grid[place] for place in places])
    return dealt


def _gather(batches: Iterator[tuple[Tensor, Tensor, Tensor]], picked: Tensor) -> Tensor:
    """Return the queries at row indices (N, cells): (N, cells, *Q)."""
    wanted, kept = set(picked.flatten().tolist()), {}
    for rows, queries, _ in batches:
        for row, query in zip(rows.tolist(), queries, strict=True):
            if row in wanted:
                kept[row] = query.clone()
    return torch.stack([torch.stack([kept[row] for row in grid]) for grid in picked.tolist()])


def shares_of_grids(
    network: nn.Module, chosen: Chosen, side: int, explainer: str, smooth: int, batch_size: int
) -> Tensor:
    """Return how much positive attribution of each image's class lies in its own cell.

    Args:
        network: a base model that takes images of any size.
        chosen: N grids of side * side images.
        side: images along a side.
        explainer, smooth: as of ``parity.explanations.explain``.
        batch_size: explanations that are made at a time.

    Returns:
        (N, cells), in [0, 1]; chance is 1 / cells.
    """
    n, cells = chosen.classes.shape
    channels, height, width = chosen.queries.shape[2:]
    grid = Grid(cells, (channels, side * height, side * width))
    images = grid.join(chosen.queries)  # (N, C, side * H, side * W)
    of_each = explain(
        network, images.repeat_interleave(cells, dim=0), chosen.classes.flatten().to(images.device), explainer,
        smooth=smooth, batch_size=batch_size,
    )  # fmt: skip
    shares = positive_shares(grid.split(of_each))
    own = torch.arange(cells, device=shares.device).repeat(n)
    return shares.gather(1, own[:, None]).view(n, cells)


def shares_of_code(
    model: CodedModel, chosen: Chosen, explainer: str, smooth: int, batch_size: int, through_base_model: bool
) -> Tensor:
    """Return how much positive attribution of each reconstruction lies on its own query, the only one that is missing.

    Args:
        model: of any code.
        chosen: N groups of k queries.
        explainer, smooth: as of ``parity.explanations.explain_reconstruction``.
        batch_size: groups that are explained at a time.
        through_base_model: as there.

    Returns:
        (N, k), in [0, 1]; chance is 1 / k.
    """
    shares = []
    for position in range(model.k):
        available = torch.arange(model.n, device=chosen.queries.device) != position
        classes = chosen.classes[:, position].to(chosen.queries.device)
        found = explain_reconstruction(
            model, chosen.queries, available, position, classes, explainer,
            through_base_model=through_base_model, smooth=smooth, batch_size=batch_size,
        )  # fmt: skip
        shares.append(found.shares[:, position])
    return torch.stack(shares, dim=1)
