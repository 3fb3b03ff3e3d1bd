"""Model files: bit-identical forecasts, all or nothing, no harm from damaged or foreign ones."""

import ast
import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

import mixlin
from mixlin import (
    DLinearForecaster,
    ExactSolver,
    LinearForecaster,
    NLinearForecaster,
    RLinearForecaster,
)
from mixlin import persistence as persistence_module
from mixlin.backends import resolve
from mixlin.layers import Block, Layer
from mixlin.mixture import FixedPlan, Mixture, predict_windows
from mixlin.normalization import Normalization
from mixlin.persistence import read_record, write_record
from mixlin.routing import ConstantRouter, Evidence, Gate, Router

FORECASTERS = (LinearForecaster, NLinearForecaster, DLinearForecaster, RLinearForecaster)
T, C, L, H = 90, 2, 12, 3


def make_series(n_channels=C, seed=0, n_rows=T):
    rng = np.random.default_rng(seed)
    steps = np.arange(n_rows)[:, None]
    wave = np.sin(2 * np.pi * steps / (6 + np.arange(n_channels))) * (1 + np.arange(n_channels))
    return wave + 0.3 * rng.normal(size=(n_rows, n_channels)) + 0.01 * steps


def make_windows(*trailing):
    rng = np.random.default_rng(1)
    return rng.normal(size=(70, L, *trailing)), rng.normal(size=(70, H, *trailing))


def make_frame(index, columns=("load", "heat")):
    pd = pytest.importorskip("pandas")
    return pd.DataFrame(make_series(), index=index(pd), columns=list(columns))


def date_index(zone=None, freq="h"):
    return lambda pd: pd.date_range("2024-03-28 05:00", periods=T, freq=freq, tz=zone, name="when")


def make_state_dict(cls, groups):
    rng = np.random.default_rng(2)
    names = {
        LinearForecaster: ("Linear",),
        NLinearForecaster: ("Linear",),
        DLinearForecaster: ("Linear_Seasonal", "Linear_Trend"),
    }[cls]
    parts = [""] if groups is None else [f".{i}" for i in range(groups)]
    shapes = {"weight": (H, L), "bias": (H,)}
    return {
        f"{name}{part}.{kind}": rng.normal(size=shape)
        for name in names
        for part in parts
        for kind, shape in shapes.items()
    }


# name: (parameters, fit arguments, arguments of predict beside none); made when asked for
TRAINING = {
    "series 1-D": lambda: ({}, (make_series()[:, 0],), make_series(1, 5)[:, 0]),
    "series 2-D": lambda: ({}, (make_series(),), make_series(seed=5)),
    "series float32": lambda: ({}, (make_series().astype(np.float32),), make_series(seed=5)),
    "many series": lambda: (
        {},
        ([make_series(), make_series(seed=3, n_rows=50)],),
        [make_series(seed=5)],
    ),
    "windows 2-D": lambda: ({}, make_windows(), make_windows()[0][:9]),
    "windows 1-D target": lambda: (
        {},
        (make_windows()[0], make_windows()[1][:, 0]),
        make_windows()[0][:9],
    ),
    "windows 3-D": lambda: ({}, make_windows(C), make_windows(C)[0][:9]),
    "individual": lambda: ({"individual": True}, (make_series(),), make_series(seed=5)),
    "partial, nested solver": lambda: (
        {"individual": "partial", "solver": ExactSolver(pooling=2.5)},
        (make_series(),),
        make_series(seed=5),
    ),
    "infinite pooling": lambda: (
        {"individual": "partial", "solver": ExactSolver(pooling=np.inf)},
        (make_series(),),
        make_series(seed=5),
    ),
    "prior array": lambda: (
        {"prior": np.random.default_rng(4).normal(size=(H, L)), "alpha": 0.3},
        (make_series(),),
        make_series(seed=5),
    ),
    "prior lists": lambda: (
        {"prior": np.eye(L)[:H].tolist(), "alpha": np.float64(0.3)},
        (make_series(),),
        make_series(seed=5),
    ),
    "backend instance": lambda: (
        {"backend": resolve("numpy")},
        (make_series(),),
        make_series(seed=5),
    ),
    "frame of naive dates": lambda: ({}, (make_frame(date_index()),), None),
    "frame of zoned dates": lambda: ({}, (make_frame(date_index("Europe/Berlin")),), None),
    "frame of UTC dates": lambda: ({}, (make_frame(date_index("UTC")),), None),
    "frame of fixed offsets": lambda: (
        {},
        (make_frame(date_index(timezone(timedelta(hours=5, minutes=30)))),),
        None,
    ),
    "frame of months": lambda: ({}, (make_frame(date_index(freq="MS")),), None),
    "frame of periods": lambda: (
        {},
        (make_frame(lambda pd: pd.period_range("2001-01", periods=T, freq="M")),),
        None,
    ),
    "frame of weekly periods": lambda: (
        {},
        (make_frame(lambda pd: pd.period_range("2001-01", periods=T, freq="W-WED")),),
        None,
    ),
    "frame of time deltas": lambda: (
        {},
        (make_frame(lambda pd: pd.timedelta_range("3h", periods=T, freq="15min")),),
        None,
    ),
    "frame of integers": lambda: (
        {},
        (make_frame(lambda pd: pd.RangeIndex(100, 100 + 5 * T, 5, name="step")),),
        None,
    ),
    "frame of integer columns": lambda: ({}, (make_frame(date_index(), columns=(3, 7)),), None),
    "frame of nested columns": lambda: (
        {},
        (make_frame(date_index()).set_axis(nested_columns(), axis=1),),
        None,
    ),
    "pandas series": lambda: ({}, (make_frame(date_index())["load"],), None),
    "many frames": lambda: (
        {},
        ([make_frame(date_index()), make_frame(date_index("UTC"))],),
        None,
    ),
}


