"""What a code costs: workers, parameters, multiply-adds, bytes."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from parity.black_boxes import BlackBox
from parity.coded_model import CodedModel
from parity.data import GroupLoader
from parity.models.counting import count_multiply_adds


def costs(model: CodedModel, groups: GroupLoader) -> dict[str, Any]:
    """Return what a code costs beyond what the base model needs for k queries.

    Returns:
        'extra_workers', of k; 'extra_parameters', of networks and coders, each once; 'multiply_adds' of a parity query
        (of a coded query, where it goes to the base model) as a multiple of a query's; and of a group, as multiples of
        what the base model needs for its k queries: 'extra_multiply_adds' of all further workers with encoding and
        decoding (one output missing), which charges a small network by what it computes, 'extra_bytes_up' of the
        queries that further workers are sent and 'extra_bytes_down' of what they put out; 'coding' is the share of
        encoding and decoding in the first.
    """
    own = {id(parameter) for parameter in model.base_model.parameters()}
    extra = {id(parameter): parameter.numel() for parameter in model.parameters() if id(parameter) not in own}
    query = next(groups.every_query(1))[1]
    return {
        "extra_workers": model.r / model.k,
        "extra_parameters": sum(extra.values()),
        "multiply_adds": parity_model_costs(model, query).multiply_adds if model.parity_models else 1.0,
        **group_costs(model, query)._asdict(),
    }


class GroupCosts(NamedTuple):
    """What a group costs beyond its k queries at the base model, as multiples of what those cost.

    Args:
        extra_multiply_adds: of all further workers, and of encoding and decoding with output 0 missing.
        coding: the part of it that encoding and decoding have.
        extra_bytes_up: of the queries sent to further workers.
        extra_bytes_down: of the outputs that come back from them.
    """

    extra_multiply_adds: float
    coding: float
    extra_bytes_up: float
    extra_bytes_down: float


@torch.no_grad()
def group_costs(model: CodedModel, query: Tensor) -> GroupCosts:
    """Return what a group costs.

    Args:
        model: the code.
        query: one, (1, *Q).
    """
    group = query.expand(1, model.k, *query.shape[1:])
    base_adds = model.k * multiply_adds(model.base_model, query)
    base_queries, parity_queries = model.encoder.dispatch(group)
    prediction = model.decoder.prediction_shape
    outputs = (  # floats, also where queries are ids
        torch.zeros(1, base_queries.shape[1], *prediction, device=query.device),
        torch.zeros(1, parity_queries.shape[1], *model.decoder.parity_shape(prediction), device=query.device),
    )
    further = (base_queries.shape[1] - model.k) * multiply_adds(model.base_model, query)
    asked = zip(model.parity_models, parity_queries.unbind(1), strict=True)
    further += sum(multiply_adds(network, query) for network, query in asked)
    coding = multiply_adds(model.encoder, group)
    if model.decoder.tolerance:
        available = torch.ones(1, model.n, dtype=torch.bool)
        available[:, 0] = False
        coding += multiply_adds(model.decoder, *outputs, available)
    up = base_queries.numel() + parity_queries.numel() - group.numel()
    answers = model.k * torch.Size(prediction).numel()
    down = sum(output.numel() for output in outputs) - answers
    return GroupCosts((further + coding) / base_adds, coding / base_adds, up / group.numel(), down / answers)


def multiply_adds(network: nn.Module, *inputs: Tensor) -> float:
    """Count the multiply-adds of matrix products and convolutions of a forward pass, e.g. of one query, (1, *Q).

    NaN for a program that they cannot be counted of.
    """
    if isinstance(network, BlackBox):
        return network.multiply_adds
    return count_multiply_adds(network, *inputs)


class ParityModelCosts(NamedTuple):
    """Multiples of what the base model needs for a query.

    Args:
        multiply_adds, parameters: of the largest parity model.
        encoding: multiply-adds that a parity query is encoded with.
    """

    multiply_adds: float
    parameters: float
    encoding: float


def parity_model_costs(model: CodedModel, query: Tensor) -> ParityModelCosts:
    """Return what parity models and their queries cost beside the base model.

    Args:
        model: with a parity model or more.
        query: one, (1, *Q).
    """
    base_adds, networks = multiply_adds(model.base_model, query), set(model.parity_models)
    group = query.expand(1, model.k, *query.shape[1:])
    with torch.no_grad():
        asked = model.encoder.dispatch(group)[1][:, 0]
    return ParityModelCosts(
        max(multiply_adds(network, asked) for network in networks) / base_adds,
        max(map(_size, networks)) / max(1, _size(model.base_model)),
        multiply_adds(model.encoder, group) / model.r / base_adds,
    )


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
