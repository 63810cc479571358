"""One record for each schedule kind: all that the package knows of a kind stands here, and everything else is derived.

The problem file reads from the records which kinds there are, which keys a kind has and whether it may start at
beta = 0. `derive.problem.schedules` takes the formula and the settling time, `derive.asymptotics.growth_exponents` the
substitution of the growth exponent, and the command line the kinds that it may choose from. A new kind is one record in
`KINDS` and its tests. No field has a default value, so a record that leaves one out is an error.

This module imports SymPy only when a formula is evaluated, because a problem is checked without SymPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import sympy as sp

    Expression = Callable[[sp.Expr, sp.Expr, sp.Expr], sp.Expr]

BOTH_NUMBERS = ("T0", "t0")
"""The two numbers of a schedule: the start temperature T0 and the time scale t0."""


@dataclass(frozen=True)
class Formula:
    """A temperature or an inverse temperature as a function of time.

    Attributes
    ----------
    of : {"T", "beta"}
        The quantity that the formula gives.
    value : callable
        The quantity as a SymPy expression, called as ``value(t, T0, t0)``. T0 may be SymPy's infinity where the kind
        can start at beta = 0.
    ends : bool
        Whether the formula holds only for t < t0, with T = 1 from then on.
    """

    of: Literal["T", "beta"]
    value: Expression
    ends: bool


@dataclass(frozen=True)
class Substitution:
    """The substitution t = t(u) that makes beta dt rational in u, by which the growth exponent has a closed form.

    Attributes
    ----------
    time : callable
        t(u) as a SymPy expression, called as ``time(u, T0, t0)``.
    start : int
        The value of u at t = 0.
    """

    time: Expression
    start: int


@dataclass(frozen=True)
class Kind:
    """One schedule kind.

    Attributes
    ----------
    name : str
        The value of `schedule.kind` in a problem file.
    meaning : str
        The kind in one line of plain text, for the documentation.
    formula : Formula or None
        The formula of the kind. An adaptive kind has the temperature until its rule acts; None where the user gives
        the temperatures.
    settling : callable or None
        The time, in units of t0, from which T - 1 <= excess for good, called as ``settling(T0, excess)`` with
        T0 > 1 + excess. None where this time has no closed form in T0 and t0, or where T never comes to 1.
    monotone : bool or None
        Whether the temperature never rises. None where that depends on what the user gives.
    numbers : tuple of str
        The numbers, of "T0" and "t0", that the kind may depend on.
    own_keys : tuple of str
        The keys of the problem file's schedule that belong to this kind alone.
    needs : str or None
        An example of the first of `own_keys` where the user must give one of them; None where none is needed.
    starts_at_zero_beta : bool
        Whether the formula has a meaning for T0 = inf, so that beta begins at 0.
    adaptive : bool
        Whether the kind is a rule that raises beta by what the proposal has become, instead of a formula in t.
    growth : Substitution or None
        The substitution that gives the growth exponent in closed form; None where there is no closed form.
    """

    name: str
    meaning: str
    formula: Formula | None
    settling: Callable[[float, float], float] | None
    monotone: bool | None
    numbers: tuple[str, ...]
    own_keys: tuple[str, ...]
    needs: str | None
    starts_at_zero_beta: bool
    adaptive: bool
    growth: Substitution | None

    @property
    def timed(self) -> bool:
        """Whether the kind has a formula, with an initial temperature T0 and a time scale t0 for the user to choose."""
        return self.formula is not None and not self.adaptive and self.numbers == BOTH_NUMBERS


def _exp(x: sp.Expr) -> sp.Expr:
    from sympy import exp

    return exp(x)


def _log(x: sp.Expr) -> sp.Expr:
    from sympy import log

    return log(x)


def _cosine_of_half_turns(half_turns: sp.Expr) -> sp.Expr:
    from sympy import cos, pi

    return cos(pi * half_turns)


def _half_turns_of_half_tangent(u: sp.Expr) -> sp.Expr:
    """The x for which tan(pi x/2) = u."""
    from sympy import atan, pi

    return 2 * atan(u) / pi


def _distance_of_beta(T0: float) -> float:
    """1 - 1/T0, without cancellation for T0 near 1."""
    return (T0 - 1) / T0 if math.inf > T0 else 1.0


CONSTANT = Formula("T", lambda t, T0, t0: T0, ends=False)

_RECORDS = (
    Kind(
        name="constant",
        meaning="T = T0 throughout, the only kind that does not end at T = 1 (T0 = 1: no annealing)",
        formula=CONSTANT,
        settling=None,
        monotone=True,
        numbers=("T0",),
        own_keys=(),
        needs=None,
        starts_at_zero_beta=False,
        adaptive=False,
        growth=None,
    ),
    Kind(
        name="exponential",
        meaning="T = 1 + (T0 - 1) exp(-t/t0)",
        formula=Formula("T", lambda t, T0, t0: 1 + (T0 - 1) * _exp(-t / t0), ends=False),
        settling=lambda T0, excess: math.log((T0 - 1) / excess),
        monotone=True,
        numbers=BOTH_NUMBERS,
        own_keys=(),
        needs=None,
        starts_at_zero_beta=False,
        adaptive=False,
        growth=Substitution(lambda u, T0, t0: t0 * _log(u), start=1),
    ),
    Kind(
        name="geometric",
        meaning="T = T0^(1 - t/t0) for t < t0, then 1: cooling by equal factors, not the path q0^(1 - beta) p^beta",
        formula=Formula("T", lambda t, T0, t0: T0 ** (1 - t / t0), ends=True),
        settling=lambda T0, excess: 1 - math.log1p(excess) / math.log(T0),
        monotone=True,
        numbers=BOTH_NUMBERS,
        own_keys=(),
        needs=None,
        starts_at_zero_beta=False,
        adaptive=False,
        growth=Substitution(lambda u, T0, t0: t0 * _log(u) / _log(T0), start=1),
    ),
    Kind(
        name="linear",
        meaning="T = 1 + (T0 - 1) (1 - t/t0) for t < t0, then 1",
        formula=Formula("T", lambda t, T0, t0: 1 + (T0 - 1) * (1 - t / t0), ends=True),
        settling=lambda T0, excess: 1 - excess / (T0 - 1),
        monotone=True,
        numbers=BOTH_NUMBERS,
        own_keys=(),
        needs=None,
        starts_at_zero_beta=False,
        adaptive=False,
        growth=Substitution(lambda u, T0, t0: t0 * u, start=0),
    ),
    Kind(
        name="beta-exponential",
        meaning="beta = 1 - (1 - 1/T0) exp(-t/t0)",
        formula=Formula("beta", lambda t, T0, t0: 1 - (1 - 1 / T0) * _exp(-t / t0), ends=False),
        settling=lambda T0, excess: math.log(_distance_of_beta(T0) / (excess / (1 + excess))),
        monotone=True,
        numbers=BOTH_NUMBERS,
        own_keys=(),
        needs=None,
        starts_at_zero_beta=True,
        adaptive=False,
        growth=Substitution(lambda u, T0, t0: t0 * _log(u), start=1),
    ),
    Kind(
        name="beta-linear",
        meaning="beta = 1/T0 + (1 - 1/T0) t/t0 for t < t0, then 1",
        formula=Formula("beta", lambda t, T0, t0: 1 / T0 + (1 - 1 / T0) * (t / t0), ends=True),
        settling=lambda T0, excess: 1 - excess / (1 + excess) / _distance_of_beta(T0),
        monotone=True,
        numbers=BOTH_NUMBERS,
        own_keys=(),
        needs=None,
        starts_at_zero_beta=True,
        adaptive=False,
        growth=Substitution(lambda u, T0, t0: t0 * u, start=0),
    ),
    Kind(
        name="cosine",
        meaning="T = 1 + (T0 - 1) (1 + cos(pi t/t0))/2 for t < t0, then 1: half a period, flat at both ends",
        formula=Formula("T", lambda t, T0, t0: 1 + (T0 - 1) * (1 + _cosine_of_half_turns(t / t0)) / 2, ends=True),
        settling=lambda T0, excess: math.acos(2 * excess / (T0 - 1) - 1) / math.pi,
        monotone=True,
        numbers=BOTH_NUMBERS,
        own_keys=(),
        needs=None,
        starts_at_zero_beta=False,
        adaptive=False,
        growth=Substitution(lambda u, T0, t0: t0 * _half_turns_of_half_tangent(u), start=0),
    ),
    Kind(
        name="hold",
        meaning="T = T0 for t < t0, then 1",
        formula=Formula("T", lambda t, T0, t0: T0, ends=True),
        settling=lambda T0, excess: 1.0,
        monotone=True,
        numbers=BOTH_NUMBERS,
        own_keys=(),
        needs=None,
        starts_at_zero_beta=True,
        adaptive=False,
        growth=Substitution(lambda u, T0, t0: t0 * u, start=0),
    ),
    Kind(
        name="table",
        meaning="log T linear between the given points, then 1; points may rise, and two at one time are a jump",
        formula=None,
        settling=None,
        monotone=None,
        numbers=(),
        own_keys=("points",),
        needs="[[0, 300], [1000, 1]]",
        starts_at_zero_beta=False,
        adaptive=False,
        growth=None,
    ),
    Kind(
        name="expression",
        meaning="T (`expression`) or beta (`beta_expression`) as the user's own formula in t, T0 and t0",
        formula=None,
        settling=None,
        monotone=None,
        numbers=BOTH_NUMBERS,
        own_keys=("expression", "beta_expression"),
        needs='"1 + 299*exp(-t/100)"',
        starts_at_zero_beta=False,
        adaptive=False,
        growth=None,
    ),
    Kind(
        name="adaann",
        meaning="every t0 of the flow's time, beta grows by tau / sqrt(Var_q[log p*]), up to 1",
        formula=CONSTANT,
        settling=None,
        monotone=True,
        numbers=BOTH_NUMBERS,
        own_keys=("tau",),
        needs=None,
        starts_at_zero_beta=False,
        adaptive=True,
        growth=None,
    ),
    Kind(
        name="ess",
        meaning="every t0 of the flow's time, beta grows to the largest beta' <= 1 for which the weights "
        "p*^(beta' - beta) of q's samples keep the relative effective sample size `level`",
        formula=CONSTANT,
        settling=None,
        monotone=True,
        numbers=BOTH_NUMBERS,
        own_keys=("level",),
        needs=None,
        starts_at_zero_beta=False,
        adaptive=True,
        growth=None,
    ),
)

KINDS = {kind.name: kind for kind in _RECORDS}
"""Every kind by its name, in the order in which messages and the documentation list the kinds."""


def names_of_kinds(chosen: Callable[[Kind], bool]) -> tuple[str, ...]:
    """The names of the kinds for which `chosen` is true, in order."""
    return tuple(kind.name for kind in KINDS.values() if chosen(kind))
