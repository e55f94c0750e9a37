import functools
import json
from pathlib import Path

import pytest
from torch import nn

from parity.coders import LinearEncoder
from parity.errors import ParityError
from parity.experiments.config import apply_overrides, differences, frozen, to_plain, update_config
from parity.training import Adam, ParityTargetLoss

CONFIG = dict(
    data=dict(batch_size=64), optimizer=Adam(lr=1e-3), trainer=dict(max_epochs=5, gradient_clip_val=None), 
    base="mlp_base", code=dict(k=2, encoder=LinearEncoder),
)  # fmt: skip


def test_update_config_merges_and_leaves_the_original() -> None:
    updated = update_config(CONFIG, dict(code=dict(k=3), data=dict(num_validation=10)))
    assert updated["code"] == dict(k=3, encoder=LinearEncoder)
    assert updated["data"] == dict(batch_size=64, num_validation=10)
    assert CONFIG["code"] == dict(k=2, encoder=LinearEncoder)


@pytest.mark.parametrize(
    ("network", "arguments"),
    [(nn.Conv2d, dict(width=3)), (nn.Linear, dict(width=3, hidden=(4, 4)))],
    ids=["another network", "the same network"],
)
def test_a_network_that_is_replaced_takes_its_arguments_along(network: type, arguments: dict[str, object]) -> None:
    config = dict(model=dict(network=nn.Linear, hidden=(4, 4)), base="mlp_base")
    assert update_config(config, dict(model=dict(network=network, width=3))) == dict(
        model=dict(network=network, **arguments), base="mlp_base"
    )


def test_frozen_config_cannot_be_changed() -> None:
    config = frozen(CONFIG)
    with pytest.raises(TypeError):
        config["base"] = "other"  # type: ignore[index]
    with pytest.raises(TypeError):
        config["code"]["k"] = 3


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("trainer.max_epochs", "40", 40),
        ("optimizer.lr", "0.1", 0.1),
        ("optimizer.lr", "1", 1.0),
        ("base", "mlp_other", "mlp_other"),
        ("base", "7", "7"),
        ("trainer.gradient_clip_val", "0.5", 0.5),
        ("code.k", 3, 3),
    ],
)
def test_overrides_keep_the_type(path: str, text: object, value: object) -> None:
    changed = apply_overrides(frozen(CONFIG), {path: text})
    node: object = changed
    for key in path.split("."):
        node = node[key] if isinstance(node, dict) else getattr(node, key)
    assert node == value
    assert type(node) is type(value)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("trainer.max_epoch", "40", "did you mean 'trainer.max_epochs'"),
        ("code.kk", "2", "did you mean 'code.k'"),
        ("optimizer.learning_rate", "2", "no 'optimizer.learning_rate'"),
        ("trainer.max_epochs", "many", "is of type int"),
        ("trainer.max_epochs", "1.5", "is of type int"),
        ("trainer.max_epochs", "True", "is of type int"),
        ("code.encoder", "3", "does not hold a scalar"),
        ("code", "3", "does not hold a scalar"),
    ],
)
def test_bad_overrides_are_one_sentence(path: str, text: str, message: str) -> None:
    with pytest.raises(ParityError, match=message):
        apply_overrides(CONFIG, {path: text})


def test_plain_configs_are_json_and_the_same_in_every_process() -> None:
    config = update_config(
        CONFIG, dict(loss=ParityTargetLoss(nn.MSELoss()), net=functools.partial(nn.Linear, 3), file=Path("a/b"))
    )
    plain = to_plain(frozen(config))
    assert json.loads(json.dumps(plain)) == plain
    assert plain["code"]["encoder"] == "LinearEncoder"
    assert plain["optimizer"] == {
        "object": "Adam",
        "lr": 1e-3,
        "weight_decay": 0.0,
        "fused": True,
    }
    assert "0x" not in json.dumps(plain)  # no address of an object


def test_differences_are_named() -> None:
    changed = update_config(CONFIG, dict(code=dict(k=3)))
    assert list(differences(to_plain(CONFIG), to_plain(changed))) == ["code.k: 2 -> 3"]
