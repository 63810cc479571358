"""The KL's gradient on the grid for mixtures with covariances: closed forms, other rules, and invariances."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import logsumexp

from kernels.particles.kl_grid import KlGradient, Mixture, kl_gradient, rates
from kernels.particles.objective import Objective

SHAPES = [(d, r) for d in (1, 2, 3) for r in range(1, d + 1)]


def random_covariances(generator: np.random.Generator, count: int, r: int) -> np.ndarray:
    """Covariances with standard deviations from 0.7 to 1.4 along random directions."""
    turns = np.linalg.qr(generator.normal(size=(count, r, r)))[0]
    return turns * generator.uniform(0.7, 1.4, (count, 1, r)) ** 2 @ turns.transpose(0, 2, 1)


def random_mixture(generator: np.random.Generator, components: int, d: int, r: int) -> Mixture:
    weights = generator.uniform(0.5, 1.5, components)
    return Mixture(
        1.2 * generator.normal(size=(components, d)) / math.sqrt(d),
        weights / weights.sum(),
        generator.uniform(0.7, 1.4, components),
        random_covariances(generator, components, r),
    )


def full(mixture: Mixture) -> np.ndarray:
    """The covariances in all d coordinates, (L, d, d)."""
    means, scales = np.asarray(mixture.means), np.asarray(mixture.scales)
    matrices = scales[:, None, None] ** 2 * np.eye(means.shape[1])
    if mixture.covariances is not None:
        r = np.shape(mixture.covariances)[1]
        matrices[:, :r, :r] = mixture.covariances
    return matrices


def log_density(x: np.ndarray, mixture: Mixture) -> np.ndarray:
    """log of the density up to a constant, at points (..., d)."""
    covariances = full(mixture)
    offsets = x[..., None, :] - np.asarray(mixture.means)
    squares = np.einsum("...lc,lce,...le->...l", offsets, np.linalg.inv(covariances), offsets)
    return logsumexp(np.log(mixture.weights) - np.linalg.slogdet(covariances)[1] / 2 - squares / 2, axis=-1)


def by_hermite(q: Mixture, p: Mixture, beta: float, order: int) -> float:
    """E_q[log q - beta log p] by the product of Gauss and Hermite's rules for each component, up to a constant."""
    nodes, weights = hermegauss(order)
    d = np.shape(q.means)[1]
    z = np.stack(np.meshgrid(*[nodes] * d, indexing="ij"), axis=-1).reshape(-1, d)
    w = np.prod(np.stack(np.meshgrid(*[weights / weights.sum()] * d, indexing="ij"), axis=-1), axis=-1).ravel()
    points = np.asarray(q.means)[:, None] + z @ np.linalg.cholesky(full(q)).transpose(0, 2, 1)
    return float(np.asarray(q.weights) @ (log_density(points, q) - beta * log_density(points, p)) @ w)


def moved(q: Mixture, i: int, row: int, column: int, amount: float) -> Mixture:
    """The mixture with one covariance moved along the symmetric matrix whose product with G is the entry of G."""
    covariances = np.array(q.covariances)
    covariances[i, row, column] += amount / 2
    covariances[i, column, row] += amount / 2
    return q._replace(covariances=covariances)


@pytest.mark.quick
@pytest.mark.parametrize(("d", "r"), SHAPES)
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_single_gaussians_in_closed_form(d, r, beta):
    generator = np.random.default_rng(10 * d + r)
    q, p = random_mixture(generator, 1, d, r), random_mixture(generator, 1, d, r)
    found = kl_gradient(q, p, beta, 1e-8)
    C, S, apart = full(q)[0], full(p)[0], q.means[0] - p.means[0]
    tempered = beta * np.linalg.inv(S)
    assert 0 < found.error < 1e-8
    assert np.max(np.abs(found.means[0] - tempered @ apart)) < found.error
    exact = (tempered - np.linalg.inv(C)) / 2
    assert np.max(np.abs(found.covariances[0] - exact[:r, :r])) < found.error
    outside = np.sum(np.diag(2 * exact * C)[r:])
    assert abs(found.log_scales[0] - outside) < found.error

    forward = kl_gradient(q, p, beta, 1e-8, Objective(1.0))
    inverse = np.linalg.inv(C)
    exact = (inverse - inverse @ (S + np.outer(apart, apart)) @ inverse) / 2
    assert np.max(np.abs(forward.covariances[0] - exact[:r, :r])) < forward.error