def nested_columns():
    pd = pytest.importorskip("pandas")
    return pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["site", "meter"])


def assert_same(one, other):
    """Compare containers bit by bit, labels and dtypes included."""
    assert type(one) is type(other)
    if isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()
    else:
        import pandas as pd

        check = pd.testing.assert_frame_equal if one.ndim == 2 else pd.testing.assert_series_equal
        check(one, other, check_exact=True)
        assert one.to_numpy().tobytes() == other.to_numpy().tobytes()


def same_parameter(one, other):
    if hasattr(one, "get_params"):
        return type(one) is type(other) and one.get_params() == other.get_params()
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if hasattr(one, "spec"):  # a backend is stored as its spec
        return other == one.spec
    return type(one) in (type(other), np.float64) and one == other


@pytest.mark.parametrize("kind", TRAINING)
@pytest.mark.parametrize("cls", FORECASTERS)
def test_loaded_models_are_the_saved_ones(cls, kind, tmp_path):
    params, data, context = TRAINING[kind]()
    series = len(data) == 1
    model = cls(L, H if series else None, **params).fit(*data)
    model.save(tmp_path / "model")
    again = mixlin.load(tmp_path / "model")
    assert type(again) is cls

    for args in ([()] if series else []) + ([] if context is None else [(context,)]):
        assert_same(again.predict(*args), model.predict(*args))
        assert_same(again.predict_interval(*args), model.predict_interval(*args))
        assert_same(again.predict_quantiles(*args), model.predict_quantiles(*args))
    if series and not isinstance(data[0], list):
        assert_same(again.predict(data[0][-40:]), model.predict(data[0][-40:]))
    assert again.score(*data) == model.score(*data)
    assert_same(again.coef_, model.coef_)
    assert_same(again.intercept_, model.intercept_)

    before, after = model.get_params(deep=False), again.get_params(deep=False)
    assert before.keys() == after.keys()
    for name in before:
        assert same_parameter(before[name], after[name]), name
    if hasattr(model, "feature_names_in_"):
        assert again.feature_names_in_.tolist() == model.feature_names_in_.tolist()
        assert again.feature_names_in_.dtype == object
    for name in ("lookback_", "horizon_", "n_features_in_", "n_channels_in_", "mode_"):
        assert getattr(again, name) == getattr(model, name)
    if series:
        assert again.cutoff_ == model.cutoff_
        assert again.freq_ == model.freq_

    # the loaded model saves to the same bytes
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


def test_the_comparison_notices_the_last_bit():
    array = np.array([0.1, 0.2])
    assert_same(array, array.copy())
    with pytest.raises(AssertionError):
        assert_same(array, np.nextafter(array, 1.0))
    with pytest.raises(AssertionError):
        assert_same(array, array.astype(np.float32))
    with pytest.raises(AssertionError):
        assert_same(np.array([0.0]), np.array([-0.0]))


