"""Attributions of reconstructions: what a code read a missing prediction off."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.errors import ParityError
from parity.explanations.contributions import check_bcos, gradients, weights_held
from parity.explanations.explain import (
    Target,
    check_options,
    check_queries,
    check_smooth,
    explained,
    explainer_named,
    flat_targets,
    positive_shares,
    smoothed,
)
from parity.explanations.explainers import Explainer

_LEAST = 1e-6
"""Below this, a number of a coded query is not of any query."""


@dataclass(frozen=True)
class ReconstructionExplanation:
    """Attributions of the reconstruction of one position of each group.

    Args:
        coded_queries: what the workers were asked that the reconstruction is made of: the parity models' queries,
            (G, r, *Q'); of a code without such models the base model's, (G, m, *Q).
        coded: attributions of these, of the same shape.
        queries: attributions of the groups' own queries, (G, k, *Q).
    """

    coded_queries: Tensor
    coded: Tensor
    queries: Tensor

    @property
    def shares(self) -> Tensor:
        """Share of the positive attribution that lies on each query: (G, k); 0 where there is none."""
        return positive_shares(self.queries)


def explain_reconstruction(
    coded_model: CodedModel,
    queries: Tensor,
    available: Tensor,
    position: int,
    target: Target,
    explainer: str = "Ours",
    *,
    through_base_model: bool = False,
    smooth: int = 1,
    batch_size: int = 64,
    **options: object,
) -> ReconstructionExplanation:
    """Explain a reconstruction through encoder, parity models and decoder.

    The base model's predictions that arrived are numbers to the decoder, unless ``through_base_model``: then what they
    were made of counts too. A subtraction takes away evidence of the other queries with them.

    Gradients reach queries through the encoder. ``Ours`` and ``GradCAM`` have a map of the coded query, which is
    parted: of a linear encoder the contribution of each query's part of a coded number is its own, what does not depend
    on it is shared in proportion to the encoder's weights. Of other encoders what cannot be ascribed is spread evenly.
    So the attributions of ``Ours`` sum to the reconstruction less what logit biases and held predictions put in, for
    any decoder that is linear in the parity outputs.

    Args:
        coded_model: of any code.
        queries: (G, k, *Q).
        available: bool (n,), or (G, n).
        position: of the prediction that is rebuilt, 0 to k - 1.
        target: the output of the reconstruction that is explained, as in ``explain``.
        explainer: as in ``explain``.
        through_base_model: let evidence reach queries through predictions that arrived, too.
        smooth: as in ``explain``; attributions of coded queries and queries alike.
        batch_size: groups that are explained at a time.
        options: of the explainer.

    Raises:
        ParityError: the position does not have to be rebuilt, or cannot; or see ``explain``.
    """
    explain_with = explainer_named(explainer)
    check_queries(queries, batch_size)
    check_options(explainer, options)
    check_smooth(smooth, queries.dim() - 2)
    coded_model.encoder.check(queries)
    available = _checked_available(coded_model, available, queries)
    _check_position(coded_model, available, position)
    if explainer == "GradCAM" and len(coded_model.parity_models) > 1:
        raise ParityError(
            f"GradCAM is of one network's features, and this code has {len(coded_model.parity_models)} parity models: "
            "choose another explainer, such as IntegratedGradients."
        )
    if explainer == "Occlusion":
        options["rank"] = queries.dim() - 2
    if explainer == "Ours":
        for network in coded_model.parity_models or [coded_model.base_model]:
            check_bcos(network)
    shape = coded_model.decoder.prediction_shape
    targets = flat_targets(target, shape, len(queries), queries.device)
    with explained(coded_model):
        parts = [
            _Explained(coded_model, *part, position, through_base_model).by(explain_with, explainer, options)
            for part in zip(
                queries.detach().split(batch_size), available.split(batch_size), targets.split(batch_size), strict=True
            )
        ]
    coded_queries, coded, attributions = (torch.cat(tensors).detach() for tensors in zip(*parts, strict=True))
    return ReconstructionExplanation(coded_queries, smoothed(coded, smooth), smoothed(attributions, smooth))


def _checked_available(coded_model: CodedModel, available: Tensor, queries: Tensor) -> Tensor:
    """Return which outputs of each group arrived, bool (G, n)."""
    n, groups = coded_model.n, len(queries)
    if not isinstance(available, Tensor) or available.dtype != torch.bool:
        kind = available.dtype if isinstance(available, Tensor) else type(available).__name__
        raise ParityError(f"available is a tensor of bool, which of {n} outputs arrived, not {kind}.")
    if tuple(available.shape) not in ((n,), (1, n), (groups, n)):
        raise ParityError(
            f"available has shape ({n},), or ({groups}, {n}) for these groups, not {tuple(available.shape)}."
        )
    return available.to(queries.device).expand(groups, -1)


def _check_position(coded_model: CodedModel, available: Tensor, position: int) -> None:
    decoder, k = coded_model.decoder, coded_model.k
    if not 0 <= position < k:
        raise ParityError(f"position is that of a query in its group, 0 to {k - 1}, not {position}.")
    if not decoder.rebuilt(available)[:, position].all():
        raise ParityError(
            f"position {position} is available, and nothing is rebuilt there: mark it as missing, or explain the base "
            "model's own prediction."
        )
    if not decoder.rebuildable(available)[:, position].all():
        raise ParityError(f"{type(decoder).__name__} cannot rebuild position {position} from these available outputs.")


class _Explained:
    """A batch of groups whose reconstructions are explained."""

    def __init__(
        self,
        model: CodedModel,
        queries: Tensor,
        available: Tensor,
        targets: Tensor,
        position: int,
        through_base_model: bool,
    ) -> None:
        self.model, self.queries, self.targets = model, queries, targets
        self.through = through_base_model and len(model.parity_models) > 0
        with torch.no_grad():
            self.coded_queries = self.encode(queries)
            self.rebuild = _Rebuild(model, *model.outputs(queries), available, position)

    def encode(self, queries: Tensor) -> Tensor:
        """Return what the reconstruction is made of: (G, k, *Q) -> (G, coded, *Q')."""
        base_queries, parity_queries = self.model.encoder.dispatch(queries)
        return parity_queries if self.model.parity_models else base_queries

    def by(self, explain_with: Explainer, name: str, options: dict[str, object]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the coded queries, their attributions, and those of the queries."""
        rebuild, targets = self.rebuild, self.targets
        coded = explain_with(rebuild, self.coded_queries, targets, **options).detach()
        if name == "Ours":
            with weights_held(self.model):
                own = gradients(rebuild, self.coded_queries, targets)
            parted = self.parted(own, coded - own * self.coded_queries)
        elif name == "GradCAM":
            parted = self.parted(torch.zeros_like(coded), coded)
        else:
            whole = _FromQueries(rebuild, self.encode, through=self.through)
            return self.coded_queries, coded, explain_with(whole, self.queries, targets, **options)
        if self.through:
            direct = _FromQueries(rebuild, None, through=True)
            parted = parted + explain_with(direct, self.queries, targets, **options)
        return self.coded_queries, coded, parted

    def parted(self, own: Tensor, rest: Tensor) -> Tensor:
        """Return attributions of queries, (G, k, *Q).

        Args:
            own: the gradient in the coded queries, (G, coded, *Q'): a query's part of a number, times it, is its own.
            rest: attributions that do not depend on the number, of the same shape.
        """
        queries = self.queries.clone().requires_grad_()
        coded = self.encode(queries)
        with torch.no_grad():
            weights = self.encode(torch.ones_like(queries))  # of a linear encoder: the sum of each number's weights
        there = weights.abs() > _LEAST
        spread = torch.where(there, rest / torch.where(there, weights, 1), 0)
        [of_own] = torch.autograd.grad(coded, [queries], own, retain_graph=True)
        [of_rest] = torch.autograd.grad(coded, [queries], spread)
        parted = of_own * self.queries + of_rest
        left = (own * self.coded_queries + rest).flatten(1).sum(1) - parted.flatten(1).sum(1)
        left = torch.where(left.abs() > _LEAST * rest.flatten(1).abs().sum(1), left, 0)  # rounding is not spread
        return parted + (left / parted[0].numel()).view(-1, *(1,) * (parted.dim() - 1))


class _Rebuild(nn.Module):
    """Coded queries (B, coded, *Q') -> reconstructions of one position, laid out flat: (B, outputs).

    B may be a multiple of the groups: explainers lay copies of a batch one after the other.
    """

    def __init__(
        self, model: CodedModel, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor, position: int
    ) -> None:
        super().__init__()
        self.model, self.position = model, position
        self.held = (base_outputs, parity_outputs)
        self.available = available

    def forward(self, coded_queries: Tensor) -> Tensor:
        if self.model.parity_models:
            return self.decoded(None, self.model.parity_outputs(coded_queries), len(coded_queries))
        return self.decoded(self.model.base_outputs(coded_queries), None, len(coded_queries))

    def decoded(self, base_outputs: Tensor | None, parity_outputs: Tensor | None, count: int) -> Tensor:
        """Return what is rebuilt of outputs, in place of which None stands for those that are held."""
        copies = count // len(self.available)
        base, parity = (
            _repeated(held, copies) if outputs is None else outputs
            for held, outputs in zip(self.held, (base_outputs, parity_outputs), strict=True)
        )
        rebuilt = self.model.decoder.decode(base, parity, _repeated(self.available, copies))
        return rebuilt[:, self.position].flatten(1)


def _repeated(values: Tensor, copies: int) -> Tensor:
    return values.repeat(copies, *(1,) * (values.dim() - 1))


class _FromQueries(nn.Module):
    """Queries (B, k, *Q) -> reconstructions (B, outputs), through the coded queries, the base model, or both."""

    def __init__(self, rebuild: _Rebuild, encode: Callable[[Tensor], Tensor] | None, through: bool) -> None:
        super().__init__()
        self.rebuild, self.encode, self.through = rebuild, encode, through

    def forward(self, queries: Tensor) -> Tensor:
        model = self.rebuild.model
        if self.encode is not None and not self.through:
            return self.rebuild(self.encode(queries))
        base = model.base_outputs(queries)
        parity = None if self.encode is None else model.parity_outputs(self.encode(queries))
        return self.rebuild.decoded(base, parity, len(queries))
