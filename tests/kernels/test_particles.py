"""The particle simulation: comparison with brute force on a grid and with a retyped ODE, its symmetries and limits.

Seeds are fixed. A comparison with an exact value allows 4.5 standard errors (probability 7e-6 for each number under the
null law).
"""

import math
import time

import numba
import numpy as np
import pytest
from changed import changed
from scipy.integrate import solve_ivp
from scipy.special import expit, logsumexp

from kernels.machine.device import DeviceUnavailable, resolve_device
from kernels.machine.threads import TimeLimitError, at_most
from kernels.particles import simulation as module
from kernels.particles.initial_means import embed_overlaps, uniform_sphere_means
from kernels.particles.runs import extrapolate_step, mean_and_standard_error
from kernels.particles.simulation import DivergenceError, estimate_velocity, simulate_particles

R, W_STAR, H_STAR = 3.0, 0.8, 0.5 * math.log(4)
STANDARD_ERRORS = 4.5

UNEQUAL = {
    "target_means": np.array([[2.0, 0.5], [-1.5, 1.0], [0.0, -2.0]]),
    "target": {"weights": [0.5, 0.3, 0.2], "scales": [1.0, 0.7, 1.3]},
    "proposal": {"weights": [0.6, 0.4], "scales": [1.2, 0.8]},
}
UNEQUAL_MEANS = np.array([[1.0, 0.8], [-0.6, 0.9]])


def bimodal(d, R=R):
    target = np.zeros((2, d))
    target[:, 0] = R, -R
    return {
        "target_means": target,
        "target": {"weights": [W_STAR, 1 - W_STAR], "scales": [1, 1]},
        "proposal": {"weights": [0.5, 0.5], "scales": [1, 1]},
    }


def bimodal_means(d, m1, m2, s, R=R):
    """Two means of the proposal with m_i = mu_i . mu* and s = mu_1 . mu_2; mu* is the first direction of R^d."""
    means = np.zeros((2, d))
    means[:, 0] = m1, m2
    means[0, 1] = math.sqrt(1 - m1**2)
    means[1, 1] = (s - m1 * m2) / means[0, 1]
    means[1, 2] = math.sqrt(1 - m2**2 - means[1, 1] ** 2)
    return R * means


def log_mixture(x, means, weights, scales, normalised=True):
    squared = np.sum((x[..., None, :] - means) ** 2, axis=-1)
    scales = np.asarray(scales, float)
    volume = means.shape[-1] * np.log(scales * math.sqrt(2 * math.pi)) if normalised else 0.0
    return logsumexp(np.log(weights) - 0.5 * squared / scales**2 - volume, axis=-1)


def reverse_kl_on_a_grid(means, beta, problem, normalised=True):
    """KL(q || p*^beta) in two dimensions by the trapezoidal rule, which is exact to rounding for smooth densities."""
    axis = np.linspace(-11, 11, 221)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    log_q = log_mixture(x, means, problem["proposal"]["weights"], problem["proposal"]["scales"])
    log_p = log_mixture(
        x, problem["target_means"], problem["target"]["weights"], problem["target"]["scales"], normalised
    )
    return np.sum(np.exp(log_q) * (log_q - beta * log_p)) * (axis[1] - axis[0]) ** 2


def gradient_on_a_grid(means, beta, problem, normalised=True, h=1e-3):
    gradient = np.empty_like(means)
    for index in np.ndindex(means.shape):
        shift = np.zeros_like(means)
        shift[index] = h
        gradient[index] = (
            reverse_kl_on_a_grid(means + shift, beta, problem, normalised)
            - reverse_kl_on_a_grid(means - shift, beta, problem, normalised)
        ) / (2 * h)
    return gradient


