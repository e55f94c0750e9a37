"""Which code a network is protected by: chosen by the shape of its queries and by what it can do, or by hand."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from torch import nn

from parity.black_boxes import BlackBox
from parity.coded_model import CodedModel
from parity.coders import (
    ConcatenationEncoder,
    Decoder,
    EmbeddedEncoder,
    Encoder,
    FeatureOrder,
    KeyedSumEncoder,
    Learned,
    LearnedGridEncoder,
    LinearDecoder,
    LinearEncoder,
    Orthogonal,
    PackedEncoder,
    PositionalDecoder,
    StackingEncoder,
    TokenCellsEncoder,
)
from parity.errors import ParityError, cause, did_you_mean
from parity.grids import Grid
from parity.models import PackedStudents, PerCell
from parity.models.split import split_after
from parity.protection.networks import copied_network, takes, wide_first_layer, with_head_for
from parity.protection.protectable import Protectable, is_factory, made_by
from parity.tasks import Task
from parity.training import LabelReconstructionLoss, ParityTargetLoss, ReconstructionLoss, parities_alone
from parity.training.objectives.of_tasks import distance_to_predictions, distance_to_targets

log = logging.getLogger(__name__)

CODES: Mapping[str, tuple[Callable[..., Encoder], Callable[..., Decoder]]] = {
    "cells": (LearnedGridEncoder, PositionalDecoder),
    "grid": (LearnedGridEncoder, PositionalDecoder),
    "keyed": (KeyedSumEncoder, PositionalDecoder),
    "add": (LinearEncoder, LinearDecoder),
    "concat": (ConcatenationEncoder, LinearDecoder),
    "packed": (PackedEncoder, PositionalDecoder),
    "projection": (partial(LearnedGridEncoder, resampling=Learned(Orthogonal())), PositionalDecoder),
    "stack": (StackingEncoder, PositionalDecoder),
    "tokens": (TokenCellsEncoder, PositionalDecoder),
}
"""Encoder and decoder by the codes' names."""

_Coder = TypeVar("_Coder", bound=nn.Module)


_OF_IDS = ("tokens",)
"""Codes whose queries are ids, and no other code's are."""

_KEYS = ("encoder", "decoder", "parity_model", "loss")


@dataclass(frozen=True)
class Choice:
    """A code by its name, and what its parity models are made by; or why it cannot be.

    Args:
        name: one of ``CODES``, or 'own'.
        why: in a sentence.
        parity_model: makes a parity model.
        encoder, decoder: called with (k, r, shape).
        loss: where it is given by hand.
    """

    name: str
    why: str
    parity_model: Callable[[], nn.Module]
    encoder: Callable[..., Encoder]
    decoder: Callable[..., Decoder]
    loss: nn.Module | None = None


def choose(code: str | Mapping[str, Any], of: Protectable) -> Choice:
    """Choose a code.

    Args:
        code: 'auto', a name of ``CODES``, or ``dict(encoder=..., decoder=..., parity_model=..., loss=...)``.
        of: what it is for.

    Raises:
        ParityError: there is no such code, or it is not one for this network or these queries.
    """
    if of.encode_after is not None:
        return _embedded(code, of, of.encode_after)
    if isinstance(code, Mapping):
        return _by_hand(code, of)
    if code != "auto" and code not in CODES:
        raise ParityError(f"there is no code '{code}': {did_you_mean(str(code), ['auto', *CODES])}")
    if code != "auto" and (code in _OF_IDS) != (of.ids is not None):
        raise ParityError(_wrong_kind(code, of.queries.dtype))
    _check_black_box(of)
    reasons: list[str] = []
    for way in _in_order(of) if code == "auto" else _WAYS[code]:
        made = way(of)
        if isinstance(made, Choice):
            return replace(made, why="; ".join([made.why, *reasons]))
        if made not in reasons:  # two ways may fail alike
            reasons.append(made)
    raise ParityError(f"the code '{code}' is not one for this network: {'; '.join(reasons)}.")


def _check_black_box(of: Protectable) -> None:
    """Refuse a program that no default network can stand in for, where no factory is given."""
    if of.factory is None and isinstance(of.network, BlackBox):
        if of.ids is not None:
            raise ParityError(
                f"{of.network.name} is asked for integers, ids of tokens, which no default parity model takes: give "
                "factory=lambda query_shape, prediction_shape: ..., or hand over queries.float() if they are numbers."
            )
        if of.is_dense:
            raise ParityError(
                f"{of.network.name} makes dense predictions, of shape {of.prediction_shape}, which no default parity "
                "model makes: give factory=lambda query_shape, prediction_shape: ..."
            )


