"""Evaluation of forecasters on the long-horizon benchmark ("LTSF")."""

from .ltsf import evaluate_ltsf, score_ltsf

__all__ = ["evaluate_ltsf", "score_ltsf"]
