"""Accuracies over erasure patterns."""

from parity.evaluation.accuracies import evaluate_base, evaluate_code
from parity.evaluation.code_evaluation import CodeEvaluation
from parity.evaluation.smoothing import Smoothing, choose_smoothing

__all__ = ["CodeEvaluation", "Smoothing", "choose_smoothing", "evaluate_base", "evaluate_code"]
