"""Averages over several variables: comparison of compiled functions with mpmath, and with another rule's sums of the
derivation's integrands."""

import time
import tracemalloc
from dataclasses import replace

import mpmath
import numba
import numpy as np
import pytest
import sympy as sp
from lattice_probes import Z, average_value, compiled, given, probe_system, random_numbers, softmax_averages

from derive.objects.expectation import ChiSquared, Expectation
from derive.objects.softmax import Softmax
from kernels.averages import lattice_rule
from kernels.averages.lattice_reference import average_and_error
from kernels.averages.tables import most_nodes
from kernels.generate import lattice_code
from kernels.integrate.errors import IntegrationError
from kernels.integrate.failures import why_not_finite
from kernels.integrate.kernel import compile_system
from kernels.lower.lattice import groups_of, patterns_of
from kernels.machine.threads import TimeLimitError, at_most

TOLERANCE = 1e-11


def assert_agree(kernel, averages, numbers, tolerance=TOLERANCE):
    found = kernel.rhs_at_beta(1.0, numbers)
    for row, values in zip(found, numbers, strict=True):
        expected = np.array([average_value(a, given(kernel, values)) for a in averages])
        np.testing.assert_array_less(
            np.abs(row[: len(averages)] - expected), tolerance * np.maximum(1, np.abs(expected))
        )


def products(shares, variables):
    return [
        variables[-1] * shares[0],
        shares[0] * shares[1] + 2 * variables[0] ** 2 * shares[-1],
        sp.log(shares[1]) * shares[0],
    ]


@pytest.mark.parametrize(
    ("normals", "components", "curved"), [(1, 2, False), (2, 3, False), (3, 4, False), (2, 3, True)]
)
def test_moments_of_shares_against_the_reference(normals, components, curved):
    averages, states = softmax_averages(normals, None, components, curved, products)
    kernel = compiled(averages, states)
    assert_agree(kernel, averages, random_numbers(kernel, 3, 4 / normals))


def chi_squared_mp(a, k, degrees):
    """The average of the logistic function of a + k (c − degrees), integrated over log c, to 20 digits."""
    with mpmath.workdps(25):
        half = mpmath.mpf(degrees) / 2
        log_norm = half * mpmath.log(2) + mpmath.loggamma(half)

        def f(v):
            c = mpmath.exp(v)
            return mpmath.exp(half * v - c / 2 - log_norm) / (1 + mpmath.exp(-a - k * (c - degrees)))

        width = mpmath.sqrt(2 / mpmath.mpf(degrees))
        low, high = (
            mpmath.log(degrees) - 14 * width - 120 / mpmath.mpf(degrees),
            mpmath.log(degrees) + 9 * min(width, 0.5),
        )
        return float(mpmath.quad(f, mpmath.linspace(low, high, 200)))


@pytest.mark.parametrize("degrees", [1, 2, 3, 126, 100_000])
def test_one_chi_squared_variable_against_mpmath(degrees):
    """The slopes reach eight per standard deviation of c.

    At 1e5 degrees the logit, a difference of large terms, is accurate to 1e-11 only.
    """
    averages, states = softmax_averages(0, degrees, 2)
    deviation = np.sqrt(2 * degrees)
    kernel = compiled(averages, states, 1e-11, 8 / deviation)
    numbers = np.array([[0.3, 0.5 / deviation], [-1.0, 8 / deviation], [2.0, -3 / deviation]])
    exact = [chi_squared_mp(*row, degrees) for row in numbers]
    np.testing.assert_allclose(kernel.rhs_at_beta(1.0, numbers)[:, 0], exact, rtol=0, atol=3e-11)


@pytest.mark.parametrize("degrees", [1, 2, 3, 126, 100_000])
def test_chi_squared_beside_a_normal(degrees):
    deviation = float(np.sqrt(2 * degrees))
    averages, states = softmax_averages(
        1, degrees, 3, extra=lambda s, v: [(v[-1] - degrees) / sp.Float(deviation) * s[0], v[0] * s[1]]
    )
    kernel = compiled(averages, states, TOLERANCE, 4 / deviation)
    assert_agree(kernel, averages, random_numbers(kernel, 3, 1.5, 1.5 / deviation))