def _in_order(of: Protectable) -> tuple["_Way", ...]:
    """Return the ways to try, what loses least first: docs/choosing.md has what was measured."""
    if of.ids is not None:
        return (_tokens,)
    if of.is_of_features:
        return _packed, _projection, _stack, _sum
    return _cells, _cells_by_default, _packed, _head_on_grid, _head_on_keyed, _sum


def _wrong_kind(code: str, dtype: Any) -> str:
    kind = str(dtype).removeprefix("torch.")
    if code in _OF_IDS:
        return f"the code '{code}' is one for ids of tokens, integers, and queries here are {kind}: take another code."
    return (
        f"the code '{code}' computes with queries, and ids of tokens ({kind}) cannot be added up or resampled: take "
        "code='tokens', or encode their embeddings, encode_after='the name of the embedding'."
    )


def _embedded(code: str | Mapping[str, Any], of: Protectable, name: str) -> Choice:
    """Choose a code for the embeddings that one of the network's modules puts out."""
    first, second = split_after(of.network, name, of.queries, of.padding)
    embedded = first(of.queries).detach()
    tokens = of.ids is not None and embedded.dim() == 3
    inner = choose(
        code,
        replace(of, network=second, queries=embedded, encode_after=None, axes=(0,) if tokens else None, default=None),
    )
    shape = tuple(embedded.shape[1:])
    encoder = partial(
        EmbeddedEncoder, embed=copied_network(first), shape=shape, inner=inner.encoder, ids=of.ids is not None
    )
    return replace(inner, why=f"after '{name}', in embeddings of {shape}, {inner.why}", encoder=encoder)


def _clause(error: ParityError) -> str:
    """Return an error's sentence as part of another: without its full stop, but with the dots of factory=..."""
    sentence = str(error)
    return sentence if re.search(r"(?<!\.)\.{3}$", sentence) else sentence.removesuffix(".")


def _cells(of: Protectable) -> Choice | str:
    return _in_cells("cells", of, _grid_encoder(of), of.axes)


def _cells_by_default(of: Protectable) -> Choice | str:
    return _made_in_cells("cells", of, _grid_encoder(of), of.axes)


def _projection(of: Protectable) -> Choice | str:
    if len(of.query_shape) != 1:
        return "a projection is one of rows of features, (L,)"
    return _made_in_cells("projection", of, CODES["projection"][0], None)


def _grid_encoder(of: Protectable) -> Callable[..., Encoder]:
    return LearnedGridEncoder if of.axes is None else partial(LearnedGridEncoder, axes=of.axes)


def _tokens(of: Protectable) -> Choice | str:
    encoder = partial(TokenCellsEncoder, padding=of.padding)
    try:
        encoder(of.k, of.r, of.query_shape)
    except ParityError as error:
        return _clause(error)
    return _in_cells("tokens", of, encoder, (-1,))


def _in_cells(
    name: str, of: Protectable, encoder: Callable[..., Encoder], axes: tuple[int, ...] | None
) -> Choice | str:
    """Predict for cells by a copy of the network, or by a network of the factory."""
    try:
        cell = Grid(of.k, of.query_shape, axes).cell_shape
    except ParityError as error:
        return _clause(error)
    refusal = of.cannot_be_copied or takes(of.network, cell, of.prediction_shape, of.ids)
    for network, how in ((of.network, ""), (of.resized, ", in fewer pixels, which are resampled")):
        if (
            network is not None
            and not of.cannot_be_copied
            and takes(network, cell, of.prediction_shape, of.ids) is None
        ):
            why = f"the network itself predicts cells of {cell}{how}, and a copy of it starts from its weights"
            return _of_cells(name, why, of, encoder, axes, partial(_copy_of, network))
    if of.factory is None:
        return f"the network cannot take cells of {cell} ({refusal}), and there is no factory=..."
    made = _made_in_cells(name, of, encoder, axes)
    return made if isinstance(made, str) else replace(made, why=f"{made.why}, which the network cannot ({refusal})")


def _copy_of(network: nn.Module, *shapes: object) -> nn.Module:
    return copied_network(network)


def _made_in_cells(
    name: str, of: Protectable, encoder: Callable[..., Encoder], axes: tuple[int, ...] | None
) -> Choice | str:
    """Predict for cells by an untrained network."""
    try:
        cell = Grid(of.k, of.query_shape, axes).cell_shape
        tried = of.made(cell, of.prediction_shape, of.k)
    except ParityError as error:
        return _clause(error)
    if (refusal := takes(tried, cell, of.prediction_shape, of.ids)) is not None:
        return f"{of.maker} does not take cells of {cell} ({refusal})"
    return _of_cells(name, f"{of.maker} predicts cells of {cell}", of, encoder, axes, partial(of.made, copies=of.k))


