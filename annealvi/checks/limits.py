"""The theory's limits against what they are limits of: the derived rates and averages themselves, in numbers of 20 digits.

An expansion is compared by its order: halving the parameter must change what is left out by the factor that the order says. What is
exact is compared at a point; where it is a derivative, with a difference quotient of the derived rates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import sympy as sp

from annealvi.checks.check import Check
from derive.asymptotics import Asymptotics
from derive.equal_weights import HALF_LOG_ODDS, PULL, REPULSION
from derive.expansion import Expansion
from derive.expectation import Expectation
from derive.geometry import R
from derive.growth_exponents import CRITICAL_TEMPERATURE, DIMENSION, PREFACTOR, PULL_SLOPE, HotGrowth
from derive.high_temperature import ANGLE, U
from derive.large_separation import SCALED_OVERLAP, SEPARATION
from derive.linear_stability import BimodalStability
from derive.near_equal import DEFECT
from derive.problem import ScheduleSpec
from derive.schedules import START_TEMPERATURE, TIME_SCALE, make_schedule
from derive.system import BETA, TIME
from derive.transverse_growth import DIFFERENCE, MEAN

DIGITS = 20
STEP = sp.Rational(1, 10**7)
"""Of difference quotients: a central one leaves out some STEP², and has 10^−DIGITS/STEP of rounding."""

IDENTITY = 1e-11
"""What a relative difference of two sides may be: STEP² times the third derivatives, which are below some hundred."""

MARGIN = 0.03
"""Of an order, measured between x and x/2: the next term, smaller by a factor c x, moves it by some c x/2. With x below 10⁻², or x² where
powers go up by two, this allows c up to 6."""

POINT = {R: sp.Rational(3, 2), HALF_LOG_ODDS: sp.Rational(1, 3), BETA: sp.Rational(3, 10)}
STATE = (sp.Rational(7, 10), sp.Rational(-2, 5), sp.Rational(-2, 5))
PLACE = {MEAN: sp.Rational(2, 5), DIFFERENCE: sp.Rational(6, 5), DEFECT: sp.Rational(7, 5), SCALED_OVERLAP: sp.Rational(7, 10)}
SCHEDULE = {START_TEMPERATURE: sp.Integer(300), CRITICAL_TEMPERATURE: sp.Integer(40), TIME_SCALE: sp.Integer(7)}
LARGE = {R: (20, 40), SEPARATION: (300, 600)}
SMALL = (sp.Rational(1, 1000), sp.Rational(1, 2000))


def limit_checks(limits: Asymptotics) -> Iterator[tuple[str, Check]]:
    """Each result's name, as in `Asymptotics.latex`, with its check. The four expansions of motions in time are not among them: they are
    compared with solutions of the equations in the tests.
    """
    numbers = _Numbers(limits)
    for name, sides in _identities(numbers).items():
        yield name, _identity(name, sides)
    for growth in limits.growth:
        yield f"hot growth, {growth.kind}", _identity(f"hot growth, {growth.kind}", _integrated(growth))
    for expansion in limits.expansions:
        if _is_exact(expansion.quantity):
            yield expansion.name, _order(expansion, numbers)


def stability_checks(limits: Asymptotics, stability: BimodalStability) -> Iterator[tuple[str, Check]]:
    """The linearisation at each corner of the overlaps against the derived rates nearby, by the corner's name.

    Means moved off the modes' line by x_i in one direction have m_i = ±√(1 − x_i²) and s = m_1 m_2 + x_1 x_2; the rate of m_i gives that
    of x_i, which must be J x.
    """
    numbers = _Numbers(limits)
    for corner in (stability.collapsed, stability.mixed, stability.separated):
        signs = [value for _, value in corner.state[:2]]
        odds = sp.exp(2 * POINT[HALF_LOG_ODDS])
        weights = {"w_1": sp.S.Half, "w_2": sp.S.Half, "w_star_1": odds / (1 + odds), "w_star_2": 1 / (1 + odds), "R": POINT[R]}
        averages = [value for _, value in corner.averages]
        symbols = {s for value in averages for s in value.free_symbols} | corner.matrix.free_symbols
        matrix = corner.at({s: weights[s.name] for s in symbols if s.name in weights} | {BETA: POINT[BETA]}).evalf(DIGITS)
        sides = []
        for x in ((STEP, 2 * STEP), (STEP, -STEP)):
            m = [sign * sp.sqrt(1 - y**2) for sign, y in zip(signs, x, strict=True)]
            moved = numbers.rates(m[0], m[1], m[0] * m[1] + x[0] * x[1])
            linear = matrix * sp.Matrix(x)
            sides += [(-moved[i] * m[i] / x[i], linear[i]) for i in (0, 1)]
        yield corner.name, _identity(f"linearisation at the {corner.name} state", sides)


class _Numbers:
    """The derived rates and averages at POINT. An average that occurs again is not integrated again."""

    def __init__(self, limits: Asymptotics) -> None:
        self.limits = limits
        self._averages: dict[sp.Expr, sp.Expr] = {}

    def value(self, expression: sp.Expr, at: Mapping[sp.Expr, sp.Expr]) -> sp.Expr:
        concrete = self.limits.pair.written_out(expression).subs({**POINT, **at})
        for average in concrete.atoms(Expectation) - set(self._averages):
            self._averages[average] = average.evalf(DIGITS)
        number = concrete.xreplace(self._averages).evalf(DIGITS)
        if not number.is_number:
            raise ArithmeticError(f"{number} is no number")
        return number

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


Sides = Sequence[tuple[sp.Expr, sp.Expr]]
"""Pairs of numbers that must agree."""


def _identities(numbers: _Numbers) -> dict[str, Sides]:
    limits = numbers.limits
    path, hot, slow = limits.path, limits.hot, limits.slow
    m, s = PLACE[MEAN], STATE[2]
    on_path = {MEAN: m, path.s: s}
    velocity = numbers.path(m, s)
    onset = numbers.value(path.critical_beta, {})
    pair_slope = numbers.slope(sp.S.Zero, sp.S.NegativeOne, onset)
    states = dict(zip(limits.pair.states, STATE, strict=True))
    moved = {beta: numbers.rates(*STATE, beta) for beta in (sp.S.Zero, POINT[BETA])}
    angle = {U[i]: hot.conserved[i].subs(states) for i in (0, 1)} | {ANGLE: sp.acos(STATE[2]) / 2}

    def chain(i: int, beta: sp.Expr) -> sp.Expr:
        return sp.Add(*(sp.diff(hot.conserved[i], x).subs(states) * rate for x, rate in zip(states, moved[beta], strict=True)))

    similarity, beta = (numbers.value(e, {MEAN: m}) for e in (slow.similarity, slow.beta))
    waiting = {MEAN: m}
    return {
        "overlap on the symmetric path": [(numbers.value(path.velocity[0], on_path), velocity[0])],
        "similarity on the symmetric path": [(numbers.value(path.velocity[1], on_path), velocity[1])],
        "transverse growth": [(numbers.value(path.transverse, on_path), numbers.growth(m, s))],
        "longitudinal growth": [(numbers.value(path.longitudinal, on_path), numbers.slope(m, s))],
        "onset of tearing": [(1 + pair_slope, sp.S.One)],
        **{f"conserved u_{i + 1}": [(1 + chain(i, sp.S.Zero), sp.S.One)] for i in (0, 1)},
        "relaxation of the angle": [
            (numbers.value(hot.relaxation, angle), moved[sp.S.Zero][2] / (-2 * sp.sin(2 * angle[ANGLE]))),
        ],
        **{f"drift of u_{i + 1}": [(POINT[BETA] * numbers.value(hot.drift[i], angle), chain(i, POINT[BETA]))] for i in (0, 1)},
        "quasi-static path": [(1 + rate, sp.S.One) for rate in numbers.path(m, similarity, beta)],
        "growth on it": [(numbers.value(slow.growth, waiting), numbers.growth(m, similarity, beta))],
        "its Jacobian": [
            (numbers.value(entry, waiting), slope) for entry, slope in zip(slow.jacobian, numbers.slopes(m, similarity, beta), strict=True)
        ],
    }


def _identity(name: str, sides: Sides) -> Check:
    worst = max(float(abs((a - b) / b).evalf(DIGITS)) for a, b in sides)
    return Check(name, "numeric", worst, IDENTITY, f"relative difference, numbers compared: {len(sides)}, to {DIGITS} digits")


def _integrated(growth: HotGrowth) -> Sides:
    """T at t_c, and Λ_hot with the integral of β done numerically."""
    schedule = make_schedule(ScheduleSpec(growth.kind, 2.0, 1.0)).beta.subs(SCHEDULE)
    end, exponent = (e.subs(SCHEDULE).subs(PULL_SLOPE, 2).evalf(DIGITS) for e in (growth.crossing, growth.exponent))
    total = sp.Integral(schedule, (TIME, 0, end)).evalf(DIGITS)
    sides = [(exponent, total)]
    if growth.kind != "hold":  # which passes T_c in its jump
        sides.append((schedule.subs(TIME, end).evalf(DIGITS), 1 / SCHEDULE[CRITICAL_TEMPERATURE]))
    return sides


def _is_exact(quantity: sp.Expr) -> bool:
    """Whether it is given in the averages, and not as an unknown function of time."""
    return quantity.atoms(sp.core.function.AppliedUndef) <= {
        f for f in quantity.atoms(sp.core.function.AppliedUndef) if f.func in (PULL, REPULSION)
    }


def _order(expansion: Expansion, numbers: _Numbers) -> Check:
    parameters = SMALL if expansion.limit == 0 else [sp.Integer(x) for x in LARGE[expansion.variable]]
    states = dict(zip(numbers.limits.pair.states, (2 * STATE[0], 2 * STATE[1], STATE[2]), strict=True))
    others = {**PLACE, **states, **SCHEDULE, PULL_SLOPE: sp.Integer(2), PREFACTOR: sp.Integer(3), DIMENSION: sp.Integer(100)}

    def left_out(x: sp.Expr) -> sp.Expr:
        at = {**others, expansion.variable: x}
        if expansion.variable == R:
            at[HALF_LOG_ODDS] = x / 2  # h* grows with R where the limit is in R
        error = numbers.value(expansion.quantity - expansion.expression, at)
        return error / numbers.value(expansion.scale, at)

    errors = [left_out(x) for x in parameters]
    order = sp.log(abs(errors[1] / errors[0])) / sp.log(parameters[1] / parameters[0])
    note = f"measured between {expansion.variable} = {parameters[0]} and {parameters[1]}: order {float(order):.4f} for {expansion.order}"
    return Check(expansion.name, "numeric", abs(float(order - expansion.order)), MARGIN, note)
