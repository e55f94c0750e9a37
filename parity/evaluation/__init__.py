"""Accuracies over erasure patterns."""

from parity.evaluation.accuracies import CodeEvaluation, count_correct, evaluate_base, evaluate_code

__all__ = ["CodeEvaluation", "count_correct", "evaluate_base", "evaluate_code"]