def test_a_reference_adds_its_inverse_variance_in_closed_form():
    generator = np.random.default_rng(3)
    q, p = random_mixture(generator, 1, 2, 2), random_mixture(generator, 1, 2, 2)
    found = kl_gradient(q, p, 0.4, 1e-9, Objective(0.0, 2.3))
    exact = (0.4 * np.linalg.inv(full(p)[0]) + 0.6 / 2.3**2 * np.eye(2) - np.linalg.inv(full(q)[0])) / 2
    assert np.max(np.abs(found.covariances[0] - exact)) < found.error


@pytest.mark.parametrize(("d", "r"), SHAPES)
def test_two_components_against_central_differences_of_another_rule(d, r):
    """Gauss and Hermite's rule errs by about its change from a lower order, and Richardson's combination by step^4."""
    generator = np.random.default_rng(20 + 10 * d + r)
    q, p = random_mixture(generator, 2, d, r), random_mixture(generator, 2, d, r)
    beta, step, found = 0.7, 0.02, kl_gradient(q, p, 0.7, 1e-6)
    assert np.array_equal(found.covariances, found.covariances.transpose(0, 2, 1))
    low, high = {1: (90, 120), 2: (50, 70), 3: (26, 34)}[d]

    def difference(order: int, i: int, row: int, column: int) -> float:
        half, whole = (
            (
                by_hermite(moved(q, i, row, column, h), p, beta, order)
                - by_hermite(moved(q, i, row, column, -h), p, beta, order)
            )
            / (2 * h)
            for h in (step / 2, step)
        )
        return (4 * half - whole) / 3

    for index in itertools.product(range(2), range(r), range(r)):
        exact, rough = difference(high, *index), difference(low, *index)
        assert abs(rough - exact) < 3e-3
        assert abs(found.covariances[index] - exact) < abs(rough - exact) + step**4 + found.error


@pytest.mark.parametrize(("d", "r"), SHAPES)
def test_covariances_of_one_scale_give_the_isotropic_gradient(d, r):
    """With C = sigma^2 I in r coordinates, the derivative in log sigma is 2 sigma^2 tr G plus that outside."""
    generator = np.random.default_rng(60 + 10 * d + r)
    q, p = (random_mixture(generator, 2, d, r)._replace(covariances=None) for _ in range(2))
    q_there, p_there = (m._replace(covariances=m.scales[:, None, None] ** 2 * np.eye(r)) for m in (q, p))
    plain = kl_gradient(q, p, 0.6, 1e-7)
    assert plain.covariances is None
    for found in (kl_gradient(q_there, p_there, 0.6, 1e-7), kl_gradient(q_there, p, 0.6, 1e-7)):
        summed = found.log_scales + 2 * q.scales**2 * np.trace(found.covariances, axis1=1, axis2=2)
        for one, other in ((found.means, plain.means), (found.logits, plain.logits), (summed, plain.log_scales)):
            np.testing.assert_allclose(one, other, atol=1e-6)
        if r == d:
            np.testing.assert_array_equal(found.log_scales, 0)


def test_rotations_turn_the_gradient():
    generator = np.random.default_rng(70)
    q, p = random_mixture(generator, 2, 2, 2), random_mixture(generator, 2, 2, 2)
    turn, _ = np.linalg.qr(generator.normal(size=(2, 2)))
    turned = [m._replace(means=m.means @ turn.T, covariances=turn @ m.covariances @ turn.T) for m in (q, p)]
    here, there = kl_gradient(q, p, 0.5, 1e-8), kl_gradient(*turned, 0.5, 1e-8)
    np.testing.assert_allclose(there.covariances, turn @ here.covariances @ turn.T, atol=3e-8)
    np.testing.assert_allclose(there.means, here.means @ turn.T, atol=3e-8)


