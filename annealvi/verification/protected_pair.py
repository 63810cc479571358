"""The argument for hold and quench, checked against the derived rates.

The checks compare the linear flow of the protected pair (near m_1 = m_2 = 0, s = −1), and the slope of its switching
function: the change of log b_c by a short pulse of β, as a function of the time of the pulse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sympy as sp

from annealvi.verification.check import Check
from annealvi.verification.limit_numbers import DIGITS, IDENTITY, STEP, Numbers, identity
from derive.asymptotics.equal_weights import PULL
from derive.asymptotics.equal_weights import REPULSION as EXCHANGE
from derive.asymptotics.hold_and_quench import DRIFT, REPULSION, SLOPE, Pair
from derive.asymptotics.limits import Asymptotics
from derive.asymptotics.transverse_growth import MEAN
from derive.objects.system import BETA

BETAS = (sp.Rational(3, 10), sp.Rational(7, 10))
COURSE = (
    (sp.Integer(1), sp.Rational(1, 20)),
    (sp.Rational(5, 2), sp.Rational(3, 25)),
    (sp.Rational(3, 2), sp.Rational(3, 10)),
)
"""Durations and inverse temperatures of the schedule under which the switching function is measured."""
WHEN = sp.Integer(2)
"""A time within the second part of COURSE."""
PULSE, PRECISION = sp.Rational(1, 10**6), 40
"""The error of difference quotients is of order PULSE²; their rounding is 10^−PRECISION/PULSE³."""

Course = Sequence[tuple[sp.Expr, sp.Expr]]


def hold_checks(limits: Asymptotics, pair: Pair) -> Iterator[tuple[str, Check]]:
    """Yield the equations' names with their checks."""
    numbers = Numbers(limits)
    flows = {beta: _measured(numbers, beta) for beta in BETAS}
    sums, differences = [], []
    for beta, flow in flows.items():
        drift, damping, growth = (_value(e.subs(BETA, beta), numbers) for e in (pair.drift, pair.damping, pair.growth))
        sums += [(drift, flow.drift), (damping, flow.damping)]
        differences.append((growth, flow.growth))
    yield "protected-sum", identity("flow of the sum of a protected pair", sums)
    yield "protected-difference", identity("flow of the difference of a protected pair", differences)
    yield "switching-slope", _switching(_value(pair.switching_slope(), numbers), flows)


@dataclass(frozen=True)
class _LinearFlow:
    """da/dt = drift + damping · a and db/dt = growth · b at one β."""

    drift: sp.Expr
    damping: sp.Expr
    growth: sp.Expr


def _value(expression: sp.Expr, numbers: Numbers) -> sp.Expr:
    slope = sp.diff(PULL(MEAN), MEAN).subs(MEAN, 0)
    return numbers.value(
        expression.xreplace({DRIFT: PULL(sp.S.Zero), SLOPE: slope, REPULSION: EXCHANGE(sp.S.NegativeOne)}), {}
    )


def _measured(numbers: Numbers, beta: sp.Expr) -> _LinearFlow:
    """The linear flow, measured by difference quotients of the rates.

    The states must belong to pairs of unit vectors: m_1 + m_2 = a needs |μ_1 + μ_2| ≥ |a|, so s = a²/2 − 1 at a.
    """

    def of_sum(a: sp.Expr) -> sp.Expr:
        first, second, _ = numbers.rates(a / 2, a / 2, a**2 / 2 - 1, beta)
        return first + second

    def of_difference(b: sp.Expr) -> sp.Expr:
        first, second, _ = numbers.rates(b / 2, -b / 2, sp.S.NegativeOne, beta)
        return first - second

    slopes = ((rate(STEP) - rate(-STEP)) / (2 * STEP) for rate in (of_sum, of_difference))
    return _LinearFlow(of_sum(sp.S.Zero), *slopes)


def _switching(printed: sp.Expr, flows: dict[sp.Expr, _LinearFlow]) -> Check:
    """Check dS/dt, where S(t) is the change of log b_c by a short pulse of β at time t, per pulse.

    The pair is followed with a pulse upwards and downwards. b_c solves b(D) = ψ(a(D)); the statement holds for any
    increasing ψ, and one is chosen.
    """
    pair = _Followed(flows)

    def switching(t: sp.Expr) -> sp.Expr:
        up, down = (pair.log_boundary(_with_pulse(t, sign * PULSE)) for sign in (1, -1))
        return (up - down) / (2 * PULSE**2)

    slope = (switching(WHEN + PULSE) - switching(WHEN - PULSE)) / (2 * PULSE)
    after = [(COURSE[0][0] + COURSE[1][0] - WHEN, COURSE[1][1]), *COURSE[2:]]
    exponent = sp.Add(*(pair.damping(beta) * time for time, beta in after))
    expected = printed * pair.log_psi_slope(pair.final_sum(COURSE)) * sp.exp(exponent)
    note = (
        f"pulses of β, {float(PULSE):g} long and high, at t = {WHEN}; coefficients of the linear flow "
        f"from the rates, to {DIGITS} digits"
    )
    return Check("slope of the switching function", "numeric", float(abs(expected / slope - 1)), IDENTITY, note)


def _with_pulse(t: sp.Expr, height: sp.Expr) -> Course:
    """COURSE with a pulse of β, of length PULSE about t in its second part."""
    first, (duration, beta), *others = COURSE
    before = t - PULSE / 2 - first[0]
    return [first, (before, beta), (PULSE, beta + height), (duration - before - PULSE, beta), *others]


class _Followed:
    """The linear flow at any β, since its coefficients are affine in β."""

    def __init__(self, flows: dict[sp.Expr, _LinearFlow]) -> None:
        (low, first), (high, second) = flows.items()

        def line(name: str) -> tuple[sp.Expr, sp.Expr]:
            y, z = (sp.Float(getattr(flow, name), PRECISION) for flow in (first, second))
            slope = (z - y) / (high - low)
            return y - slope * low, slope

        self._lines = {name: line(name) for name in ("drift", "damping", "growth")}

    def damping(self, beta: sp.Expr) -> sp.Expr:
        return self._at("damping", beta)

    def final_sum(self, course: Course) -> sp.Expr:
        """a at the end, from a = 0."""
        a = sp.Float(0, PRECISION)
        for time, beta in course:
            rest = self._at("drift", beta) / self.damping(beta)
            a = (a + rest) * sp.exp(self.damping(beta) * time) - rest
        return a

    def log_boundary(self, course: Course) -> sp.Expr:
        """log b_c with ψ(a) = 1 + a + a²/3."""
        a = self.final_sum(course)
        return sp.log(1 + a + a**2 / 3) - sp.Add(*(self._at("growth", beta) * time for time, beta in course))

    @staticmethod
    def log_psi_slope(a: sp.Expr) -> sp.Expr:
        return (1 + 2 * a / 3) / (1 + a + a**2 / 3)

    def _at(self, name: str, beta: sp.Expr) -> sp.Expr:
        start, slope = self._lines[name]
        return start + slope * beta