def test_vectors_of_unequal_scales_share_the_curvature():
    averages, states = softmax_averages(2, 30, 3, True, lambda s, v: [v[0] * s[1]])
    kernel = compiled(averages, states, 1e-9, 0.5)
    assert_agree(kernel, averages, random_numbers(kernel, 2, 1.5, 0.2), 1e-9)


def test_components_hundreds_of_units_apart():
    """Exponents reach many hundreds, with a radius of 10 or scales in the ratio of five to one.

    All sums are finite, the shares add up to one, and small shares are right, too.
    """
    averages, states = softmax_averages(2, None, 4)
    kernel = compiled(averages, states, 1e-10)
    numbers = random_numbers(kernel, 4, 14.0)
    numbers[:, ::3] = np.random.default_rng(5).normal(size=(4, 3)) * [[0.0], [100.0], [300.0], [3000.0]]
    found = kernel.rhs_at_beta(1.0, numbers)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, :4].sum(axis=1), 1.0, rtol=0, atol=1e-10)
    assert_agree(kernel, averages, numbers, 1e-10)


def test_steep_squares_against_steep_slopes():
    """k z², of either sign, reaches a thousand where the Gaussian weight ends."""
    averages, states = softmax_averages(2, None, 3, True)
    kernel = compiled(averages, states, 1e-9, 12.0)
    numbers = random_numbers(kernel, 3, 10.0, 12.0)
    assert_agree(kernel, averages, numbers, 1e-9)


def test_an_entropy_of_shares_that_underflow():
    """log ρ is a linear function where ρ underflows."""
    a = sp.Symbol("A", real=True)
    average = Expectation(sp.log(Softmax(1, a + Z[0], sp.S.Zero)), Z[0])
    kernel = compiled([average], (a,), 1e-11, expectations="quadrature")
    found = kernel.rhs_at_beta(1.0, [[-5000.0], [-800.0], [0.4], [800.0]])[:, 0]
    np.testing.assert_allclose(found[[0, 1, 3]], [-5000.0, -800.0, 0.0], rtol=1e-12, atol=1e-11)
    with mpmath.workdps(25):
        exact = mpmath.quad(
            lambda z: -mpmath.log(1 + mpmath.exp(-0.4 - z)) * mpmath.npdf(z), mpmath.linspace(-13, 13, 60)
        )
    assert found[2] == pytest.approx(float(exact), abs=1e-11)


