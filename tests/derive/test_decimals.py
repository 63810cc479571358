"""Functions of decimals and of duals against mpmath's real and complex functions."""

import mpmath
import pytest
import sympy as sp

from derive.objects import decimals
from derive.objects.numeric_averages import function_of, weighted_sums

X, Y = sp.symbols("x y", real=True)
STEP = mpmath.mpf(10) ** -98
EXPRESSIONS = (
    sp.exp(X * Y) / (1 + X**2),
    sp.log(sp.exp(X) + sp.Rational(2, 3) * sp.exp(-Y)),
    sp.sqrt(1 + X**2) ** 3 * sp.pi,
    sp.tanh(3 * X - Y),
    sp.sech(X + Y) - sp.Float("0.1", 40),
    (2 - X) ** -3 - 1 / sp.sqrt(2 + Y),
)


@pytest.fixture(autouse=True)
def precision():
    with mpmath.workdps(49):
        yield


def values_of(point):
    function = decimals.function_of((X, Y), EXPRESSIONS)
    with decimals.context():
        found = function(*map(decimals.decimal_of, point))
    return [decimals.mpmath_of(f) for f in found]


@pytest.mark.parametrize("point", [("0.3", "-1.7"), ("-2.1", "0.4"), ("1e-9", "1.9")])
def test_values_and_slopes_are_those_of_mpmath(point):
    x, y = map(mpmath.mpf, point)
    exact = sp.lambdify((X, Y), EXPRESSIONS, "mpmath")
    for found, expected in zip(values_of((x, y)), exact(x, y), strict=True):
        assert abs(found - expected) <= mpmath.mpf(10) ** -47 * abs(expected)
    for found, expected in zip(values_of((mpmath.mpc(x, STEP), y)), exact(mpmath.mpc(x, STEP), y), strict=True):
        assert abs(found.real - expected.real) <= mpmath.mpf(10) ** -47 * abs(expected)
        assert abs(found.imag - expected.imag) <= mpmath.mpf(10) ** -46 * max(abs(expected.imag), STEP)


@pytest.mark.parametrize("x", ["-400", "-1e-30", "0", "0.6931", "90", "30000"])
def test_exponentials_and_logarithms_of_any_size(x):
    x = mpmath.mpf(x)
    with decimals.context():
        found = decimals.exponential(decimals.decimal_of(x))
        back = decimals.mpmath_of(decimals.logarithm(found))
    assert abs(decimals.mpmath_of(found) / mpmath.exp(x) - 1) < mpmath.mpf(10) ** -44  # the argument has 49 digits
    assert abs(back - x) <= mpmath.mpf(10) ** -47 * max(abs(x), 1)


def test_what_is_not_real_is_left_to_mpmath():
    assert decimals.is_real(EXPRESSIONS)
    assert not decimals.is_real([sp.exp(sp.I * X)])
    assert not decimals.is_real([sp.erf(X)])


@pytest.mark.parametrize(
    ("integrand", "what"),
    [
        (sp.exp(X * sp.Float("1e200")), "an exponent without bound"),
        (sp.exp(sp.Float("1e200")) * X, "a constant without bound"),
        (sp.sqrt(-1 - X**2), "an imaginary root"),
        (sp.log(-1 - X**2), "a complex logarithm"),
    ],
)
def test_what_decimals_do_not_hold_is_left_to_mpmath(integrand, what):
    rule = ((mpmath.mpf(1), mpmath.mpf(2)),)
    (found,), _ = weighted_sums(function_of((X,), (integrand,)), [rule])
    assert mpmath.almosteq(found, sp.lambdify(X, integrand, "mpmath")(mpmath.mpf(2))), what


def test_a_pole_at_a_node_is_left_to_mpmath():
    rule = ((mpmath.mpf(1), mpmath.mpf(2)),)
    with pytest.raises(ZeroDivisionError):
        weighted_sums(function_of((X,), (1 / (X - 2),)), [rule])
