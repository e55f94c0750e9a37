"""What a code looked at: on which queries of a group the evidence for its reconstructions lay."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.erasures import single_erasures
from parity.errors import ParityError
from parity.evaluation.panel import image_of
from parity.explanations import ReconstructionExplanation, explain_reconstruction
from parity.explanations.contributions import is_bcos
from parity.tasks import Classification

_GROUPS = 32
_GROUPS_AT_A_TIME = 8


def evidence(
    model: CodedModel, queries: Tensor, targets: Tensor, task: Classification, classes: Sequence[str] | None
) -> dict[str, Any] | None:
    """Explain what is rebuilt where one prediction is missing, at each position in turn.

    Attributions are contributions of B-cos networks, gradient times input of others, to the class that was rebuilt; the
    base model's predictions that arrived are numbers, as in ``explain_reconstruction``.

    Args:
        model: the code.
        queries: images, (G, k, C, H, W); the first groups of them are explained.
        targets: int64 (G, k).
        task: that of the targets.
        classes: names of the classes.

    Returns:
        'explainer', its name; 'groups', how many were explained; 'right' and 'wrong', the mean share of positive
        attribution that lies on the query itself, of reconstructions that are right and wrong (None where there is
        none); 'examples', the first of each. None where no prediction can be rebuilt, or none explained.
    """
    if not model.decoder.tolerance:
        return None
    queries, targets = queries[:_GROUPS], targets[:_GROUPS]
    rebuilt_each = model.decoder.rebuild_each(*model.outputs(queries))
    networks = list(model.parity_models) or [model.base_model]
    explainer = "Ours" if all(map(is_bcos, networks)) else "InputXGradient"
    shares: dict[bool, list[Tensor]] = {True: [], False: []}
    examples: dict[bool, dict[str, Any]] = {}
    for position, available in enumerate(single_erasures(model.k, model.n).to(queries.device)):
        rebuilt = rebuilt_each[:, position]
        try:
            explained = explain_reconstruction(
                model, queries, available, position, rebuilt.argmax(-1), explainer, batch_size=_GROUPS_AT_A_TIME
            )
        except ParityError:  # a code that this explainer does not fit
            return None
        right = rebuilt.argmax(-1) == targets[:, position]
        for is_right in (True, False):
            chosen = right == is_right
            shares[is_right].append(explained.shares[chosen, position])
            if is_right not in examples and bool(chosen.any()):
                group = int(chosen.int().argmax())
                words = [task.in_words(of[None], classes)[0] for of in (targets[group, position], rebuilt[group])]
                examples[is_right] = {
                    "right": is_right,
                    "position": position,
                    "target": words[0],
                    "decoded": words[1],
                    **_shown(explained, queries, group),
                }
    means = {key: torch.cat(shares[is_right]) for key, is_right in (("right", True), ("wrong", False))}
    return {
        "explainer": explainer,
        "groups": len(queries),
        **{key: float(of.mean()) if len(of) else None for key, of in means.items()},
        "examples": [examples[is_right] for is_right in (True, False) if is_right in examples],
    }


def _shown(explained: ReconstructionExplanation, queries: Tensor, group: int) -> dict[str, Any]:
    return {
        "queries": [image_of(query, queries[group].amin(), queries[group].amax()) for query in queries[group]],
        "attributions": explained.queries[group].sum(1).cpu().numpy(),
        "shares": explained.shares[group].tolist(),
    }