def _of_cells(
    name: str,
    why: str,
    of: Protectable,
    encoder: Callable[..., Encoder],
    axes: tuple[int, ...] | None,
    network: Callable[..., nn.Module],
) -> Choice:
    shape = (of.k, *of.prediction_shape)
    return Choice(name, why, lambda: PerCell(of.query_shape, shape, network, axes), encoder, CODES[name][1])


def _packed(of: Protectable) -> Choice | str:
    if of.factory is not None:
        return "networks for whole queries at a k-th of the cost are not made by a factory=..., but by default"
    try:
        of.made(of.query_shape, of.prediction_shape, of.k)
    except ParityError as error:
        return _clause(error)
    shape, student = (of.k, *of.prediction_shape), partial(of.made, copies=of.k)
    why = "a narrow network predicts for each of k whole queries, together at no higher cost than the network"
    return _choice("packed", why, lambda: PackedStudents((of.k, *of.query_shape), shape, student))


def _head_on_grid(of: Protectable) -> Choice | str:
    return _on_grid(of, _with_head("grid", of))


def _grid_made(of: Protectable) -> Choice | str:
    return _on_grid(of, _with_positions("grid", of))


def _on_grid(of: Protectable, made: Choice | str) -> Choice | str:
    try:
        Grid(of.k, of.query_shape, of.axes)
    except ParityError as error:
        return _clause(error)
    return made if isinstance(made, str) else replace(made, encoder=_grid_encoder(of))


def _head_on_keyed(of: Protectable) -> Choice | str:
    return _with_keys(of, _with_head("keyed", of))


def _keyed_made(of: Protectable) -> Choice | str:
    return _with_keys(of, _with_positions("keyed", of))


def _with_keys(of: Protectable, made: Choice | str) -> Choice | str:
    if isinstance(made, str) or of.axes is None:
        return made
    return replace(made, encoder=partial(KeyedSumEncoder, key=FeatureOrder()))  # tokens stay where they are


def _stack(of: Protectable) -> Choice | str:
    if _widened(of) is not None:

        def widened() -> nn.Module:
            made = _widened(of)
            assert made is not None, "it was tried"
            return made

        why = "a copy of the network has a first layer for k queries and a last one for k predictions"
        return _choice("stack", why, widened)
    return "its first layer is not a linear one"


def _stack_made(of: Protectable) -> Choice | str:
    stacked = (of.k * of.query_shape[0], *of.query_shape[1:])
    return _made_for("stack", of, stacked, "takes k queries behind one another and makes k predictions")


def _widened(of: Protectable) -> nn.Module | None:
    if of.cannot_be_copied:
        return None
    made = with_head_for(of.network, of.k, of.queries, of.predictions)
    return None if made is None else wide_first_layer(made, of.k, of.queries)


def _with_head(name: str, of: Protectable) -> Choice | str:
    """Answer with a copy that predicts k times."""
    if of.cannot_be_copied or with_head_for(of.network, of.k, of.queries, of.predictions) is None:
        return of.cannot_be_copied or "its predictions are not those of a last linear layer"

    def copy_with_head() -> nn.Module:
        made = with_head_for(of.network, of.k, of.queries, of.predictions)
        assert made is not None, "it was tried"
        return made

    return _choice(
        name,
        "a copy of the network, started from its weights, has a last linear layer for k predictions",
        copy_with_head,
    )


def _with_positions(name: str, of: Protectable) -> Choice | str:
    """Answer with a copy that predicts k times, or with an untrained network that does."""
    copied = _with_head(name, of)
    if not isinstance(copied, str):
        return copied
    made = _made_for(name, of, of.query_shape, f"makes k predictions, for {copied}")
    return f"{copied}, and {made}" if isinstance(made, str) else made


def _made_for(name: str, of: Protectable, query_shape: tuple[int, ...], does: str) -> Choice | str:
    """Answer with an untrained network that makes k predictions."""
    shape = (of.k, *of.prediction_shape)
    try:
        of.made(query_shape, shape)
    except ParityError as error:
        return _clause(error)
    return _choice(name, f"{of.maker} {does}", lambda: of.made(query_shape, shape))


def _copied(name: str, of: Protectable) -> Choice | str:
    if of.cannot_be_copied:
        try:
            of.made(of.query_shape, of.prediction_shape)
        except ParityError as error:
            return _clause(error)
        why = f"{of.maker} predicts the sum of predictions, for {of.cannot_be_copied}"
        return _choice(name, why, lambda: of.made(of.query_shape, of.prediction_shape))
    why = "a copy of the network, started from its weights, predicts the sum of its predictions"
    return _choice(name, why, lambda: copied_network(of.network))


def _sum(of: Protectable) -> Choice | str:
    return _copied("add", of)


def _choice(name: str, why: str, parity_model: Callable[[], nn.Module]) -> Choice:
    return Choice(name, why, parity_model, *CODES[name])


