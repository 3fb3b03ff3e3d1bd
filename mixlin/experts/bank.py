"""Banks of prior experts: which structures, for which periods, and what they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, overload

from .kernels import DampedTrend, Kernel, OrnsteinUhlenbeck, Periodic, PriorExpert, RandomWalk

_LEVEL_NAMES = {
    "ou": "mean-reverting level",
    "ou2": "slowly reverting level",
    "rw": "random-walk level",
    "rws": "slow random-walk level",
    "dt": "damped trend",
    "dtl": "slow damped trend",
}
LEVELS = tuple(_LEVEL_NAMES)
"""Kinds of level a :class:`Template` can have."""

_SHAPES = {0.35: "", 0.8: "smooth", 1.2: "very smooth"}
_DECAYS = {2.0: "very fast decay", 5.0: "fast decay", 20.0: "medium decay", 100.0: "slow decay"}
_NOISES = {0.02: "", 0.2: "some noise", 1.0: "noisy", 4.0: "high noise"}


def level_terms(level: str, period: float) -> tuple[Kernel, ...]:
    """Return the kernels of a level that goes with a season.

    Parameters
    ----------
    level : {"ou", "ou2", "rw", "rws", "dt", "dtl"}
        Mean-reverting with a short and a long memory; with three memories; a random walk; a
        slower one; a damped trend over 4 periods; a slower one over 30 periods.
    period : float
        What memories are measured in, in steps.

    Raises
    ------
    ValueError
        If the kind of level is unknown.

    Examples
    --------
    >>> from mixlin.experts import level_terms
    >>> level_terms("ou", 24.0)
    (OrnsteinUhlenbeck(amplitude=0.3, memory=24.0), OrnsteinUhlenbeck(amplitude=0.5, memory=480.0))
    """
    p = float(period)
    if level == "ou":
        return OrnsteinUhlenbeck(0.3, p), OrnsteinUhlenbeck(0.5, 20 * p)
    if level == "ou2":
        return (
            OrnsteinUhlenbeck(0.1, p / 2),
            OrnsteinUhlenbeck(0.2, 5 * p),
            OrnsteinUhlenbeck(0.3, 60 * p),
        )
    if level == "rw":
        return OrnsteinUhlenbeck(0.2, p), RandomWalk(1.0 / p)
    if level == "rws":
        return OrnsteinUhlenbeck(0.2, p / 2), RandomWalk(0.08 / p)
    if level == "dt":
        return OrnsteinUhlenbeck(0.2, p / 2), DampedTrend(0.2 / p**2, 4 * p)
    if level == "dtl":
        return (
            OrnsteinUhlenbeck(0.2, p / 2),
            OrnsteinUhlenbeck(0.2, 5 * p),
            DampedTrend(0.003 / p**2, 30 * p),
        )
    raise ValueError(f"unknown level {level!r}. Known: {', '.join(LEVELS)}.")


def period_name(*periods: float) -> str:
    """Return what experts of some periods are called together.

    Parameters
    ----------
    *periods : float
        In steps; none for experts without a season.

    Examples
    --------
    >>> from mixlin.experts.bank import period_name
    >>> period_name(24.0, 168.0), period_name(52.18), period_name()
    ('periods 24 and 168', 'period 52.18', 'no period')
    """
    if not periods:
        return "no period"
    return f"period{'s' * (len(periods) > 1)} " + " and ".join(f"{p:.10g}" for p in periods)


@dataclass(frozen=True)
class Template:
    """A structure that serves any period.

    Parameters
    ----------
    smoothness : float
        Of the season; see :class:`Periodic`.
    cycles : float
        Periods after which the season is correlated by ``1/e`` with what it was.
    level : {"ou", "ou2", "rw", "rws", "dt", "dtl"}
        See :func:`level_terms`.
    noise : float
        Variance of the noise, that of the season being 1.

    Examples
    --------
    >>> from mixlin.experts import Template
    >>> Template(0.8, 100, "rw", 0.2).expert(24).name
    'period 24, smooth, slow decay, random-walk level, some noise'
    """

    smoothness: float
    cycles: float
    level: str
    noise: float

    def expert(self, period: float, second: float | None = None) -> PriorExpert:
        """Return the expert of a period.

        Parameters
        ----------
        period : float
            In steps, at least 2.
        second : float, optional
            Period of a second, weaker season.

        Raises
        ------
        ValueError
            If a period is shorter than 2 steps or infinite.
        """
        periods: tuple[float, ...] = (
            (float(period),) if second is None else (float(period), float(second))
        )
        for p in periods:
            if not 2 <= p < float("inf"):
                raise ValueError(
                    f"a period must be finite and at least 2 steps; got {p!r}. Use an expert "
                    "without a season for series that have none."
                )
        terms: list[Kernel] = [Periodic(1.0, periods[0], self.smoothness, self.cycles * periods[0])]
        if second is not None:
            terms.append(Periodic(0.4, periods[1], 0.25, 20 * periods[1]))
        terms += level_terms(self.level, periods[0])
        return PriorExpert(self.name(*periods), tuple(terms), self.noise, periods)

    def name(self, *periods: float) -> str:
        """Return what the expert of one or two periods is called.

        Parameters
        ----------
        *periods : float
        """
        words = [
            period_name(*periods),
            _SHAPES.get(self.smoothness, f"smoothness {self.smoothness:g}"),
            _DECAYS.get(self.cycles, f"decay over {self.cycles:g} cycles"),
            _LEVEL_NAMES.get(self.level, self.level),
            _NOISES.get(self.noise, f"noise {self.noise:g}"),
        ]
        return ", ".join(filter(None, words))


@dataclass(frozen=True, repr=False)
class ExpertBank:
    """Prior experts with names of their own.

    Parameters
    ----------
    experts : tuple of PriorExpert

    Raises
    ------
    ValueError
        If there is no expert, or two have the same name.

    Examples
    --------
    >>> from mixlin.experts import default_bank, period_experts
    >>> bank = default_bank()
    >>> len(bank)
    127
    >>> bank.names[0]
    'period 4, slow decay, slow random-walk level'
    >>> daily = bank.select(lambda expert: 24 in expert.periods)
    >>> len(daily)
    20
    >>> len(daily + period_experts(17))
    27
    """

    experts: tuple[PriorExpert, ...]

    def __post_init__(self) -> None:
        if not self.experts:
            raise ValueError("a bank must hold at least one expert; got none.")
        seen: set[str] = set()
        for expert in self.experts:
            if expert.name in seen:
                raise ValueError(
                    f"the experts of a bank need names of their own; {expert.name!r} is there "
                    "twice. Rename one or leave it out."
                )
            seen.add(expert.name)

    def __repr__(self) -> str:
        return f"<ExpertBank of {len(self)} experts, the first {self.experts[0].name!r}>"

    def __len__(self) -> int:
        return len(self.experts)

    def __iter__(self) -> Iterator[PriorExpert]:
        return iter(self.experts)

    @overload
    def __getitem__(self, index: int) -> PriorExpert: ...

    @overload
    def __getitem__(self, index: slice) -> ExpertBank: ...

    def __getitem__(self, index: int | slice) -> PriorExpert | ExpertBank:
        if isinstance(index, slice):
            return ExpertBank(self.experts[index])
        return self.experts[index]

    def __add__(self, other: ExpertBank) -> ExpertBank:
        if not isinstance(other, ExpertBank):
            return NotImplemented
        return ExpertBank(self.experts + other.experts)

    @property
    def names(self) -> list[str]:
        """Names of the experts."""
        return [expert.name for expert in self.experts]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.experts)

    def __getstate__(self) -> dict[str, Any]:
        return {"experts": self.experts}  # hashes of strings are those of a process

    @cached_property
    def periods(self) -> tuple[float, ...]:
        """Every period an expert knows, in increasing order."""
        return tuple(sorted({p for expert in self.experts for p in expert.periods}))

    @property
    def log_priors(self) -> tuple[float, ...]:
        """What is added to the logit of every expert."""
        return tuple(expert.log_prior for expert in self.experts)

    def select(self, experts: Iterable[str] | Callable[[PriorExpert], bool]) -> ExpertBank:
        """Return a smaller bank.

        Parameters
        ----------
        experts : iterable of str, or callable
            Names of those to keep, in the order wanted; or what tells whether to keep an expert.

        Raises
        ------
        ValueError
            If a name is unknown, or nothing is left.
        """
        if callable(experts):
            return ExpertBank(tuple(expert for expert in self.experts if experts(expert)))
        known = {expert.name: expert for expert in self.experts}
        wanted = [experts] if isinstance(experts, str) else list(experts)
        for name in wanted:
            if name not in known:
                raise ValueError(
                    f"the bank has no expert {name!r}. Its names are in bank.names, for example "
                    f"{self.experts[0].name!r}."
                )
        return ExpertBank(tuple(known[name] for name in wanted))


PERIODS: tuple[tuple[float, ...], ...] = (
    *((4.0,), (7.0,), (12.0,), (24.0,), (48.0,), (52.18,), (96.0,)),
    *((24.0, 168.0), (48.0, 336.0), (96.0, 672.0), (7.0, 365.25)),
)
"""Periods of the default bank, in steps: one or two seasons an expert."""

TEMPLATES: tuple[Template, ...] = (
    Template(0.35, 100.0, "rws", 0.02),
    Template(0.8, 20.0, "ou2", 0.2),
    Template(0.35, 100.0, "dt", 0.2),
    Template(0.8, 100.0, "ou2", 0.2),
    Template(0.8, 20.0, "rw", 0.02),
    Template(0.35, 100.0, "ou2", 4.0),
    Template(0.35, 20.0, "dtl", 0.02),
    Template(0.35, 100.0, "rws", 4.0),
    Template(0.35, 100.0, "ou", 4.0),
    Template(0.8, 5.0, "rws", 0.2),
)
"""Structures of the default bank, the most useful first."""

PERIOD_TEMPLATES: tuple[Template, ...] = (
    Template(0.8, 100.0, "rws", 0.02),
    Template(0.8, 20.0, "dt", 0.02),
    Template(0.35, 100.0, "ou2", 0.02),
    Template(0.35, 100.0, "rws", 0.2),
    Template(0.8, 100.0, "ou", 1.0),
    Template(0.8, 5.0, "rws", 0.02),
    Template(1.2, 2.0, "ou", 0.02),
)
"""Structures that are tried for a period found in a series."""


def seasonless_experts() -> ExpertBank:
    """Return the experts of the default bank that know no season.

    Returns
    -------
    ExpertBank
        Of 17 experts: mean reversion over 3 to 1000 steps, random walks under noise, damped
        trends, and mixtures of these.

    Examples
    --------
    >>> from mixlin.experts import seasonless_experts
    >>> seasonless_experts().names[7]
    'random walk, noise 0.01'
    """
    made: list[PriorExpert] = []

    def add(name: str, *terms: Kernel, noise: float, log_prior: float = 0.0) -> None:
        made.append(PriorExpert(name, terms, noise, (), log_prior))

    for memory, noise in (
        *((3, 0.01), (3, 0.5), (10, 0.01), (30, 0.01)),
        *((100, 0.01), (100, 0.5), (1000, 0.01)),
    ):
        name = f"mean reversion over {memory} steps, noise {noise:g}"
        add(name, OrnsteinUhlenbeck(1.0, float(memory)), noise=noise)
    for noise in (0.01, 0.3, 3.0, 30.0):
        prior = 3.0 if noise < 30 else 0.0
        add(f"random walk, noise {noise:g}", RandomWalk(1.0), noise=noise, log_prior=prior)
    for memory, noise in ((3, 0.01), (3, 1.0), (15, 0.01)):
        trend = DampedTrend(1.0 / memory, float(memory))
        name = f"damped trend over {memory} steps, noise {noise:g}"
        add(name, trend, RandomWalk(0.1), noise=noise)
    add("constant level", OrnsteinUhlenbeck(1e-3, 1000.0), noise=1.0)
    add(
        "random walk and mean reversion over 50 steps",
        *(RandomWalk(0.01), OrnsteinUhlenbeck(1.0, 50.0)),
        noise=0.2,
    )
    add(
        "mean reversion over 5 and 200 steps",
        *(OrnsteinUhlenbeck(1.0, 5.0), OrnsteinUhlenbeck(1.0, 200.0)),
        noise=0.05,
    )
    return ExpertBank(tuple(made))


@lru_cache(maxsize=1)
def default_bank() -> ExpertBank:
    """Return the bank that forecasts series of any kind.

    Returns
    -------
    ExpertBank
        Of 127 experts: 10 structures for each of 11 groups of periods, and 17 without a season.

    Examples
    --------
    >>> from mixlin.experts import default_bank
    >>> default_bank().periods
    (4.0, 7.0, 12.0, 24.0, 48.0, 52.18, 96.0, 168.0, 336.0, 365.25, 672.0)
    """
    seasonal = tuple(t.expert(*periods) for periods in PERIODS for t in TEMPLATES)
    return ExpertBank(seasonal) + seasonless_experts()


@lru_cache(maxsize=256)
def period_experts(period: float) -> ExpertBank:
    """Return the experts for a period found in a series.

    Parameters
    ----------
    period : float
        In steps, at least 2.

    Returns
    -------
    ExpertBank
        Of 7 experts, none of which stands in the default bank.

    Raises
    ------
    ValueError
        If the period is shorter than 2 steps.

    Examples
    --------
    >>> from mixlin.experts import period_experts
    >>> period_experts(17.25).names[4]
    'period 17.25, smooth, slow decay, mean-reverting level, noisy'
    """
    return ExpertBank(tuple(template.expert(period) for template in PERIOD_TEMPLATES))
