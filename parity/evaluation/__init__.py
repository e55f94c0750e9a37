"""Accuracies over erasure patterns."""

from parity.evaluation.accuracies import CodeEvaluation, evaluate_base, evaluate_code

__all__ = ["CodeEvaluation", "evaluate_base", "evaluate_code"]
