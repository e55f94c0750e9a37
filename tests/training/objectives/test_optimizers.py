from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from parity.errors import ParityError
from parity.plain import as_before, completed
from parity.training import SGD, Adam, AdamW, AdaptiveClipping, Cosine, OneCycle
from parity.training.objectives.optimizers import OptimizerFactory


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


@pytest.mark.parametrize(("share", "steps"), [(0.025, 40), (0.5, 2), (0.3, 1), (0.0, 1)])
def test_one_cycle_of_few_rising_steps_begins_at_its_highest_rate(share: float, steps: int) -> None:
    # ZeroDivisionError where one step rises, and a rate of nothing where there is only one.
    optimizer = SGD(lr=0.1, momentum=0.0)([parameter([1.0])])
    schedule, rates = OneCycle(share)(optimizer, steps), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.1)
    assert rates == sorted(rates, reverse=True)
    assert steps == 1 or rates[-1] < 1e-5


@pytest.mark.parametrize(("share", "steps"), [(0.3, 40), (0.0, 7), (0.01, 40), (0.024, 40), (0.9, 3)])
def test_one_cycle_is_pytorchs(share: float, steps: int) -> None:
    def rates(make: Callable[[torch.optim.Optimizer], object]) -> list[float]:
        optimizer = SGD(lr=0.1, momentum=0.0)([parameter([1.0])])
        schedule, found = make(optimizer), []
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()  # type: ignore[attr-defined]
        return found

    own = rates(lambda optimizer: OneCycle(share)(optimizer, steps))
    kwargs = dict(pct_start=share, cycle_momentum=False)
    assert own == rates(lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, steps, **kwargs))


OPTIMIZERS = [
    Adam(1e-2, 0.1),
    AdamW(1e-2, 0.1, (0.8, 0.9)),
    SGD(0.1, 0.9, 0.1, nesterov=True),
    AdaptiveClipping(AdamW(1e-2), clip=0.1),
]


def weights_after(make: OptimizerFactory, steps: int, states: list[dict[str, Any]]) -> Tensor:
    """Take the steps that are left after those of a state, if there is one; leave the last state and its weights."""
    weight = parameter([[3.0, 4.0], [0.3, 0.4]])
    optimizer, done = make([weight]), 0
    if states:
        optimizer.load_state_dict(states[-1]["optimizer"])
        weight.data.copy_(states[-1]["weight"])
        done = states[-1]["done"]
    for step in range(done, steps):
        weight.grad = torch.tensor([[6.0, -8.0], [1.0, 0.5]]) / (step + 1)
        optimizer.step()
    states.append(deepcopy({"optimizer": optimizer.state_dict(), "weight": weight.detach(), "done": steps}))
    return weight.detach()


@pytest.mark.parametrize("make", OPTIMIZERS, ids=lambda make: type(make).__name__)
def test_fused_optimisers_take_the_same_steps_and_are_resumed(make: OptimizerFactory) -> None:
    inner = make.optimizer if isinstance(make, AdaptiveClipping) else make
    assert make([parameter([1.0])]).param_groups[0]["fused"]
    slow = replace(inner, fused=False)
    plain = replace(make, optimizer=slow) if isinstance(make, AdaptiveClipping) else slow
    assert not plain([parameter([1.0])]).param_groups[0]["fused"]
    whole = weights_after(make, 6, [])
    torch.testing.assert_close(whole, weights_after(plain, 6, []))
    states: list[dict[str, Any]] = []
    weights_after(make, 3, states)
    assert torch.equal(weights_after(make, 6, states), whole)


def test_what_cannot_be_fused_is_made_the_ordinary_way() -> None:
    strange = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    assert not Adam()([strange]).param_groups[0]["fused"]
    with pytest.raises(ValueError, match="learning rate"):
        Adam(lr=-1.0)([parameter([1.0])])


def test_a_config_written_before_there_were_fused_optimisers_is_of_ordinary_ones() -> None:
    written = {"object": "Adam", "lr": 1e-3, "weight_decay": 0.0}
    assert as_before(Adam(), written) == Adam(fused=False)
    assert completed(written, Adam())["fused"] is False


def test_adaptive_clipping_allows_for_gradients_that_a_fused_optimiser_unscales() -> None:
    weights = [parameter([[3.0, 4.0], [0.3, 0.4]]) for _ in range(2)]
    for weight, scale in zip(weights, (None, 8.0), strict=True):
        optimizer = AdaptiveClipping(SGD(1.0, 0.0), clip=0.1)([weight])
        weight.grad = torch.tensor([[6.0, 8.0], [6.0, 8.0]])
        if scale is not None:  # as torch.amp.GradScaler does
            weight.grad *= scale
            optimizer.grad_scale, optimizer.found_inf = torch.tensor(scale), torch.tensor(0.0)
        optimizer.step()
    torch.testing.assert_close(*weights)
