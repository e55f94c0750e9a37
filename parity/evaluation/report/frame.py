"""A comparison's numbers as a pandas frame."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from parity.evaluation.report.tables import flat_rows


def frame_of(results: Mapping[str, Any]) -> pd.DataFrame:
    """Return the numbers of results.csv, a row for each code; numbers are numbers, NaN where there is none."""
    head, rows = flat_rows(results)
    frame = pd.DataFrame(rows, columns=head)
    numbers = head[2:]  # after name and kind
    frame[numbers] = frame[numbers].apply(pd.to_numeric, errors="coerce")
    return frame
