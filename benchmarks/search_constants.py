"""Constants of the exact search, chosen on validation spans with each data set left out in turn.

Every setting is fitted on the first part of the training rows, chooses on the last fifth of them,
and is scored on the validation span; the test span is never read. One constant is varied at a
time. Printed are the mean log errors relative to the defaults, per data set, and which value the
other data sets would choose for the one that is left out.

    python benchmarks/search_constants.py [--only forgetting,kappas] [--data-home DIR]
"""

from __future__ import annotations

import argparse
import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from mixlin import AutoLinearForecaster
from mixlin.backtesting import evaluate_ltsf
from mixlin.datasets import make_seasonal
from mixlin.solvers import ExactSearch, exact_search, seasonal_prior

INF = np.inf


def datasets() -> dict[str, tuple[object, tuple[int, ...]]]:
    """Return data sets and horizons: four real ones and four of the seasonal generator."""

    def simulated(name, n, freq, channels, seed):
        made = make_seasonal(n, n_channels=channels, freq=freq, as_frame=True, random_state=seed)
        return Bunch(name=name, data=made.frame, feature_names=list(made.frame.columns))

    return {
        "ETTh1": ("ETTh1", (96, 336)),
        "ETTm1": ("ETTm1", (96, 336)),
        "exchange": ("exchange_rate", (96, 336)),
        "illness": ("national_illness", (24, 48)),
        "hourly": (simulated("hourly", 12_000, "h", 4, 11), (24, 168)),
        "hourly, short": (simulated("hourly, short", 2_400, "h", 3, 12), (24,)),
        "15min": (simulated("15min", 20_000, "15min", 3, 13), (96,)),
        "daily": (simulated("daily", 1_800, "D", 4, 14), (14, 28)),
    }


