"""Averages whose logits contain products of normal variables: comparison with the densities of Gaussians, with adaptive
quadrature in rotated variables, and with the reference."""

import math
from itertools import combinations

import numpy as np
import pytest
import sympy as sp
from lattice_probes import Z, average_value, compiled, given, probe_system, random_numbers, softmax_averages
from scipy.integrate import dblquad
from scipy.special import expit
from scipy.stats import multivariate_normal

from derive.objects.expectation import Expectation
from derive.objects.softmax import Softmax
from kernels.averages import lattice_rule
from kernels.generate import lattice_code
from kernels.generate.templates import crossed
from kernels.lower.lattice import groups_of, patterns_of

STEEPEST = 8.0
"""The largest relative curvature of Gaussians with variances from 1/4 to 4, (4/0.25 − 1)/2, and some room."""


def with_powers(shares, variables):
    products = (z * w for z, w in combinations(variables, 2))
    return [
        *(z * shares[0] for z in variables),
        *(z**2 * shares[-1] for z in variables),
        *(p * shares[0] for p in products),
    ]


def random_covariance(generator, size):
    """A covariance with eigenvalues between 1/4 and 4."""
    turned, _ = np.linalg.qr(generator.normal(size=(size, size)))
    return turned @ np.diag(4 ** generator.uniform(-1, 1, size)) @ turned.T


def random_mixtures(size, components, count, distance=2.0, seed=0):
    """Sets of Gaussians: the means (components, size) and the covariances (components, size, size) of each."""
    generator = np.random.default_rng(seed)
    return [
        (
            distance * generator.normal(size=(components, size)),
            np.array([random_covariance(generator, size) for _ in range(components)]),
        )
        for _ in range(count)
    ]


def logits_of(means, covariances):
    """The coefficients of log N(y; mean, covariance) relative to the last Gaussian, at y = its mean + Lz with LLᵀ its
    covariance, in the order of the states of `softmax_averages`."""
    root = np.linalg.cholesky(covariances[-1])
    rows = []
    for mean, covariance in zip(means, covariances, strict=True):
        precision, away = np.linalg.inv(covariance), means[-1] - mean
        square = -root.T @ precision @ root
        products = [square[n, m] for n, m in combinations(range(len(mean)), 2)]
        offset = -away @ precision @ away / 2 - np.linalg.slogdet(covariance)[1] / 2
        rows.append([offset, *(-root.T @ precision @ away), *(np.diag(square) / 2), *products])
    return (np.array(rows[:-1]) - rows[-1]).ravel()


def mixture_averages(means, covariances, density):
    """The averages of all shares and of `with_powers` over the last Gaussian, by a dense rule in its own frame."""
    size, components = means.shape[1], len(means)
    axis = np.arange(-math.ceil(8.5 * density), math.ceil(8.5 * density) + 1) / density
    z = np.stack([x.ravel() for x in np.meshgrid(*[axis] * size, indexing="ij")], axis=1)
    z = z[(z**2).sum(axis=1) < 8.5**2]
    y = means[-1] + z @ np.linalg.cholesky(covariances[-1]).T
    logs = np.stack([multivariate_normal.logpdf(y, m, c) for m, c in zip(means, covariances, strict=True)])
    shares = np.exp(logs - logs.max(axis=0))
    shares /= shares.sum(axis=0)
    weights = np.exp(-(z**2).sum(axis=1) / 2) / (density * math.sqrt(2 * math.pi)) ** size
    return np.array([(f * weights).sum() for f in (*shares, *with_powers(shares[:components], z.T))])


def probe(size, components, tolerance, extra=with_powers, degrees=None, **options):
    averages, states = softmax_averages(size, degrees, components, extra=extra, crossed=True)
    return averages, compiled(averages, states, tolerance, STEEPEST, **options)


