"""The report of a comparison: numbers, text, figures, and one page that needs nothing from elsewhere."""

from parity.evaluation.report.report import write_report

__all__ = ["write_report"]