@pytest.mark.parametrize("groups", [None, C])
@pytest.mark.parametrize("cls", [LinearForecaster, NLinearForecaster, DLinearForecaster])
def test_imported_weights_are_saved(cls, groups, tmp_path):
    model = cls.from_state_dict(make_state_dict(cls, groups))
    model.save(tmp_path / "model")
    again = mixlin.load(tmp_path / "model")
    windows = make_windows(C)[0]
    assert_same(again.predict(windows), model.predict(windows))
    with pytest.raises(ValueError, match="no training residuals"):
        again.predict_interval(windows)


def test_stamps_of_arrays_are_saved(tmp_path):
    stamps = np.datetime64("2024-02-28T12", "h") + np.arange(T)
    model = LinearForecaster(L, H).fit(make_series(), timestamps=stamps)
    model.save(tmp_path / "model")
    again = mixlin.load(tmp_path / "model")
    assert again.cutoff_ == stamps[-1]
    assert again.cutoff_.dtype == stamps.dtype
    more = make_series(seed=9)
    later = stamps[-1] + 1 + np.arange(T)
    assert again.score(more, timestamps=later) == model.score(more, timestamps=later)
    assert again.score(more) == model.score(more)


def test_score_glues_a_fold_to_the_loaded_tail(tmp_path):
    series = make_series()
    model = LinearForecaster(L, H).fit(series[:-10])
    model.save(tmp_path / "model")
    again = mixlin.load(tmp_path / "model")
    assert again.score(series[-10:]) == model.score(series[-10:])  # ten rows: too few alone
    assert again.score(series[:50]) == model.score(series[:50])


@pytest.mark.parametrize("cls", FORECASTERS)
@pytest.mark.parametrize("kind", ["series 2-D", "windows 3-D"])
def test_partial_fit_after_load_says_why_not(cls, kind, tmp_path):
    _, data, _ = TRAINING[kind]()
    model = cls(L, H if len(data) == 1 else None).fit(*data)
    model.save(tmp_path / "model")
    again = mixlin.load(tmp_path / "model")
    before = dict(vars(again))
    with pytest.raises(ValueError, match=r"loaded from a file.*Call fit to start anew"):
        again.partial_fit(*data)
    assert vars(again) == before
    assert_same(again.fit(*data).coef_, model.coef_)


@pytest.mark.parametrize("kind", ["series 2-D", "windows 2-D", "frame of zoned dates"])
def test_saving_twice_gives_the_same_bytes(kind, tmp_path):
    params, data, context = TRAINING[kind]()
    model = RLinearForecaster(L, H if len(data) == 1 else None, **params).fit(*data)
    model.save(tmp_path / "one")
    model.predict_interval(*([] if len(data) == 1 else [context]))  # using it changes nothing
    model.save(str(tmp_path / "two"))
    refit = RLinearForecaster(L, H if len(data) == 1 else None, **params).fit(*data)
    refit.save(tmp_path / "three")
    one = (tmp_path / "one").read_bytes()
    assert one == (tmp_path / "two").read_bytes()
    assert one == (tmp_path / "three").read_bytes()


def test_files_are_safetensors_that_other_tools_read(tmp_path):
    model = LinearForecaster(L, H).fit(make_series())
    model.save(tmp_path / "model")
    tensors = load_tensors((tmp_path / "model").read_bytes())
    assert any(t.shape == (1, 1, L, H) for t in tensors.values())


def test_unfitted_models_are_not_saved(tmp_path):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        LinearForecaster(L, H).save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


# -- records -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpreadRouter(Router):
    """A router of a user."""

    power: float = 1.0
    names: tuple = ()

    def features(self, windows, timestamps, horizon):
        spread = windows.std(axis=2, keepdims=True) ** self.power
        return np.concatenate([spread, np.ones_like(spread)], axis=2)


def make_plan():
    rng = np.random.default_rng(6)

    def draw(*shape):
        return rng.normal(size=shape)

    mixture = Mixture(
        draw(H, 8, 3, 1).transpose(3, 2, 1, 0),  # not in C order
        bias=draw(C, 3, H),
        scale_coef=draw(1, 3, H),
        level_coef=draw(1, 3, H),
        extra_coef=draw(1, 2, H),
        normalization=Normalization("mean", True, np.array([1e-5, 1e-4]), 1, False),
        reference=np.array([0.5, -0.5]),
        gate=Gate(
            SpreadRouter(0.5, ("a", "b")),
            (Layer(draw(5, 2, 1).T, draw(1, 5), "tanh"), Layer(draw(C, 5, 3))),
            top_k=2,
            temperature=0.3,
            evidence=(
                Evidence(
                    "backtest", draw(3, 4, 2), 2.0, step=3, ahead=(1, 4), floor=0.1, power=0.5
                ),
                Evidence("energy", draw(2, L, 3).T, 0.5),
            ),
        ),
        pre=(Block((Layer(draw(1, L, 8), draw(1, 8), "gelu"),)),),
        post=(Block((Layer(draw(1, C, C), draw(1, C), axis="channel"),), residual=True),),
    )
    return FixedPlan(L, H, C, residual=draw(C, H) ** 2, fixed=mixture)


