"""Tables of averages whose logits contain products of normal variables: where there are some, and their errors."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from lattice_probes import Z, average_value, probe_system

from derive.objects.expectation import Expectation
from derive.objects.softmax import Softmax
from kernels.integrate.kernel import compile_system

MEANS = ((0.0, 0.0), (1.5, -0.5))
COVARIANCES = (((1.2, 0.5), (0.5, 0.6)), ((0.5, -0.3), (-0.3, 2.0)))
OWN = ((1.0, 0.4), (0.4, 0.8))


def gaussian_averages(mean, covariance=OWN):
    """Averages of shares of two Gaussians with different covariances, and of these times powers, over a third."""
    root = sp.Matrix(covariance).cholesky()
    y = sp.Matrix(mean) + root * sp.Matrix(Z[:2])
    logits = []
    for centre, matrix in zip(MEANS, COVARIANCES, strict=True):
        away, precision = y - sp.Matrix(centre), sp.Matrix(matrix).inv()
        logits.append(sp.expand(-(away.T * precision * away)[0] / 2 - sp.log(sp.Matrix(matrix).det()) / 2))
    share = Softmax(1, *logits)
    return [Expectation(f, *Z[:2]) for f in (share, Z[0] * share, Z[0] * Z[1] * share, Z[1] ** 2 * Softmax(2, *logits))]


def kernel_of(averages, states, ends, expectations="proxy", tolerance=1e-9):
    system = probe_system(averages, states)
    variables = tuple(replace(v, interval=ends) if v.symbol in states else v for v in system.variables)
    return compile_system(
        replace(system, variables=variables),
        *(sp.S.One, (), {}),
        tolerance=tolerance,
        device="cpu",
        expectations=expectations,
    )


A = sp.symbols("a_1 a_2", real=True)
B = sp.symbols("b_1 b_2", real=True)
BOUNDED, UNBOUNDED = (sp.Integer(-3), sp.Integer(3)), (-sp.oo, sp.oo)


def random_states(kernel, count, width):
    return np.random.default_rng(1).uniform(-width, width, (count, len(kernel.system.states)))


def assert_agree(table, sums, states, tolerance):
    found, expected = (k.rhs_at_beta(1.0, states)[:, :4] for k in (table, sums))
    assert np.abs(found - expected).max() <= tolerance


def test_a_table_in_two_states_against_sums_and_the_reference():
    averages = gaussian_averages(A)
    table, sums = (kernel_of(averages, A, BOUNDED, way) for way in ("proxy", "quadrature"))
    (measured,) = table.measured_errors
    assert measured.method == "Chebyshev series, 2 coordinates"
    assert measured.error <= 1e-9
    assert_agree(table, sums, random_states(table, 200, 3.0), 2e-9)
    state = np.array([[1.3, -0.8, 0.0, 0.0]])
    expected = [average_value(a, dict(zip(A, state[0], strict=False))) for a in averages]
    np.testing.assert_allclose(table.rhs_at_beta(1.0, state)[0, :4], expected, rtol=0, atol=1e-9)


def test_differences_of_means_are_coordinates():
    """Four states enter by two differences, as the means of two components with given covariances do."""
    averages = gaussian_averages([a - b for a, b in zip(A, B, strict=True)])
    table, sums = (kernel_of(averages, (*A, *B), BOUNDED, way) for way in ("proxy", "quadrature"))
    (measured,) = table.measured_errors
    assert measured.method == "Chebyshev series, 2 coordinates"
    assert_agree(table, sums, random_states(table, 200, 3.0), 2e-9)


def test_outside_the_box_of_unbounded_states_a_kernel_sums():
    averages = gaussian_averages(A)
    table, sums = (kernel_of(averages, A, UNBOUNDED, way, 1e-7) for way in ("proxy", "quadrature"))
    (measured,) = table.measured_errors
    assert "outside their box trapezoidal lattice" in measured.method
    assert_agree(table, sums, random_states(table, 100, 3.0), 2e-7)
    assert_agree(table, sums, random_states(table, 100, 100.0), 2e-7)


@pytest.mark.parametrize("entry", [0.0, 0.3])
def test_learned_covariances_are_summed(entry):
    """A covariance with three entries beside a mean are five coordinates, too many for a table."""
    covariance = sp.symbols("c_1 c_2 c_12", positive=True)
    root = sp.Matrix([[covariance[0], 0], [covariance[2], covariance[1]]])
    y = sp.Matrix(A) + root * sp.Matrix(Z[:2])
    logit = sp.expand(-(y[0] ** 2) - entry * y[0] * y[1] - y[1] ** 2 / 3)
    kernel = kernel_of([Expectation(Softmax(1, logit, sp.S.Zero), *Z[:2])], (*A, *covariance), BOUNDED)
    (measured,) = kernel.measured_errors
    assert measured.method == "trapezoidal lattice, 2 variables"


def test_components_of_one_function_share_a_table():
    averages = [*gaussian_averages(A), *gaussian_averages(B)]
    table = kernel_of(averages, (*A, *B), BOUNDED)
    starts = table.tables.layout[:, 0]
    assert len(table.measured_errors) == 2
    assert starts[0] == starts[1]
