"""Every forecaster and transformer passes all of scikit-learn's own checks; none is excused."""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections import Counter

import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

import mixlin
from mixlin.base import BaseForecaster

PUBLIC = [getattr(mixlin, name) for name in mixlin.__all__]
FORECASTERS = [c for c in PUBLIC if inspect.isclass(c) and issubclass(c, BaseForecaster)]
LINEAR = [
    mixlin.DLinearForecaster,
    mixlin.LinearForecaster,
    mixlin.NLinearForecaster,
    mixlin.RLinearForecaster,
]

# A check may be skipped only where the library that it reads its data with is not there.
MAY_SKIP = {
    "check_array_api_input": os.environ.get("SCIPY_ARRAY_API") != "1",
    "check_sample_weights_pandas_series": importlib.util.find_spec("pandas") is None,
    "check_regressor_data_not_an_array": importlib.util.find_spec("pandas") is None,
}


def variants() -> list[BaseEstimator]:
    made: list[BaseEstimator] = [cls() for cls in FORECASTERS]
    for cls in LINEAR:
        made += [
            cls(individual="partial"),
            cls(individual=True),
            cls(alpha=0),
            cls(alpha=10.0, scale="std"),
            cls(backend="numpy"),
        ]
    made += [
        mixlin.LinearForecaster(normalization="revin"),
        mixlin.LinearForecaster(normalization="mean", fit_intercept=False),
        mixlin.DLinearForecaster(kernel_size=3, normalization="last"),
        mixlin.RLinearForecaster(fit_intercept=True),
    ]
    return made


TRANSFORMERS = [mixlin.SeriesDecomposer(), mixlin.SeriesDecomposer(kernel_size=3)]


@parametrize_with_checks([*variants(), *TRANSFORMERS])
def test_passes_the_check(estimator, check):
    check(estimator)


def test_every_public_forecaster_is_covered():
    assert {cls.__name__ for cls in FORECASTERS} >= {cls.__name__ for cls in LINEAR}


@pytest.mark.parametrize("cls", [*FORECASTERS, mixlin.SeriesDecomposer], ids=lambda c: c.__name__)
def test_the_number_of_checks_passed_is_what_it_should_be(cls):
    """A wrong tag would silently drop most of them; 52 is what a plain regressor gets on 1.6."""
    results = check_estimator(cls(), on_skip=None, on_fail=None)
    counted = Counter(result["status"] for result in results)
    not_passed = {r["check_name"]: str(r["exception"]) for r in results if r["status"] != "passed"}
    allowed = {name for name, may in MAY_SKIP.items() if may}
    assert set(not_passed) <= allowed, not_passed
    assert set(counted) <= {"passed", "skipped"}
    least = 44 if cls is mixlin.SeriesDecomposer else 57
    assert counted["passed"] >= least, counted
    assert counted["passed"] + counted["skipped"] == len(results)


def test_the_count_notices_a_check_that_fails():
    class Broken(mixlin.LinearForecaster):
        def predict(self, X=None, *, horizon=None, timestamps=None):
            return super().predict(X, horizon=horizon, timestamps=timestamps)[::-1]

    del mixlin.base.FORECASTERS["Broken"]
    results = check_estimator(Broken(), on_skip=None, on_fail=None)
    assert any(result["status"] == "failed" for result in results)
