"""Prior experts as data: kernels, templates and banks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg
from scipy.special import ive

from mixlin.experts import (
    LEVELS,
    PERIOD_TEMPLATES,
    PERIODS,
    TEMPLATES,
    DampedTrend,
    ExpertBank,
    OrnsteinUhlenbeck,
    Periodic,
    PriorExpert,
    RandomWalk,
    Template,
    default_bank,
    level_terms,
    period_experts,
    seasonless_experts,
)

BANK = default_bank() + period_experts(17.25)
LAGS = np.arange(60.0)


def recipe_covariance(term, lags, n_lags):
    """Return a kernel as its formula is written down."""
    if isinstance(term, Periodic):
        i0 = ive(0, 1 / term.smoothness**2)
        wave = np.exp((np.cos(2 * np.pi * lags / term.period) - 1) / term.smoothness**2)
        return term.amplitude * (wave - i0) / (1 - i0) * np.exp(-lags / term.decay)
    if isinstance(term, OrnsteinUhlenbeck):
        return term.amplitude * np.exp(-lags / term.memory)
    if isinstance(term, RandomWalk):
        return term.amplitude * (n_lags - lags / 2)

    def bend(d):
        return term.memory**2 * (d / term.memory - 1 + np.exp(-d / term.memory))

    return term.amplitude * (2 * bend(n_lags) + 1 - bend(lags))


@pytest.mark.parametrize(
    "term",
    [
        Periodic(2.0, 52.18, 0.35, 500.0),
        Periodic(1.0, 7, 0.8, 35.0),
        OrnsteinUhlenbeck(0.3, 24.0),
        RandomWalk(0.04),
        DampedTrend(0.2, 9.0),
        DampedTrend(0.003, 720.0),
    ],
)
def test_a_kernel_is_its_formula(term):
    found = term.covariance(LAGS, 60)
    np.testing.assert_allclose(found, recipe_covariance(term, LAGS, 60), rtol=1e-9)
    other = dataclasses.replace(term, amplitude=1.001 * term.amplitude)
    assert abs(found / recipe_covariance(other, LAGS, 60) - 1).max() > 1e-8


def test_a_season_has_mean_zero_and_repeats():
    season = Periodic(1.0, 24.0, 0.35, 1e12).covariance(np.arange(48.0), 48)
    assert abs(season[:24].mean()) < 1e-3
    np.testing.assert_allclose(season[:24], season[24:], atol=1e-9)
    assert season[0] == pytest.approx(1.0)


def test_a_damped_trend_keeps_the_digits_of_short_lags():
    found = DampedTrend(1.0, 1e7).covariance(np.array([0.0, 1.0]), 2)
    # half the variance of a step is 1/2 - 1/(6 memory)
    assert found[0] - found[1] == pytest.approx(0.5 - 1 / 6e7, rel=1e-9)


@pytest.mark.parametrize("expert", list(BANK), ids=BANK.names)
def test_covariances_are_those_of_a_process(expert):
    smallest = linalg.eigvalsh(linalg.toeplitz(expert.covariances(80)))[0]
    assert smallest > 0.5 * expert.noise


def test_covariances_add_up_and_noise_counts_at_lag_zero():
    terms = (OrnsteinUhlenbeck(1.0, 4.0), RandomWalk(0.5))
    expert = PriorExpert("both", terms, noise=0.25)
    expected = sum(term.covariance(LAGS, 60) for term in terms)
    expected[0] += 0.25
    np.testing.assert_array_equal(expert.covariances(60), expected)
    np.testing.assert_allclose(np.diff(expert.covariances(60, 900)), np.diff(expected))
    assert PriorExpert("white", (), noise=2.0).covariances(3).tolist() == [2.0, 0.0, 0.0]


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_parameters_of_experts_are_positive(value):
    with pytest.raises(ValueError, match=r"noise of an expert must be positive.*'it'"):
        PriorExpert("it", (RandomWalk(1.0),), noise=value)
    with pytest.raises(ValueError, match=r"memory of OrnsteinUhlenbeck must be positive.*'it'"):
        PriorExpert("it", (OrnsteinUhlenbeck(1.0, value),), noise=1.0)


# ---------------------------------------------------------------------------------------------
# templates


def test_the_levels_of_a_template():
    spelled = {
        "ou": "0.3 ou 24, 0.5 ou 480",
        "ou2": "0.1 ou 12, 0.2 ou 120, 0.3 ou 1440",
        "rw": "0.2 ou 24, 0.0416667 rw",
        "rws": "0.2 ou 12, 0.00333333 rw",
        "dt": "0.2 ou 12, 0.000347222 dt 96",
        "dtl": "0.2 ou 12, 0.2 ou 120, 5.20833e-06 dt 720",
    }
    short = {OrnsteinUhlenbeck: "ou", RandomWalk: "rw", DampedTrend: "dt"}
    for level in LEVELS:
        words = [
            " ".join(
                [
                    f"{t.amplitude:g}",
                    short[type(t)],
                    *(f"{m:g}" for m in list(vars(t).values())[1:]),
                ]
            )
            for t in level_terms(level, 24)
        ]
        assert ", ".join(words) == spelled[level]
    with pytest.raises(ValueError, match=r"unknown level 'linear'. Known: ou, ou2, rw"):
        level_terms("linear", 24)


def test_an_expert_of_a_template():
    expert = Template(0.35, 100, "rws", 0.02).expert(24, 168)
    assert expert.terms[:2] == (
        Periodic(1.0, 24.0, 0.35, 2400.0),
        Periodic(0.4, 168.0, 0.25, 3360.0),
    )
    assert expert.terms[2:] == level_terms("rws", 24)
    assert expert.noise == 0.02
    assert expert.periods == (24.0, 168.0)
    assert expert.name == "periods 24 and 168, slow decay, slow random-walk level"


def test_unusual_numbers_of_a_template_are_in_its_name():
    name = Template(0.5, 40, "dt", 0.3).expert(52.18).name
    assert name == "period 52.18, smoothness 0.5, decay over 40 cycles, damped trend, noise 0.3"


@pytest.mark.parametrize("period", [1.9, 0, -24, np.inf, np.nan])
def test_a_period_is_at_least_two_steps(period):
    with pytest.raises(ValueError, match="a period must be finite and at least 2 steps"):
        Template(0.35, 100, "rws", 0.02).expert(period)
    with pytest.raises(ValueError, match="at least 2 steps"):
        Template(0.35, 100, "rws", 0.02).expert(24, period)
    with pytest.raises(ValueError, match="at least 2 steps"):
        period_experts(period)


# ---------------------------------------------------------------------------------------------
# banks


def test_the_default_bank_follows_the_recipe():
    bank = default_bank()
    assert (len(PERIODS), len(TEMPLATES), len(PERIOD_TEMPLATES)) == (11, 10, 7)
    assert len(bank) == 11 * 10 + 17
    preferred = [e.name for e in bank if e.log_prior == 3.0]
    assert preferred == [f"random walk, noise {noise}" for noise in ("0.01", "0.3", "3")]
    assert sum(bank.log_priors) == 9.0
    seasonless = seasonless_experts()
    assert bank[110:] == seasonless
    assert all(not e.periods for e in seasonless)
    assert [e.noise for e in bank[:10]] == [t.noise for t in TEMPLATES]


def test_names_are_unique_even_with_experts_of_a_period_of_the_bank():
    for period in default_bank().periods:
        both = default_bank() + period_experts(period)
        assert len(set(both.names)) == 134


def test_a_bank_is_a_sequence():
    bank = default_bank()
    assert bank[0] == next(iter(bank))
    assert bank[-1].name == bank.names[-1]
    assert bank[5:8].names == bank.names[5:8]
    assert (bank[:3] + bank[3:]) == bank
    with pytest.raises(TypeError):
        bank + (bank[0],)  # noqa: RUF005


def test_experts_are_selected_by_name_or_by_a_rule():
    bank = default_bank()
    names = ["constant level", bank.names[3]]
    assert bank.select(names).names == names
    assert bank.select("constant level").names == ["constant level"]
    weekly = bank.select(lambda expert: 168.0 in expert.periods)
    assert len(weekly) == 10
    assert weekly.periods == (24.0, 168.0)
    with pytest.raises(ValueError, match=r"no expert 'median'. Its names are in bank.names"):
        bank.select(["constant level", "median"])
    with pytest.raises(ValueError, match="at least one expert"):
        bank.select(lambda expert: False)


def test_a_bank_needs_experts_with_names_of_their_own():
    bank = default_bank()
    with pytest.raises(ValueError, match="at least one expert"):
        ExpertBank(())
    with pytest.raises(ValueError, match="'constant level' is there twice"):
        bank + bank.select(["constant level"])


def plain(value):
    """Whether a value is made of tuples, text, numbers, and records of these."""
    if dataclasses.is_dataclass(value):
        return all(plain(getattr(value, f.name)) for f in dataclasses.fields(value))
    if isinstance(value, tuple):
        return all(plain(item) for item in value)
    return isinstance(value, (str, float))


def test_a_bank_is_plain_data():
    assert plain(BANK)
    assert not plain(ExpertBank((PriorExpert("it", (RandomWalk(1.0),), noise=np.ones(1)),)))


@given(
    period=st.floats(2, 1000),
    smoothness=st.floats(0.2, 1.5),
    cycles=st.floats(1, 200),
    level=st.sampled_from(LEVELS),
    noise=st.floats(0.01, 10),
)
def test_any_template_has_positive_definite_covariances(period, smoothness, cycles, level, noise):
    expert = Template(smoothness, cycles, level, noise).expert(period)
    assert linalg.eigvalsh(linalg.toeplitz(expert.covariances(30)))[0] > 0.5 * noise
