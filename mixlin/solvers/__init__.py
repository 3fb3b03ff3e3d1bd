"""Solvers: exact solutions from sums over windows."""

from .exact import (
    ExactSolver,
    LinearProblem,
    LinearSolution,
    solve_linear,
    solve_ridge,
)
from .gram import SeriesSums
from .threads import single_threaded
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
