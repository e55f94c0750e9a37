"""Codes that need no training, to compare with: no redundancy, replication, ApproxIFER, NeRCC, a smaller network."""

import logging
from collections.abc import Sequence
from functools import partial

from torch import nn

from parity.coders import (
    BackupDecoder,
    BackupEncoder,
    BerrutDecoder,
    BerrutEncoder,
    NeRCCDecoder,
    NeRCCEncoder,
    ReplicationDecoder,
    ReplicationEncoder,
)
from parity.data.loaders import are_ids
from parity.evaluation.comparison import Candidate
from parity.evaluation.groups import DataInGroups
from parity.evaluation.smoothing import choose_smoothing

log = logging.getLogger(__name__)

BACKUP = "cheaper backup"


def baselines(base_model: nn.Module, data: DataInGroups, ks: Sequence[int]) -> list[Candidate]:
    """Return the codes without training at each k; NeRCC, where there is validation data to choose its smoothing on."""
    candidates = []
    ids = are_ids(data.loader(ks[0], "val" if data.has_validation else "test").first_query())
    for k in ks:
        for name, about, r, encoder, decoder in (
            ("no redundancy", "what is unavailable is lost", 0, ReplicationEncoder, ReplicationDecoder),
            ("replication x2", "every query goes to two workers", k, ReplicationEncoder, ReplicationDecoder),
            ("ApproxIFER", "Berrut's rational interpolation", 1, BerrutEncoder, BerrutDecoder),
        ):
            coded = data.coded(base_model, k, r, encoder, decoder)
            if coded.encoder.takes_ids or not ids:
                candidates.append(Candidate(name, about, False, coded))
        if data.has_validation and not ids:
            candidates.append(_nercc(base_model, data, k))
    if ids:
        log.warning("ApproxIFER and NeRCC are left out: they compute with queries, and ids of tokens are not numbers")
    elif not data.has_validation:
        log.warning("NeRCC is left out: hand over validation data, val_data=..., to choose its smoothing on")
    return candidates


def _nercc(base_model: nn.Module, data: DataInGroups, k: int) -> Candidate:
    log.info("choosing the smoothing of NeRCC for k = %d on validation data", k)
    smoothing = choose_smoothing(base_model, data.loader(k, "val"), data.module(k).task)
    model = data.coded(
        base_model, k, 1, partial(NeRCCEncoder, smoothing=smoothing.encoder),
        partial(NeRCCDecoder, smoothing=smoothing.decoder),
    )  # fmt: skip
    about = f"smoothing splines, lambda {smoothing.encoder:g} and {smoothing.decoder:g}"
    return Candidate("NeRCC", about, False, model)


def backups(
    base_model: nn.Module, network: nn.Module, name: str, data: DataInGroups, ks: Sequence[int]
) -> list[Candidate]:
    """Return the code at each k in which every query also goes to a smaller network of this name."""
    about = f"every query also goes to {name}"
    return [
        Candidate(BACKUP, about, False, data.coded(base_model, k, k, BackupEncoder, BackupDecoder, [network] * k))
        for k in ks
    ]
