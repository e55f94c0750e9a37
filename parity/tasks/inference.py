"""The task that targets are of, where they leave no doubt."""

from torch import Tensor

from parity.errors import ParityError
from parity.tasks.base import Task
from parity.tasks.checks import is_one_hot
from parity.tasks.classes import Classification
from parity.tasks.dense import DensePrediction
from parity.tasks.labels import BOTH_LOGITS, MultiLabel
from parity.tasks.regression import Regression

NAMED = (
    "task=parity.tasks.Regression(shape), MultiLabel(labels), DensePrediction(classes, shape), Embeddings(dimension), "
    "or BoxLocalisation() for boxes"
)
"""What a user chooses from."""

_BOX = (4,)


def task_of(predictions: Tensor, targets: Tensor | None) -> Task:
    """Return the task of a network by its predictions (B, *P) and its targets (N, ...), or none.

    Integers (N,) beside logits (C,) are classes, and (N, *S) beside (C, *S) classes of pixels; one 1 in each row stands
    for classes as well, which are refused with what to do; other 0 and 1 in the shape of a prediction are labels, other
    floats in that shape numbers to predict. Logits without targets are those of a classification. One number for each
    query, beside 0 and 1 or no targets, may be a logit of two classes or a number, and is refused.

    Raises:
        ParityError: they may be of several tasks, or of none.
    """
    shape = tuple(predictions.shape[1:])
    if shape == (1,) and (targets is None or not targets.is_floating_point() or _are_labels(targets)):
        raise ParityError(
            f"the network returns one number for each query: {BOTH_LOGITS}, and otherwise "
            "task=parity.tasks.Regression()."
        )
    if targets is None:
        if len(shape) == 1:
            return Classification(shape[0])
        raise ParityError(
            f"predictions of shape {shape} without targets are not of a classification: give what they are measured "
            f"by, {NAMED}."
        )
    of_target, floats = tuple(targets.shape[1:]), targets.is_floating_point()
    if len(shape) == 1 and of_target in ((), (1,)) and not (floats and shape == (1,)):
        return Classification(shape[0])
    if not floats and len(shape) > 1 and of_target in (shape[1:], (1, *shape[1:])):
        return DensePrediction(shape[0], shape[1:])
    if len(shape) == 1 and is_one_hot(targets):
        return Classification(shape[0])  # whose check refuses them by name
    if of_target == shape and len(shape) == 1 and _are_labels(targets):
        return MultiLabel(shape[0])
    if not floats and len(shape) == 1:
        return Classification(shape[0])
    if floats and shape != _BOX and of_target in (shape, () if shape == (1,) else shape):
        return Regression(shape)
    raise ParityError(
        f"predictions of shape {shape} and targets of shape {of_target} are not of a classification: give what they "
        f"are measured by, {NAMED}."
    )


def _are_labels(targets: Tensor) -> bool:
    return bool(((targets == 0) | (targets == 1)).all())
