"""What an evaluation returns: the numbers as a table, in words, and as a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.evaluation.report.tables import code_in_words
from parity.settings import user_path

if TYPE_CHECKING:
    import pandas as pd


class Evaluation:
    """Accuracies and costs of codes on the same groups.

    >>> print(evaluation)
    >>> evaluation.report("report/")

    Args:
        results: of ``compare_on``.
    """

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.results = dict(results)

    def __str__(self) -> str:
        """Return a line for each trained code, or for each where none is: what it loses when a worker is missing."""
        codes = self.results["codes"]
        shown = [code for code in codes if code["kind"] == "trained"] or codes
        lines = [code_in_words(code, self.results["measure"]) for code in shown]
        return (
            lines[0] if len(lines) == 1 else "\n".join(f"{c['name']}: {t}" for c, t in zip(shown, lines, strict=True))
        )

    def __repr__(self) -> str:
        return f"<Evaluation of {len(self.results['codes'])} codes on {self.results['dataset']}>"

    @property
    def frame(self) -> "pd.DataFrame":
        """Return the numbers of results.csv, a row for each code; numbers are numbers, NaN where there is none."""
        from parity.evaluation.report.frame import frame_of  # pandas takes a while

        return frame_of(self.results)

    def report(self, folder: str | Path, formats: Sequence[str] = ()) -> list[Path]:
        """Write tables, figures and a page, report.html, into a folder; see ``write_report``.

        Args:
            folder: made if it is not there.
            formats: further ones, of figures ('svg', 'pdf') and of the table of results ('latex', 'json', 'parquet').

        Returns:
            The files.
        """
        from parity.evaluation.report.report import write_report  # matplotlib takes a while

        return write_report(self.results, user_path(folder), formats)

    def to_latex(self) -> str:
        """Return the accuracies as a LaTeX table, for the package booktabs."""
        from parity.evaluation.report.files import latex

        return latex(self.results)
