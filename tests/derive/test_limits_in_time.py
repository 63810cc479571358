"""The limits that are paths or durations: high temperature, slow schedules and hot growth.

The reference is the retyped flow, integrated in time.
"""

from __future__ import annotations

import math
from functools import cache

import mpmath
import numpy as np
import pytest
import retyped
import sympy as sp
from derived_limits import expansion, limits
from error_slopes import has_order
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq

from derive.asymptotics.equal_weights import HALF_LOG_ODDS, PULL, REPULSION
from derive.asymptotics.growth_exponents import (
    CRITICAL_TEMPERATURE,
    DIMENSION,
    HOT_KINDS,
    PREFACTOR,
    PROBABILITY,
    PULL_SLOPE,
    hot_growth,
    sufficient_time_scale,
)
from derive.asymptotics.high_temperature import ANGLE, INITIAL_ANGLE, INITIAL_U
from derive.asymptotics.quasi_static import EQUILIBRIUM, SLOWNESS, SWEEP
from derive.asymptotics.transverse_growth import MEAN
from derive.objects.system import BETA
from derive.problem.schedules import START_TEMPERATURE, TIME_SCALE

RADIUS, W_STAR = 1.5, 0.7


def G(s):
    return 2 * retyped.exchange_sech(s, RADIUS, 0.5)


def F(m):
    return retyped.F(m, RADIUS, W_STAR)


def slope_of(function):
    """The derivative by central differences of fourth order, with errors of about h⁴ = 1e-12 and 1e-15/h."""
    h = 1e-3
    return lambda x: (8 * (function(x + h) - function(x - h)) - function(x + 2 * h) + function(x - 2 * h)) / (12 * h)


def rates(beta, y):
    return [f(*y, beta, RADIUS, W_STAR, 0.5) for f in (retyped.dm_1, retyped.dm_2, retyped.ds)]


def path(beta, y, t_end, **options):
    return solve_ivp(lambda t, y: rates(beta(t), y), (0, t_end), y, method="DOP853", rtol=1e-12, atol=1e-14, **options)


BETAS = (2e-3, 1e-3, 5e-4)
START = {INITIAL_U[0]: 0.3, INITIAL_U[1]: -0.4, INITIAL_ANGLE: 0.5}
LAST_ANGLE = 1.3


@cache
def hot_ends() -> tuple[tuple[float, float], ...]:
    """(u_1, u_2) at the time when θ has grown to LAST_ANGLE, for each of BETAS."""
    u_1, u_2, theta = (START[x] for x in (*INITIAL_U, INITIAL_ANGLE))
    along, across = u_1 * math.cos(theta), u_2 * math.sin(theta)
    ends = []
    for beta in BETAS:

        def arrived(t, y):
            return y[2] - math.cos(2 * LAST_ANGLE)

        arrived.terminal = True
        y = path(
            lambda t, beta=beta: beta, [along + across, along - across, math.cos(2 * theta)], 1e4, events=arrived
        ).y[:, -1]
        assert y[2] == pytest.approx(math.cos(2 * LAST_ANGLE), abs=1e-12)
        ends.append(((y[0] + y[1]) / math.sqrt(2 * (1 + y[2])), (y[0] - y[1]) / math.sqrt(2 * (1 - y[2]))))
    return tuple(ends)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_high_temperature(which, factor):
    """The overlaps at the end of the relaxation are right to O(β²).

    With the first order changed by 1 % they are not.
    """
    start, first = expansion(f"u_{which + 1} along the relaxation").expression.as_independent(BETA)
    assert start == INITIAL_U[which]
    (integral,) = first.atoms(sp.Integral)
    assert first == BETA * integral
    variable, lower, upper = integral.limits[0]
    assert (lower, upper) == (INITIAL_ANGLE, ANGLE)
    integrand = sp.lambdify(
        variable, integral.function.subs(START), [{PULL.__name__: F, REPULSION.__name__: G}, "math"]
    )
    per_beta = quad(integrand, START[INITIAL_ANGLE], LAST_ANGLE, epsabs=1e-12)[0]
    errors = [
        START[INITIAL_U[which]] + factor * beta * per_beta - end[which]
        for beta, end in zip(BETAS, hot_ends(), strict=True)
    ]
    assert has_order(errors, BETAS, expansion(f"u_{which + 1} along the relaxation").order) == (factor == 1)


SLOW = (2000.0, 4000.0, 8000.0)
COLD, HOT = 0.04, 0.02


def equilibrium(beta):
    return brentq(lambda m: beta * F(m) - 2 * m * G(2 * m**2 - 1), 1e-3, 0.6, xtol=1e-15)


@cache
def slow_ends() -> tuple[tuple[float, float], ...]:
    """(m, s) at the end of a schedule that takes β linearly from HOT to COLD, for each duration in SLOW."""
    m = equilibrium(HOT)
    ends = (path(lambda t, t0=t0: HOT + (COLD - HOT) * t / t0, [m, m, 2 * m**2 - 1], t0).y[:, -1] for t0 in SLOW)
    return tuple((float(y[0]), float(y[2])) for y in ends)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_slow_schedules(which, factor):
    """The pair lags behind its equilibrium as derived, to O(1/t0²).

    With the first order changed by 1 % the error is of lower order.
    """
    m = equilibrium(COLD)
    found = expansion(f"{'ms'[which]} under a slow schedule")
    s = 2 * m**2 - 1
    functions = {PULL: F, REPULSION: G}
    expression = found.expression.doit()
    for node in sorted(expression.atoms(sp.Subs, sp.Derivative), key=lambda e: isinstance(e, sp.Subs), reverse=True):
        derivative, at = (node.expr, s) if isinstance(node, sp.Subs) else (node, m)
        function = derivative.expr.func
        assert derivative.derivative_count == 1
        expression = expression.xreplace({node: sp.Float(slope_of(functions[function])(at))})
    values = {REPULSION(2 * EQUILIBRIUM**2 - 1): G(s), PULL(EQUILIBRIUM): F(m)}
    polynomial = sp.Poly(expression.xreplace(values).subs({EQUILIBRIUM: m, SWEEP: COLD - HOT}), SLOWNESS)
    zeroth, first = float(polynomial.coeff_monomial(1)), float(polynomial.coeff_monomial(SLOWNESS))
    assert zeroth == pytest.approx((m, s)[which], abs=1e-14)
    errors = [zeroth + factor * first / t0 - end[which] for t0, end in zip(SLOW, slow_ends(), strict=True)]
    assert has_order(errors, [1 / t0 for t0 in SLOW], found.order) == (factor == 1)


