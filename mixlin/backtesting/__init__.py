"""Evaluation of forecasters on the long-horizon benchmark ("LTSF"), and from rolling origins."""

from .ltsf import evaluate_ltsf, score_ltsf
from .rolling import rolling_backtest

__all__ = ["evaluate_ltsf", "rolling_backtest", "score_ltsf"]
