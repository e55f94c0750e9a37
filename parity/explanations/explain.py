"""Attributions of a network's predictions."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.errors import ParityError, did_you_mean
from parity.explanations.contributions import check_bcos
from parity.explanations.explainers import EXPLAINERS, Explainer

Target = int | Sequence[int] | Tensor


def explain(
    model: nn.Module,
    queries: Tensor,
    target: Target,
    explainer: str = "Ours",
    *,
    smooth: int = 1,
    batch_size: int = 64,
    **options: object,
) -> Tensor:
    """Return what each number of each query did for an output of a network.

    >>> explain(base_model, queries, target=3)
    >>> explain(parity_model, parity_queries, target=(position, 3), explainer="GradCAM")

    Args:
        model: network, (B, *Q) -> (B, *P).
        queries: (B, *Q).
        target: the output that is explained, an index into P: a class; or a tuple, as (position, class) for a parity
            model of shape (k, C); or int64 (B,) or (B, dimensions of P), one of each query.
        explainer: 'Ours' for B-cos networks, whose sum is the logit less its bias; or captum's for any network:
            'InputXGradient', 'IntegratedGradients', 'GradCAM', 'DeepLIFT', 'Occlusion', 'Saliency'.
        smooth: side of the window that attributions of images are averaged over, an odd number; 1 leaves them.
        batch_size: queries that are explained at a time.
        options: of the explainer: ``steps`` of IntegratedGradients, ``window`` of Occlusion.

    Returns:
        (B, *Q).

    Raises:
        ParityError: unknown explainer, one that the network does not fit, captum is not installed, or a target that
            the network does not put out.
    """
    explain_with = explainer_named(explainer)
    check_queries(queries, batch_size)
    check_options(explainer, options)
    check_smooth(smooth, queries.dim() - 1)
    if explainer == "Ours":
        check_bcos(model)
    with explained(model):
        with torch.no_grad():
            shape = tuple(model(queries[:1]).shape[1:])
        targets = flat_targets(target, shape, len(queries), queries.device)
        network = nn.Sequential(model, nn.Flatten(1))
        parts = [
            explain_with(network, part, of, **options).detach()
            for part, of in zip(queries.split(batch_size), targets.split(batch_size), strict=True)
        ]
    return smoothed(torch.cat(parts), smooth)


def positive_shares(attributions: Tensor, shape: Sequence[int] | None = None, smooth: int = 1) -> Tensor:
    """Return the share of positive attribution on each query of a group; 0 on all of them where there is none.

    Channels of images are summed before negative numbers are left out, as in B-cos-v2.

    Args:
        attributions: (G, k, *Q).
        shape: Q, where it is not ``attributions.shape[2:]``.
        smooth: side of the window that they are averaged over first.

    Returns:
        (G, k), in [0, 1].

    Raises:
        ParityError: attributions of such queries cannot be smoothed so.
    """
    rank = len(attributions.shape[2:] if shape is None else shape)
    check_smooth(smooth, rank)
    attributions = attributions.to(torch.promote_types(attributions.dtype, torch.float32))  # sums of 16 bits overflow
    pixels = attributions.sum(2) if rank == 3 else attributions
    pixels = smoothed(pixels, smooth).clamp(min=0).flatten(2).sum(2)
    return pixels / pixels.sum(1, keepdim=True).clamp(min=torch.finfo(pixels.dtype).tiny)


def explainer_named(name: str) -> Explainer:
    """Return an explainer.

    Raises:
        ParityError: there is none of this name.
    """
    if name not in EXPLAINERS:
        raise ParityError(f"there is no explainer '{name}': {did_you_mean(name, EXPLAINERS)}")
    return EXPLAINERS[name]


_OPTIONS: Mapping[str, str] = {"IntegratedGradients": "steps", "Occlusion": "window"}


def check_options(explainer: str, options: Mapping[str, object]) -> None:
    """Raise ParityError where an explainer has not all of these options, or one is not a number that can be meant."""
    for name, value in options.items():
        if _OPTIONS.get(explainer) != name:
            known = f"it has {_OPTIONS[explainer]}" if explainer in _OPTIONS else "it has none"
            raise ParityError(f"{explainer} has no option '{name}': {known}.")
        if type(value) is not int or value < 1:
            raise ParityError(f"{name} of {explainer} is a whole number, 1 or more, not {value!r:.60}.")


def check_queries(queries: Tensor, batch_size: int) -> None:
    """Raise ParityError where these cannot be explained, so many at a time."""
    if not isinstance(queries, Tensor) or not queries.is_floating_point():
        kind = queries.dtype if isinstance(queries, Tensor) else type(queries).__name__
        raise ParityError(f"queries that are explained are a tensor of floating-point numbers, not {kind}.")
    if len(queries) == 0:
        raise ParityError("there are no queries to explain: give one or more.")
    if type(batch_size) is not int or batch_size < 1:
        raise ParityError(f"batch_size counts queries, 1 or more, not {batch_size!r:.60}.")


def check_smooth(smooth: int, rank: int) -> None:
    """Raise ParityError where attributions of queries of so many axes cannot be smoothed so."""
    if type(smooth) is not int or smooth < 1 or smooth % 2 == 0:
        raise ParityError(f"smooth is the side of a window around each pixel, an odd number such as 15, not {smooth}.")
    if smooth > 1 and rank != 3:
        raise ParityError(f"smooth = {smooth} is for images (C, H, W): take smooth = 1 for queries of {rank} axes.")


def smoothed(attributions: Tensor, smooth: int) -> Tensor:
    """Average over windows of the last two axes; what lies outside counts as 0: (..., H, W) -> (..., H, W)."""
    if smooth == 1:
        return attributions
    flat = attributions.flatten(0, -3).unsqueeze(1)
    return functional.avg_pool2d(flat, smooth, stride=1, padding=smooth // 2).view_as(attributions)


def flat_targets(target: Target, shape: Sequence[int], count: int, device: torch.device) -> Tensor:
    """Return targets as indices into outputs that are laid out flat: int64 (B,).

    Raises:
        ParityError: they are not indices into outputs of this shape.
    """
    try:
        indices = torch.as_tensor(target, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ParityError(f"a target is an index into outputs, such as a class, not {target!r:.60}.") from error
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise ParityError(f"a target is an index into outputs, a whole number, not {target!r:.60}.")
    indices = indices.to(torch.int64)
    if not (isinstance(target, Tensor) and indices.dim() >= 1):
        indices = indices.reshape(1, -1).expand(count, -1)  # the same for all
    indices = indices.reshape(len(indices), -1)
    sides = torch.tensor(shape, device=device)
    if tuple(indices.shape) != (count, len(shape)) or not ((indices >= 0) & (indices < sides)).all():
        raise ParityError(
            f"a target is an index into outputs of shape {tuple(shape)}, one for all or one for each of {count} "
            f"queries, not {target}."
        )
    flat = indices.new_zeros(count)
    for axis, side in enumerate(shape):
        flat = flat * side + indices[:, axis]
    return flat


@contextmanager
def explained(model: nn.Module) -> Iterator[None]:
    """Within this block a model is in eval mode, with gradients; its modes are as before after it."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
