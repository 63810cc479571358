"""The theory's limits against the derived rates and averages themselves, in numbers of 20 digits.

An expansion is checked by its order: halving the parameter must change the error by the factor that the order says. An
exact result is compared at one point; a derivative is compared with a difference quotient of the derived rates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import sympy as sp

from annealvi.verification.check import Check
from annealvi.verification.limit_numbers import DIGITS, POINT, Numbers, Sides, identity
from derive.asymptotics.equal_weights import HALF_LOG_ODDS, PULL, REPULSION
from derive.asymptotics.growth_exponents import CRITICAL_TEMPERATURE, DIMENSION, PREFACTOR, PULL_SLOPE, HotGrowth
from derive.asymptotics.high_temperature import ANGLE, U
from derive.asymptotics.large_separation import SCALED_OVERLAP, SEPARATION
from derive.asymptotics.limits import Asymptotics
from derive.asymptotics.near_equal import DEFECT
from derive.asymptotics.transverse_growth import DIFFERENCE, MEAN
from derive.objects.expansion import Expansion
from derive.objects.system import BETA, TIME
from derive.problem.schedules import START_TEMPERATURE, TIME_SCALE, make_schedule
from derive.problem.specification import ScheduleSpec
from derive.rules.geometry import R

MARGIN = 0.03
"""Allowed error of an order that is measured between x and x/2. The next term, smaller by a factor c x, moves the order
by some c x/2. With x below 10⁻², or x² for expansions in even powers, the margin allows c up to 6."""

STATE = (sp.Rational(7, 10), sp.Rational(-2, 5), sp.Rational(-2, 5))
PLACE = {
    MEAN: sp.Rational(2, 5),
    DIFFERENCE: sp.Rational(6, 5),
    DEFECT: sp.Rational(7, 5),
    SCALED_OVERLAP: sp.Rational(7, 10),
}
M, S = PLACE[MEAN], STATE[2]
SCHEDULE = {START_TEMPERATURE: sp.Integer(300), CRITICAL_TEMPERATURE: sp.Integer(40), TIME_SCALE: sp.Integer(7)}
LARGE = {R: (20, 40), SEPARATION: (300, 600)}
SMALL = (sp.Rational(1, 1000), sp.Rational(1, 2000))


def limit_checks(limits: Asymptotics) -> Iterator[tuple[str, Check]]:
    """Yield the name of each result, as in `Asymptotics.latex`, with its check.

    The four expansions of motions in time are left out; tests compare them with solutions of the equations.
    """
    numbers = Numbers(limits)
    for name, sides in IDENTITIES.items():
        yield name, identity(name, sides(numbers))
    for growth in limits.growth:
        yield f"hot growth, {growth.kind}", identity(f"hot growth, {growth.kind}", _integrated(growth, numbers))
    for expansion in limits.expansions:
        if _is_exact(expansion.quantity):
            yield expansion.name, _order(expansion, numbers)


def _on_path(numbers: Numbers, expression: sp.Expr) -> sp.Expr:
    return numbers.value(expression, {MEAN: M, numbers.limits.path.s: S})


def _onset(numbers: Numbers) -> Sides:
    onset = numbers.value(numbers.limits.path.critical_beta, {})
    return [(1 + numbers.slope(sp.S.Zero, sp.S.NegativeOne, onset), sp.S.One)]


def _conserved(i: int, numbers: Numbers) -> Sides:
    """u_i against its definition in coordinates, the overlap of μ* with a unit vector; and its rate at β = 0."""
    u = numbers.limits.hot.conserved[i]
    mode, first, second = _coordinates(*STATE)
    along = first + second if i == 0 else first - second
    overlap = mode.dot(along) / along.norm()
    return [(_at_state(u, numbers), overlap.evalf(DIGITS)), (1 + _chain(i, numbers, sp.S.Zero), sp.S.One)]


def _coordinates(m_1: sp.Expr, m_2: sp.Expr, s: sp.Expr) -> tuple[sp.Matrix, sp.Matrix, sp.Matrix]:
    """μ*, μ_1 and μ_2 in R³ with these overlaps."""
    height = sp.sqrt(1 - m_1**2)
    across = (s - m_1 * m_2) / height
    return sp.Matrix([1, 0, 0]), sp.Matrix([m_1, height, 0]), sp.Matrix([m_2, across, sp.sqrt(1 - m_2**2 - across**2)])


def _at_state(expression: sp.Expr, numbers: Numbers) -> sp.Expr:
    return expression.subs(dict(zip(numbers.limits.pair.states, STATE, strict=True))).evalf(DIGITS)


def _chain(i: int, numbers: Numbers, beta: sp.Expr) -> sp.Expr:
    """du_i/dt by the chain rule along the derived rates."""
    u, states = numbers.limits.hot.conserved[i], numbers.limits.pair.states
    rates = numbers.rates(*STATE, beta)
    return sp.Add(*(_at_state(sp.diff(u, state), numbers) * rate for state, rate in zip(states, rates, strict=True)))


def _angle(numbers: Numbers) -> dict[sp.Expr, sp.Expr]:
    """θ at STATE, and u_i by its definition."""
    mode, first, second = _coordinates(*STATE)
    overlaps = (mode.dot(along) / along.norm() for along in (first + second, first - second))
    return {**dict(zip(U, overlaps, strict=True)), ANGLE: sp.acos(S) / 2}


def _relaxation(numbers: Numbers) -> Sides:
    angle = _angle(numbers)
    return [
        (
            numbers.value(numbers.limits.hot.relaxation, angle),
            numbers.rates(*STATE, sp.S.Zero)[2] / (-2 * sp.sin(2 * angle[ANGLE])),
        )
    ]


def _drift(i: int, numbers: Numbers) -> Sides:
    beta = POINT[BETA]
    return [(beta * numbers.value(numbers.limits.hot.drift[i], _angle(numbers)), _chain(i, numbers, beta))]


def _waiting(numbers: Numbers) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """(m, s, β) of an equilibrium on b = 0."""
    slow = numbers.limits.slow
    return M, numbers.value(slow.similarity, {MEAN: M}), numbers.value(slow.beta, {MEAN: M})


def _jacobian(numbers: Numbers) -> Sides:
    entries = (numbers.value(entry, {MEAN: M}) for entry in numbers.limits.slow.jacobian)
    return list(zip(entries, numbers.slopes(*_waiting(numbers)), strict=True))


IDENTITIES: dict[str, Callable[[Numbers], Sides]] = {
    "overlap on the symmetric path": lambda n: [(_on_path(n, n.limits.path.velocity[0]), n.path(M, S)[0])],
    "similarity on the symmetric path": lambda n: [(_on_path(n, n.limits.path.velocity[1]), n.path(M, S)[1])],
    "transverse growth": lambda n: [(_on_path(n, n.limits.path.transverse), n.growth(M, S))],
    "longitudinal growth": lambda n: [(_on_path(n, n.limits.path.longitudinal), n.slope(M, S))],
    "onset of tearing": _onset,
    "conserved u_1": partial(_conserved, 0),
    "conserved u_2": partial(_conserved, 1),
    "relaxation of the angle": _relaxation,
    "drift of u_1": partial(_drift, 0),
    "drift of u_2": partial(_drift, 1),
    "quasi-static path": lambda n: [(1 + rate, sp.S.One) for rate in n.path(*_waiting(n))],
    "growth on it": lambda n: [(n.value(n.limits.slow.growth, {MEAN: M}), n.growth(*_waiting(n)))],
    "its Jacobian": _jacobian,
}
"""The exact results by name: pairs of the printed number and of the number that it must equal."""


def _integrated(growth: HotGrowth, numbers: Numbers) -> Sides:
    """Λ_hot, and the temperature at the end of the hot phase, each beside its value from numbers.

    Λ_hot must equal the growth rate of the antipodal pair per β, measured from the rates, times the numerical integral
    of β up to the time t_c. The temperature at t_c must equal T_c.
    """
    schedule = make_schedule(ScheduleSpec(growth.kind, 2.0, 1.0)).beta.subs(SCHEDULE)
    slope = numbers.value(sp.diff(PULL(MEAN), MEAN).subs(MEAN, 0), {})
    end, exponent = (
        numbers.value(e.subs({**SCHEDULE, PULL_SLOPE: slope}), {}) for e in (growth.crossing, growth.exponent)
    )
    total = sp.Integral(schedule, (TIME, 0, end)).evalf(DIGITS)
    sides = [(exponent, numbers.growth(sp.S.Zero, sp.S.NegativeOne) / POINT[BETA] * total)]
    if growth.crossing != TIME_SCALE:  # a hold passes T_c in its jump
        sides.append((schedule.subs(TIME, end).evalf(DIGITS), 1 / SCHEDULE[CRITICAL_TEMPERATURE]))
    return sides


def _is_exact(quantity: sp.Expr) -> bool:
    """Whether the quantity is made of averages, without an unknown function of time."""
    return quantity.atoms(sp.core.function.AppliedUndef) <= {
        f for f in quantity.atoms(sp.core.function.AppliedUndef) if f.func in (PULL, REPULSION)
    }


def _order(expansion: Expansion, numbers: Numbers) -> Check:
    parameters = SMALL if expansion.limit == 0 else [sp.Integer(x) for x in LARGE[expansion.variable]]
    states = dict(zip(numbers.limits.pair.states, (2 * STATE[0], 2 * STATE[1], STATE[2]), strict=True))
    others = {
        **PLACE,
        **states,
        **SCHEDULE,
        PULL_SLOPE: sp.Integer(2),
        PREFACTOR: sp.Integer(3),
        DIMENSION: sp.Integer(100),
    }

    def left_out(x: sp.Expr) -> sp.Expr:
        at = {**others, expansion.variable: x}
        if expansion.variable == R:
            at[HALF_LOG_ODDS] = x / 2  # h* grows with R where the limit is in R
        error = numbers.value(expansion.quantity - expansion.expression, at)
        return error / numbers.value(expansion.scale, at)

    errors = [left_out(x) for x in parameters]
    order = sp.log(abs(errors[1] / errors[0])) / sp.log(parameters[1] / parameters[0])
    note = (
        f"measured between {expansion.variable} = {parameters[0]} and {parameters[1]}: order "
        f"{float(order):.4f} for {expansion.order}"
    )
    return Check(expansion.name, "numeric", abs(float(order - expansion.order)), MARGIN, note)
