"""The rules on Gaussian averages, each against a quadrature made here.

Exact rules agree to 20 digits; approximate rules have an error with the stated slope.
"""

from __future__ import annotations

import mpmath
import pytest
import sympy as sp
from error_slopes import DIGITS, average, edge_average, has_order, number

from derive.objects.expectation import Expectation, StandardNormal
from derive.rules.expectation_rules import localised_moment, narrow, sech_moment, steins_lemma, taylor, tilt, wide
from derive.rules.gradient_rules import RuleDoesNotApplyError

z, y = StandardNormal("z"), sp.Symbol("y", real=True)
a, c = sp.symbols("a c", real=True)
sigma, eps = sp.symbols("sigma epsilon", positive=True)
A, C, SIGMA = sp.Rational(2, 5), sp.Rational(-7, 10), sp.Rational(3, 2)


@pytest.fixture(autouse=True)
def _precision():
    with mpmath.workdps(DIGITS + 5):
        yield


def agree(found: sp.Expr, typed: mpmath.mpf) -> bool:
    return abs(number(found) / typed - 1) < mpmath.mpf("1e-20")


@pytest.mark.quick
def test_steins_lemma():
    found = steins_lemma(Expectation(z * sp.tanh(A + SIGMA * z), z))
    assert agree(found, average(lambda x: x * mpmath.tanh(mpmath.mpf("0.4") + mpmath.mpf("1.5") * x), 0, 1))


def test_steins_lemma_twice_gives_a_second_moment():
    once = steins_lemma(Expectation(z**2 * sp.sech(z), z))
    assert agree(once, average(lambda x: x**2 * mpmath.sech(x), 0, 1))


def test_steins_lemma_needs_its_factor():
    for f in (sp.sech(z), sp.tanh(z)):
        with pytest.raises(RuleDoesNotApplyError, match="needs a factor"):
            steins_lemma(Expectation(f, z))


@pytest.mark.quick
def test_the_tilt():
    found = tilt(Expectation(sp.exp(C * z + 1) * sp.tanh(A + SIGMA * z), z))
    exponent, mean, width = mpmath.mpf("-0.7"), mpmath.mpf("0.4"), mpmath.mpf("1.5")
    assert agree(found, average(lambda x: mpmath.exp(exponent * x + 1) * mpmath.tanh(mean + width * x), 0, 1, reach=14))


def test_the_tilt_is_of_an_exponential_linear_in_z():
    with pytest.raises(RuleDoesNotApplyError, match="not linear"):
        tilt(Expectation(sp.exp(-(z**2)) * sp.tanh(z), z))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_taylor_in_the_mean(order):
    polynomial = taylor(Expectation(sp.tanh(A + eps + SIGMA * z), z), eps, order)
    steps = [mpmath.mpf(10) ** -3 / 2**n for n in range(3)]
    exact = [average(mpmath.tanh, mpmath.mpf("0.4") + e, mpmath.mpf("1.5")) for e in steps]
    coefficients = [number(sp.Poly(polynomial, eps).coeff_monomial(eps**k)) for k in range(order)]
    truncated = [mpmath.fsum(v * e**k for k, v in enumerate(coefficients)) for e in steps]
    assert has_order([t - v for t, v in zip(truncated, exact, strict=True)], steps, order)


@pytest.mark.parametrize("terms", [1, 2, 3])
@pytest.mark.parametrize(("f", "typed"), [(sp.sech, mpmath.sech), (sp.tanh, mpmath.tanh)])
def test_a_narrow_gaussian(f, typed, terms):
    found = narrow(Expectation(f(a + sigma * z), z), terms).subs(a, A)
    widths = [mpmath.mpf(1) / (50 * 2**n) for n in range(3)]
    errors = [
        number(found.subs(sigma, sp.Rational(1, 50 * 2**n))) - average(typed, mpmath.mpf("0.4"), w)
        for n, w in enumerate(widths)
    ]
    assert has_order(errors, widths, 2 * terms)


WIDE = {
    "sech": (sp.sech(y), mpmath.sech, (1, 3, 5)),
    "sech^2": (1 - sp.tanh(y) ** 2, lambda x: mpmath.sech(x) ** 2, (1, 3)),
    "sech + 2 sech^3": (sp.sech(y) + 2 * sp.sech(y) ** 3, lambda x: mpmath.sech(x) + 2 * mpmath.sech(x) ** 3, (1, 3)),
}


@pytest.mark.parametrize("name", WIDE)
def test_a_wide_gaussian_over_what_is_localised(name):
    """The functions are even, so with an odd number of moments kept the next moment vanishes too."""
    f, typed, kept = WIDE[name]
    widths = [40, 80, 160]
    exact = [edge_average(typed, mpmath.mpf(w) / 5, w) for w in widths]
    for moments in kept:
        found = wide(Expectation(f.subs(y, a + sigma * z), z), moments)
        errors = [number(found.subs({a: sp.Rational(w, 5), sigma: w})) - v for w, v in zip(widths, exact, strict=True)]
        assert has_order(errors, widths, -moments - 2)


@pytest.mark.parametrize("moments", [1, 3])
def test_a_wide_gaussian_over_tanh(moments):
    """tanh − sign is odd: the first moment left out that does not vanish is number 1 (or 3)."""
    found = wide(Expectation(sp.tanh(a + sigma * z), z), moments)
    widths = [40, 80, 160]
    errors = [
        number(found.subs({a: sp.Rational(w, 5), sigma: w})) - average(mpmath.tanh, mpmath.mpf(w) / 5, w)
        for w in widths
    ]
    assert has_order(errors, widths, -moments - 1)


def test_the_law_of_z_is_even():
    left, right = (wide(Expectation(sp.sech(a + sign * sigma * z), z), 3) for sign in (-1, 1))
    assert sp.simplify(left - right) == 0


@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize("k", [0, 1, 2, 4])
def test_moments_of_sech(power, k):
    typed = mpmath.quad(lambda x: x**k * mpmath.sech(x) ** power, range(-80, 81, 4))
    assert abs(number(sech_moment(power, k)) - typed) < mpmath.mpf("1e-20")


@pytest.mark.parametrize("k", [0, 1, 3])
def test_moments_of_tanh_are_those_of_its_distance_from_the_sign(k):
    half = mpmath.quad(lambda x: x**k * (mpmath.tanh(x) - 1), range(0, 61, 3))
    assert abs(number(localised_moment(sp.tanh(y), y, k)) - (half if k % 2 else 0) * 2) < mpmath.mpf("1e-20")


def test_a_wide_gaussian_is_refused_what_is_not_localised():
    for f in (sp.tanh(z) ** 2, sp.tanh(z) * sp.sech(z), z * sp.sech(z), sp.sech(z) * sp.sech(2 * z)):
        with pytest.raises(RuleDoesNotApplyError):
            wide(Expectation(f, z), 1)


def test_rules_are_for_one_normal_variable():
    with pytest.raises(RuleDoesNotApplyError, match="one normal variable"):
        wide(Expectation(sp.sech(z + StandardNormal("x")), z, StandardNormal("x")), 1)
