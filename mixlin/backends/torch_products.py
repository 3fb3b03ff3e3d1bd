"""Products of torch in which no row depends on its neighbors, and mixtures made of them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch.nn import functional

from .mixing import Folding, cheapest, most_selected

# Products add in another order when the number of rows changes. Blocks of one size, at least two
# at a time and none too small for the general kernel, make a row's result independent of its
# neighbors, and are faster than one tall product.
ROWS = 32
_ROWS_OF_ONE = 16  # where the rows are those of one expert, and may be few
_LEAST_MULTIPLICATIONS = 400
_COLUMNS = 8  # of results, a multiple: the kernels for a few more add up rows in several ways
_FOLDED_ELEMENTS = 2**21  # of folded experts that are held at a time


def _padded(rows: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad rows (c, R, K) with zeros; R becomes a multiple, and not zero."""
    n = rows.shape[1]
    missing = multiple - n if n == 0 else -n % multiple
    return functional.pad(rows, (0, 0, 0, missing)) if missing else rows


def _block_size(n_weights: int, multiple: int = ROWS) -> int:
    """Return how many rows a block has that is multiplied by a matrix."""
    return multiple * -(-_LEAST_MULTIPLICATIONS // (multiple * n_weights))


def _shared_product(rows: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Multiply rows (R, K) by weights (K, M) in blocks."""
    size = _block_size(w.numel())
    n, (n_columns, n_outputs) = len(rows), w.shape
    whole = n // size * size if n >= 2 * size else 0

    def multiply(part: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        blocks = part.reshape(-1, size, n_columns)
        many = w.expand(len(blocks), n_columns, n_outputs)
        target = None if out is None else out.view(-1, size, n_outputs)
        return torch.bmm(blocks, many, out=target).reshape(-1, n_outputs)

    if whole == n:
        return multiply(rows) if n else rows.new_empty((0, n_outputs))
    rest = multiply(_padded(rows[None, whole:], 2 * size)[0])[: n - whole]
    if not whole:
        return rest
    if torch.is_grad_enabled() and (rows.requires_grad or w.requires_grad):
        return torch.cat([multiply(rows[:whole]), rest])
    out = rows.new_empty((n, n_outputs))  # only the rest is copied
    multiply(rows[:whole], out[:whole])
    out[whole:] = rest
    return out


def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Multiply rows (n, C or 1, ..., K) by weights (G, K, M), G = 1 or C."""
    spare = -w.shape[2] % _COLUMNS
    if spare:
        return product(x, functional.pad(w, (0, spare)))[..., :-spare]
    n_outputs = w.shape[2]
    if len(w) == 1:
        return _shared_product(x.reshape(-1, x.shape[-1]), w[0]).reshape(*x.shape[:-1], n_outputs)
    by_channel = x.movedim(1, 0)
    rows = by_channel.reshape(x.shape[1], -1, x.shape[-1])
    size = _block_size(w[0].numel())
    padded = _padded(rows, 2 * size).expand(len(w), -1, -1)
    out = torch.bmm(padded, w)[:, : rows.shape[1]]
    return out.reshape(len(w), *by_channel.shape[1:-1], n_outputs).movedim(0, 1)


def mix_rows(x: torch.Tensor, w: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    """Weigh the experts of rows (R, K) by gates (R, E), in the cheapest way.

    In float32 that is decided row by row: the form of a product changes the last digits, which
    neighbors must not do.
    """
    n_experts = gates.shape[1]
    horizon = w.shape[1] // n_experts
    if x.dtype == torch.float64:
        form = cheapest(gates.detach().numpy(), len(w), horizon)
        if isinstance(form, Folding):
            return _folded(x, w, form)
        return _dense(x, w, gates) if form is None else _selected(x, w, gates)
    few = torch.count_nonzero(gates, dim=1) <= most_selected(len(w), n_experts, horizon)
    if few.all():
        return _selected(x, w, gates)
    if not few.any():
        return _dense(x, w, gates)
    out = x.new_empty((len(x), horizon))
    out[few] = _selected(x[few], w, gates[few])
    out[~few] = _dense(x[~few], w, gates[~few])
    return out


def _dense(x: torch.Tensor, w: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    experts = product(x[:, None], w[None]).reshape(
        len(x), gates.shape[1], w.shape[1] // gates.shape[1]
    )
    return experts.mul_(gates[:, :, None]).sum(dim=1)


def _selected(x: torch.Tensor, w: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    """Multiply every expert by the rows that give it weight, in blocks."""
    n_experts, n_columns = gates.shape[1], len(w)
    horizon = w.shape[1] // n_experts
    # kernels want a multiple of columns: the spare ones are a neighbor's
    width = min(-(-horizon // _COLUMNS) * _COLUMNS, w.shape[1])
    size = _block_size(n_columns * width, _ROWS_OF_ONE)
    experts, rows = gates.T.nonzero().T
    if not len(rows):
        return x.new_zeros((len(x), horizon))
    counts = torch.bincount(experts, minlength=n_experts)
    active = counts > 0
    few = bool(counts.max() <= size) and bool(2 * active.sum() >= max(n_experts, 3))
    one_call = few and width == horizon  # with a block of every expert
    n_blocks = torch.where(active, (-(-counts // size)).clamp(min=1 if one_call else 2), one_call)
    ends = torch.cumsum(n_blocks * size, 0)
    # the rows of an expert stand together, up to a whole number of blocks
    shift = ends - n_blocks * size - torch.cumsum(counts, 0) + counts
    slots = torch.arange(len(rows)) + shift[experts]
    held = slots.new_zeros(int(ends[-1]))
    held[slots] = rows
    results = x.new_empty((len(held), width))
    if one_call:
        blocks = x.index_select(0, held).view(n_experts, size, n_columns)
        matrices = w.view(n_columns, n_experts, horizon).transpose(0, 1)
        torch.bmm(blocks, matrices, out=results.view(n_experts, size, width))
    else:
        for expert, (start, stop) in enumerate(pairwise([0, *ends.tolist()])):
            if start == stop:
                continue
            first = min(expert * horizon, w.shape[1] - width)
            own = w[:, first : first + width]  # read where it stands
            blocks = x.index_select(0, held[start:stop]).view(-1, size, n_columns)
            out = results[start:stop]
            torch.bmm(blocks, own.expand(len(blocks), -1, -1), out=out.view(-1, size, width))
            if first < expert * horizon:
                out[:] = out.roll(first - expert * horizon, dims=1)
    # every row adds its results in the order of the experts, whatever the blocks
    slot_of = slots.new_zeros(gates.shape)
    slot_of[rows, experts] = slots
    used = gates != 0
    per_row = used.sum(dim=1)
    return functional.embedding_bag(
        slot_of[used],
        results,
        torch.cumsum(per_row, 0) - per_row,
        mode="sum",
        per_sample_weights=gates[used],
    )[:, :horizon]


def _folded(x: torch.Tensor, w: torch.Tensor, folding: Folding) -> torch.Tensor:
    """Multiply rows that share their gates by the matrix that their experts fold into."""
    gates = torch.from_numpy(folding.gates)
    experts = w.reshape(len(w), gates.shape[1], -1)
    horizon = experts.shape[2]
    out = x.new_empty((len(x), horizon))
    at_a_time = max(1, _FOLDED_ELEMENTS // (len(w) * horizon))
    for start in range(0, len(gates), at_a_time):
        folded = torch.matmul(gates[start : start + at_a_time], experts)  # (K, D, H)
        for i, rows in enumerate(folding.rows[start : start + at_a_time]):
            index = torch.from_numpy(rows)
            out[index] = (x if len(gates) == 1 else x[index]) @ folded[:, i]
    return out