def tangential(means, vectors):
    return vectors - np.sum(vectors * means, -1, keepdims=True) / np.sum(means**2, -1, keepdims=True) * means


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("beta", [1.0, 0.3, 0.0])
def test_velocity_is_minus_the_gradient_of_the_reverse_kl(beta, precision):
    """The error of the finite differences is h^2 = 1e-6 times a third derivative of order one.

    This is far below the standard errors, which are about 1e-3.
    """
    estimate = estimate_velocity(
        UNEQUAL_MEANS,
        **UNEQUAL,
        beta=beta,
        particles=4096,
        replicas=64,
        seed=11,
        manifold="euclidean",
        precision=precision,
        device="cpu",
    )
    gradient = gradient_on_a_grid(UNEQUAL_MEANS, beta, UNEQUAL)
    assert np.all(np.abs(estimate.means + gradient) < STANDARD_ERRORS * estimate.means_standard_error)
    assert estimate.means_standard_error.max() < 4e-3
    drift = -gradient @ UNEQUAL["target_means"].T
    assert np.all(np.abs(estimate.M - drift) < STANDARD_ERRORS * estimate.M_standard_error)
    drift = -gradient @ UNEQUAL_MEANS.T
    assert np.all(np.abs(estimate.Q - drift - drift.T) < STANDARD_ERRORS * estimate.Q_standard_error)


@pytest.mark.quick
def test_velocity_on_the_sphere_is_the_tangential_part():
    estimate = estimate_velocity(UNEQUAL_MEANS, **UNEQUAL, beta=0.7, particles=4096, replicas=64, seed=12, device="cpu")
    expected = -tangential(UNEQUAL_MEANS, gradient_on_a_grid(UNEQUAL_MEANS, 0.7, UNEQUAL))
    assert np.all(np.abs(estimate.means - expected) < STANDARD_ERRORS * estimate.means_standard_error)
    assert np.abs(np.diag(estimate.Q)).max() < 1e-14


def test_the_comparison_notices_a_wrong_density():
    """Without the normalisation -d log sigma of the scales, the target's logits are wrong.

    The velocity then differs by many standard errors.
    """
    estimate = estimate_velocity(
        UNEQUAL_MEANS, **UNEQUAL, beta=1.0, particles=4096, replicas=64, seed=11, manifold="euclidean", device="cpu"
    )
    wrong = gradient_on_a_grid(UNEQUAL_MEANS, 1.0, UNEQUAL, normalised=False)
    assert np.max(np.abs(estimate.means + wrong) / estimate.means_standard_error) > 20


def bimodal_ode(t, state, beta):
    """The bimodal summary-statistics ODE, retyped from the theory; expectations by the trapezoidal rule."""
    m1, m2, s = state
    z = np.linspace(-8.5, 8.5, 341)
    weight = np.exp(-0.5 * z**2) * (z[1] - z[0]) / math.sqrt(2 * math.pi)
    F1, F2 = (weight @ np.tanh(R**2 * m + H_STAR + R * z) for m in (m1, m2))
    gap = max(R**2 * (1 - s), 0.0)
    G = weight @ expit(-(gap + math.sqrt(2 * gap) * z))
    return 0.5 * np.array(
        [
            beta * F1 * (1 - m1**2) - G * (m2 - s * m1),
            beta * F2 * (1 - m2**2) - G * (m1 - s * m2),
            beta * F1 * (m2 - s * m1) - G * (1 - s**2) + beta * F2 * (m1 - s * m2) - G * (1 - s**2),
        ]
    )


def test_velocity_agrees_with_the_retyped_ode():
    d, beta, state = 7, 0.4, (0.3, -0.2, 0.5)
    estimate = estimate_velocity(
        bimodal_means(d, *state), **bimodal(d), beta=beta, particles=2048, replicas=64, seed=13, device="cpu"
    )
    m1, m2, s = bimodal_ode(0.0, state, beta)
    for value, error, exact in [
        (estimate.M[0, 0], estimate.M_standard_error[0, 0], m1),
        (estimate.M[1, 0], estimate.M_standard_error[1, 0], m2),
        (estimate.Q[0, 1], estimate.Q_standard_error[0, 1], s),
    ]:
        assert abs(value / R**2 - exact) < STANDARD_ERRORS * error / R**2
        assert error / R**2 < 1e-3


STATE = (0.3, -0.4, 0.2)


