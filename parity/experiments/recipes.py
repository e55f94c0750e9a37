"""What experiments of several data sets share; a collection's own settings stand in its ``DEFAULTS``."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import nn

from parity.coders import (
    ConcatenationEncoder,
    Encoder,
    LearnedGridEncoder,
    LinearDecoder,
    LinearEncoder,
    MLPDecoder,
    PackedEncoder,
)
from parity.experiments.config import OF_CODES, Config, update_config
from parity.models import FromPrunedBaseModel, PerCell
from parity.training import KLDivergence, ParityTargetLoss, ReconstructionLoss, SquaredError, parities_alone

Codes = Mapping[str, tuple[Callable[..., Encoder], Sequence[int]]]
"""Encoders and their k, by the codes' names."""

Shapes = Mapping[str, tuple[Mapping[int, Config], Callable[..., None] | None]]
"""Students of other shapes: by what their codes are called, their ``model`` settings by k, and ``parity_start``."""

ORIGINAL_CODES: Codes = dict(add=(LinearEncoder, (2, 3, 4)), concat=(ConcatenationEncoder, (2, 4)))
"""The codes that Kosaian, Rashmi, Venkataraman (SOSP 2019) train parity models for."""

CELLS: Codes = dict(cells=(LearnedGridEncoder, (2, 3, 4)))
CELLS_KL: Codes = dict(cells_kl=(LearnedGridEncoder, (2, 3, 4)))

ORIGINAL_BATCHES = {2: 64, 3: 32, 4: 32}
"""Groups in a batch, by k."""

CELL_CODES = ((2, 1), (3, 1), (4, 1), (8, 1), (4, 2))
"""(k, r) of the positional codes with an MLP in each cell."""

LEARNED = dict(
    code=dict(decoder=MLPDecoder),
    trained=("encoder", "decoder"),
    parity_init=None,
    loss=ReconstructionLoss(SquaredError()),
)
"""What a learned encoder and decoder change (arXiv 1806.01259): the base model itself is the parity model."""


def base_config(config: Config, changes: Config) -> dict[str, Any]:
    """Return the config of the base model that a parity experiment's config is for.

    Args:
        config: of a parity experiment.
        changes: what is different: the loss at least.
    """
    return update_config({key: value for key, value in config.items() if key not in OF_CODES}, changes)


def in_cells(config: Config) -> dict[str, Any]:
    """Return the config of parity models that run a config's own network, with its arguments, in each cell."""
    model = dict(config["model"])
    return {**config, "model": {"network": PerCell, "cell_network": model.pop("network"), **model}}


def parity_configs(
    network: str, config: Config, codes: Codes = ORIGINAL_CODES, batch_sizes: Mapping[int, int] = ORIGINAL_BATCHES
) -> dict[str, dict[str, Any]]:
    """Return the configs <network>_k<k>_<code>.

    Args:
        network: its name; the base model is <network>_base.
        config: what they have in common.
        codes: encoders and k by the codes' names.
        batch_sizes: groups in a batch, by k.
    """
    return {
        f"{network}_k{k}_{code}": update_config(
            config,
            dict(base=f"{network}_base", code=dict(k=k, encoder=encoder), data=dict(batch_size=batch_sizes[k])),
        )
        for code, (encoder, ks) in codes.items()
        for k in ks
    }


def linear_configs(config: Config, batch_sizes: Mapping[int, int] = ORIGINAL_BATCHES) -> dict[str, dict[str, Any]]:
    """Return the configs mlp_k<k>_linear_r<r>, of linear codes with several parity models."""
    return {
        f"mlp_k{k}_linear_r{r}": update_config(config, dict(code=dict(k=k, r=r), data=dict(batch_size=batch_sizes[k])))
        for k in (2, 3, 4)
        for r in (2, 3)
    }


