import functools

import pytest
from torch import nn

from parity.signatures import keywords, named, takes


class Parent:
    def __init__(self, k: int, batch_size: int = 64) -> None: ...


class Child(Parent):
    def __init__(self, size: int, **kwargs: int) -> None: ...


class Quiet(Child):
    pass


class Network(nn.Module):
    def __init__(self, query_shape: object, prediction_shape: object, width: int, **kwargs: object) -> None: ...


def any_other(query: object, *, scale: float, **kwargs: object) -> None: ...


@pytest.mark.parametrize(
    ("function", "positional", "expected"),
    [
        (Parent, 0, {"k", "batch_size"}),
        (Quiet, 0, {"size", "k", "batch_size"}),
        (Network, 2, None),
        (functools.partial(Parent, 3), 0, {"batch_size"}),
        (functools.partial(Parent, k=3), 0, {"k", "batch_size"}),
        (any_other, 1, None),
        (nn.MSELoss(), 2, set()),
        (len, 1, set()),
    ],
)
def test_keywords_are_those_of_a_signature_and_of_the_constructors_it_hands_on_to(
    function: object, positional: int, expected: set[str] | None
) -> None:
    assert keywords(function, positional) == expected  # type: ignore[arg-type]


def test_a_signature_that_takes_any_keyword_names_some() -> None:
    assert named(any_other, 1) == ({"scale"}, True)
    assert named(Network, 2) == ({"width"}, True)


def test_how_many_arguments_a_loss_takes() -> None:
    assert takes(nn.MSELoss(), 2)
    assert not takes(nn.MSELoss(), 4)
    assert not takes(any_other, 1)
    assert takes(any_other, 1, given=["scale"])
    assert takes(nn.MSELoss(), 2, given=["lr"])