def test_gated_mixtures_with_a_router_of_ones_own_come_back(tmp_path):
    plan = make_plan()
    write_record({"plan": plan, "note": "hand-made"}, tmp_path / "plan", "0")
    record = read_record(tmp_path / "plan")
    assert record["note"] == "hand-made"
    again = record["plan"]
    rng = np.random.default_rng(7)
    windows, extra = rng.normal(size=(33, C, L)), rng.normal(size=(33, C, 2))
    expected = predict_windows(plan.mixture(), windows, extra=extra)
    assert_same(predict_windows(again.mixture(), windows, extra=extra), expected)
    assert_same(again.residual_variance, plan.residual_variance)
    assert (again.lookback, again.horizon, again.n_channels) == (L, H, C)
    mixture = again.mixture()
    assert mixture.gate.router == SpreadRouter(0.5, ("a", "b"))
    assert mixture.gate.top_k == 2
    test = mixture.gate.evidence[0]
    assert (test.step, test.ahead, test.floor, test.power) == (3, (1, 4), 0.1, 0.5)
    assert mixture.normalization.ddof == 1
    assert mixture.normalization.eps_inside is False
    assert mixture.weights.tolist() == plan.mixture().weights.tolist()


def test_evidence_written_before_its_newer_fields_comes_back(tmp_path, monkeypatch):
    fields = sys.modules["mixlin.persistence"]._fields
    newer = ("ahead", "floor", "power")

    def older(value):
        return {name: field for name, field in fields(value).items() if name not in newer}

    plain = Evidence("backtest", np.ones((3, 4, 2)), 2.0, step=3)
    monkeypatch.setattr(sys.modules["mixlin.persistence"], "_fields", older)
    write_record({"evidence": plain}, tmp_path / "evidence", "0")
    assert b"floor" not in (tmp_path / "evidence").read_bytes()
    again = read_record(tmp_path / "evidence")["evidence"]
    assert (again.step, again.ahead, again.floor, again.power) == (3, None, 0.0, 1.0)
    assert_same(again.weights, plain.weights)


def test_a_router_unknown_here_is_refused_with_its_name(tmp_path, monkeypatch):
    write_record({"plan": make_plan()}, tmp_path / "plan", "0")
    monkeypatch.delitem(sys.modules["mixlin.gates"]._ROUTERS, "SpreadRouter")
    with pytest.raises(ValueError, match=r"unknown router 'SpreadRouter'.*ConstantRouter"):
        read_record(tmp_path / "plan")


PLAIN = [
    None,
    True,
    0,
    -(2**70),
    0.1,
    float("inf"),
    float("-inf"),
    5e-324,
    -0.0,
    "",
    "Zürich\n\0 ünï",
    [1, (2, [3.5, None]), "x"],
    (),
    {},
    {"a": {"b": (1,)}, "": 0},
    np.datetime64("2024-02-29T01", "h"),
    np.datetime64(7, "25s"),
    np.datetime64("NaT", "D"),
    ConstantRouter(),
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_values_come_back_as_they_were(value, tmp_path):
    write_record({"value": value}, tmp_path / "plain", "0")
    again = read_record(tmp_path / "plain")["value"]
    assert type(again) is type(value)
    assert repr(again) == repr(value)


def test_nan_and_numpy_scalars_become_plain_numbers(tmp_path):
    given = {"nan": float("nan"), "int": np.int32(3), "float": np.float32(0.5), "bool": np.bool_(1)}
    write_record(given, tmp_path / "plain", "0")
    again = read_record(tmp_path / "plain")
    assert np.isnan(again["nan"])
    assert (again["int"], again["float"], again["bool"]) == (3, 0.5, True)
    assert [type(again[k]) for k in ("int", "float", "bool")] == [int, float, bool]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12, dtype=np.float32)[::-2],
        np.array(2.5),
        np.zeros((0, 3)),
        np.zeros(0),
        np.array([np.nan, np.inf, -0.0, 5e-324]),
        np.array([True, False]),
        np.arange(3, dtype=np.uint8),
        np.array([-(2**62)], dtype=np.int64),
        np.arange(3, dtype=">f8"),
        np.arange(3, dtype=">i4"),
        np.float16([0.1]),
    ],
    ids=lambda a: f"{a.dtype.str}{a.shape}",
)
def test_arrays_come_back_bit_for_bit(array, tmp_path):
    write_record({"array": array}, tmp_path / "array", "0")
    again = read_record(tmp_path / "array")["array"]
    native = array.astype(array.dtype.newbyteorder("="))
    assert again.dtype == native.dtype
    assert again.shape == array.shape
    assert again.tobytes() == native.tobytes()


