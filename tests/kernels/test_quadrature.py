"""The trapezoidal rule for Gaussian averages: its size from pole and tolerance, and its error against 30 digits."""

import math
from functools import cache

import mpmath
import numpy as np
import pytest
from retyped import F_mp

from kernels.averages.quadrature import averages, measured_error, normal_rule, pole_distance

H_STAR = math.log(4) / 2


def tanh_integrand(R):
    return lambda z, m: np.tanh(R**2 * m + H_STAR + R * z)


exact_force = cache(F_mp)


def error_of(rule, R, overlaps):
    values = averages(tanh_integrand(R), rule, (np.array([float(m) for m in overlaps]),))
    return max(abs(float(v - exact_force(m, str(R), "0.8"))) for v, m in zip(values, overlaps, strict=True))


@pytest.mark.parametrize("R", [1, 3, 6, 10])
@pytest.mark.parametrize("tolerance", [1e-6, 1e-10, 1e-13])
def test_rule_meets_its_tolerance_without_waste(R, tolerance):
    """Overlaps of 0.1 and of about h*/R^2 are the hard ones: the integrand changes sign in the Gaussian's bulk."""
    overlaps = ["-1", "-0.3", "-0.077", "0.1", "1"]
    rule = normal_rule(pole_distance(R), tolerance)
    rounding = 1e-15 * math.sqrt(len(rule.nodes))
    assert error_of(rule, R, overlaps) <= tolerance + rounding
    half = type(rule)(rule.nodes[::2], 2 * rule.weights[::2], rule.error)
    assert error_of(half, R, overlaps) > tolerance


@pytest.mark.quick
def test_nodes_grow_with_the_slope_and_the_digits():
    sizes = [[len(normal_rule(pole_distance(R), tol).nodes) for tol in (1e-4, 1e-8, 1e-12)] for R in (1, 3, 6, 10)]
    assert np.all(np.diff(sizes, axis=0) > 0)
    assert np.all(np.diff(sizes, axis=1) > 0)


@pytest.mark.parametrize(
    ("R", "gauss_hermite", "trapezoid"),
    [
        (3, {40: 4e-4, 80: 2e-5, 160: 2e-6}, {80: 9e-8, 160: 2e-14, 320: 3e-15}),
        (6, {40: 1e-2, 80: 5e-4, 160: 7e-4}, {80: 3e-4, 160: 1e-7, 320: 6e-15}),
        (10, {40: 3e-2, 80: 2e-3, 160: 5e-3}, {80: 1e-4, 160: 6e-6, 320: 2e-9}),
    ],
)
def test_errors_printed_in_the_theory(R, gauss_hermite, trapezoid):
    """The errors agree with the page's table of |error| of F(0.1), which gives one digit.

    The table's trapezoid column counts intervals. Below 1e-12 the digit is rounding, and the test compares only its
    order of magnitude.
    """
    exact = float(F_mp("0.1", str(R), "0.8"))
    f = tanh_integrand(R)
    for n, printed in gauss_hermite.items():
        x, weights = _gauss_hermite(n)
        assert abs(weights @ f(x, 0.1) / math.sqrt(2 * math.pi) - exact) == pytest.approx(printed, rel=0.5)
    for n, printed in trapezoid.items():
        x = np.linspace(-8.5, 8.5, n + 1)
        weights = np.exp(-(x**2) / 2) * (x[1] - x[0]) / math.sqrt(2 * math.pi)
        error = abs(weights @ f(x, 0.1) - exact)
        assert error == pytest.approx(printed, rel=0.5) if printed > 1e-12 else error < 1e-13


def _gauss_hermite(n):
    """The Gauss–Hermite rule by Golub and Welsch's eigenvalues, which overflow for no n."""
    values, vectors = np.linalg.eigh(np.diag(np.sqrt(np.arange(1, n)), 1) + np.diag(np.sqrt(np.arange(1, n)), -1))
    return values, math.sqrt(2 * math.pi) * vectors[0] ** 2


def test_measured_error_sees_a_rule_that_is_too_coarse():
    overlaps = np.linspace(-1, 1, 41)
    coarse = normal_rule(pole_distance(1.0), 1e-12)
    measured = measured_error(tanh_integrand(6), coarse, (overlaps,))
    exact = error_of(coarse, 6, [str(m) for m in overlaps[[15, 19, 22]]])
    assert measured > 1e-6
    assert measured >= 0.9 * exact


def test_sech_average_at_every_width():
    """E sech(√(Δ/2) z) is right for every Δ down to 0, where it is constant."""
    for delta in (0.0, 1e-9, 0.5, 18.0, 72.0):
        slope = math.sqrt(delta / 2)
        rule = normal_rule(pole_distance(slope), 1e-12)
        (value,) = averages(lambda z, b: 1 / np.cosh(b * z), rule, (np.array([slope]),))
        with mpmath.workdps(30):
            exact = mpmath.quad(
                lambda x, b=slope: mpmath.sech(b * x) * mpmath.npdf(x), [mpmath.mpf(n) / 2 for n in range(-26, 27)]
            )
        assert abs(value - float(exact)) < 2e-12


@pytest.mark.parametrize("tolerance", [0.0, 1e-16, 0.5, math.nan])
def test_impossible_tolerances_are_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        normal_rule(1.0, tolerance)


def test_a_pole_too_near_is_refused():
    with pytest.raises(ValueError, match="nodes"):
        normal_rule(1e-5, 1e-12)
