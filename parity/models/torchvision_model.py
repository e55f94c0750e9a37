"""Any classification network of torchvision, as the network of a config."""

import math
from collections.abc import Callable, Sequence

from torch import nn

from parity.errors import ParityError


def torchvision_model(
    query_shape: Sequence[int],
    prediction_shape: Sequence[int],
    constructor: Callable[..., nn.Module],
    weights: object = None,
    **arguments: object,
) -> nn.Module:
    """Make a network of torchvision: (B, *Q) -> (B, *P).

    >>> dict(network=torchvision_model, constructor=torchvision.models.resnet18)

    With P = (1000,) it loads the state dicts that torchvision publishes (but DenseNet's, whose names torchvision
    changes as it reads them: give ``weights`` for those). Inception and GoogLeNet are trained with
    ``aux_logits=False``, for they return several predictions else.

    Args:
        query_shape: shape Q of a query, (3, H, W).
        prediction_shape: shape P of a prediction, e.g. ``(10,)``.
        constructor: ``torchvision.models.resnet18`` or another one.
        weights: torchvision's name of published weights, which are downloaded; by default none.
        arguments: further ones of the constructor.

    Raises:
        ParityError: the queries are not images of three channels.
    """
    if len(query_shape) != 3 or query_shape[0] != 3:
        raise ParityError(f"torchvision's networks take images (3, H, W), not queries of shape {tuple(query_shape)}.")
    network = constructor(weights=weights, num_classes=math.prod(prediction_shape), **arguments)
    if len(prediction_shape) == 1:
        return network
    return nn.Sequential(network, nn.Unflatten(1, tuple(prediction_shape)))