def states_of(kernel, rows):
    return np.pad(np.array(rows), ((0, 0), (0, len(kernel.system.states) - len(rows[0]))))


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-12])
@pytest.mark.parametrize("components", [2, 3])
def test_gaussians_with_covariances_against_their_densities(components, tolerance):
    averages, kernel = probe(2, components, tolerance)
    mixtures = random_mixtures(2, components, 12)
    found = kernel.rhs_at_beta(1.0, states_of(kernel, [logits_of(*m) for m in mixtures]))[:, : len(averages)]
    expected = np.array([mixture_averages(*m, 40) for m in mixtures])
    assert kernel.average_error <= tolerance
    # The sums of the dense rule and its logits are accurate to some hundred units in the last place.
    assert np.abs(found - expected).max() <= tolerance + 1e-13


@pytest.mark.parametrize("components", [2, 3])
def test_gaussians_in_three_dimensions_against_their_densities(components):
    averages, kernel = probe(3, components, 1e-7)
    mixtures = random_mixtures(3, components, 3, seed=1)
    found = kernel.rhs_at_beta(1.0, states_of(kernel, [logits_of(*m) for m in mixtures]))[:, : len(averages)]
    expected = np.array([mixture_averages(*m, 10) for m in mixtures])
    assert np.abs(found - expected).max() <= 1e-7


@pytest.mark.parametrize(("own", "other"), [((4, 0.25), (0.25, 4)), ((4, 4), (0.25, 0.25)), ((0.25, 0.25), (4, 4))])
def test_the_most_unlike_covariances(own, other):
    averages, kernel = probe(2, 2, 1e-12)
    mixtures = []
    for angle in (0.0, 0.3, math.pi / 4, 1.3):
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        mixtures.append((np.array([[1.5, 0.4], [0.0, 0.0]]), np.array([turn @ np.diag(other) @ turn.T, np.diag(own)])))
    found = kernel.rhs_at_beta(1.0, states_of(kernel, [logits_of(*m) for m in mixtures]))[:, : len(averages)]
    expected = np.array([mixture_averages(*m, 60) for m in mixtures])
    assert np.abs(found - expected).max() <= 1e-12


def test_two_logits_in_variables_that_diagonalise_their_difference():
    """A rotation of the variables makes two logits separable, and moments of shares are those of an adaptive rule."""
    angle, curves = 0.7, (-1.3, 0.4)
    cosine, sine = math.cos(angle), math.sin(angle)
    squares = [
        curves[0] * cosine**2 + curves[1] * sine**2,
        curves[0] * sine**2 + curves[1] * cosine**2,
        2 * (curves[0] - curves[1]) * cosine * sine,
    ]
    _, kernel = probe(2, 2, 1e-12, lambda s, v: [])
    found = kernel.rhs_at_beta(1.0, states_of(kernel, [[0.8, 0.0, 0.0, *squares]]))[0, 0]
    exact, _ = dblquad(
        lambda x, y: math.exp(-(x**2 + y**2) / 2) / (2 * math.pi) * expit(0.8 + curves[0] * x**2 + curves[1] * y**2),
        *(-9, 9, -9, 9),
        epsabs=1e-12,
        epsrel=1e-12,
    )
    assert found == pytest.approx(exact, abs=5e-12)


def logarithms(shares, variables):
    return [sp.log(shares[1]) * shares[0], sp.log(shares[0]) * variables[0] * variables[1]]


@pytest.mark.parametrize(("normals", "degrees", "components"), [(2, None, 3), (2, 9, 2), (3, None, 2)])
def test_logarithms_and_a_chi_squared_variable_against_the_reference(normals, degrees, components):
    averages, kernel = probe(normals, components, 1e-8, logarithms, degrees)
    numbers = random_numbers(kernel, 2, 1.0, 0.3, seed=3)
    found = kernel.rhs_at_beta(1.0, numbers)
    for row, values in zip(found, numbers, strict=True):
        expected = np.array([average_value(a, given(kernel, values)) for a in averages])
        assert (np.abs(row[: len(averages)] - expected) <= 1e-8 * np.maximum(1, np.abs(expected))).all()


def test_quasi_random_points_beside_products_of_variables():
    averages, kernel = probe(3, 2, 3e-4, lambda s, v: [v[0] * v[2] * s[0]], 40)
    (measured,) = kernel.measured_errors
    assert measured.method == "quasi-random lines, 4 variables"
    numbers = random_numbers(kernel, 3, 1.0, 0.2)
    found = kernel.rhs_at_beta(1.0, numbers)[:, : len(averages)]
    expected = [[average_value(a, given(kernel, values)) for a in averages] for values in numbers]
    assert np.abs(found - expected).max() < 5 * kernel.average_error