def cell_config(config: Config, k: int, r: int, hidden: Sequence[int], queries: int) -> dict[str, Any]:
    """Return the config of a (k, r) positional code with an MLP in each cell, in batches of so many queries."""
    return update_config(
        config, dict(code=dict(k=k, r=r), data=dict(batch_size=queries // k), model=dict(hidden=hidden))
    )


def cell_configs(config: Config, hidden: Mapping[int, Sequence[int]], queries: int) -> dict[str, dict[str, Any]]:
    """Return the configs mlp_k<k>_cells, trained as ``config`` has it, and mlp_k<k>_cells_kl.

    Args:
        config: what they have in common.
        hidden: widths of the network in a cell, by k.
        queries: in a batch.
    """
    losses = {"cells": {}, "cells_kl": towards_base_model(temperature=4.0)}
    return {
        f"mlp_k{k}_{code}{f'_r{r}' if r > 1 else ''}": update_config(
            cell_config(config, k, r, hidden[k], queries), loss
        )
        for code, loss in losses.items()
        for k, r in CELL_CODES
        if k in hidden
    }


def packed_configs(
    network: str,
    config: Config,
    students: Mapping[int, Config],
    queries: int,
    temperature: float,
    others: Shapes = MappingProxyType({}),
) -> dict[str, dict[str, Any]]:
    """Return the configs <network>_k<k>_packed, of k students for whole queries, and <network>_k<k>_packed_kl.

    <network>_k<k>_packed_pruned_kl starts its students from the base model, pruned to their widths.

    Args:
        network: its name.
        config: what they have in common.
        students: what makes a student, its ``model`` settings, by k.
        queries: in a batch.
        temperature: of the loss towards the base model.
        others: students of other shapes, of each <network>_k<k>_packed_<shape>_kl alone.
    """
    towards = towards_base_model(temperature)
    pruned = dict(**towards, parity_start=FromPrunedBaseModel())
    losses = {"packed": {}, "packed_kl": towards, "packed_pruned_kl": pruned}
    every = [
        (f"packed_{shape}_kl", dict(**towards, parity_start=start), each) for shape, (each, start) in others.items()
    ]
    every += [(code, loss, students) for code, loss in losses.items()]
    return {
        f"{network}_k{k}_{code}": update_config(update_config(config, _at_k(k, queries, model, PackedEncoder)), loss)
        for code, loss, by_k in every
        for k, model in by_k.items()
    }


def superposition_configs(
    network: str,
    config: Config,
    codes: Mapping[str, tuple[Callable[..., Encoder], Mapping[int, Config]]],
    queries: int,
    temperature: float,
) -> dict[str, dict[str, Any]]:
    """Return the configs <network>_k<k>_<code>_kl, of one network that makes all k predictions.

    Args:
        network: its name.
        config: what they have in common.
        codes: by name, the encoder, and what makes the parity model, its ``model`` settings, by k.
        queries: in a batch.
        temperature: of the loss towards the base model.
    """
    config = update_config(config, towards_base_model(temperature))
    return {
        f"{network}_k{k}_{code}_kl": update_config(config, _at_k(k, queries, model, encoder))
        for code, (encoder, models) in codes.items()
        for k, model in models.items()
    }


def sum_configs(
    network: str, config: Config, architecture: Config, ks: Sequence[int], queries: int
) -> dict[str, dict[str, Any]]:
    """Return the configs <network>_k<k>_add_augmented: addition, by the recipe of the codes that stand beside it.

    Args:
        network: its name.
        config: what they have in common.
        architecture: the base model's, as ``model`` settings.
        ks: k.
        queries: in a batch.
    """
    ours = dict(code=dict(decoder=LinearDecoder), loss=ParityTargetLoss(nn.MSELoss()))
    return {
        f"{network}_k{k}_add_augmented": update_config(
            update_config(config, _at_k(k, queries, architecture, LinearEncoder)), ours
        )
        for k in ks
    }


def _at_k(k: int, queries: int, model: Config, encoder: Callable[..., Encoder]) -> dict[str, Any]:
    """Return what is different at k: how many groups have so many queries, and the parity model's settings."""
    return dict(code=dict(k=k, encoder=encoder), data=dict(batch_size=queries // k), model=model)


def towards_base_model(temperature: float) -> dict[str, Any]:
    """Return what trains a parity model towards the base model's predictions, right or wrong, and not true labels."""
    return dict(loss=ReconstructionLoss(KLDivergence(temperature=temperature), parities_alone))