class NotPlain:
    """Nothing that a file can hold."""


UNSAVED = [
    NotPlain(),
    NotPlain,
    np.sin,
    {1, 2},
    b"bytes",
    1j,
    np.array([1j]),
    np.array([1.0], dtype=np.longdouble),
    np.array([{"a": 1}], dtype=object),
    np.array(["2024"], dtype="datetime64[Y]"),
    np.array([["a"], ["b"]]),
    {1: "one"},
    np.random.RandomState(0),
    np.timedelta64(3, "h"),
]


@pytest.mark.parametrize("value", UNSAVED, ids=lambda v: type(v).__name__)
def test_what_cannot_be_saved_is_refused_and_the_old_file_stays(value, tmp_path):
    target = tmp_path / "model"
    write_record({"value": 1}, target, "0")
    before = target.read_bytes()
    with pytest.raises(TypeError, match=r"can(?:'t)? be saved in a model file"):
        write_record({"value": [value]}, target, "0")
    assert target.read_bytes() == before
    assert os.listdir(tmp_path) == ["model"]


def test_a_model_with_such_a_parameter_is_refused_and_the_old_file_stays(tmp_path):
    model = LinearForecaster(L, H).fit(make_series())
    model.save(tmp_path / "model")
    before = (tmp_path / "model").read_bytes()
    model.set_params(random_state=np.random.RandomState(0))
    with pytest.raises(TypeError, match="type RandomState can't be saved"):
        model.save(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == before
    assert os.listdir(tmp_path) == ["model"]


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "model"
    write_record({"value": 1}, target, "0")
    before = target.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_record({"value": 2}, target, "0")
    monkeypatch.undo()
    assert target.read_bytes() == before
    assert os.listdir(tmp_path) == ["model"]


def test_folders_that_cannot_be_written_raise_os_errors(tmp_path):
    with pytest.raises(OSError, match="absent"):
        write_record({}, tmp_path / "absent" / "model", "0")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_record({}, tmp_path / "folder", "0")
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(tmp_path / "folder") == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_keeps_its_file(tmp_path):
    write_record({"value": 1}, tmp_path / "model", "0")
    before = (tmp_path / "model").read_bytes()
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match=r"\[Errno"):
            write_record({"value": 2}, tmp_path / "model", "0")
    finally:
        tmp_path.chmod(0o700)
    assert (tmp_path / "model").read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_links_stay_links_and_permissions_follow_the_umask(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "model")
    write_record({"value": 1}, tmp_path / "link", "0")
    assert (tmp_path / "link").is_symlink()
    assert read_record(tmp_path / "there" / "model") == {"value": 1}
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "there" / "model").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("zone", ["pytz", "dateutil"])
def test_foreign_time_zones_are_saved_by_name_or_refused(zone, tmp_path):
    if zone == "pytz":
        zones = pytest.importorskip("pytz")
        named, fixed = zones.timezone("Europe/Berlin"), zones.FixedOffset(90)
    else:
        zones = pytest.importorskip("dateutil.tz")
        named, fixed = zones.gettz("Europe/Berlin"), zones.tzoffset(None, 5400)
    for tz in (named, fixed):
        try:
            frame = make_frame(date_index(tz))
        except AttributeError:
            continue  # pandas 2 with some versions of dateutil makes no such index
        model = LinearForecaster(L, H).fit(frame)
        try:
            model.save(tmp_path / "model")
        except TypeError as error:
            assert "tz_convert" in str(error)  # noqa: PT017
            assert zone == "dateutil"
            assert tz is named
            continue
        again = mixlin.load(tmp_path / "model")
        assert (again.predict().index == model.predict().index).all()
        assert again.predict().index[0].utcoffset() == model.predict().index[0].utcoffset()


