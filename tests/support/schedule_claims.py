"""What the record of a schedule kind claims, checked against the numbers of the kind's formula by bisection and grids.

Each check takes a `Kind` and fails where the formula, evaluated in double precision, contradicts the record.
"""

from __future__ import annotations

import math

import numpy as np
import sympy as sp
from scipy.integrate import quad
from scipy.optimize import brentq

from derive.problem.kinds import Kind

STARTS = (1.3, 37.0, 900.0)
TIME_SCALE = 80.0
GRID = np.concatenate([np.linspace(0, 3 * TIME_SCALE, 3001), np.geomspace(3 * TIME_SCALE, 1e4 * TIME_SCALE, 500)])
_t, _T0, _t0 = sp.symbols("t T0 t0", positive=True)


def temperature(kind: Kind, T0: float, times: np.ndarray) -> np.ndarray:
    """T at the times, from the record's formula alone."""
    value = sp.lambdify((_t, _T0, _t0), kind.formula.value(_t, _T0, _t0), "numpy")
    found = np.broadcast_to(np.asarray(value(times, T0, TIME_SCALE), float), times.shape)
    found = found if kind.formula.of == "T" else 1 / found
    return np.where(times < TIME_SCALE, found, 1.0) if kind.formula.ends else found


def check_start_and_end(kind: Kind) -> None:
    """T begins at T0 and comes to 1, where the record states a settling time."""
    for T0 in STARTS:
        first, last = temperature(kind, T0, np.array([0.0, 1e6 * TIME_SCALE]))
        assert math.isclose(first, T0, rel_tol=1e-12)
        assert math.isclose(last, 1.0, rel_tol=1e-12) == (kind.settling is not None)


def check_monotone(kind: Kind) -> None:
    """T never rises on a fine grid, exactly where the record says so."""
    rises = any((np.diff(temperature(kind, T0, GRID)) > 1e-12 * T0).any() for T0 in STARTS)
    assert kind.monotone is (not rises)


def check_settling_time(kind: Kind) -> None:
    """T is above 1 + excess just before the stated time and never again after it."""
    for T0 in STARTS:
        for excess in (1e-6, 1e-3, 0.2):
            settled = TIME_SCALE * kind.settling(T0, excess)
            before, at = temperature(kind, T0, np.array([settled * (1 - 1e-6), settled * (1 + 1e-9)]))
            assert before > 1 + excess
            assert at <= 1 + excess * (1 + 1e-6)
            assert (temperature(kind, T0, GRID[settled < GRID]) <= 1 + excess * (1 + 1e-6)).all()


def check_numbers(kind: Kind) -> None:
    """The schedule depends on the numbers that the record names, and on no other."""
    value = kind.formula.value(_t, _T0, _t0)
    used = {symbol.name for symbol in value.free_symbols - {_t}} | ({"t0"} if kind.formula.ends else set())
    assert used == set(kind.numbers)


def check_start_at_zero_beta(kind: Kind) -> None:
    """With T0 infinite the formula is finite for t > 0, or infinite until its end, exactly where the record says so."""
    value = kind.formula.value(_t, sp.oo, _t0)
    means_something = (value == sp.oo and kind.formula.ends) or not value.has(sp.oo, sp.zoo, sp.nan)
    assert kind.starts_at_zero_beta == means_something
    assert not means_something or (value if kind.formula.of == "beta" else 1 / value).subs(_t, 0) == 0


def crossing_and_heat(kind: Kind, T0: float, critical: float) -> tuple[float, float]:
    """The t/t0 at which T passes `critical`, t = t0 where it jumps there, and the integral of beta dt/t0 until then."""
    value = kind.formula.value(_t, sp.Float(T0), sp.Integer(1))
    beta = sp.lambdify(_t, value if kind.formula.of == "beta" else 1 / value, "math")
    latest = 0.9999 if kind.formula.ends else 40.0
    crossing = brentq(lambda t: beta(t) - 1 / critical, 0.0, latest) if value.has(_t) else 1.0
    return crossing, quad(beta, 0.0, crossing, epsabs=1e-13)[0]


def check_growth(kind: Kind) -> None:
    """The substitution makes beta dt rational in u, begins at t = 0, and gives the integral of beta over time."""
    T0, critical = 300.0, 40.0
    u = sp.Symbol("u", positive=True)
    time = kind.growth.time(u, sp.Float(T0), sp.Integer(1))
    assert abs(time.subs(u, kind.growth.start)) < 1e-15
    by_rule = kind.growth.time(u, _T0, sp.Integer(1))
    beta = kind.formula.value(by_rule, _T0, sp.Integer(1)) ** (1 if kind.formula.of == "beta" else -1)
    rational = sp.cancel(sp.powdenest(sp.expand_trig(beta * sp.diff(by_rule, u)), force=True))
    assert rational.is_rational_function(u)
    crossing, heat = crossing_and_heat(kind, T0, critical)
    (last,) = sp.solve(time - crossing, u)
    integrand = sp.lambdify(u, rational.subs(_T0, T0), "math")
    by_substitution = quad(integrand, float(kind.growth.start), float(last), epsabs=1e-13)[0]
    assert math.isclose(by_substitution, heat, rel_tol=1e-9)