_Way = Callable[[Protectable], Choice | str]
"""Returns a code, or why it is not one for this network."""

_WAYS: Mapping[str, tuple[_Way, ...]] = {
    "cells": (_cells, _cells_by_default),
    "grid": (_grid_made,),
    "keyed": (_keyed_made,),
    "add": (_sum,),
    "concat": (partial(_copied, "concat"),),
    "packed": (_packed,),
    "projection": (_projection,),
    "stack": (_stack, _stack_made),
    "tokens": (_tokens,),
}
"""The ways to make a code by its name, in the order in which they are tried."""


def _by_hand(code: Mapping[str, Any], of: Protectable) -> Choice:
    if unknown := sorted(code.keys() - set(_KEYS)):
        raise ParityError(f"code has no '{unknown[0]}': {did_you_mean(unknown[0], _KEYS)}")
    _coder(code, "encoder", Encoder, of.k, of.r, of.query_shape)
    decoder = _coder(code, "decoder", Decoder, of.k, of.r, of.prediction_shape)
    shape = decoder.parity_shape(of.prediction_shape)
    asked = code["encoder"](of.k, of.r, of.query_shape).parity_query_shape
    if code.get("parity_model") is not None:
        if not is_factory(code["parity_model"]):
            raise ParityError(
                "code={...} has a 'parity_model' that is called with the shapes of a parity query and of an output, "
                "parity_model=lambda query, output: ..., and returns a network."
            )
        parity_model = partial(made_by, code["parity_model"], asked, shape, "parity_model of code={...}")
        return Choice("own", "given by hand", parity_model, code["encoder"], code["decoder"], code.get("loss"))
    made = _copied("add", of) if shape == of.prediction_shape else _with_positions("grid", of)
    if isinstance(made, str) or shape not in (of.prediction_shape, (of.k, *of.prediction_shape)):
        raise ParityError(
            f"{type(decoder).__name__} needs parity models with outputs of shape {shape}: give code a 'parity_model'."
        )
    return Choice("own", "given by hand", made.parity_model, code["encoder"], code["decoder"], code.get("loss"))


def _coder(code: Mapping[str, Any], name: str, kind: type[_Coder], k: int, r: int, shape: tuple[int, ...]) -> _Coder:
    """Make an encoder or a decoder that a user has given."""
    make = code.get(name)
    if not callable(make) or isinstance(make, nn.Module):
        raise ParityError(f"code={{...}} needs '{name}', a class or a partial called with (k, r, shape).")
    try:
        made = make(k, r, shape)
    except ParityError:
        raise
    except Exception as error:  # of a user's own class
        raise ParityError(
            f"the {name} of code={{...}} cannot be made with (k, r, shape) = {(k, r, shape)} "
            f"({cause(error).rstrip('.')})."
        ) from error
    if not isinstance(made, kind):
        raise ParityError(
            f"the {name} of code={{...}} is a {type(made).__name__}, not a parity.coders.{kind.__name__}."
        )
    return made


def coded_model(choice: Choice, of: Protectable) -> CodedModel:
    """Make the coded model, its encoder, parity models and decoder ready to be trained.

    Raises:
        ParityError: the code cannot do this (k, r), or a parity model does not fit.
    """
    encoder = choice.encoder(of.k, of.r, of.query_shape)
    decoder = choice.decoder(of.k, of.r, of.prediction_shape)
    parity_models = [choice.parity_model() for _ in range(encoder.parity_workers)]
    model = CodedModel(of.network, encoder, parity_models, decoder)
    model.base_model.requires_grad_(False)
    shape = decoder.parity_shape(of.prediction_shape)
    for parity_model in parity_models:
        ids = None if of.encode_after is not None else of.ids
        if (refusal := takes(parity_model, encoder.parity_query_shape, shape, ids)) is not None:
            raise ParityError(f"a parity model cannot predict {shape} for a parity query: {refusal}.")
    return model


def loss_for(choice: Choice, task: Task, towards: str, temperature: float) -> nn.Module:
    """Return what a code is trained on: true labels or the base model's predictions, of what is rebuilt.

    Args:
        choice: of the code.
        task: what predictions are measured by.
        towards: 'labels' or 'network'.
        temperature: of the divergence from the base model's class probabilities.
    """
    if choice.loss is not None:
        return choice.loss
    if choice.name in ("add", "concat"):
        return ParityTargetLoss(nn.MSELoss())
    positional = choice.name != "own" or (
        isinstance(choice.decoder, type) and issubclass(choice.decoder, PositionalDecoder)
    )
    patterns: dict[str, Any] = dict(patterns=parities_alone) if positional else {}
    if towards == "labels":
        return LabelReconstructionLoss(distance_to_targets(task), **patterns)
    return ReconstructionLoss(distance_to_predictions(task, temperature), **patterns)
