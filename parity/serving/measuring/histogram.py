"""Latencies in little memory, to three significant digits, in the manner of HdrHistogram."""

import csv
import io
import math
from collections import Counter
from typing import Any

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99)

_DIGITS = 11  # bits that are kept: values up to 2,047 µs exactly, larger ones to 0.1 %


class Histogram:
    """Counts durations in whole microseconds; equal are those that agree in their first 11 bits."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()  # by the lowest of the values that are equal
        self.count = 0
        self.sum = 0.0
        self.max = 0.0

    def record(self, seconds: float) -> None:
        """Count a duration."""
        value = max(0, round(seconds * 1e6))
        shift = max(0, value.bit_length() - _DIGITS)
        self._counts[value >> shift << shift] += 1
        self.count += 1
        self.sum += seconds
        self.max = max(self.max, seconds)

    def add(self, other: "Histogram") -> None:
        """Count what another histogram has counted."""
        self._counts.update(other._counts)
        self.count += other.count
        self.sum += other.sum
        self.max = max(self.max, other.max)

    @property
    def mean(self) -> float:
        """Mean in seconds; NaN if nothing was counted."""
        return self.sum / self.count if self.count else math.nan

    def percentile(self, percent: float) -> float:
        """Return the value that so many of the durations do not exceed, in seconds; NaN if nothing was counted."""
        return self.percentiles((percent,))[0]

    def percentiles(self, percents: tuple[float, ...]) -> list[float]:
        """Return several, ascending, in one pass."""
        if not self.count:
            return [math.nan] * len(percents)
        found, seen, ahead = [], 0, iter(sorted(self._counts.items()))
        highest = 0.0
        for percent in percents:
            needed = max(1, math.ceil(percent / 100 * self.count - 1e-9))
            while seen < needed:
                lowest, times = next(ahead)
                seen += times
                highest = min(self.max, (lowest + (1 << max(0, lowest.bit_length() - _DIGITS)) - 1) / 1e6)
            found.append(highest)
        return found

    def summary(self) -> dict[str, Any]:
        """Return the count, and mean, percentiles and maximum in milliseconds."""
        values = dict(zip(PERCENTILES, self.percentiles(PERCENTILES), strict=True))
        return {
            "count": self.count,
            "mean": _milliseconds(self.mean),
            **{f"p{percent:g}": _milliseconds(value) for percent, value in values.items()},
            "max": _milliseconds(self.max if self.count else math.nan),
        }

    def csv(self) -> str:
        """Return HdrHistogram's percentile distribution: value in ms, percentile, total count, 1 / (1 - percentile)."""
        text, seen = io.StringIO(), 0
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(["Value", "Percentile", "TotalCount", "1/(1-Percentile)"])
        for lowest, times in sorted(self._counts.items()):
            seen += times
            share = seen / self.count
            value = min(self.max, (lowest + (1 << max(0, lowest.bit_length() - _DIGITS)) - 1) / 1e6)
            inverse = "inf" if seen == self.count else f"{1 / (1 - share):.2f}"
            lines.writerow([f"{1000 * value:.3f}", f"{share:.8f}", seen, inverse])
        return text.getvalue()


def _milliseconds(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(1000 * seconds, 3)
