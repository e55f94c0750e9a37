"""Some groups of the data as a report shows them: images, and what was predicted, in words."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.tasks import Task

_GROUPS = 3
_MOST_PIXELS = 1 << 16


def are_images(query_shape: Sequence[int]) -> bool:
    """Return whether queries of this shape can be shown."""
    return len(query_shape) == 3 and query_shape[0] in (1, 3) and query_shape[1] * query_shape[2] <= _MOST_PIXELS


def panel(
    model: CodedModel, queries: Tensor, targets: Tensor, task: Task, classes: Sequence[str] | None
) -> list[dict[str, Any]]:
    """Return the first groups of some, with what base model, parity models and decoder predict.

    Args:
        model: the code.
        queries: images, (G, k, C, H, W).
        targets: (G, k, ...).
        task: what predictions are measured by.
        classes: names of the classes.

    Returns:
        A dict for each group, as figures show it: images as uint8 arrays, and words. There are none where a parity
        query is of another shape than a query.
    """
    if model.encoder.parity_query_shape != model.encoder.query_shape:
        return []
    queries, targets = queries[:_GROUPS], targets[:_GROUPS]
    base_outputs, parity_outputs = model.outputs(queries)
    base_queries, parity_queries = model.encoder.dispatch(queries)
    predictions = model.base_predictions(queries, base_outputs)
    coded = parity_queries if model.encoder.systematic else base_queries
    rebuilt = model.decoder.rebuild_each(base_outputs, parity_outputs) if model.decoder.tolerance else None
    predicted = {"base": predictions, "decoded": rebuilt}
    right = None if rebuilt is None else task.measure(rebuilt, targets)[..., 0] > 0.5
    found = []
    for group in range(len(queries)):
        low, high = queries[group].amin(), queries[group].amax()
        found.append(
            {
                "queries": [image_of(query, low, high) for query in queries[group]],
                "parity_queries": [image_of(query, query.amin(), query.amax()) for query in coded[group]],
                "targets": task.in_words(targets[group], classes),
                "parity": [
                    task.in_words(outputs[None], classes)[0] if outputs.shape == task.prediction_shape else "–"
                    for outputs in parity_outputs[group]
                ],
                **{
                    name: ["–"] * model.k if outputs is None else task.in_words(outputs[group], classes)
                    for name, outputs in predicted.items()
                },
                "wrong": [False] * model.k if right is None else (~right[group]).tolist(),
            }
        )
    return found


def image_of(query: Tensor, low: Tensor, high: Tensor) -> Any:
    """Return an image as uint8, (H, W) or (H, W, 3), from ``low``, black, to ``high``; several lie side by side."""
    if query.dim() == 4:  # several images in one parity query
        query = torch.cat(query.unbind(0), dim=-1)
    scaled = ((query - low) / (high - low).clamp(min=1e-6) * 255).clamp(0, 255).byte().cpu()
    return scaled[0].numpy() if len(scaled) == 1 else scaled.permute(1, 2, 0).numpy()
