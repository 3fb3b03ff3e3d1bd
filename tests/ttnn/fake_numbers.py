"""The numbers of the stand-in for ttnn: what tiles can store, and operations on plain arrays."""

from __future__ import annotations

import math

import numpy as np

TILE = 32
BLOCK = 16


def round_bfloat16(values):
    """Round to bfloat16, ties to even, and return float32 numbers."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    # adding to the bits of a NaN could carry it to infinity or zero
    kept = np.where(np.isnan(values), bits | np.uint32(0x400000), rounded)
    return (kept & np.uint32(0xFFFF0000)).view(np.float32).reshape(values.shape)


def round_bfloat8_b(values):
    """Round to bfloat8_b: 16 neighbors of a row share an exponent, seven bits each."""
    values = np.asarray(values, dtype=np.float64)
    shape = values.shape
    rows = values.reshape(-1, shape[-1]) if shape else values.reshape(1, 1)
    short = -rows.shape[1] % BLOCK
    blocks = np.pad(rows, ((0, 0), (0, short))).reshape(rows.shape[0], -1, BLOCK)
    largest = np.abs(blocks).max(axis=-1, keepdims=True, initial=0.0)
    # frexp gives fractions in [0.5, 1): the leading bit of the largest is worth 2 ** (e - 1)
    _, exponent = np.frexp(np.where(np.isfinite(largest), largest, 1.0))
    step = np.ldexp(1.0, exponent - 7)
    with np.errstate(invalid="ignore"):
        kept = np.clip(np.rint(blocks / step), -127.0, 127.0) * step
        # an infinite exponent leaves its neighbors nothing
        kept = np.where(np.isfinite(largest), kept, np.nan)
    flat = kept.reshape(rows.shape[0], -1)[:, : rows.shape[1]]
    return flat.reshape(shape).astype(np.float32)


def garbage(shape):
    """Return finite numbers that no forecast holds, the same ones every time."""
    return (np.random.default_rng(20130).uniform(0.5, 1.0, shape) * 3e4).astype(np.float32)


def padded(shape):
    """Return the shape that tiles of 32 x 32 take; a single row counts as a tile of rows."""
    if len(shape) == 1:
        shape = (1, *shape)
    return (*shape[:-2], *(-(-size // TILE) * TILE for size in shape[-2:]))


def matmul(a, b):
    """Multiply row by row: a row's numbers never depend on its neighbors."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    out = np.zeros((*batch, rows, columns))
    a = np.broadcast_to(a, (*batch, rows, inner))
    b = np.broadcast_to(b, (*batch, inner, columns))
    for index in np.ndindex(*batch):
        weight = np.ascontiguousarray(b[index])
        for row in range(rows):
            out[(*index, row)] = np.dot(np.ascontiguousarray(a[(*index, row)]), weight)
    return out


def gelu(x):
    erf = np.frompyfunc(math.erf, 1, 1)
    return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)).astype(np.float64))


def gelu_tanh(x):
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def sigmoid(x):
    return np.where(x >= 0, 1.0, np.exp(-np.abs(x))) / (1.0 + np.exp(-np.abs(x)))


def softmax(x, axis):
    x = np.exp(x - x.max(axis=axis, keepdims=True))
    return x / x.sum(axis=axis, keepdims=True)


def topk(x, k, axis, largest):
    order = np.argsort(-x if largest else x, axis=axis, kind="stable")
    index = np.take(order, range(k), axis=axis)
    return np.take_along_axis(x, index, axis=axis), index


def scatter(x, index, source, axis):
    out = x.copy()
    np.put_along_axis(out, index.astype(np.int64), source, axis=axis)
    return out


UNARY = {
    "abs": np.abs,
    "exp": np.exp,
    "gelu": gelu,
    "gez": lambda x: (x >= 0).astype(float),
    "gtz": lambda x: (x > 0).astype(float),
    "isfinite": lambda x: np.isfinite(x).astype(float),
    "isnan": lambda x: np.isnan(x).astype(float),
    "log": np.log,
    "ltz": lambda x: (x < 0).astype(float),
    "neg": np.negative,
    "reciprocal": lambda x: 1.0 / x,
    "relu": lambda x: np.maximum(x, 0.0),
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "sigmoid": sigmoid,
    "sigmoid_accurate": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "sqrt": np.sqrt,
    "square": np.square,
    "tanh": np.tanh,
}

BINARY = {
    "add": np.add,
    "divide": np.divide,
    "eq": lambda x, y: (x == y).astype(float),
    "ge": lambda x, y: (x >= y).astype(float),
    "gt": lambda x, y: (x > y).astype(float),
    "le": lambda x, y: (x <= y).astype(float),
    "lt": lambda x, y: (x < y).astype(float),
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "ne": lambda x, y: (x != y).astype(float),
    "pow": np.power,
    "rsub": lambda x, y: y - x,
    "subtract": np.subtract,
}

REDUCTIONS = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min}

FUSED = {name: UNARY[name] for name in ("relu", "gelu", "sigmoid", "tanh", "silu")}