def test_error_estimates_bound_the_errors():
    """The components are narrow along a diagonal, with a correlation of 0.95; the reference has a finer tolerance."""
    generator = np.random.default_rng(80)
    for sign in (1, -1):
        q, p = (
            random_mixture(generator, 2, 2, 2)._replace(covariances=[[[1, c], [c, 1.0]] for c in (0.95 * sign, 0.3)])
            for _ in range(2)
        )
        fine = kl_gradient(q, p, 0.9, 1e-9)
        for tolerance in (1e-3, 1e-5):
            coarse = kl_gradient(q, p, 0.9, tolerance)
            parts = [(getattr(coarse, n), getattr(fine, n)) for n in ("means", "logits", "log_scales", "covariances")]
            assert max(np.max(np.abs(x - y)) for x, y in parts) <= coarse.error + fine.error
            assert coarse.error <= tolerance


def test_the_target_itself_is_a_fixed_point():
    p = random_mixture(np.random.default_rng(90), 2, 2, 2)
    found = kl_gradient(p, p, 1.0, 1e-8)
    assert np.max(np.abs(found.covariances)) < found.error


def test_rates_descend_in_both_metrics():
    """A single Gaussian has dC/dt = 2 (C - beta C S^-1 C), or the same with the factor S^-1 on one side, in turn."""
    generator = np.random.default_rng(95)
    q, p = random_mixture(generator, 1, 2, 2), random_mixture(generator, 1, 2, 2)
    found = kl_gradient(q, p, 0.7, 1e-9)
    C, tempered = full(q)[0], 0.7 * np.linalg.inv(full(p)[0])
    np.testing.assert_allclose(rates(q, found)["covariances"][0], 2 * (C - C @ tempered @ C), atol=1e-7)
    expected = 2 * np.eye(2) - C @ tempered - tempered @ C
    np.testing.assert_allclose(rates(q, found, "bures-wasserstein")["covariances"][0], expected, atol=1e-7)
    many = random_mixture(generator, 2, 2, 1)
    gradient = kl_gradient(many, p, 0.7, 1e-6)
    for metric in ("log", "bures-wasserstein"):
        rate = rates(many, gradient, metric)["covariances"]
        assert rate.shape == (2, 1, 1)
        assert np.sum(rate * gradient.covariances) < 0


def test_rates_without_covariances_are_those_of_weights_and_scales():
    plain = Mixture([[0.0]], [1.0], [2.0])
    zero = np.zeros(1)
    assert set(rates(plain, KlGradient(np.zeros((1, 1)), zero, zero, 0.0))) == {"weights", "scales"}


@pytest.mark.parametrize(
    ("covariances", "message"),
    [
        (np.ones((1, 3, 3)), "r from 1 to 2"),
        (np.ones((2, 1, 1)), "the shape"),
        (np.ones((1, 1)), "the shape"),
        (np.zeros((1, 0, 0)), "r from 1 to 2"),
        ([[[1.0, 0.2], [0.1, 1.0]]], "symmetric"),
        ([[[1.0, 2.0], [2.0, 1.0]]], "positive definite"),
        ([[[math.nan]]], "finite"),
    ],
)
def test_malformed_covariances_are_refused(covariances, message):
    with pytest.raises(ValueError, match=message):
        kl_gradient(Mixture([[0.0, 1.0]], [1.0], [1.0], covariances), Mixture([[0.0, 1.0]], [1.0], [1.0]), 1.0)
    with pytest.raises(ValueError, match="bures-wasserstein"):
        rates(Mixture([[0.0]], [1.0], [1.0]), None, "euclidean")