# -- damaged and foreign files -----------------------------------------------------------------


def damage(data, rng):
    """Return damaged bytes and the kind of damage."""
    data = bytearray(data)
    header = int.from_bytes(data[:8], "little")
    kind = rng.choice(
        ["flip", "flips", "cut", "cut front", "insert", "delete", "zero", "header", "swap", "size"]
    )
    at = rng.randrange(len(data))
    size = rng.randint(1, 64)
    if kind == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "flips":
        for _ in range(20):
            data[rng.randrange(len(data))] ^= rng.randint(1, 255)
    elif kind == "cut":
        del data[at:]
    elif kind == "cut front":
        del data[: at + 1]
    elif kind == "insert":
        data[at:at] = rng.randbytes(size)
    elif kind == "delete":
        del data[at : at + size]
    elif kind == "zero":
        data[at : at + size] = bytes(len(data[at : at + size]))
    elif kind == "header":
        data[8 + rng.randrange(header)] = rng.choice(b'0123456789abcdef{}[]",:')
    elif kind == "swap":
        other = rng.randrange(len(data))
        data[at], data[other] = data[other], data[at]
    else:
        data[:8] = rng.choice([0, 1, header - 1, header + 1, 2**31, 2**63, 2**64 - 1]).to_bytes(
            8, "little"
        )
    return bytes(data), kind


def test_two_hundred_damaged_files_are_all_refused(tmp_path):
    """In one process, which survives."""
    originals = []
    for i, cls in enumerate(FORECASTERS):
        cls(L, H).fit(make_series(seed=i)).save(tmp_path / "good")
        originals.append((tmp_path / "good").read_bytes())
    rng = random.Random(20240229)
    kinds, n = {}, 0
    while n < 200:
        original = originals[n % len(originals)]
        bad, kind = damage(original, rng)
        if bad == original:  # a zero made zero, a byte swapped with its like
            continue
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises((ValueError, OSError)) as caught:
            mixlin.load(tmp_path / "bad")
        assert str(tmp_path / "bad") in str(caught.value)
        kinds[kind] = kinds.get(kind, 0) + 1
        n += 1
    assert len(kinds) == 10
    assert min(kinds.values()) >= 8
    for original in originals:  # the loop above could not pass by refusing everything
        (tmp_path / "good").write_bytes(original)
        assert np.isfinite(mixlin.load(tmp_path / "good").predict()).all()


def test_every_single_bit_of_a_small_file_counts(tmp_path):
    write_record({"value": 1}, tmp_path / "good", "0")
    data = (tmp_path / "good").read_bytes()
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 1 << (at % 8)
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(ValueError, match=r"is damaged|is not a mixlin model"):
            read_record(tmp_path / "bad")


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


def test_files_of_other_kinds_are_refused(tmp_path):
    trace = tmp_path / "trace"
    files = {
        "empty": b"",
        "text": b"when,load\n2024-01-01,3\n",
        "pickle": pickle.dumps(Bomb(trace)),
        "npy": np.lib.format.magic(1, 0),
        "safetensors": save_tensors({"Linear.weight": np.zeros((H, L))}),
        "short": b"\x08\0\0",
        "zeros": bytes(4096),
        "mark only": b"mixlin-sha256=",
        "mark and digits": b"mixlin-sha256=" + b"0" * 64,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name} is (not a mixlin model|damaged)"):
            mixlin.load(tmp_path / name)
    assert not trace.exists()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        mixlin.load(tmp_path / "folder")
    with pytest.raises(FileNotFoundError):
        mixlin.load(tmp_path / "nowhere")


def forge(path, body, tensors=None, text=None, claim=None):
    """Write a file with a valid checksum and any content."""
    text = json.dumps(body) if text is None else text
    mark = b"mixlin-sha256="
    metadata = {"mixlin": f"{mark.decode()}{'0' * 64}\n{text}"}
    data = save_tensors({"empty": np.zeros(0), **(tensors or {})}, metadata=metadata)
    if claim is not None:
        data = claim.to_bytes(8, "little") + data[8:]
    at = data.index(mark) + len(mark)
    digest = hashlib.sha256(data).hexdigest().encode()
    path.write_bytes(data[:at] + digest + data[at + 64 :])
    return path


def body(record, **changes):
    return {"format": 1, "mixlin": "0.1.0", "numpy": "2.0.0", "record": record, **changes}


