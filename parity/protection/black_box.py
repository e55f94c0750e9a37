"""A program as the base model of what ``protect`` trains."""

from functools import partial
from pathlib import Path
from typing import Any

from parity.black_boxes import BlackBox, opened
from parity.protection.networks import Output, selected


def asked(network: Any, output: Output, folder: Path | None) -> BlackBox:
    """Return a program as a network, which keeps all that it predicts.

    Args:
        network: of which ``is_black_box`` is true.
        output: which part of what it returns is the prediction.
        folder: where predictions are kept, for the same call again; None keeps them in memory.

    Raises:
        ParityError: it cannot be opened, or does not take one batch of queries.
    """
    if callable(output):
        return BlackBox(opened(network), output, folder, keeping=True)
    program = opened(network, output)
    if output is None or program.output is not None:  # an ONNX file's is chosen by onnxruntime
        return BlackBox(program, None, folder, keeping=True)
    return BlackBox(program, partial(selected, output=output), folder, keeping=True)