def test_where_the_slow_path_is_stable():
    """On b = 0 the derived Jacobian equals the differences of the retyped rates.

    Both of its eigenvalues are negative there.
    """
    m = equilibrium(COLD)
    s, h = 2 * m**2 - 1, 1e-4

    def velocity(m, s):
        first, _, closer = rates(COLD, [m, m, s])
        return np.array([first, closer])

    typed = np.stack([velocity(m + h, s) - velocity(m - h, s), velocity(m, s + h) - velocity(m, s - h)], axis=1) / (
        2 * h
    )
    values = {sp.Symbol("R", positive=True): RADIUS, HALF_LOG_ODDS: math.log(W_STAR / (1 - W_STAR)) / 2, MEAN: m}
    derived = limits().slow.jacobian.applyfunc(lambda e: limits().pair.written_out(e).subs(values).evalf())
    assert np.array(derived, dtype=float) == pytest.approx(typed, rel=1e-6)
    assert (np.linalg.eigvals(typed).real < 0).all()


T_0, T_C, T_SCALE, SLOPE = 300.0, 40.0, 700.0, 2.2
TEMPERATURES = {
    "exponential": lambda t: 1 + (T_0 - 1) * math.exp(-t),
    "geometric": lambda t: T_0 ** (1 - t),
    "linear": lambda t: T_0 + (1 - T_0) * t,
    "beta-exponential": lambda t: 1 / (1 - (1 - 1 / T_0) * math.exp(-t)),
    "beta-linear": lambda t: 1 / (1 / T_0 + (1 - 1 / T_0) * t),
    "cosine": lambda t: 1 + (T_0 - 1) * (1 + math.cos(math.pi * t)) / 2,
    "hold": lambda t: T_0 if t < 1 else 1.0,
}
"""T as a function of t/t0."""
NUMBERS = {START_TEMPERATURE: T_0, CRITICAL_TEMPERATURE: T_C, TIME_SCALE: T_SCALE, PULL_SLOPE: SLOPE}


@pytest.mark.parametrize("kind", HOT_KINDS)
def test_hot_growth(kind):
    temperature, found = TEMPERATURES[kind], hot_growth(kind, limits().path)
    latest = 0.99 if kind in ("geometric", "linear", "cosine") else 9
    crossing = 1.0 if kind == "hold" else brentq(lambda t: temperature(t) - T_C, 0, latest, xtol=1e-15)
    heat = quad(lambda t: 1 / temperature(t), 0, crossing, epsabs=1e-12)[0]
    assert float(found.crossing.subs(NUMBERS)) == pytest.approx(T_SCALE * crossing, rel=1e-11)
    assert float(found.exponent.subs(NUMBERS)) == pytest.approx(SLOPE / 2 * T_SCALE * heat, rel=1e-10)


@pytest.mark.parametrize("kind", HOT_KINDS)
def test_the_time_scale_gives_the_wanted_probability(kind):
    growth = hot_growth(kind, limits().path)
    wanted = {**NUMBERS, PROBABILITY: 0.05, DIMENSION: 128, PREFACTOR: 0.7}
    t0 = float(sufficient_time_scale(growth).subs(wanted).evalf())
    exponent = float(growth.exponent.subs({**NUMBERS, TIME_SCALE: t0}))
    assert math.erf(0.7 * math.exp(-exponent) * math.sqrt(128) / 2) == pytest.approx(0.05, rel=1e-12)


@pytest.mark.parametrize("kind", HOT_KINDS)
@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_small_probabilities(kind, factor):
    """The error of the leading term is of order p².

    With a constant that is wrong by a thousandth, the error is of order one.
    """
    found = expansion(f"{kind} schedule for a small probability")
    growth = hot_growth(kind, limits().path)
    with mpmath.workdps(30):
        per_time_scale = mpmath.mpf(float(growth.per_time_scale.subs(NUMBERS)))
        p = [mpmath.mpf(1) / 100 / 2**n for n in range(3)]
        exact = [
            -mpmath.log(2 * mpmath.erfinv(x) / (mpmath.mpf("0.75") * mpmath.sqrt(128))) / per_time_scale for x in p
        ]
        leading = found.expression.subs(
            {DIMENSION: 128, PREFACTOR: sp.Rational(3, 4) * sp.nsimplify(factor), **NUMBERS}
        )
        at = [mpmath.mpf(leading.subs(PROBABILITY, sp.Rational(1, 100 * 2**n)).evalf(25)) for n in range(3)]
        errors = [(a - e) * per_time_scale for a, e in zip(at, exact, strict=True)]
        assert has_order(errors, p, found.order) == (factor == 1)


def test_a_kind_without_a_closed_form_is_refused():
    for kind in ("constant", "expression", "table", "adaann"):
        with pytest.raises(ValueError, match="no closed form"):
            hot_growth(kind, limits().path)