def test_forged_files_are_otherwise_valid(tmp_path):
    value = {"dict": {"a": {"array": "t"}, "b": {"record": "Container", "fields": {"dict": {}}}}}
    record = read_record(forge(tmp_path / "file", body(value), {"t": np.arange(3.0)}))
    assert record["a"].tolist() == [0.0, 1.0, 2.0]
    assert record["b"].kind == "array"


def nested(depth, opening, closing):
    return json.dumps(body("@")).replace('"@"', opening * depth + "1" + closing * depth)


HOSTILE = {
    "unknown record": body({"record": "Popen", "fields": {"dict": {}}}),
    "record of a builtin": body({"record": "eval", "fields": {"dict": {"source": "1"}}}),
    "record that is no name": body({"record": ["Container"], "fields": {"dict": {}}}),
    "wrong fields": body({"record": "Container", "fields": {"dict": {"command": "ls"}}}),
    "no fields": body({"record": "Container"}),
    "fields no dict": body({"record": "Container", "fields": 3}),
    "missing fields": body({"record": "Mixture", "fields": {"dict": {}}}),
    "mixture of text": body({"record": "Mixture", "fields": {"dict": {"weights": "x"}}}),
    "mixture of a number": body({"record": "Mixture", "fields": {"dict": {"weights": 1}}}),
    "plan of nothing": body(
        {"record": "FixedPlan", "fields": {"dict": {"lookback": 1, "horizon": 1}}}
    ),
    "unknown router": body({"router": "Popen", "fields": {"dict": {"args": "ls"}}}),
    "abstract router": body({"router": "Router", "fields": {"dict": {}}}),
    "router that is no name": body({"router": {}, "fields": {"dict": {}}}),
    "unknown tensor": body({"dict": {"a": {"array": "t9999"}}}),
    "tensor that is no name": body({"dict": {"a": {"array": ["t"]}}}),
    "unknown kind": body({"dict": {"a": {"pickle": "gASV"}}}),
    "empty entry": body({"dict": {"a": {}}}),
    "bad float": body({"dict": {"a": {"float": "one"}}}),
    "float no text": body({"dict": {"a": {"float": 1}}}),
    "huge float": body({"dict": {"a": {"float": "0x1p99999999"}}}),
    "bad date": body({"dict": {"a": {"datetime64": [1, "parsec", 1]}}}),
    "huge date": body({"dict": {"a": {"datetime64": [2**80, "s", 1]}}}),
    "zero date step": body({"dict": {"a": {"datetime64": [1, "s", 0]}}}),
    "short date": body({"dict": {"a": {"datetime64": []}}}),
    "date no list": body({"dict": {"a": {"datetime64": None}}}),
    "tuple of nothing": body({"dict": {"a": {"tuple": None}}}),
    "dict of a list": body({"dict": [1, 2]}),
    "record no dict": body({"list": [1]}),
    "record a number": body(1),
    "record null": body(None),
    "no record": {"format": 1},
    "format 2": body({"dict": {}}, format=2),
    "format text": body({"dict": {}}, format="1"),
    "format list": body({"dict": {}}, format=[1]),
    "no format": {"record": {"dict": {}}},
    "body a list": [1, 2],
    "body a text": "record",
    "body null": None,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_content_with_a_valid_checksum_is_refused(name, tmp_path):
    path = forge(tmp_path / "hostile", HOSTILE[name])
    with pytest.raises(ValueError, match=r"hostile (holds a record|is not a mixlin|has format)"):
        mixlin.load(path)


PANDAS_ENTRIES = {
    "stamp without content": {"Timestamp": []},
    "stamp of text": {"Timestamp": ["now", "s", None]},
    "huge stamp": {"Timestamp": [2**80, "s", None]},
    "unknown zone": {"Timestamp": [0, "s", "Mars/Phobos"]},
    "zone as a path": {"Timestamp": [0, "s", "../../../etc/passwd"]},
    "zone as a file": {"Timestamp": [0, "s", "dateutil//etc/passwd"]},
    "bad period": {"Period": [1, "fortnight"]},
    "period of text": {"Period": ["x", "M"]},
    "bad delta": {"Timedelta": [1, "parsec"]},
    "columns without names": {"columns": {"list": []}},
    "ragged columns": {"columns": {"list": [1]}, "name": {"list": ["a", "b"]}},
}


@pytest.mark.parametrize("name", PANDAS_ENTRIES)
def test_hostile_labels_are_refused(name, tmp_path):
    pytest.importorskip("pandas")
    path = forge(tmp_path / "hostile", body({"dict": {"a": PANDAS_ENTRIES[name]}}))
    with pytest.raises(ValueError, match="hostile holds a record that can't be read"):
        mixlin.load(path)


@pytest.mark.parametrize(
    ("opening", "closing"), [("[", "]"), ('{"list":[', "]}"), ('{"dict":{"a":', "}}")]
)
@pytest.mark.parametrize("depth", [300, 990, 10_000, 200_000])
def test_deep_nesting_is_refused(opening, closing, depth, tmp_path):
    path = forge(tmp_path / "hostile", None, text=nested(depth, opening, closing))
    with pytest.raises(ValueError, match="hostile"):
        mixlin.load(path)


@pytest.mark.parametrize("claim", [0, 1, 100, 2**20, 2**40, 2**63, 2**64 - 1])
def test_headers_that_claim_another_length_are_refused(claim, tmp_path):
    path = forge(tmp_path / "hostile", body({"dict": {}}), claim=claim)
    with pytest.raises(ValueError, match=r"hostile (is not a mixlin|holds a record that can't)"):
        mixlin.load(path)


def test_text_that_is_no_json_is_refused(tmp_path):
    for text in ("", "{", "NaN,", "\x00", "[" + "9" * 5000 + "]"):
        path = forge(tmp_path / "hostile", None, text=text)
        with pytest.raises(ValueError, match="hostile is not a mixlin model"):
            mixlin.load(path)


@pytest.mark.parametrize(
    "record",
    [
        {"dict": {}},
        {"dict": {"class": "LinearForecaster"}},
        {"dict": {"class": "Popen", "params": {"dict": {}}, "state": {"dict": {}}}},
        {"dict": {"class": "BaseForecaster", "params": {"dict": {}}, "state": {"dict": {}}}},
        {"dict": {"class": {"list": []}, "params": {"dict": {}}, "state": {"dict": {}}}},
        {
            "dict": {
                "class": "LinearForecaster",
                "params": {"dict": {"command": "ls"}},
                "state": {"dict": {}},
            }
        },
        {"dict": {"class": "LinearForecaster", "params": 1, "state": {"dict": {}}}},
        {"dict": {"class": "LinearForecaster", "params": {"dict": {}}, "state": 1}},
    ],
)
def test_models_that_cannot_be_rebuilt_are_refused(record, tmp_path):
    path = forge(tmp_path / "hostile", body(record))
    with pytest.raises(ValueError, match=r"hostile holds a .* can't"):
        mixlin.load(path)


def test_tensors_that_lie_about_their_size_are_refused(tmp_path):
    for shape, offsets in (([2**40], [0, 2**43]), ([4], [0, 8]), ([1], [8, 16]), ([-1], [0, 8])):
        text = json.dumps(body({"dict": {"a": {"array": "t"}}}))
        header = {
            "__metadata__": {"mixlin": f"mixlin-sha256={'0' * 64}\n{text}"},
            "t": {"dtype": "F64", "shape": shape, "data_offsets": offsets},
        }
        head = json.dumps(header).encode()
        data = len(head).to_bytes(8, "little") + head + bytes(8)
        at = data.index(b"mixlin-sha256=") + 14
        digest = hashlib.sha256(data).hexdigest().encode()
        (tmp_path / "hostile").write_bytes(data[:at] + digest + data[at + 64 :])
        with pytest.raises(ValueError, match="hostile holds a record that can't be read"):
            mixlin.load(tmp_path / "hostile")


def test_nothing_that_executes_is_imported():
    tree = ast.parse(Path(persistence_module.__file__).read_text(encoding="utf-8"))
    imported, called = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called.add(node.func.id)
    banned = {"pickle", "joblib", "marshal", "shelve", "dill", "cloudpickle", "importlib", "runpy"}
    assert {"json", "safetensors"} <= imported
    assert not imported & banned
    assert "open" in called
    assert not called & {"eval", "exec", "compile", "__import__"}


def test_a_frame_model_without_pandas_says_what_is_missing(tmp_path):
    pytest.importorskip("pandas")
    LinearForecaster(L, H).fit(make_frame(date_index())).save(tmp_path / "model")
    code = (
        "import sys; sys.modules['pandas'] = None\n"
        "import mixlin\n"
        "try:\n    mixlin.load(sys.argv[1])\n"
        "except ImportError as error:\n    assert 'mixlin[pandas]' in str(error), error\n"
        "else:\n    sys.exit('loaded')\n"
    )
    root = str(Path(mixlin.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model")],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