def run_bimodal(dt, duration, particles, replicas, seed, beta=1.0, d=8, **options):
    steps = round(duration / dt)
    means = np.repeat(bimodal_means(d, *STATE)[None], replicas, axis=0)
    options = {"device": "cpu", "record_every": steps // 2, **options}
    return simulate_particles(
        means, **bimodal(d), betas=np.full(steps, beta), dt=dt, particles=particles, seed=seed, **options
    )


def overlaps(M, Q):
    """The overlaps m_1, m_2 and s of the bimodal problem, along the last axis."""
    return np.stack([M[..., 0, 0], M[..., 1, 0], Q[..., 0, 1]], axis=-1) / R**2


@pytest.mark.slow
def test_halving_the_step_halves_the_bias_and_extrapolation_removes_it():
    """The biases against the retyped ODE have a ratio of 2, and extrapolation removes them.

    The bias is c dt (1 + O(dt)). Half of dt = 1/4 therefore gives a ratio of 2 within dt, apart from sampling errors.
    Extrapolation leaves the term of second order, for which the test allows a quarter of the finer run's bias.
    """
    duration = 3.0
    exact = solve_ivp(bimodal_ode, (0, duration), STATE, args=(1.0,), rtol=1e-10, atol=1e-12).y[:, -1]
    coarse = run_bimodal(1 / 4, duration, 2048, replicas=64, seed=1)
    fine = run_bimodal(1 / 8, duration, 2048, replicas=64, seed=2)
    coarse_mean, coarse_error = mean_and_standard_error(overlaps(coarse.M[-1], coarse.Q[-1]), axis=0)
    fine_mean, fine_error = mean_and_standard_error(overlaps(fine.M[-1], fine.Q[-1]), axis=0)
    coarse_bias, fine_bias = coarse_mean - exact, fine_mean - exact
    assert np.all(np.abs(fine_bias) > 20 * fine_error)
    ratio = coarse_bias / fine_bias
    ratio_error = ratio * np.hypot(coarse_error / coarse_bias, fine_error / fine_bias)
    assert np.all(np.abs(ratio - 2) < 0.25 + 3 * ratio_error)
    extrapolated = extrapolate_step(coarse, fine)
    error = overlaps(extrapolated.M_standard_error, extrapolated.Q_standard_error)[-1]
    assert np.all(
        np.abs(overlaps(extrapolated.M, extrapolated.Q)[-1] - exact)
        < STANDARD_ERRORS * error + 0.25 * np.abs(fine_bias)
    )
    bias = overlaps(extrapolated.M_bias, extrapolated.Q_bias)[-1]
    np.testing.assert_allclose(bias, fine_bias, atol=STANDARD_ERRORS * np.max(error), rtol=0.25)


@pytest.mark.slow
def test_quadrupling_the_particles_quarters_the_bias_due_to_their_noise():
    """One large step; |m_1| + |m_2| is compared with its value for 64 particles.

    The noise causes a bias of c / N, of which c / 64 remains in the reference.
    """
    sums = []
    for particles, replicas in [(1, 32768), (4, 16384), (64, 2048)]:
        run = run_bimodal(1 / 2, 2.0, particles, replicas=replicas, seed=particles, beta=0.3)
        sums.append(mean_and_standard_error(np.abs(run.M[-1, :, :, 0]).sum(-1) / R**2, axis=0))
    (one, one_error), (four, four_error), (many, many_error) = sums
    factor = (1 - 1 / 64) / (1 / 4 - 1 / 64)
    mismatch = (many - one) - factor * (many - four)
    error = math.hypot(one_error, factor * four_error, (factor - 1) * many_error)
    assert abs(mismatch) < STANDARD_ERRORS * error + 0.1 * (many - one)
    assert many - one > 20 * error / factor


def test_quadrupling_the_particles_halves_the_standard_error():
    """A standard error from n replicas has a relative error of 1 / sqrt(2 n), here 2.5 %.

    0.35 is five times the error of the ratio.
    """
    options = {"beta": 0.5, "replicas": 800, "device": "cpu"}
    few, many = (estimate_velocity(UNEQUAL_MEANS, **UNEQUAL, particles=n, seed=n, **options) for n in (32, 128))
    assert np.all(np.abs(few.M_standard_error / many.M_standard_error - 2) < 0.35)


def test_the_sphere_is_kept_and_euclidean_means_leave_it():
    on_sphere = run_bimodal(0.5, 20.0, 4, replicas=2, seed=3)
    norms = np.sqrt(np.einsum("trii->tri", on_sphere.Q))
    np.testing.assert_allclose(norms, R, rtol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(on_sphere.final_means, axis=-1), R, rtol=1e-14)
    free = run_bimodal(0.5, 20.0, 4, replicas=2, seed=3, manifold="euclidean")
    assert np.abs(np.sqrt(np.einsum("rii->ri", free.Q[-1])) - R).max() > 1e-3


def test_first_euclidean_step_is_the_velocity_of_the_same_draws():
    """Step 0 of a run and a velocity estimate with the same seed use the same particles."""
    dt, replicas = 0.25, 3
    options = {"particles": 10, "seed": 4, "manifold": "euclidean", "device": "cpu"}
    means = np.repeat(UNEQUAL_MEANS[None], replicas, axis=0)
    run = simulate_particles(means, **UNEQUAL, betas=[0.5], dt=dt, **options)
    velocity = estimate_velocity(UNEQUAL_MEANS, **UNEQUAL, beta=0.5, replicas=replicas, **options)
    np.testing.assert_allclose(run.final_means.mean(0), UNEQUAL_MEANS + dt * velocity.means, rtol=1e-13)


def test_record_holds_the_start_every_nth_step_and_the_end():
    means = uniform_sphere_means(2, 2, 4, R, seed=5)
    betas = np.linspace(0.1, 0.7, 7)
    seen = []
    run = simulate_particles(
        means,
        **bimodal(4),
        betas=betas,
        dt=0.5,
        particles=3,
        seed=5,
        record_every=3,
        device="cpu",
        progress=lambda *a: seen.append(a),
    )
    np.testing.assert_array_equal(run.t, [0.0, 1.5, 3.0, 3.5])
    np.testing.assert_array_equal(run.beta, betas[[0, 3, 6, 6]])
    assert run.M.shape == run.Q.shape == (4, 2, 2, 2)
    assert seen == [(3, 7), (6, 7), (7, 7)]
    np.testing.assert_allclose(run.M[0], means @ bimodal(4)["target_means"].T)
    np.testing.assert_allclose(run.M[-1], run.final_means @ bimodal(4)["target_means"].T)
    np.testing.assert_allclose(run.Q[-1], run.final_means @ run.final_means.transpose(0, 2, 1))
    assert (run.seed, run.dt, run.particles) == (5, 0.5, 3)


def test_results_depend_neither_on_threads_nor_on_chunks_nor_on_other_replicas(monkeypatch):
    """The results are the same bit for bit, because one thread computes each replica in a fixed order."""
    means = uniform_sphere_means(5, 2, 6, R, seed=6)

    def run(replicas=5, **options):
        options = {
            "betas": np.full(12, 0.5),
            "dt": 0.1,
            "particles": 9,
            "seed": 6,
            "record_every": 12,
            "device": "cpu",
            **options,
        }
        return simulate_particles(means[:replicas], **bimodal(6), **options).final_means

    reference = run()
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(numba, "get_num_threads", lambda threads=threads: threads)
        np.testing.assert_array_equal(run(), reference)
    np.testing.assert_array_equal(run(replicas=2), reference[:2])
    np.testing.assert_array_equal(run(record_every=5), reference)
    monkeypatch.setitem(module.COORDINATES_PER_CALL, "cpu", 1.0)
    seen = []
    np.testing.assert_array_equal(run(progress=lambda done, total: seen.append(done)), reference)
    assert seen == list(range(1, 13))
    assert np.abs(run(seed=7) - reference).min() > 0


def test_single_and_double_precision_agree():
    double = run_bimodal(0.1, 1.0, 64, replicas=2, seed=8)
    single = run_bimodal(0.1, 1.0, 64, replicas=2, seed=8, precision="float32")
    # Both precisions use the same random words. Single precision rounds each particle by 1e-7 of its size, here about
    # 3, without bias, and the means are double.
    np.testing.assert_allclose(single.final_means, double.final_means, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [30, 300, 3000])
def test_means_that_diverge_are_an_error_that_names_the_step(steps):
    """Means far out, or beyond the largest number, are an error.

    A step below the limit of Euler's method, 2 sigma^2 / w_i = 0.04, is none.
    """
    narrow = {**bimodal(4), "target": {"weights": [W_STAR, 1 - W_STAR], "scales": [0.1, 0.1]}}
    narrow["proposal"] = {"weights": [0.5, 0.5], "scales": [0.1, 0.1]}
    options = {"particles": 4, "seed": 3, "manifold": "euclidean", "device": "cpu", "record_every": steps}
    means = uniform_sphere_means(2, 2, 4, R, seed=3)
    with pytest.raises(DivergenceError, match=r"means diverge with dt = 0\.1; .* below 2 sigma\^2 / w_i, here 0\.04$"):
        simulate_particles(means, **narrow, betas=np.ones(steps), dt=0.1, **options)
    run = simulate_particles(means, **narrow, betas=np.ones(steps), dt=0.03, **options)
    assert np.abs(run.final_means).max() < 2 * R


def test_initial_means_are_uniform_on_their_spheres():
    replicas, d = 20000, 5
    means = uniform_sphere_means(replicas, 2, d, np.array([1.0, 2.0]), seed=9)
    np.testing.assert_allclose(np.linalg.norm(means, axis=-1), np.broadcast_to([1.0, 2.0], (replicas, 2)), rtol=1e-14)
    unit = (means / [[[1.0], [2.0]]]).reshape(replicas, -1)
    second_moments = unit.T @ unit / replicas
    # Var(u_i u_j) <= 3 / d^2 for a unit vector, and the two vectors are independent.
    np.testing.assert_allclose(second_moments, np.eye(2 * d) / d, atol=5 * math.sqrt(3 / replicas) / d, rtol=0)
    assert np.abs(unit.mean(0)).max() < 5 / math.sqrt(d * replicas)
    np.testing.assert_array_equal(uniform_sphere_means(3, 2, d, 1.0, seed=9)[:, 0], means[:3, 0])


def test_embedded_vectors_have_the_given_overlaps():
    vectors = np.random.default_rng(0).normal(size=(5, 4))
    vectors[1] = -vectors[0]
    gram = vectors @ vectors.T
    targets, proposals = embed_overlaps(gram, K=2, d=9)
    assert targets.shape == (2, 9)
    assert proposals.shape == (3, 9)
    embedded = np.concatenate([targets, proposals])
    np.testing.assert_allclose(embedded @ embedded.T, gram, atol=1e-12)
    embedded = np.concatenate(embed_overlaps(gram, K=2, d=4))
    np.testing.assert_allclose(embedded @ embedded.T, gram, atol=1e-12)
    with pytest.raises(ValueError, match=r"rank 4.*d = 3"):
        embed_overlaps(gram, K=2, d=3)
    with pytest.raises(ValueError, match="negative eigenvalue"):
        embed_overlaps(np.array([[1.0, 2.0], [2.0, 1.0]]), K=1, d=5)
    with pytest.raises(ValueError, match="symmetric"):
        embed_overlaps(np.array([[1.0, 0.5], [0.0, 1.0]]), K=1, d=5)
    with pytest.raises(ValueError, match="square"):
        embed_overlaps(np.ones((2, 3)), K=1, d=5)


def test_extrapolation_wants_a_pair():
    coarse, fine = run_bimodal(0.5, 2.0, 4, replicas=3, seed=1), run_bimodal(0.25, 2.0, 4, replicas=3, seed=2)
    both = extrapolate_step(coarse, fine)
    np.testing.assert_allclose(both.M, (2 * fine.M - coarse.M).mean(1))
    np.testing.assert_allclose(both.M + both.M_bias, fine.M.mean(1))
    with pytest.raises(ValueError, match="half"):
        extrapolate_step(fine, coarse)
    with pytest.raises(ValueError, match="same replicas"):
        extrapolate_step(coarse, run_bimodal(0.25, 2.0, 4, replicas=2, seed=2))
    with pytest.raises(ValueError, match="2 replicas"):
        mean_and_standard_error(np.ones((3, 1)))


GOOD = {
    **UNEQUAL,
    "initial_means": UNEQUAL_MEANS[None],
    "betas": [0.5, 1.0],
    "dt": 0.1,
    "particles": 4,
    "seed": 0,
    "device": "cpu",
}


@pytest.mark.quick
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("initial_means", UNEQUAL_MEANS, "initial_means"),
        ("initial_means", np.zeros((1, 2, 2)), "zero"),
        ("initial_means", np.full((1, 2, 2), np.nan), "finite"),
        ("initial_means", np.ones((1, 2, 3)), "dimension"),
        ("initial_means", np.ones((0, 2, 2)), "dimension"),
        ("initial_means", "means", "numbers"),
        ("target_means", np.zeros((0, 2)), "dimension"),
        ("target weights", [0.5, 0.5], "target weights"),
        ("target weights", [0.5, 0.3, 0.3], "sum to one"),
        ("target weights", [0.5, 0.6, -0.1], "positive"),
        ("target scales", [1.0, 0.0, 1.0], "positive"),
        ("target", {"weights": [0.5, 0.3, 0.2]}, "target has weights and scales, not weights"),
        ("proposal", {}, "not nothing"),
        ("proposal heights", [0.5, 0.5], "not weights and scales and heights"),
        ("proposal weights", [1.0], "proposal weights"),
        ("proposal scales", [1.0, np.inf], "finite"),
        ("betas", [], "betas"),
        ("betas", [0.5, -0.1], "negative"),
        ("dt", 0.0, "dt"),
        ("dt", np.nan, "dt"),
        ("particles", 0, "particles"),
        ("particles", 2.5, "particles"),
        ("seed", -1, "seed"),
        ("seed", 2**64, "seed"),
        ("seed", 0.5, "seed"),
        ("record_every", 0, "record_every"),
        ("manifold", "torus", "manifold"),
        ("precision", "float16", "precision"),
        ("device", "tpu", "device"),
    ],
)
def test_bad_input_is_one_clear_line(key, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        simulate_particles(**changed(GOOD, key, value))
    assert "\n" not in str(caught.value)


def test_good_input_is_accepted_at_the_limits():
    run = simulate_particles(**{**GOOD, "seed": 2**64 - 1, "record_every": 100, "betas": [0.0]})
    np.testing.assert_array_equal(run.t, [0.0, 0.1])
    with pytest.raises(ValueError, match="2 replicas"):
        estimate_velocity(UNEQUAL_MEANS, **UNEQUAL, beta=1.0, particles=4, replicas=1, seed=0)
    one = simulate_particles(
        [[[2.0]]], [[1.0]], *[{"weights": [1.0], "scales": [1.0]}] * 2, [1.0], 0.1, particles=1, seed=0, device="cpu"
    )
    assert one.final_means.shape == (1, 1, 1)
    assert abs(one.final_means[0, 0, 0]) == pytest.approx(2.0)


def test_devices_are_named_and_never_silently_replaced():
    assert resolve_device("cpu").name.startswith("cpu (")
    auto = resolve_device("auto")
    assert not auto.simulated
    assert auto.kind in auto.name
    if auto.kind == "cpu" and not numba.config.ENABLE_CUDASIM:
        with pytest.raises(DeviceUnavailable, match=r"annealvi\[cuda\].*driver"):
            resolve_device("cuda")


@pytest.mark.parametrize("projected", [False, True])
def test_one_estimate_of_many_particles_is_stopped_by_a_time_limit(projected):
    """Without a limit the estimate, one step of one replica, would take a minute."""
    means = bimodal_means(128, 0.1, -0.1, 0.0)
    few = {"replicas": 2, "seed": 0, "projected": projected, "device": "cpu"}
    estimate_velocity(means, **bimodal(128), beta=0.5, particles=4, **few)
    begun = time.process_time()
    with pytest.raises(TimeLimitError), at_most(0.2):
        estimate_velocity(means, **bimodal(128), beta=0.5, particles=4 * 10**8 if projected else 2 * 10**7, **few)
    assert time.process_time() - begun < 3
