"""Scorers for scikit-learn's model selection that need no ``y``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRequest

from .arrays import Figure
from .point import mae, mase, mse, naive_error, smape, wape


def forecast_scorer(
    metric: str | Callable[..., Any] = "mae",
    *,
    greater_is_better: bool | None = None,
    **kwargs: Any,
) -> _ForecastScorer:
    """Make a scorer that evaluates a fitted forecaster on a series or on windows.

    scikit-learn's own scorers need a ``y``, which a series does not have. This one goes through
    the windows that the forecaster's ``score`` uses: ``scorer(forecaster, series)`` or
    ``scorer(forecaster, X, y)``. Larger is better, so losses come back negated. Use it as
    ``scoring`` in ``cross_val_score`` and ``GridSearchCV``, alone or several in a dict.

    Parameters
    ----------
    metric : {"mae", "mase", "mse", "smape", "wape"} or callable, default="mae"
        Name of a function of this module, or ``metric(y_true, y_pred, **kwargs) -> float`` on
        arrays of shape (n_windows, horizon) or (n_windows, horizon, n_channels).
    greater_is_better : bool, default=None
        Direction of a callable; None means a loss, as False does. The named ones are losses.
    **kwargs : dict
        Passed on to the metric: ``y_train`` (required) and ``period`` for "mase", anything for a
        callable.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None, *, sample_weight=None, timestamps=None) -> float``. It can
        be pickled if a callable ``metric`` can. ``sample_weight`` is for windows. ``timestamps``
        go to the forecaster and are requested from scikit-learn's metadata routing.

    Raises
    ------
    ValueError
        If the metric is unknown, the direction of a named one is reversed, or "mase" has no
        usable training series.
    TypeError
        If a named metric does not take one of ``kwargs``. When called: if the estimator is no
        forecaster of this package, a Pipeline that ends in one (on windows), or a search over
        one of them.

    Examples
    --------
    >>> from mixlin.metrics import forecast_scorer
    >>> forecast_scorer("mase", y_train=[0.0, 2.0, 0.0, 2.0], period=1)
    forecast_scorer('mase', y_train=<shape (4,)>, period=1)
    """
    name = metric if isinstance(metric, str) else None
    if name is not None:
        if name not in _SCORED:
            raise ValueError(
                f"metric={name!r} is not among {sorted(_SCORED)}, the measures of point forecasts; "
                "pass one of them or a callable metric(y_true, y_pred)."
            )
        unknown = sorted(set(kwargs) - set(_SCORED[name][1]))
        if unknown:
            accepted = ", ".join(_SCORED[name][1]) or "no further arguments"
            raise TypeError(f"metric={name!r} got {unknown}; it takes {accepted}.")
        if greater_is_better:
            raise ValueError(f"{name!r} is a loss; leave greater_is_better out.")
        if name == "mase":
            if kwargs.get("y_train") is None:
                raise ValueError(
                    "metric='mase' needs the training series that gives its scale: pass y_train=."
                )
            naive_error(kwargs["y_train"], kwargs.get("period", 1))
    elif not callable(metric):
        raise ValueError(
            f"metric must be one of {sorted(_SCORED)} or a callable metric(y_true, y_pred); got "
            f"{metric!r}."
        )
    return _ForecastScorer(metric, bool(greater_is_better), kwargs)


# Measures of point forecasts that a scorer can be made of, and the arguments each one takes.
_SCORED: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "mae": (mae, ()),
    "mase": (mase, ("y_train", "period")),
    "mse": (mse, ()),
    "smape": (smape, ()),
    "wape": (wape, ()),
}


class _ForecastScorer:
    """What forecast_scorer returns; a class, so that it can be pickled and shown."""

    def __init__(
        self, metric: str | Callable[..., Any], greater_is_better: bool, kwargs: dict[str, Any]
    ) -> None:
        self._metric = metric
        self._greater_is_better = greater_is_better
        self._kwargs = kwargs

    def __call__(
        self,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        timestamps: Any = None,
    ) -> float:
        kwargs = dict(self._kwargs)
        if sample_weight is not None:
            if y is None:
                raise ValueError(
                    "sample_weight weighs windows, so it needs X and y; on a series leave it out."
                )
            kwargs["sample_weight"] = sample_weight
        y_true, y_pred = _forecasts(estimator, X, y, timestamps)
        function = _SCORED[self._metric][0] if isinstance(self._metric, str) else self._metric
        value = np.asarray(function(y_true, y_pred, **kwargs))
        if value.ndim or value.dtype.kind not in "biuf":
            raise ValueError(f"{self!r} needs a metric that returns one number; got {value!r}.")
        return float(value) if self._greater_is_better else -float(value)

    def __repr__(self) -> str:
        metric = self._metric
        shown = [
            repr(metric) if isinstance(metric, str) else getattr(metric, "__name__", repr(metric))
        ]
        if self._greater_is_better:
            shown.append("greater_is_better=True")
        for name, value in self._kwargs.items():
            sized = name == "y_train" or isinstance(value, np.ndarray)
            shown.append(f"{name}=<shape {np.shape(value)}>" if sized else f"{name}={value!r}")
        return f"forecast_scorer({', '.join(shown)})"

    def get_metadata_routing(self) -> MetadataRequest:
        """Ask scikit-learn's metadata routing for ``timestamps``."""
        request = MetadataRequest(owner="forecast_scorer")
        request.score.add_request(param="timestamps", alias=True)
        return request

    def _accept_sample_weight(self) -> bool:
        # Newer releases of scikit-learn ask whether the weights given to a search should reach
        # the scorer. On a series they are weights of rows, which do not weigh windows.
        return False


def _forecasts(estimator: Any, X: Any, y: Any, timestamps: Any) -> tuple[Any, Any]:
    """Return targets and forecasts on the windows that the estimator's own score uses."""
    if hasattr(estimator, "_forecasts_for_scoring"):
        pair: tuple[Any, Any] = estimator._forecasts_for_scoring(X, y, timestamps=timestamps)
        return pair
    if hasattr(estimator, "best_estimator_"):  # a fitted search
        return _forecasts(estimator.best_estimator_, X, y, timestamps)
    if isinstance(estimator, Pipeline):
        if y is None:
            raise TypeError(
                "forecast_scorer takes a Pipeline on windows only, with X and y: over a series its "
                "steps change the data that the forecasts are compared with. Score the forecaster "
                "itself, and scale with its own parameters."
            )
        for _, step in estimator.steps[:-1]:
            if step is not None and not isinstance(step, str):  # "passthrough"
                X = step.transform(X)
        return _forecasts(estimator.steps[-1][1], X, y, timestamps)
    raise TypeError(
        f"forecast_scorer takes a fitted forecaster of mixlin, a Pipeline on windows that ends in "
        f"one, or a fitted search over one; got {type(estimator).__name__}. For other estimators "
        "use scikit-learn's own scorers on windows, e.g. scoring='neg_mean_absolute_error'."
    )