def test_components_hundreds_of_units_apart():
    """Exponents reach many hundreds and rows are cut into short blocks; small shares are right, too."""
    averages, kernel = probe(2, 4, 1e-9, lambda s, v: [sp.log(s[0])])
    numbers = random_numbers(kernel, 3, 12.0, 6.0)
    numbers[:, ::6] *= [[0.0], [20.0], [200.0]]
    found = kernel.rhs_at_beta(1.0, numbers)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, :4].sum(axis=1), 1.0, rtol=0, atol=1e-9)
    for row, values in zip(found, numbers, strict=True):
        expected = np.array([average_value(a, given(kernel, values)) for a in averages])
        assert (np.abs(row[: len(averages)] - expected) <= 1e-9 * np.maximum(1, np.abs(expected))).all()


def test_steep_logits_without_a_pole_nearby():
    """Far apart, one component has every share; the slopes are then hundreds, and there is nothing to resolve."""
    averages, kernel = probe(2, 2, 1e-12)
    mixtures = random_mixtures(2, 2, 40, 200.0, seed=7)
    found = kernel.rhs_at_beta(1.0, states_of(kernel, [logits_of(*m) for m in mixtures]))[:, : len(averages)]
    shares = np.array([mixture_averages(*m, 8)[:2] for m in mixtures])
    np.testing.assert_allclose(found[:, :2], shares, rtol=0, atol=1e-12)
    assert np.isfinite(found).all()


def test_poles_ask_for_fewer_nodes_than_a_bound_on_the_slopes(monkeypatch):
    """A rule that seeks poles has the accuracy of one that does not, at many random mixtures."""
    mixtures = random_mixtures(2, 2, 60, 1.0, seed=5)
    averages, kernel = probe(2, 2, 1e-9)
    rows = states_of(kernel, [logits_of(*m) for m in mixtures])
    monkeypatch.setattr(lattice_code, "seeks_poles", lambda *of: False)
    monkeypatch.setattr(lattice_rule, "seeks_poles", lambda *of: False)
    _, bounded = probe(2, 2, 1e-12)
    found, expected = (k.rhs_at_beta(1.0, rows)[:, : len(averages)] for k in (kernel, bounded))
    assert np.abs(found - expected).max() <= 1e-9
    _, bounded = probe(2, 2, 1e-9)
    assert kernel.nodes(rows).mean() < 0.6 * bounded.nodes(rows).mean()


def test_a_rule_that_is_too_coarse_is_refused(monkeypatch):
    honest = crossed.normal_density
    monkeypatch.setattr(crossed, "normal_density", lambda *a: honest(*a) / 4)
    with pytest.raises(ArithmeticError, match="misses the tolerance"):
        probe(2, 3, 1e-10)


def test_only_logits_with_products_have_coefficients_of_products():
    """A separable group beside a crossed one keeps its own function."""
    (separable, *_), states = softmax_averages(2, None, 2, True)
    (product, *_), others = softmax_averages(2, None, 2, crossed=True)
    both = [separable, product.xreplace({s: sp.Symbol(f"{s.name}_too", real=True) for s in others})]
    system = probe_system(both, (*states, *(sp.Symbol(f"{s.name}_too", real=True) for s in others)))
    groups = groups_of(system)
    assert [p.crossed for p in patterns_of(groups)] == [False, True]
    assert [len(g.coefficients) for g in groups] == [2 * (1 + 2 + 2), 2 * (1 + 2 + 2 + 1)]


def test_polynomials_of_products_are_exact():
    a = sp.Symbol("A", real=True)
    logit = a * Z[0] * Z[1]
    average = Expectation(Z[0] ** 2 * Z[1] ** 2 * (Softmax(1, logit, sp.S.Zero) + Softmax(2, logit, sp.S.Zero)), *Z[:2])
    assert compiled([average], (a,), 1e-11).rhs_at_beta(1.0, [[0.9]])[0, 0] == pytest.approx(1.0, abs=2e-11)