def test_tanh_and_sech_of_several_variables_are_those_of_one():
    """A sum of normal variables is normal, so that E f(z_1 + A z_2) = E f(√(1 + A²) z)."""
    a = sp.Symbol("A", real=True)
    x = sp.Rational(1, 3) + Z[0] + a * Z[1]
    averages = [Expectation(f, Z[0], Z[1]) for f in (sp.tanh(x), sp.sech(x) ** 2, sp.tanh(x) ** 3)]
    rest = sp.symbols("B C", real=True)
    found = compiled(averages, (a, *rest), 1e-11).rhs_at_beta(1.0, [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    of_y = (mpmath.tanh, lambda y: mpmath.sech(y) ** 2, lambda y: mpmath.tanh(y) ** 3)
    for width, row in zip((1.0, 5.0**0.5), found, strict=True):
        exact = [_mean(f, width) for f in of_y]
        np.testing.assert_allclose(row, np.array(exact, float), rtol=0, atol=1e-11)


def _mean(f, width):
    """E f(1/3 + width z)."""
    with mpmath.workdps(25):
        third = mpmath.mpf(1) / 3
        return mpmath.quad(lambda z: f(third + width * z) * mpmath.npdf(z), mpmath.linspace(-13, 13, 60))


def test_polynomials_without_shares():
    c = ChiSquared("c", sp.Integer(7))
    kernel = compiled(
        [Expectation(Z[0] ** 2 * Z[1] ** 2, Z[0], Z[1]), Expectation(c**2, c)], (sp.Symbol("A", real=True),), 1e-11
    )
    np.testing.assert_allclose(kernel.rhs_at_beta(1.0, [[0.0, 0.0]])[0], [1.0, 63.0], rtol=1e-11)


def test_nodes_follow_from_the_slopes_and_the_tolerance():
    averages, states = softmax_averages(2, None, 3)
    coarse, fine = compiled(averages, states, 1e-5), compiled(averages, states, 1e-11)
    numbers = np.ones((4, len(coarse.system.states))) * [[0.0], [0.5], [2.0], [8.0]]
    assert (np.diff(coarse.nodes(numbers)) >= 0).all()
    assert coarse.nodes(numbers)[-1] > 20 * coarse.nodes(numbers)[0]
    assert (fine.nodes(numbers) > 2 * coarse.nodes(numbers)).all()
    assert 0 < fine.seconds_per_rate(numbers) < 1


def test_the_measured_error_is_stated():
    averages, states = softmax_averages(2, None, 3)
    for tolerance in (1e-4, 1e-8, 1e-12):
        kernel = compiled(averages, states, tolerance)
        (measured,) = kernel.measured_errors
        assert measured.method == "trapezoidal lattice, 2 variables"
        assert 0 < measured.error == kernel.average_error <= tolerance
        assert measured.size > 100


def test_a_rule_that_is_too_coarse_is_refused(monkeypatch):
    averages, states = softmax_averages(2, None, 3)
    honest = lattice_rule.normal_density
    monkeypatch.setattr(lattice_rule, "normal_density", lambda *a: honest(*a) / 4)
    with pytest.raises(ArithmeticError, match="misses the tolerance"):
        compiled(averages, states, 1e-10)


def test_a_wrong_weight_is_seen(monkeypatch):
    """The comparison notices a weight that differs from 1/√(2π) by one part in 10⁸."""
    monkeypatch.setattr(lattice_code, "INVERSE_ROOT", "0.3989422844")
    averages, states = softmax_averages(2, None, 3)
    kernel = compiled(averages, states)
    with pytest.raises(AssertionError):
        assert_agree(kernel, averages, random_numbers(kernel, 1, 2.0))


@pytest.mark.parametrize(("normals", "degrees"), [(4, None), (3, 40)])
def test_quasi_random_errors_are_within_what_is_stated(normals, degrees):
    averages, states = softmax_averages(normals, degrees, 3, extra=lambda s, v: [v[0] * s[0]])
    kernel = compiled(averages, states, 3e-4, 0.3)
    (measured,) = kernel.measured_errors
    assert measured.method == "quasi-random lines, 4 variables"
    numbers = random_numbers(kernel, 4, 2.0, 0.1)
    found = kernel.rhs_at_beta(1.0, numbers)
    actual = []
    for row, values in zip(found, numbers, strict=True):
        for value, average in zip(row, averages, strict=False):
            expected, reference_error = average_and_error(average, given(kernel, values))
            assert reference_error < kernel.average_error
            actual.append(abs(value - expected))
    assert 1e-8 < max(actual) < 5 * kernel.average_error


def test_a_tolerance_out_of_reach_is_stated_not_met(monkeypatch):
    monkeypatch.setattr(lattice_rule, "MOST_POINTS", 2**6)
    averages, states = softmax_averages(4, None, 3)
    assert compiled(averages, states, 1e-10).average_error > 1e-6


def test_the_number_of_threads_changes_nothing():
    averages, states = softmax_averages(2, None, 3)
    kernel = compiled(averages, states)
    numbers = random_numbers(kernel, 9, 3.0)
    together = kernel.rhs_at_beta(1.0, numbers)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(kernel.rhs_at_beta(1.0, numbers), together)
    finally:
        numba.set_num_threads(threads)


def test_groups_of_one_shape_share_a_function():
    first, states = softmax_averages(2, None, 3)
    renamed = {s: sp.Symbol(f"{s.name}_too", real=True) for s in states}
    second = [a.xreplace(renamed) for a in first]
    kernel = compiled([*first, *second], (*states, *renamed.values()))
    assert len(kernel.measured_errors) == 2
    assert [name for name in dir(kernel.module) if name.startswith("moments_")] == ["moments_0"]


def test_a_state_that_makes_no_sense_is_nan():
    averages, states = softmax_averages(2, None, 3)
    kernel = compiled(averages, states, 1e-6)
    values = random_numbers(kernel, 1, 1e9)
    assert np.isnan(kernel.rhs_at_beta(1.0, values)[0, :3]).all()


def test_rates_that_would_take_too_many_nodes_say_so():
    averages, states = softmax_averages(2, None, 3)
    kernel = compiled(averages, states, 1e-6)
    kernel = replace(kernel, limits=kernel.limits * 1e10)
    with pytest.raises(IntegrationError, match=r"not finite: an average asks for \d.*nodes, and 1e\+10 are the most"):
        kernel.integrate(random_numbers(kernel, 1, 1e9), [0.0, 1.0])
    assert "or an average asks for more nodes than" in why_not_finite(kernel, random_numbers(kernel, 1, 1.0)[0])


def test_what_a_rule_asks_for_is_what_the_kernel_refuses():
    """The kernel's limit concerns the box around the ball of nodes that it would visit.

    It also refuses a rule of which only the ball is small enough.
    """
    averages, states = softmax_averages(3, None, 3)
    kernel = compiled(averages, states, 1e-6)
    numbers = random_numbers(kernel, 1, 1.0)
    numbers[0, [n for n, s in enumerate(kernel.system.states) if s.name.startswith("B")]] *= (
        2000 / np.abs(numbers).max()
    )

    def asked(y):
        return most_nodes(kernel.averages, {}, kernel.tables, y)

    scale = (lattice_code.MOST_NODES / asked(numbers[0])) ** (1 / 3)
    fine, coarse = (np.where(np.abs(numbers) > 20, numbers * scale * factor, numbers) for factor in (1.1, 0.05))
    assert asked(fine[0]) > lattice_code.MOST_NODES > asked(coarse[0])
    visited = float(kernel.nodes(coarse)[0])
    assert kernel.nodes_asked(coarse[0]) == pytest.approx(visited, rel=0.2)
    assert asked(coarse[0]) > 1.4 * visited
    assert np.isnan(kernel.rhs_at_beta(1.0, fine)).any()
    (group,) = groups_of(kernel.system)
    with pytest.raises(ArithmeticError, match="nodes at a typical state"):
        lattice_rule.rule_for(group, *patterns_of([group]), dict(zip(kernel.system.states, fine.T, strict=True)), 1e-6)
    assert np.isfinite(kernel.rhs_at_beta(1.0, coarse)).all()


def test_a_sum_over_billions_of_nodes_is_stopped_between_two_rows():
    """A time limit stops the sum, and an interrupt does so in the same way.

    About 5 · 10⁹ nodes would take half a minute; the number of visited nodes tells how long the sum ran.
    """
    averages, states = softmax_averages(3, None, 3)
    kernel = compiled(averages, states, 1e-6)
    numbers = random_numbers(kernel, 1, 1.0)
    large = numbers * (5e9 / kernel.nodes_asked(numbers[0])) ** (1 / 3)
    large *= (5e9 / kernel.nodes_asked(large[0])) ** (1 / 3)
    kernel.rhs_at_beta(1.0, numbers)
    begun = time.process_time()
    with pytest.raises(TimeLimitError), at_most(0.2):
        kernel.rhs_at_beta(1.0, large)
    assert kernel.seconds_per_rate(large, within=0.2) > 5
    assert time.process_time() - begun < 3
    assert np.isfinite(kernel.rhs_at_beta(1.0, numbers)).all()


A = sp.Symbol("A", real=True)
CHI = ChiSquared("c", sp.Integer(4))


@pytest.mark.parametrize(
    ("average", "message"),
    [
        (Expectation(sp.sech(Z[0] + A * Z[1]), Z[0], Z[1]), "polynomial"),
        (Expectation(sp.tanh(Z[0]) * sp.tanh(A * Z[1]), Z[0], Z[1]), "more than one set of logits"),
        (Expectation(1 / (1 + Softmax(1, A * Z[0], Z[1])), Z[0], Z[1]), "polynomial"),
        (Expectation(Softmax(1, A * Z[0] ** 2 * Z[1], sp.S.Zero), Z[0], Z[1]), "not quadratic"),
        (Expectation(Softmax(1, A * Z[0] * CHI, sp.S.Zero), Z[0], CHI), "not quadratic"),
        (Expectation(Softmax(1, A * CHI**2, sp.S.Zero), CHI), "not quadratic"),
        (Expectation(Softmax(1, A + Z[0], sp.S.Zero) * Softmax(1, A - Z[0], sp.S.Zero), Z[0]), "more than one set"),
        (
            Expectation(CHI * ChiSquared("c_2", sp.Integer(3)) * A, CHI, ChiSquared("c_2", sp.Integer(3))),
            "one chi-squared",
        ),
        (Expectation(ChiSquared("c", sp.Rational(1, 2)) ** 2, ChiSquared("c", sp.Rational(1, 2))), "degree"),
    ],
)
def test_what_has_no_kernel_is_refused_by_name(average, message):
    with pytest.raises(ValueError, match=message):
        compiled([average], (A,))


def test_an_average_within_an_average_is_refused():
    inner, outer = sp.symbols("F G", real=True)
    first, second = (Expectation(Softmax(1, slope * Z[0], sp.S.Zero), Z[0]) for slope in (A, inner))
    system = replace(probe_system([first], (A,)), subexpressions=((inner, first), (outer, second)), rhs=(outer,))
    with pytest.raises(ValueError, match="inside another average"):
        compile_system(system, sp.S.One, (), {}, device="cpu")


def test_single_precision_is_refused():
    averages, states = softmax_averages(2, None, 3)
    with pytest.raises(ValueError, match="float64"):
        compiled(averages, states, 1e-5, precision="float32")


@pytest.mark.parametrize(("normals", "slope", "curve"), [(1, 5e4, 0.0), (4, 20.0, 12.0)])
def test_a_rule_is_measured_in_little_memory(normals, slope, curve):
    """The rule has a million nodes along one variable, or two thousand at each of four thousand quasi-random points."""
    averages, states = softmax_averages(normals, None, 3, True)
    (group,) = groups_of(probe_system(averages, states))
    numbers = {s: np.array([{"B": slope, "k": curve}.get(s.name[0], 0.0) * (1 - 2 * int(s.name[2]))]) for s in states}
    tracemalloc.start()
    try:
        rule = lattice_rule.rule_for(group, *patterns_of([group]), numbers, 1e-10)
        assert tracemalloc.get_traced_memory()[1] < 2e8
    finally:
        tracemalloc.stop()
    assert rule.size > 5e5


def test_fewer_points_are_taken_where_their_measurement_would_take_too_long(monkeypatch):
    averages, states = softmax_averages(4, None, 3)
    monkeypatch.setattr(lattice_rule, "MOST_SURVEYED", 1e7)
    kernel = compiled(averages, states, 1e-10)
    table = kernel.tables.layout[0, 1]
    assert (
        lattice_rule.SCRAMBLES * lattice_rule.FEWEST_POINTS <= table < lattice_rule.SCRAMBLES * lattice_rule.MOST_POINTS
    )
    assert kernel.average_error > 1e-10


def test_an_innermost_axis_that_is_not_finite_is_refused(monkeypatch):
    averages, states = softmax_averages(4, None, 3)
    monkeypatch.setattr(lattice_rule._Survey, "axis_errors", lambda *given, **options: (np.inf, []))
    with pytest.raises(ArithmeticError, match="not finite"):
        compiled(averages, states, 1e-2)
