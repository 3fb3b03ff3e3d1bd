"""Solvers: exact solutions from sums over windows."""

from .exact import (
    ExactSolver,
    LinearProblem,
    LinearSolution,
    single_threaded,
    solve_linear,
    solve_ridge,
)
from .gram import SeriesSums
from .window_sums import DenseSums, WindowSums

__all__ = [
    "DenseSums",
    "ExactSolver",
    "LinearProblem",
    "LinearSolution",
    "SeriesSums",
    "WindowSums",
    "single_threaded",
    "solve_linear",
    "solve_ridge",
]
