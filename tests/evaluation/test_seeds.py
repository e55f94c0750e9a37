"""Runs that differ by their seed alone become one row: means and deviations of what each has."""

import pytest

from parity.evaluation.seeds import over_seeds


def test_the_worst_position_is_that_of_the_means_over_seeds() -> None:
    codes = []
    for seed, at in enumerate(([0.7, 0.8, 0.9], [0.9, 0.7, 0.9], [0.9, 0.6, 0.9])):
        degraded = {"value": 0.8, "low": 0.7, "high": 0.9, "by_position": at, "worst": min(at)}
        degraded["worst_position"] = at.index(min(at))
        codes.append({"name": f"run-seed{seed}", "k": 3, "r": 1, "about": "", "A_d": {"1": degraded}, "against": []})
    merged = over_seeds({"codes": codes, "timing": []}, {code["name"]: "run" for code in codes})["codes"]
    (row,) = (code["A_d"]["1"] for code in merged)
    assert row["by_position"] == pytest.approx([2.5 / 3, 0.7, 0.9])
    assert row["worst"] == pytest.approx(0.7)  # and not the mean of 0.7, 0.7 and 0.6, each at a position of its own
    assert row["worst_position"] == 1
