"""Solvers: exact solutions from sums over windows, and mixtures that start from them."""

from ..threads import single_threaded
from .alternating import AlternatingSolver, single_expert
from .balancing import (
    Balancing,
    ImportanceLoss,
    LoadLoss,
    LossFreeBias,
    SwitchLoss,
    ZLoss,
)
from .exact import (
    LinearProblem,
    LinearSolution,
    solve_linear,
)
from .exact_options import ExactSolver, decay_of
from .exact_search import ExactSearch
from .fixed_gates import FixedGatesSolver
from .gradient_solver import GradientSolver
from .gram import SeriesSums
from .mixture_task import (
    MixtureSolution,
    MixtureSolver,
    MixtureTask,
    NothingToChooseOnError,
)
from .regressor_sums import RegressorSums
from .regressors import RegressorProblem, solve_with_regressors
from .ridge import solve_ridge
from .rolling_sums import RollingSums
from .seasonal_prior import SeasonalPrior, prior_features
from .spectral import fit_spectral_layer
from .window_source import WindowSource
from .window_sums import DenseSums, WindowSums

__all__ = [
    "AlternatingSolver",
    "Balancing",
    "DenseSums",
    "ExactSearch",
    "ExactSolver",
    "FixedGatesSolver",
    "GradientSolver",
    "ImportanceLoss",
    "LinearProblem",
    "LinearSolution",
    "LoadLoss",
    "LossFreeBias",
    "MixtureSolution",
    "MixtureSolver",
    "MixtureTask",
    "NothingToChooseOnError",
    "RegressorProblem",
    "RegressorSums",
    "RollingSums",
    "SeasonalPrior",
    "SeriesSums",
    "SwitchLoss",
    "WindowSource",
    "WindowSums",
    "ZLoss",
    "decay_of",
    "fit_spectral_layer",
    "prior_features",
    "single_expert",
    "single_threaded",
    "solve_linear",
    "solve_ridge",
    "solve_with_regressors",
]
