"""The derived rates and averages in numbers of 20 digits, for the checks of limits, symmetric states and holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import sympy as sp

from annealvi.verification.check import Check
from derive.asymptotics.equal_weights import HALF_LOG_ODDS
from derive.asymptotics.limits import Asymptotics
from derive.objects.expectation import Expectation
from derive.objects.system import BETA
from derive.rules.geometry import R

DIGITS = 20
STEP = sp.Rational(1, 10**7)
"""Step of difference quotients: a central one has an error of order STEP², and rounding of 10^−DIGITS/STEP."""

IDENTITY = 1e-11
"""Largest relative difference of two sides: STEP² times the third derivatives, which are below some hundred."""

SCALES = {"sigma": sp.Rational(9, 10), "sigma_star": sp.Rational(11, 10)}
"""Scales of all components and of all modes, for systems where they are symbols."""

POINT = {
    R: sp.Rational(3, 2),
    HALF_LOG_ODDS: sp.Rational(1, 3),
    BETA: sp.Rational(3, 10),
    **{sp.Symbol(name, positive=True): value for name, value in SCALES.items()},
}

Sides = Sequence[tuple[sp.Expr, sp.Expr]]
"""Pairs of numbers that must agree."""


def identity(name: str, sides: Sides) -> Check:
    """Check the largest relative difference between the two numbers of a pair; it is infinite without pairs."""
    differences = [float(abs((a - b) / b).evalf(DIGITS)) for a, b in sides]
    worst = max(differences, key=lambda x: (math.isnan(x), x), default=math.inf)  # a NaN is the worst
    return Check(
        name, "numeric", worst, IDENTITY, f"relative difference, numbers compared: {len(sides)}, to {DIGITS} digits"
    )


class Averages:
    """Expressions as numbers; each average is integrated once."""

    def __init__(self) -> None:
        self._known: dict[sp.Expr, sp.Expr] = {}

    def number(self, concrete: sp.Expr) -> sp.Expr:
        for average in concrete.atoms(Expectation) - set(self._known):
            self._known[average] = average.evalf(DIGITS)
        number = concrete.xreplace(self._known).evalf(DIGITS)
        if not number.is_number:
            raise ArithmeticError(f"{number} is no number")
        return number


class Numbers:
    """The rates of the pair of equal weights at POINT, and their slopes by difference quotients."""

    def __init__(self, limits: Asymptotics) -> None:
        self.limits = limits
        self._averages = Averages()

    def value(self, expression: sp.Expr, at: Mapping[sp.Expr, sp.Expr]) -> sp.Expr:
        return self._averages.number(self.limits.pair.written_out(expression).subs({**POINT, **at}))

    def rates(self, m_1: sp.Expr, m_2: sp.Expr, s: sp.Expr, beta: sp.Expr = POINT[BETA]) -> tuple[sp.Expr, ...]:
        """(dm_1/dt, dm_2/dt, ds/dt)."""
        at = dict(zip(self.limits.pair.states, (m_1, m_2, s), strict=True))
        return tuple(self.value(rate, {**at, BETA: beta}) for rate in self.limits.pair.rates)

    def path(self, m: sp.Expr, s: sp.Expr, beta: sp.Expr = POINT[BETA]) -> tuple[sp.Expr, sp.Expr]:
        """(dm/dt, ds/dt) on b = 0."""
        first, second, similarity = self.rates(m, m, s, beta)
        return (first + second) / 2, similarity

    def growth(self, m: sp.Expr, s: sp.Expr, beta: sp.Expr = POINT[BETA]) -> sp.Expr:
        """∂(db/dt)/∂b at b = 0."""
        up, down = (self.rates(m + h / 2, m - h / 2, s, beta) for h in (STEP, -STEP))
        return ((up[0] - up[1]) - (down[0] - down[1])) / (2 * STEP)

    def slope(self, m: sp.Expr, s: sp.Expr, beta: sp.Expr = POINT[BETA]) -> sp.Expr:
        """∂(dm/dt)/∂m on b = 0."""
        return (self.path(m + STEP, s, beta)[0] - self.path(m - STEP, s, beta)[0]) / (2 * STEP)

    def slopes(self, m: sp.Expr, s: sp.Expr, beta: sp.Expr = POINT[BETA]) -> list[sp.Expr]:
        """∂(dm/dt, ds/dt)/∂(m, s) on b = 0, row by row."""
        by_m = [self.path(m + h, s, beta) for h in (STEP, -STEP)]
        by_s = [self.path(m, s + h, beta) for h in (STEP, -STEP)]
        return [(pair[0][row] - pair[1][row]) / (2 * STEP) for row in (0, 1) for pair in (by_m, by_s)]
