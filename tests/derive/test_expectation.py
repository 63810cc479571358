"""The `Expectation` node: its algebra, and its value to the requested digits against an independent quadrature."""

from __future__ import annotations

import mpmath
import pytest
import sympy as sp
from mpmath import nstr
from retyped import F_mp, exchange_sech_mp

from derive.objects.expectation import Expectation, NotConvergedError, StandardNormal
from derive.objects.numeric_averages import hermite, laguerre

z, y = StandardNormal("z"), StandardNormal("y")
a, b = sp.symbols("a b", real=True)


@pytest.mark.parametrize("R", ["3", "6", "10", "14"])
def test_a_small_average_far_from_the_origin_keeps_its_relative_accuracy(R):
    """G keeps its relative accuracy although it is tiny.

    At s = −1 and w_1 = ½ it falls from 2e-3 (R = 3) to 1e-44 (R = 14), and the integrand's mass sits near z = −√2 R.
    """
    gap = 2 * sp.Integer(R) ** 2
    derived = Expectation(1 / (1 + sp.exp(gap + sp.sqrt(2 * gap) * z)), z).evalf(20)
    independent = 2 * sp.Float(nstr(exchange_sech_mp("-1", R, "0.5"), 30), 25)
    assert abs(derived / independent - 1) < sp.Float("1e-17")


@pytest.mark.quick
@pytest.mark.parametrize(("m", "R"), [("0.1", "3"), ("0.1", "6"), ("-0.7", "1.5")])
def test_thirty_digits_against_panels_of_gauss_legendre(m, R):
    field = sp.Rational(R) ** 2 * sp.Rational(m) + sp.log(4) / 2
    derived = Expectation(sp.tanh(field + sp.Rational(R) * z), z).evalf(30)
    assert abs(derived - sp.Float(nstr(F_mp(m, R, "0.8"), 38), 35)) < sp.Float("1e-27")


def test_an_odd_integrand_averages_to_nothing():
    assert Expectation(sp.tanh(9 * z), z).evalf(30) == 0


def test_a_pole_on_the_real_axis_is_refused():
    with pytest.raises(NotConvergedError):
        Expectation(1 / sp.cos(3 * z), z).evalf(15)


def test_constants_leave_and_bound_names_stay_bound():
    assert Expectation(a * sp.tanh(z), z) == a * Expectation(sp.tanh(z), z)
    assert Expectation(a, z) == a
    assert Expectation(sp.tanh(a * z), z, y) == Expectation(sp.tanh(a * z), z)
    assert Expectation(sp.tanh(a + z), z).free_symbols == {a}
    assert Expectation(sp.tanh(a + z), z).subs(z, b) == Expectation(sp.tanh(a + z), z)


@pytest.mark.quick
def test_differentiation_goes_under_the_integral():
    assert Expectation(sp.tanh(a + z), z).diff(a) == Expectation(1 - sp.tanh(a + z) ** 2, z)


@pytest.mark.parametrize("order", [1, 6, 60])
@pytest.mark.parametrize("degrees", [0, 1, 7.5, 300])
def test_a_gauss_rule_has_the_moments_of_its_law(order, degrees):
    """A rule of n nodes is exact for polynomials of degree 2n − 1, so it has the known moments E c^k of its law."""
    with mpmath.workdps(50):
        moments = [mpmath.fprod(degrees + 2 * j for j in range(k)) for k in range(2 * order)]
        assert_moments(laguerre(order, mpmath.mpf(degrees)), moments)
        double_factorials = [0 if k % 2 else mpmath.fac2(k - 1) for k in range(2 * order)]
        assert_moments(hermite(order), double_factorials)


def assert_moments(rule, moments):
    for k, moment in enumerate(moments):
        size = mpmath.fsum(weight * abs(node) ** k for weight, node in rule)
        assert abs(mpmath.fsum(weight * node**k for weight, node in rule) - moment) <= mpmath.mpf(10) ** -46 * size
