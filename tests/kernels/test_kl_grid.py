"""The reverse KL and its gradient on the grid: closed forms, finite differences, Monte Carlo, and invariances."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from grid_kl import flow_velocity, log_partition, objective, overlap_velocity, reverse_kl

from kernels.particles import kl_grid
from kernels.particles.kl_grid import Mixture, kl_gradient
from kernels.particles.objective import Objective


def random_mixture(
    generator: np.random.Generator, components: int, dimension: int, spread: float = 1.5, equal: bool = False
) -> Mixture:
    weights = generator.uniform(0.5, 1.5, components)
    scales = np.ones(components) if equal else generator.uniform(0.7, 1.4, components)
    return Mixture(
        spread * generator.normal(size=(components, dimension)) / math.sqrt(dimension), weights / weights.sum(), scales
    )


def log_density(x: np.ndarray, mixture: Mixture) -> np.ndarray:
    means, weights, scales = (np.asarray(a, dtype=float) for a in mixture[:3])
    squares = np.sum((x[:, None, :] - means) ** 2, axis=2)
    return np.log(
        np.sum(weights * np.exp(-squares / (2 * scales**2)) / (2 * math.pi * scales**2) ** (x.shape[1] / 2), axis=1)
    )


def samples(generator: np.random.Generator, mixture: Mixture, count: int) -> np.ndarray:
    means, weights, scales = (np.asarray(a, dtype=float) for a in mixture[:3])
    chosen = generator.choice(len(weights), size=count, p=weights)
    return means[chosen] + scales[chosen, None] * generator.normal(size=(count, means.shape[1]))


def moved(q: Mixture, group: str, index: tuple[int, ...], amount: float) -> Mixture:
    means, logits, log_scales = np.array(q.means, dtype=float), np.log(q.weights), np.log(q.scales)
    {"means": means, "logits": logits, "log_scales": log_scales}[group][index] += amount
    weights = np.exp(logits)
    return Mixture(means, weights / weights.sum(), np.exp(log_scales))


@pytest.mark.quick
@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("beta", [1.0, 0.3, 0.01])
def test_single_gaussians_in_closed_form(dimension, beta):
    a, nu = np.array([0.4, -1.1, 0.7])[:dimension], np.array([1.3, 0.2, -0.5])[:dimension]
    sigma, target_sigma = 0.8, 1.7
    q, p = Mixture([a], [1.0], [sigma]), Mixture([nu], [1.0], [target_sigma])
    tempered = target_sigma**2 / beta
    exact = 0.5 * (
        dimension * (sigma**2 / tempered - 1 - math.log(sigma**2 / tempered)) + np.sum((a - nu) ** 2) / tempered
    )
    value, error = reverse_kl(q, p, beta)
    assert abs(value - exact) < error < 3e-10

    gradient = kl_gradient(q, p, beta)
    assert np.max(np.abs(gradient.means[0] - (a - nu) / tempered)) < gradient.error < 1e-10
    assert abs(gradient.log_scales[0] - dimension * (sigma**2 / tempered - 1)) < gradient.error
    assert gradient.logits[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.quick
@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("beta", [1.3, 1.0, 0.3])
def test_a_reference_and_the_forward_kl_of_single_gaussians_in_closed_form(dimension, beta):
    """The reference adds (1 - beta) (|a|^2 + d sigma^2) / (2 sigma0^2); the forward KL of Gaussians is known."""
    a, nu = np.array([0.4, -1.1, 0.7])[:dimension], np.array([1.3, 0.2, -0.5])[:dimension]
    sigma, target_sigma, reference = 0.8, 1.7, 2.3
    q, p = Mixture([a], [1.0], [sigma]), Mixture([nu], [1.0], [target_sigma])
    tempered, squared = target_sigma**2 / beta, np.sum((a - nu) ** 2)
    mean = (a - nu) / tempered + (1 - beta) * a / reference**2
    log_scale = dimension * (sigma**2 / tempered - 1 + (1 - beta) * sigma**2 / reference**2)
    forward_mean = (a - nu) / sigma**2
    forward_log_scale = dimension - (dimension * target_sigma**2 + squared) / sigma**2
    for share in (0.0, 0.25, 1.0):
        found = kl_gradient(q, p, beta, 1e-9, Objective(share, reference))
        assert 0 < found.error <= 1e-9
        exact = (1 - share) * mean + share * forward_mean
        assert np.max(np.abs(found.means[0] - exact)) < found.error
        exact = (1 - share) * log_scale + share * forward_log_scale
        assert abs(found.log_scales[0] - exact) < found.error
        assert found.logits[0] == pytest.approx(0, abs=1e-11)


@pytest.mark.parametrize("dimension", [1, 2])
def test_other_objectives_against_central_differences_of_a_plain_sum(dimension):
    """The objective is summed on an axis that is far longer and finer than any component, with densities from above."""
    generator = np.random.default_rng(90 + dimension)
    q, p = random_mixture(generator, 2, dimension), random_mixture(generator, 3, dimension)
    beta, reference, step = 0.4, 1.8, 1e-3
    axis = np.linspace(-14, 14, 281)
    x = np.stack(np.meshgrid(*[axis] * dimension, indexing="ij"), axis=-1).reshape(-1, dimension)
    cell = (axis[1] - axis[0]) ** dimension
    log_p, log_q0 = log_density(x, p), -np.sum(x**2, axis=1) / (2 * reference**2)

    def value(mixture: Mixture, share: float) -> float:
        squares = np.sum((x[:, None, :] - mixture.means) ** 2, axis=2)
        heights = np.log(mixture.weights) - dimension * np.log(mixture.scales * math.sqrt(2 * math.pi))
        log_q = np.logaddexp.reduce(heights - squares / (2 * mixture.scales**2), axis=1)
        reverse = np.exp(log_q) @ (log_q - beta * np.nan_to_num(log_p, neginf=-700.0) - (1 - beta) * log_q0)
        return cell * float((1 - share) * reverse - share * np.exp(log_p) @ log_q)

    for share in (0.0, 0.3, 1.0):
        gradient = kl_gradient(q, p, beta, 1e-8, Objective(share, reference))
        for group in ("means", "logits", "log_scales"):
            computed = getattr(gradient, group)
            for index in np.ndindex(computed.shape):
                half, whole = (
                    (value(moved(q, group, index, h), share) - value(moved(q, group, index, -h), share)) / (2 * h)
                    for h in (step / 2, step)
                )
                assert computed[index] == pytest.approx((4 * half - whole) / 3, abs=1e-6)


def test_the_target_itself_is_a_fixed_point_of_every_objective_at_beta_one():
    generator = np.random.default_rng(95)
    p = random_mixture(generator, 2, 2)
    for minimised in (Objective(0.0, 2.0), Objective(0.5, 2.0), Objective(1.0)):
        gradient = kl_gradient(p, p, 1.0, 1e-8, minimised)
        assert max(np.max(np.abs(part)) for part in gradient[:3]) < gradient.error
    assert np.abs(kl_gradient(p, p, 0.5, 1e-8, Objective(1.0)).means).max() < 1e-8
    assert np.abs(kl_gradient(p, p, 0.5, 1e-8, Objective(0.0, 2.0)).means).max() > 1e-2


@pytest.mark.parametrize(("share", "scale"), [(-0.1, 1.0), (1.1, 1.0), (math.nan, 1.0), (0.5, 0.0), (0.5, math.nan)])
def test_an_objective_out_of_range_is_refused(share, scale):
    with pytest.raises(ValueError, match=r"share of the forward KL|reference_scale"):
        Objective(share, scale)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_gradient_against_central_differences(dimension):
    generator = np.random.default_rng(dimension)
    q, p = random_mixture(generator, 2, dimension), random_mixture(generator, 2, dimension)
    gradient, step = kl_gradient(q, p, 0.7, 1e-9), 1e-3
    for group in ("means", "logits", "log_scales"):
        computed = getattr(gradient, group)
        for index in np.ndindex(computed.shape):
            # Richardson's combination has an error of order step^4.
            half, whole = (
                (
                    objective(moved(q, group, index, h), p, 0.7, 1e-10)[0]
                    - objective(moved(q, group, index, -h), p, 0.7, 1e-10)[0]
                )
                / (2 * h)
                for h in (step / 2, step)
            )
            assert computed[index] == pytest.approx((4 * half - whole) / 3, abs=1e-6)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_value_and_mean_gradient_against_monte_carlo(dimension):
    generator = np.random.default_rng(10 + dimension)
    q, p = random_mixture(generator, 3, dimension), random_mixture(generator, 2, dimension)
    beta, count = 0.6, 200_000
    x = samples(generator, q, count)
    draws = log_density(x, q) - beta * log_density(x, p)
    value, _ = objective(q, p, beta, 1e-6)
    assert abs(np.mean(draws) - value) < 4.5 * np.std(draws) / math.sqrt(count)

    # The score-function estimator, E_q[(log q - beta log p*) grad_a log q], evaluates the densities only, as the grid
    # does.
    means, weights, scales = (np.asarray(a, dtype=float) for a in q[:3])
    gradient = kl_gradient(q, p, beta, 1e-6).means
    for i in range(3):
        own = log_density(x, Mixture(means[i : i + 1], [1.0], scales[i : i + 1]))
        share = weights[i] * np.exp(own - log_density(x, q))
        terms = ((draws - draws.mean()) * share)[:, None] * (x - means[i]) / scales[i] ** 2
        assert np.all(np.abs(terms.mean(axis=0) - gradient[i]) < 4.5 * terms.std(axis=0) / math.sqrt(count))


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_kl_is_positive_and_zero_for_equal_mixtures(dimension):
    generator = np.random.default_rng(20 + dimension)
    for _ in range(3):
        q, p = random_mixture(generator, 2, dimension), random_mixture(generator, 2, dimension)
        value, error = reverse_kl(q, p, 0.8, 1e-7)
        assert value > error
    value, error = reverse_kl(p, p, 1.0, 1e-8)
    assert abs(value) < error
    gradient = kl_gradient(p, p, 1.0, 1e-8)
    assert max(np.max(np.abs(part)) for part in gradient[:3]) < gradient.error


def test_normalization_of_the_target():
    generator = np.random.default_rng(31)
    for dimension in (1, 2, 3):
        value, error = log_partition(random_mixture(generator, 3, dimension), 1.0, 1e-9)
        assert abs(value) < error
    far = Mixture([[0.0], [60.0]], [0.3, 0.7], [1.0, 1.0])
    separate = sum(w**0.5 for w in (0.3, 0.7)) * (2 * math.pi) ** 0.25 * math.sqrt(2)
    assert log_partition(far, 0.5)[0] == pytest.approx(math.log(separate), abs=1e-9)


def test_log_partition_is_absent_from_gradient():
    """The gradient of the objective equals that of the reverse KL with log Z(beta)."""
    generator = np.random.default_rng(32)
    q, p = random_mixture(generator, 2, 1), random_mixture(generator, 2, 1)
    gradient, step = kl_gradient(q, p, 0.4).means, 1e-3
    for i in range(2):
        up, down = (moved(q, "means", (i, 0), h) for h in (step, -step))
        assert (reverse_kl(up, p, 0.4)[0] - reverse_kl(down, p, 0.4)[0]) / (2 * step) == pytest.approx(
            gradient[i, 0], abs=1e-5
        )


@pytest.mark.parametrize("dimension", [2, 3])
def test_rotations_turn_velocities_and_keep_overlaps(dimension):
    generator = np.random.default_rng(40 + dimension)
    q, p = random_mixture(generator, 2, dimension, equal=True), random_mixture(generator, 2, dimension)
    turn, _ = np.linalg.qr(generator.normal(size=(dimension, dimension)))
    turned_q, turned_p = (Mixture(np.asarray(m.means) @ turn.T, m.weights, m.scales) for m in (q, p))
    tolerance = 1e-9
    for manifold in ("sphere", "euclidean"):
        velocity = flow_velocity(q, p, 0.5, manifold, tolerance)
        np.testing.assert_allclose(
            flow_velocity(turned_q, turned_p, 0.5, manifold, tolerance), velocity @ turn.T, atol=4 * tolerance
        )
    for kept, turned in zip(
        overlap_velocity(q, p, 0.5, tolerance=tolerance),
        overlap_velocity(turned_q, turned_p, 0.5, tolerance=tolerance),
        strict=True,
    ):
        np.testing.assert_allclose(kept, turned, atol=20 * tolerance)


def test_translation_leaves_the_gradient():
    generator = np.random.default_rng(50)
    q, p = random_mixture(generator, 2, 2), random_mixture(generator, 3, 2)
    shift = np.array([3.7, -2.2])
    near, far = (kl_gradient(Mixture(q.means + s, *q[1:]), Mixture(p.means + s, *p[1:]), 0.7) for s in (0.0, shift))
    np.testing.assert_allclose(near.means, far.means, atol=2e-10)
    np.testing.assert_allclose(near.logits, far.logits, atol=2e-10)
    np.testing.assert_allclose(near.log_scales, far.log_scales, atol=2e-10)
    assert np.sum(near.logits) == pytest.approx(0, abs=1e-10)


def test_error_estimates_bound_the_errors():
    """The reference has a tolerance some orders of magnitude finer; the mixtures have random scales."""
    generator = np.random.default_rng(60)
    for case in range(12):
        dimension = 1 + case % 2
        q, p = (
            random_mixture(generator, 1 + case % 3, dimension, 2.5),
            random_mixture(generator, 1 + (case + 1) % 3, dimension, 2.5),
        )
        fine = kl_gradient(q, p, 0.9, 1e-11)
        for tolerance in (1e-3, 1e-6):
            coarse = kl_gradient(q, p, 0.9, tolerance)
            worst = max(np.max(np.abs(x - y)) for x, y in zip(coarse[:3], fine[:3], strict=True))
            assert worst <= coarse.error + fine.error
            assert coarse.error <= tolerance


def test_error_falls_geometrically_with_the_step():
    """Two components at a distance D give the rate exp(-2 pi (pi sigma^2 / D) / step): halving squares the error."""
    q, p = kl_grid._checked(Mixture([[2.0], [-2.0]], [0.5, 0.5], [1.0, 1.0]), Mixture([[0.0]], [1.0], [1.0]))
    low, high = np.array([-14.0]), np.array([14.0])

    def value(step: float) -> float:
        def sums(axes):
            return np.array([np.sum(kl_grid._integrand(axes, q, kl_grid._log_density(axes, p)))])

        return float(kl_grid._trapezoid(sums, low, high, np.array([step]), 0.0)[0])

    reference = value(0.02)
    steps = np.array([0.5, 0.4, 0.32])
    # The symmetric grid has a node at the abscissa of the complex zero, so that the aliases add up in phase.
    errors = np.array([abs(value(28.0 / round(28.0 / h)) - reference) for h in steps])
    slope = np.polyfit(1 / steps, np.log(errors / steps), 1)[0]
    assert slope == pytest.approx(-2 * math.pi * math.pi / 4, rel=0.15)


def test_velocity_stays_on_the_sphere():
    generator = np.random.default_rng(70)
    q, p = random_mixture(generator, 3, 2), random_mixture(generator, 2, 2)
    velocity, free = flow_velocity(q, p, 0.8), flow_velocity(q, p, 0.8, "euclidean")
    assert np.max(np.abs(np.sum(velocity * q.means, axis=1))) < 1e-12
    np.testing.assert_allclose(free, -kl_gradient(q, p, 0.8).means, atol=1e-12)
    tangents = np.stack([-q.means[:, 1], q.means[:, 0]], axis=1)
    np.testing.assert_allclose(np.sum(velocity * tangents, axis=1), np.sum(free * tangents, axis=1), atol=1e-12)
    dM, dQ = overlap_velocity(q, p, 0.8, "euclidean")
    step = 1e-6
    later = q.means + step * free
    np.testing.assert_allclose((later @ p.means.T - q.means @ p.means.T) / step, dM, atol=1e-6)
    np.testing.assert_allclose((later @ later.T - q.means @ q.means.T) / step, dQ, atol=1e-5)


def test_two_million_nodes_fit_in_little_memory():
    directions = np.eye(3)
    q = Mixture(3 * directions[:2], [0.5, 0.5], [1.0, 1.0])
    p = Mixture(3 * np.array([directions[2], -directions[2]]), [0.8, 0.2], [1.0, 1.0])
    checked_q, checked_p = kl_grid._checked(q, p)
    moved_q = next(kl_grid._complex_displacements(checked_q))

    def sums(axes):
        return np.array([np.sum(kl_grid._integrand(axes, moved_q, kl_grid._log_density(axes, checked_p))).imag])

    tracemalloc.start()
    box = np.full(3, 6.4)
    kl_grid._trapezoid(sums, -box, box, np.full(3, 0.1), 0.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e7


@pytest.mark.parametrize(
    ("q", "message"),
    [
        (Mixture([[1.0, 0.0]], [0.9], [1.0]), "sum to"),
        (Mixture([[1.0] * 4], [1.0], [1.0]), "d = 1, 2 or 3"),
        (Mixture([[1.0]], [1.0], [1.0]), "differ in dimension"),
        (Mixture([[1.0, 0.0]], [1.0], [-1.0]), "positive"),
        (Mixture([[math.nan, 0.0]], [1.0], [1.0]), "finite"),
    ],
)
def test_malformed_mixtures_are_refused(q, message):
    with pytest.raises(ValueError, match=message):
        kl_gradient(q, Mixture([[0.0, 1.0]], [1.0], [1.0]), 1.0)


def test_unreachable_tolerance_and_spheres_are_refused(monkeypatch):
    generator = np.random.default_rng(80)
    q, p = random_mixture(generator, 2, 2), random_mixture(generator, 2, 2)
    with pytest.raises(ArithmeticError, match=r"not 1\.0e-18"):
        kl_gradient(q, p, 1.0, 1e-18)
    monkeypatch.setattr(kl_grid, "MAX_NODES", 200)
    with pytest.raises(ArithmeticError, match="200 nodes"):
        kl_gradient(q, p, 1.0)
    with pytest.raises(ValueError, match="origin"):
        flow_velocity(Mixture([[0.0, 0.0]], [1.0], [1.0]), p, 1.0, tolerance=10.0)
    with pytest.raises(ValueError, match="manifold"):
        flow_velocity(q, p, 1.0, "torus")
