import pytest
import torch
from torch import nn

from parity.errors import ParityError
from parity.training import SGD, AdamW, AdaptiveClipping, Cosine, OneCycle


def parameter(values: list[list[float]] | list[float]) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values))


def test_long_gradients_are_clipped_to_a_share_of_their_units_weights() -> None:
    weight, bias, small = parameter([[3.0, 4.0], [0.3, 0.4]]), parameter([0.0, 0.0]), parameter([[3.0, 4.0]])
    optimizer = AdaptiveClipping(SGD(lr=1.0, momentum=0.0), clip=0.1, eps=1e-3)([weight, bias, small])
    weight.grad, bias.grad = torch.tensor([[6.0, 8.0], [6.0, 8.0]]), torch.tensor([0.0, 2.0])
    small.grad = torch.tensor([[0.03, 0.04]])
    optimizer.step()
    # Rows of norm 5 and 0.5 move by 0.5 and 0.05; a bias of zeros by a tenth of eps; what is short stays.
    assert torch.allclose(weight, torch.tensor([[3.0 - 0.3, 4.0 - 0.4], [0.3 - 0.03, 0.4 - 0.04]]))
    assert bias.tolist() == pytest.approx([0.0, -1e-4])
    assert torch.allclose(small, torch.tensor([[2.97, 3.96]]))


def test_filters_are_units_of_their_own_and_missing_gradients_are_none_of_its_business() -> None:
    filters, idle = nn.Parameter(torch.ones(2, 3, 2, 2)), parameter([1.0])
    optimizer = AdaptiveClipping(SGD(lr=1.0, momentum=0.0), clip=0.5)([filters, idle])
    filters.grad = torch.ones(2, 3, 2, 2) * torch.tensor([10.0, 0.1]).view(2, 1, 1, 1)
    optimizer.step()
    assert torch.allclose(filters[0], torch.full((3, 2, 2), 0.5))
    assert torch.allclose(filters[1], torch.full((3, 2, 2), 0.9))
    assert idle.item() == 1


def test_the_learning_rate_rises_in_a_line_and_falls_along_a_cosine() -> None:
    optimizer = AdamW(lr=0.5)([parameter([1.0])])
    schedule, rates = Cosine(warm_up=0.2)(optimizer, 20), []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    falling = 0.25 * (1 + torch.cos(torch.arange(16) / 16 * torch.pi))
    assert rates[4:] == pytest.approx(falling.tolist(), abs=1e-6)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_without_warm_up_it_begins_at_the_top_and_its_state_is_plain() -> None:
    optimizer = AdamW(lr=0.5)([parameter([1.0])])
    schedule = Cosine(warm_up=0.0)(optimizer, 10)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert all(isinstance(value, int | float | list | bool | None) for value in schedule.state_dict().values())


@pytest.mark.parametrize("schedule", [Cosine, OneCycle])
@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_warm_up_is_a_share_of_all_steps(schedule: type, share: float) -> None:
    with pytest.raises(ParityError, match="0 to below 1"):
        schedule(warm_up=share)
