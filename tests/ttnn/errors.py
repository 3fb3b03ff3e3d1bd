"""How far forecasts and gates may be from those of numpy in float64, by the card's format."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEVELS = (0.0, 1e3, 1e6)
DTYPES = ("bfloat16", "float32", "bfloat8_b")


class Errors(NamedTuple):
    """Of forecasts; all but the first as a share of the standard deviation of all forecasts."""

    pcc: float
    rms: float
    tail: float  # 99.9 % of the errors are smaller
    largest: float


# weights of bfloat8_b have 7 bits, with an exponent that 16 of them share
BOUNDS = {
    "bfloat16": Errors(0.999, 0.005, 0.02, np.inf),
    "float32": Errors(0.999999, 1e-5, 1e-4, np.inf),
    "bfloat8_b": Errors(0.999, 0.02, 0.10, np.inf),
}
GATES_PCC = {"bfloat16": 0.999, "float32": 0.999999, "bfloat8_b": 0.99}  # of all gates


def errors_of(actual, expected):
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    center, spread = expected.mean(), expected.std()
    actual, expected = (actual - center).ravel() / spread, (expected - center).ravel() / spread
    off = np.abs(actual - expected)
    return Errors(
        float(np.corrcoef(actual, expected)[0, 1]),
        float(np.sqrt(np.mean(off**2))),
        float(np.quantile(off, 0.999)),
        float(off.max()),
    )


def assert_near(found, dtype):
    bound = BOUNDS[dtype]
    assert found.pcc >= bound.pcc, f"{dtype}: correlation {found.pcc}"
    assert found.rms <= bound.rms, f"{dtype}: RMS error {found.rms:.3%}"
    assert found.tail <= bound.tail, f"{dtype}: 99.9 % of the errors are up to {found.tail:.3%}"


def gates_pcc(actual, expected):
    assert actual.shape == expected.shape
    assert actual.min() >= 0.0
    return float(np.corrcoef(actual.ravel(), expected.ravel())[0, 1])


def assert_gates_near(pcc, dtype):
    assert pcc >= GATES_PCC[dtype], f"{dtype}: correlation of gates {pcc}"
