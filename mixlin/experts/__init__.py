"""Prior experts: linear forecasters in closed form, which need no training."""

from .bank import (
    LEVELS,
    PERIOD_TEMPLATES,
    PERIODS,
    TEMPLATES,
    ExpertBank,
    Template,
    default_bank,
    level_terms,
    period_experts,
    seasonless_experts,
)
from .cleaning import Cleaned, clean
from .far import far_forecasts, far_variances, filled, variance_of_filling
from .gating import (
    GATES,
    BacktestGate,
    EvidenceGate,
    ExpertGate,
    Folds,
    backtest_scores,
    fold_forecasts,
    named_gate,
)
from .kernels import DampedTrend, OrnsteinUhlenbeck, Periodic, PriorExpert, RandomWalk
from .periods import detect_periods
from .precision import Precision
from .predictors import BankMatrices, Predictors
from .spectral_gate import SpectralGate, SpectralWeights
from .whitening import Whitening

__all__ = [
    "GATES",
    "LEVELS",
    "PERIODS",
    "PERIOD_TEMPLATES",
    "TEMPLATES",
    "BacktestGate",
    "BankMatrices",
    "Cleaned",
    "DampedTrend",
    "EvidenceGate",
    "ExpertBank",
    "ExpertGate",
    "Folds",
    "OrnsteinUhlenbeck",
    "Periodic",
    "Precision",
    "Predictors",
    "PriorExpert",
    "RandomWalk",
    "SpectralGate",
    "SpectralWeights",
    "Template",
    "Whitening",
    "backtest_scores",
    "clean",
    "default_bank",
    "detect_periods",
    "far_forecasts",
    "far_variances",
    "filled",
    "fold_forecasts",
    "level_terms",
    "named_gate",
    "period_experts",
    "seasonless_experts",
    "variance_of_filling",
]
