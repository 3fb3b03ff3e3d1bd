"""Which products a mixture takes: of all experts, of those that have weight, or of folded ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.intp]
Gates = npt.NDArray[np.floating]

# what something costs, in multiplications of a product
_WEIGHT = 8  # to read a weight
_PICKED = 16  # per column of a row that is picked for a product, its result added where it belongs
_CALL = 200_000  # one more product
_SMALL_CALL = 10_000  # one of the small products that fold experts
_TYPICAL_ROWS = 256  # that share the calls where other rows must not decide
_SAMPLED = 64  # rows that tell whether rows share their gates at all
_ALL_BUT = 0.9
_GAIN = 0.8  # of the dense cost that a rule which can't see all rows wants to get below


class Selection(NamedTuple):
    """Experts that any row gives weight.

    Attributes
    ----------
    experts : tuple of int
    rows : tuple of arrays of int
        Of every one of them, the rows that give it weight.
    """

    experts: tuple[int, ...]
    rows: tuple[IntArray, ...]


class Folding(NamedTuple):
    """Rows that share their gates, and hence the matrix that their experts fold into.

    Attributes
    ----------
    gates : array of shape (D, E)
    rows : tuple of D arrays of int
        Which rows have which gates.
    """

    gates: Gates
    rows: tuple[IntArray, ...]


def dense_cost(n_rows: int, n_columns: int, n_experts: int, horizon: int) -> float:
    """Return the cost of the product of all rows with all experts."""
    return float(n_columns * n_experts * horizon * (n_rows + _WEIGHT))


def selected_cost(n_gates: int, n_active: int, n_columns: int, horizon: int) -> float:
    """Return the cost of a product per expert, of the rows that give it weight.

    Parameters
    ----------
    n_gates : int
        Gates that are not zero, of all rows.
    n_active : int
        Experts that any row gives weight.
    n_columns, horizon : int
    """
    products = n_columns * (n_gates * (horizon + _PICKED) + n_active * horizon * _WEIGHT)
    return float(products + n_active * _CALL)


def folded_cost(
    n_distinct: int, n_rows: int, n_columns: int, n_experts: int, horizon: int
) -> float:
    """Return the cost of folding the experts once per distinct gate, and a product for each."""
    folding = n_columns * (n_experts * horizon * (3 * n_distinct + 2 * _WEIGHT) + _SMALL_CALL)
    picked = _PICKED if n_distinct > 1 else 0
    products = n_columns * (n_rows * (horizon + picked) + n_distinct * horizon * _WEIGHT)
    return float(folding + products + n_distinct * _CALL)


def most_selected(n_columns: int, n_experts: int, horizon: int) -> int:
    """Return up to how many experts of a row are cheaper one by one, whatever the other rows.

    An engine whose rounding depends on the form of a product decides row by row, so that a row's
    result does not depend on its neighbors.

    Parameters
    ----------
    n_columns, n_experts, horizon : int

    Returns
    -------
    int
        0 where the dense product is always cheaper.

    Examples
    --------
    >>> from mixlin.backends.mixing import most_selected
    >>> most_selected(512, 51, 96), most_selected(96, 4, 24)
    (34, 1)
    """
    dense = _GAIN * n_columns * n_experts * horizon
    shared = n_experts * _CALL / _TYPICAL_ROWS
    return max(0, int((dense - shared) / (n_columns * (horizon + _PICKED))))


def cheapest(gates: Gates, n_columns: int, horizon: int) -> Folding | Selection | None:
    """Choose the products of a mixture whose rows have these gates.

    Parameters
    ----------
    gates : array of shape (R, E)
    n_columns, horizon : int

    Returns
    -------
    None, Selection or Folding
        None for one product of all rows with all experts.
    """
    n_rows, n_experts = gates.shape
    used = gates != 0
    n_gates = np.count_nonzero(used, axis=0)
    n_active = int(np.count_nonzero(n_gates))
    dense = dense_cost(n_rows, n_columns, n_experts, horizon)
    selected = selected_cost(int(n_gates.sum()), n_active, n_columns, horizon)
    sizes = (n_rows, n_columns, n_experts, horizon)
    if n_rows > 1 and folded_cost(1, *sizes) < min(dense, selected):
        found = _distinct(gates)
        if found is not None and folded_cost(len(found[0]), *sizes) < min(dense, selected):
            firsts, which = found
            order = np.argsort(which, kind="stable")
            ends = np.cumsum(np.bincount(which, minlength=len(firsts)))[:-1]
            return Folding(gates[firsts], tuple(np.split(order, ends)))
    if selected < dense:
        _, rows = np.nonzero(np.ascontiguousarray(used.T))
        active = np.flatnonzero(n_gates)
        pieces = np.split(rows, np.cumsum(n_gates[active]))[:-1]
        return Selection(tuple(active.tolist()), tuple(pieces))
    return None


def _distinct(gates: Gates) -> tuple[IntArray, IntArray] | None:
    """Return the first row of all distinct ones, and which of them every row equals.

    None where hardly two rows are equal.
    """
    probe = 1.0 + np.sqrt(np.arange(2.0, gates.shape[1] + 2.0))  # no two sums are alike by chance
    sums = (gates * probe).sum(axis=1)  # equal rows have equal sums: none is in two groups
    some = sums[:: -(-len(sums) // _SAMPLED)]
    if len(np.unique(some)) > _ALL_BUT * len(some):
        return None
    _, firsts, which = np.unique(sums, return_index=True, return_inverse=True)
    which = which.reshape(-1)
    return (firsts, which) if np.array_equal(gates[firsts][which], gates) else None