@contextmanager
def changed(module, **values):
    """Set constants of a module for a while."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    seasonal_prior.prior_features.cache_clear()
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
        seasonal_prior.prior_features.cache_clear()


def lookbacks(rule):
    """Return a rule for the lookbacks to try."""

    def made(n_rows, horizon, periods):
        most = max(1, min(n_rows // 5, n_rows - horizon))
        found = rule(n_rows, max(periods, default=1))
        return tuple(sorted({int(min(k, most)) for k in found}))

    return made


def with_cycles(found, n, period):
    """Add two and two and a half cycles where no lookback holds them, up to a fifth of the rows."""
    if not found or 2 * period > max(found):
        found = [*found, min(2 * period, n / 5), min(2.5 * period, n / 5)]
    return found


def fixed(longest, share):
    def rule(n, period):
        if period == 1:
            return (32, 96, 192)
        return with_cycles([k for k in longest if k <= n / share], n, period)

    return rule


def proportional(longest, share, parts=(0.47, 0.71, 1.0)):
    def rule(n, period):
        if period == 1:
            return (32, 96, 192)
        return with_cycles([k * min(longest, n / share) for k in parts], n, period)

    return rule


RULES = {
    "top n/6, cycles": None,
    "336 512 720 up to n/12": fixed((336, 512, 720), 12),
    "336 512 720 up to n/8": fixed((336, 512, 720), 8),
    "168 336 720 up to n/8": fixed((168, 336, 720), 8),
    "336 720 1344 up to n/8": fixed((336, 720, 1344), 8),
    "top n/12": proportional(720, 12),
    "top n/9": proportional(720, 9),
    "top n/6": proportional(720, 6),
}
BASE = {}
VARIANTS = {
    "lookbacks": {name: {"rule": rule} for name, rule in RULES.items()},
    "calendar": {j: {"calendar": j} for j in (2, 0, 1, 3)},
    "cycles": {
        n: {"module": (exact_search, {"_CYCLES_FOR_CALENDAR": n})} for n in (16, 50, 100, 150)
    },
    "forgetting": {
        str(f): {"forgetting": f}
        for f in ((None, 0.3), (None,), (None, 0.15), (None, 0.6), (None, 0.5, 0.15))
    },
    "kappas": {
        str(k): {"kappas": k} for k in ((INF, 1.0), (INF,), (INF, 0.3), (INF, 0.1), (INF, 1, 0.1))
    },
    "recent": {t: {"module": (seasonal_prior, {"RECENT": t})} for t in (0.5, 1.0, 2.0)},
    "corrected": {
        str(a): {"corrected": a}
        for a in ((10.0, INF), (), (INF,), (10.0, 100.0, INF), (1.0, 10.0, 100.0, INF))
    },
    "penalties": {
        "half decades": {},
        "decades": {
            "alphas": tuple(10.0 ** np.arange(-2, 4)),
            "betas": tuple(10.0 ** np.arange(-2, 4)),
        },
        "from 0.1": {
            "alphas": tuple(10.0 ** np.arange(-1, 4)),
            "betas": tuple(10.0 ** np.arange(-1, 4)),
        },
        "to 1e4": {
            "alphas": tuple(10.0 ** np.arange(-2, 5)),
            "betas": tuple(10.0 ** np.arange(-2, 5)),
        },
    },
    "temperature": {t: {"temperature": t} for t in (0.05, 0.0, 0.01, 0.02, 0.1)},
    "transform": {str(t): {"transform": t} for t in ("auto", None, "box-cox")},
}


def score(setting, dataset, horizon, data_home):
    options = {k: v for k, v in setting.items() if k not in ("rule", "module")}
    model = AutoLinearForecaster(horizon=horizon, refit=False, solver=ExactSearch(**options))
    module, values = setting.get("module", (exact_search, {}))
    rule = setting.get("rule")
    extra = {} if rule is None else {"default_lookbacks": lookbacks(rule)}
    from mixlin.auto_linear import estimator

    with changed(module, **values), changed(estimator, **extra):
        result = evaluate_ltsf(
            model, dataset, None, horizon, split="validation", data_home=data_home
        )
    return result.mse


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(VARIANTS))
    parser.add_argument("--base", default="{}", help="JSON of options that replace the defaults")
    parser.add_argument("--rule", help="name of the rule of lookbacks in all other comparisons")
    parser.add_argument("--quick", action="store_true", help="the first horizon of every set")
    parser.add_argument("--data-home")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    known, cache = datasets(), {}
    if options.quick:
        known = {name: (data, horizons[:1]) for name, (data, horizons) in known.items()}
    base = json.loads(options.base)
    if options.rule:
        base["rule"] = RULES[options.rule]
    for name in options.only.split(","):
        table = {}
        for value, setting in VARIANTS[name].items():
            merged = {**base, **setting}
            for key, (dataset, horizons) in known.items():
                logs = []
                for horizon in horizons:
                    tag = (repr(sorted(merged.items(), key=str)), key, horizon)
                    if tag not in cache:
                        cache[tag] = score(merged, dataset, horizon, options.data_home)
                    logs.append(np.log(cache[tag]))
                table.setdefault(str(value), {})[key] = float(np.mean(logs))
        report(name, table)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / f"{name}.json").write_text(json.dumps(table, indent=1))


def report(name, table) -> None:
    values, keys = list(table), list(next(iter(table.values())))
    first = values[0]
    print(f"\n## {name} (percent against {first})")
    for value in values:
        gaps = [100 * (table[value][k] - table[first][k]) for k in keys]
        shown = " ".join(f"{k} {g:+.2f};" for k, g in zip(keys, gaps, strict=True))
        print(f"{value}: mean {np.mean(gaps):+.2f}  {shown}")
    for left_out in keys:
        rest = [k for k in keys if k != left_out]
        best = min(values, key=lambda v: np.mean([table[v][k] for k in rest]))
        own = min(values, key=lambda v: table[v][left_out])
        lost = 100 * (table[best][left_out] - table[own][left_out])
        print(f"  without {left_out}: {best} (costs {lost:.2f} % there against {own})", flush=True)


if __name__ == "__main__":
    main()
