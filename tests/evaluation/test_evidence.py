"""What the page of a comparison says that a code looked at."""

import pytest
import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.evaluation.evidence import evidence
from parity.tasks import Classification

G, K, CLASSES = 6, 2, 3


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(1), nn.Linear(64, CLASSES, bias=False))


def added(parity_model: nn.Module) -> CodedModel:
    return CodedModel(network(), LinearEncoder(K, 1, (1, 8, 8)), [parity_model], LinearDecoder(K, 1, (CLASSES,)))


def queries() -> tuple[Tensor, Tensor]:
    return torch.rand(G, K, 1, 8, 8), torch.randint(0, CLASSES, (G, K))


def test_of_a_sum_evidence_lies_where_the_numbers_are() -> None:
    images, targets = queries()
    images[:, 1] = 0  # what is added adds nothing
    found = evidence(added(network()), images, targets, Classification(CLASSES), None)
    assert found is not None
    for example in found["examples"]:
        assert example["shares"] == pytest.approx([1, 0])
        assert not example["attributions"][1].any()
        assert [image.shape for image in example["queries"]] == [(8, 8)] * K
    assert found["groups"] == G


def test_right_and_wrong_reconstructions_are_kept_apart() -> None:
    images, _ = queries()
    model = added(network())
    available = torch.tensor([[False, True, True]]).expand(G, -1)
    with torch.no_grad():
        first = model(images, available)[:, 0].argmax(-1)
        second = model(images, available[:, [1, 0, 2]])[:, 1].argmax(-1)
    right = torch.stack([first, second], 1)
    found = evidence(model, images, right, Classification(CLASSES), ["a", "b", "c"])
    assert found is not None
    assert [example["right"] for example in found["examples"]] == [True]
    assert found["examples"][0]["decoded"] == found["examples"][0]["target"] == "abc"[int(right[0, 0])]
    assert found["wrong"] is None
    none_right = evidence(model, images, (right + 1) % CLASSES, Classification(CLASSES), None)
    assert none_right is not None
    assert (none_right["right"], none_right["wrong"]) == (None, found["right"])
    mixed = evidence(
        model, images, torch.where(torch.arange(K) == 0, right, (right + 1) % CLASSES), Classification(CLASSES), None
    )
    assert mixed is not None
    assert [(example["right"], example["position"]) for example in mixed["examples"]] == [(True, 0), (False, 1)]
