"""The long-horizon benchmark of the exact search, beside published figures.

    python benchmarks/auto_linear.py [--markdown FILE] [--data ETTh1,illness]

Defaults everywhere: fitted on the training rows, chosen on the validation rows of the protocol, no
refit, every test window. Needs the benchmark files in a folder that MIXLIN_DATA_HOME names.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mixlin import AutoLinearForecaster
from mixlin.backtesting import evaluate_ltsf
from mixlin.solvers import ExactSearch

ETT, SHORT = (96, 192, 336, 720), (24, 36, 48, 60)
DATA = {
    "ETTh1": ("ETTh1", ETT),
    "ETTm1": ("ETTm1", ETT),
    "Exchange": ("exchange_rate", ETT),
    "Illness": ("national_illness", SHORT),
}
MODELS = {
    "AutoLinear": AutoLinearForecaster(),
    "AutoLinear, shared=True": AutoLinearForecaster(shared=True),
    "AutoLinear, best candidate alone": AutoLinearForecaster(solver=ExactSearch(temperature=0.0)),
    "AutoLinear, no prior": AutoLinearForecaster(prior=None),
    "AutoLinear, no calendar": AutoLinearForecaster(solver=ExactSearch(calendar=0)),
    "AutoLinear, no transform": AutoLinearForecaster(solver=ExactSearch(transform=None)),
}
# MSE of the papers, or measured once with a plain script; "-" where there is no comparable figure
PUBLISHED = {
    "repeat last value": {
        "ETTh1": "1.294 - - 1.335",
        "ETTm1": "1.214 - - 1.322",
        "Exchange": ".0811 .1671 .3057 .8101",
        "Illness": "6.213 7.714 7.851 6.885",
    },
    "DLinear, 336": {
        "ETTh1": ".375 .405 .439 .472",
        "ETTm1": ".299 .335 .369 .425",
        "Exchange": ".081 .157 .305 .643",
    },
    "NLinear, 336": {
        "ETTh1": ".374 .408 .429 .440",
        "ETTm1": ".306 .349 .375 .433",
        "Exchange": ".089 .180 .331 1.033",
    },
    "DLinear, run again on all windows": {
        "ETTh1": ".384 .443 .447 .504",
        "ETTm1": ".301 .336 .372 .427",
    },
    "FITS": {"ETTh1": ".372 .404 .427 .424", "ETTm1": ".303 .337 .366 .415"},
    "SparseTSF, 720": {"ETTh1": ".362 .403 .434 .426", "ETTm1": ".312 .347 .367 .419"},
    "CycleNet-Linear, 336": {"ETTh1": ".374 .407 .431 .451", "ETTm1": ".300 .335 .368 .418"},
    "SearchCast, tuned ridge": {
        "ETTh1": ".369 .400 .423 .430",
        "ETTm1": ".297 .332 .357 .396",
        "Exchange": ".081 .167 .305 .811",
    },
    "PatchTST, 336, all windows": {"ETTh1": ".385 .414 .441 .456", "ETTm1": ".293 .331 .366 .419"},
    "TimeMixer, searched": {"ETTh1": ".361 .409 .430 .445", "ETTm1": ".291 .327 .360 .415"},
    "least squares, RLinear's optimum, 512 (illness: 104)": {
        "ETTh1": ".368 .402 .429 .448",
        "Illness": "2.007 1.924 1.907 1.941",
    },
    "least squares, window mean removed, 512 (illness: 104)": {
        "ETTh1": ".367 .401 .427 .440",
        "Illness": "1.959 - - -",
    },
    "least squares, not normalized, 336 (Exchange: 96, illness: 104)": {
        "ETTh1": ".370 .404 .433 .471",
        "ETTm1": ".299 .334 .368 .423",
        "Exchange": ".080 .166 .303 .830",
        "Illness": "2.195 - - -",
    },
    "Time-MoE ultra, fine-tuned": {
        "ETTh1": ".323 .359 .388 .425",
        "ETTm1": ".256 .281 .326 .454",
    },
}


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--models", default=None, help="numbers of rows, such as 0,1")
    parser.add_argument("--split", default="test")
    options = parser.parse_args(argv)
    lines = []
    names = list(MODELS)
    if options.models is not None:
        names = [names[int(i)] for i in options.models.split(",")]
    for data in options.data.split(","):
        dataset, horizons = DATA[data]
        lines += [
            f"| {data} | MSE {' / '.join(map(str, horizons))} | MAE | seconds |",
            "|---|---|---|---|",
        ]
        print(*lines[-2:], sep="\n")
        for name in names:
            found = [
                evaluate_ltsf(MODELS[name], dataset, None, h, split=options.split) for h in horizons
            ]
            lines.append(
                f"| {name} | {' / '.join(f'{r.mse:.4f}' for r in found)} "
                f"| {' / '.join(f'{r.mae:.4f}' for r in found)} "
                f"| {' / '.join(f'{r.fit_seconds:.1f}' for r in found)} |"
            )
            print(lines[-1], flush=True)
        for name, rows in PUBLISHED.items():
            if data in rows:
                lines.append(f"| {name} | {' / '.join(rows[data].split())} | | |")
        lines.append("")
    if options.markdown:
        options.markdown.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
