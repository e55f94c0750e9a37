"""What a code costs: workers, parameters, multiply-adds."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from parity.black_boxes import BlackBox
from parity.coded_model import CodedModel
from parity.data import GroupLoader


def costs(model: CodedModel, groups: GroupLoader) -> dict[str, Any]:
    """Return what a code costs: workers and parameters beyond the base model's, and a parity query's multiply-adds.

    Returns:
        'extra_workers', of k; 'extra_parameters', of networks and coders, each once; 'multiply_adds' of a parity query
        (of a coded query, where it goes to the base model) as a multiple of a query's.
    """
    own = {id(parameter) for parameter in model.base_model.parameters()}
    extra = {id(parameter): parameter.numel() for parameter in model.parameters() if id(parameter) not in own}
    query = next(groups.every_query(1))[1]
    return {
        "extra_workers": model.r / model.k,
        "extra_parameters": sum(extra.values()),
        "multiply_adds": parity_model_costs(model, query).multiply_adds if model.parity_models else 1.0,
    }


@torch.no_grad()
def multiply_adds(network: nn.Module, query: Tensor) -> float:
    """Count the multiply-adds of matrix products and convolutions of a forward pass of one query, (1, *Q).

    NaN for a program that they cannot be counted of.
    """
    if isinstance(network, BlackBox):
        return network.multiply_adds
    was_training = network.training
    network.eval()  # batch normalisation would learn from the query
    with FlopCounterMode(display=False) as counter:
        network(query)
    network.train(was_training)
    return counter.get_total_flops() // 2


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
