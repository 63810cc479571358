"""The slow reference averages: comparison with closed forms and mpmath, and the errors where no average exists."""

import math

import mpmath
import pytest
import sympy as sp
from lattice_probes import Z, average_value

from derive.objects.expectation import ChiSquared, Expectation
from derive.objects.softmax import Softmax
from kernels.averages.lattice_reference import average_and_error, averages_and_errors

a, b = sp.symbols("a b", real=True)


@pytest.mark.quick
@pytest.mark.parametrize("normals", [1, 2, 3])
def test_ridges_have_one_dimensional_values(normals):
    """The average of a share that depends on b·z is that over one normal variable with slope |b|."""
    slopes = [sp.Integer(n + 1) for n in range(normals)]
    logit = a + b * sum(s * z for s, z in zip(slopes, Z, strict=False))
    value = average_value(Expectation(Softmax(1, logit, sp.S.Zero), *Z[:normals]), {a: 0.7, b: 0.8})
    slope = 0.8 * math.sqrt(sum(int(s) ** 2 for s in slopes))
    with mpmath.workdps(25):
        exact = mpmath.quad(
            lambda z: mpmath.npdf(z) / (1 + mpmath.exp(-0.7 - slope * z)), mpmath.linspace(-14, 14, 120)
        )
    assert value == pytest.approx(float(exact), rel=1e-13)


@pytest.mark.parametrize("degrees", [1, 2.5, 126, 100_000])
def test_moments_of_chi_squared(degrees):
    c = ChiSquared("c", sp.Float(degrees))
    found = average_value(Expectation(c**3 * Z[0] ** 4, Z[0], c), {})
    assert found == pytest.approx(3 * degrees * (degrees + 2) * (degrees + 4), rel=2e-13)


def test_a_tail_of_an_exponential_law():
    """c/2 has an exponential law for two degrees; E[e^{−k c}], a share far in its tail, keeps its relative accuracy."""
    c = ChiSquared("c", sp.Integer(2))
    value = average_value(Expectation(Softmax(1, -a * c - 20, sp.S.Zero), c), {a: 1.0})
    with mpmath.workdps(25):
        exact = mpmath.quad(lambda x: mpmath.exp(-x / 2) / 2 / (1 + mpmath.exp(x + 20)), [0, 1, 5, 20, 60])
    assert value == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("variables", [Z[:2], (Z[0], ChiSquared("c", sp.Float(14)))])
def test_averages_that_share_nodes_are_what_each_is_alone(variables):
    logit = a + b * variables[0] - variables[1] / 5
    averages = [
        Expectation(f, *variables) for f in (Softmax(1, logit, sp.S.Zero), sp.log(Softmax(2, logit, sp.S.Zero)))
    ]
    together = averages_and_errors(averages, {a: 0.7, b: 2.5}, 1e-12)
    for average, (value, error) in zip(averages, together, strict=True):
        alone, error_alone = average_and_error(average, {a: 0.7, b: 2.5}, 1e-12)
        assert abs(value - alone) <= error + error_alone


def test_a_small_tail_does_not_pass_for_convergence():
    """The average is 1 − 1.4e-8.

    Two coarse grids agree to the square root of the tolerance, and both are wrong in the ninth digit.
    """
    logit = sp.Integer(50) - 9 * Z[0]
    value = average_value(Expectation(Softmax(1, logit, sp.S.Zero), Z[0]), {})
    with mpmath.workdps(25):
        exact = mpmath.quad(lambda z: mpmath.npdf(z) / (1 + mpmath.exp(-50 + 9 * z)), mpmath.linspace(-14, 14, 240))
    assert value == pytest.approx(float(exact), abs=2e-13)


def test_combinations_of_averages():
    share = Expectation(Softmax(1, a * Z[0], sp.S.Zero), Z[0])
    assert average_value(3 * share**2 - b, {a: 2.0, b: 0.5}) == pytest.approx(0.25, abs=1e-13)


@pytest.mark.parametrize(
    "expression",
    [
        Expectation(Softmax(1, sp.sqrt(a) * Z[0], sp.S.Zero), Z[0]),
        Expectation(sp.log(Z[0]) * Softmax(1, Z[0], sp.S.Zero), Z[0]),
        Expectation(sp.exp(Z[0] ** 4), Z[0]),
        Expectation(Softmax(1, Z[0] / b, sp.S.Zero), Z[0]),
        Expectation(Softmax(1, Z[0] * ChiSquared("c", a), sp.S.Zero), Z[0], ChiSquared("c", a)),
        sp.sqrt(a) * Expectation(Softmax(1, Z[0] + b, sp.S.Zero), Z[0]),
    ],
)
def test_what_has_no_real_value_is_nan(expression):
    assert math.isnan(average_value(expression, {a: -1.0, b: 0.0}))


def test_beyond_three_variables_the_error_is_stated():
    logit = a + sum(Z[:4])
    value, error = average_and_error(Expectation(Softmax(1, logit, sp.S.Zero), *Z[:4]), {a: 0.7})
    with mpmath.workdps(20):
        exact = mpmath.quad(lambda z: mpmath.npdf(z) / (1 + mpmath.exp(-0.7 - 2 * z)), mpmath.linspace(-10, 10, 40))
    assert 1e-9 < error < 1e-4
    assert abs(value - float(exact)) < 5 * error
