"""Learned weights and scales in the particle simulation: comparison with the KL's gradient on a grid and with closed
forms of Gaussians.

Seeds are fixed. A comparison uses Student's t at a level of 1e-3, divided among all its numbers.
"""

import numba
import numpy as np
import pytest
from changed import changed
from scipy.stats import t as student

from kernels.particles.kl_grid import KlGradient, Mixture, kl_gradient
from kernels.particles.runs import VelocityEstimate, extrapolate_step
from kernels.particles.simulation import DivergenceError, estimate_velocity, simulate_particles

ALL = ("means", "weights", "scales")
REPLICAS = 64

TARGET = {"means": [[2.0, 0.5, 0.3], [-1.5, 1.0, -0.4]], "weights": [0.7, 0.3], "scales": [1.0, 0.7]}
PROPOSAL = {"weights": [0.6, 0.4], "scales": [1.2, 0.8]}
MEANS = np.array([[1.0, 0.8, -0.2], [-0.6, 0.9, 0.5]])


def largest_z(differences, errors):
    return float(
        np.abs(np.concatenate([np.ravel(d) for d in differences]) / np.concatenate([np.ravel(e) for e in errors])).max()
    )


def bound(numbers, replicas=REPLICAS):
    return float(student.isf(0.5e-3 / numbers, replicas - 1))


def problem(d, proposals=2, targets=2):
    """The mixtures above in their first d coordinates and with their first components; the weights again sum to one."""
    weights, target_weights = np.array(PROPOSAL["weights"])[:proposals], np.array(TARGET["weights"])[:targets]
    mixtures = {
        "target_means": np.array(TARGET["means"])[:targets, :d],
        "target": {"weights": target_weights / target_weights.sum(), "scales": TARGET["scales"][:targets]},
        "proposal": {"weights": weights / weights.sum(), "scales": np.array(PROPOSAL["scales"])[:proposals]},
    }
    return MEANS[:proposals, :d], mixtures


def grid_gradient(means, mixtures, beta):
    proposal = Mixture(means, **mixtures["proposal"])
    target = Mixture(mixtures["target_means"], **mixtures["target"])
    return kl_gradient(proposal, target, beta, 1e-6)


def expected_velocities(gradient: KlGradient, mixtures):
    """da/dt, dw/dt and dsigma/dt in Euclidean space, from the gradient in the means, logits and log scales."""
    weights = mixtures["proposal"]["weights"]
    return (
        -gradient.means,
        -weights * (gradient.logits - weights @ gradient.logits),
        -mixtures["proposal"]["scales"] * gradient.log_scales,
    )


def compare(estimate: VelocityEstimate, expected):
    differences = [
        found - exact for found, exact in zip((estimate.means, *estimate.parameters.values()), expected, strict=True)
    ]
    errors = [estimate.means_standard_error, *estimate.parameters_standard_error.values()]
    return largest_z(differences, errors)


@pytest.mark.parametrize(("d", "precision"), [(1, "float64"), (2, "float64"), (2, "float32"), (3, "float64")])
@pytest.mark.parametrize("beta", [1.0, 0.2])
def test_velocities_of_weights_and_scales_descend_the_kl(d, beta, precision):
    means, mixtures = problem(d)
    estimate = estimate_velocity(
        means,
        **mixtures,
        beta=beta,
        particles=4096,
        replicas=REPLICAS,
        seed=d,
        manifold="euclidean",
        learn=ALL,
        precision=precision,
    )
    expected = expected_velocities(grid_gradient(means, mixtures, beta), mixtures)
    assert compare(estimate, expected) < bound(means.size + 4)
    assert (
        max(estimate.parameters_standard_error["weights"].max(), estimate.parameters_standard_error["scales"].max())
        < 4e-3
    )
    colder = expected_velocities(grid_gradient(means, mixtures, 2 * beta), mixtures)
    assert (
        np.abs((estimate.parameters["weights"] - colder[1]) / estimate.parameters_standard_error["weights"]).min() > 10
    )
    assert np.abs((estimate.parameters["scales"] - colder[2]) / estimate.parameters_standard_error["scales"]).min() > 10


@pytest.mark.parametrize(("proposals", "targets"), [(1, 2), (2, 1)])
def test_velocities_with_a_single_component_on_one_side(proposals, targets):
    means, mixtures = problem(1, proposals, targets)
    estimate = estimate_velocity(
        means,
        **mixtures,
        beta=0.6,
        particles=4096,
        replicas=REPLICAS,
        seed=21,
        manifold="euclidean",
        learn=ALL,
        device="cpu",
    )
    expected = expected_velocities(grid_gradient(means, mixtures, 0.6), mixtures)
    if proposals == 1:
        assert estimate.parameters["weights"] == pytest.approx(0, abs=1e-15)
        expected = (expected[0], estimate.parameters["weights"], expected[2])
        estimate.parameters_standard_error["weights"][:] = 1.0
    assert compare(estimate, expected) < bound(3 * proposals)


def test_what_is_not_learned_rests():
    means, mixtures = problem(3)
    start = {"means": means, **mixtures["proposal"]}
    options = {"particles": 16, "replicas": 4, "seed": 3, "beta": 0.5, "device": "cpu"}
    everything = estimate_velocity(means, **mixtures, learn=ALL, **options)
    whole = {"means": everything.means, **everything.parameters}
    for learned in (("means",), ("weights",), ("scales",), ("weights", "means")):
        run = simulate_particles(
            means[None],
            **mixtures,
            betas=np.full(7, 0.5),
            dt=0.05,
            particles=16,
            seed=3,
            learn=learned,
            record_every=3,
            device="cpu",
        )
        velocity = estimate_velocity(means, **mixtures, learn=learned, **options)
        final = {"means": run.final_means, **{name: values[-1] for name, values in run.parameters.items()}}
        rates = {"means": velocity.means, **velocity.parameters}
        for name, value in start.items():
            if name in learned:
                assert np.abs(final[name][0] - value).min() > 1e-6
                np.testing.assert_allclose(rates[name], whole[name], rtol=1e-12, atol=1e-15)
            else:
                np.testing.assert_array_equal(final[name][0], value)
                np.testing.assert_array_equal(rates[name], 0.0)
        assert run.parameters["weights"].shape == run.parameters["scales"].shape == (4, 1, 2)
        np.testing.assert_allclose(run.parameters["weights"][-1].sum(-1), 1.0, rtol=1e-14)


def test_first_step_moves_logits_and_log_scales_by_the_velocity_of_the_same_draws():
    means, mixtures = problem(2)
    dt, options = 0.1, {"particles": 10, "seed": 4, "manifold": "euclidean", "learn": ALL, "device": "cpu"}
    run = simulate_particles(np.repeat(means[None], 2, axis=0), **mixtures, betas=[0.5], dt=dt, **options)
    velocity = estimate_velocity(means, **mixtures, beta=0.5, replicas=2, **options)
    weights, scales = mixtures["proposal"].values()
    np.testing.assert_allclose(
        np.log(run.parameters["scales"][-1] / scales).mean(0), dt * velocity.parameters["scales"] / scales, rtol=1e-12
    )
    moved = np.log(run.parameters["weights"][-1] / weights).mean(0)
    np.testing.assert_allclose(
        moved[0] - moved[1],
        dt * (velocity.parameters["weights"][0] / weights[0] - velocity.parameters["weights"][1] / weights[1]),
        rtol=1e-12,
    )


def one_gaussian(d, target_scale, scale):
    return {
        "target_means": np.linspace(-1, 1, d)[None] if d > 1 else np.array([[0.7]]),
        "target": {"weights": [1.0], "scales": [target_scale]},
        "proposal": {"weights": [1.0], "scales": [scale]},
    }


@pytest.mark.parametrize("d", [1, 6, 1024])
def test_means_of_a_gaussian_relax_geometrically(d):
    """For single Gaussians of the same scale and beta = 1, Euler's method has a closed form.

    There the particles' noise cancels.
    """
    scale, dt, steps = 1.3, 0.2, 12
    mixtures = one_gaussian(d, scale, scale)
    start = np.sin(np.arange(2.0 * d)).reshape(2, 1, d)
    run = simulate_particles(
        start,
        **mixtures,
        betas=np.ones(steps),
        dt=dt,
        particles=3,
        seed=8,
        manifold="euclidean",
        device="cpu",
    )
    nu = mixtures["target_means"]
    np.testing.assert_allclose(
        run.final_means, nu + (1 - dt / scale**2) ** steps * (start - nu), rtol=0, atol=1e-13 * d
    )


def exact_scale(t, d, start, target_scale, beta):
    """sigma(t) of one Gaussian: dtau/dt = d (1 - beta sigma^2 / sigma*^2) is logistic in sigma^2."""
    limit = target_scale**2 / beta
    return np.sqrt(limit / (1 + (limit / start**2 - 1) * np.exp(-2 * d * t)))


def test_one_gaussian_follows_the_exact_path_and_ends_at_the_target():
    """Extrapolation leaves the term of second order, for which the test allows a quarter of the finer run's bias."""
    d, scale, start_scale, beta, dt = 3, 1.6, 0.7, 0.8, 0.02
    mixtures, start = one_gaussian(d, scale, start_scale), np.full((REPLICAS, 1, d), 0.5)
    runs = [
        simulate_particles(
            start,
            **mixtures,
            betas=np.full(20 * halvings, beta),
            dt=dt / halvings,
            particles=4096,
            seed=halvings,
            manifold="euclidean",
            learn=ALL,
            record_every=5 * halvings,
            device="cpu",
        )
        for halvings in (1, 2)
    ]
    both = extrapolate_step(*runs)
    exact = exact_scale(both.t, d, start_scale, scale, beta)[1:, None]
    excess = np.abs(both.parameters["scales"][1:] - exact) - 0.25 * np.abs(both.parameters_bias["scales"][1:])
    assert np.all(excess < bound(exact.size) * both.parameters_standard_error["scales"][1:])
    assert np.max(np.abs(both.parameters_bias["scales"][1:]) / both.parameters_standard_error["scales"][1:]) > 5
    np.testing.assert_allclose(
        both.parameters["scales"] + both.parameters_bias["scales"], runs[1].parameters["scales"].mean(1)
    )
    np.testing.assert_array_equal(both.parameters["weights"], 1.0)

    end = simulate_particles(
        start[:2],
        **mixtures,
        betas=np.ones(1500),
        dt=0.05,
        particles=8,
        seed=5,
        manifold="euclidean",
        learn=ALL,
        record_every=1500,
        device="cpu",
    )
    # At the target the noise vanishes, so that the run reaches the limit to rounding.
    np.testing.assert_allclose(end.final_means, np.broadcast_to(mixtures["target_means"], (2, 1, d)), atol=1e-10)
    np.testing.assert_allclose(end.parameters["scales"][-1], scale, rtol=1e-10)


def test_a_mixture_with_everything_learned_ends_at_the_target():
    """KL = 0 is a fixed point without noise, and attracts a start with one component at each mode."""
    means, mixtures = problem(2)
    run = simulate_particles(
        means[None],
        **mixtures,
        betas=np.ones(2500),
        dt=0.1,
        particles=32,
        seed=6,
        manifold="euclidean",
        learn=ALL,
        record_every=2500,
        device="cpu",
    )
    np.testing.assert_allclose(run.final_means[0], mixtures["target_means"], atol=1e-6)
    np.testing.assert_allclose(run.parameters["weights"][-1][0], mixtures["target"]["weights"], atol=1e-6)
    np.testing.assert_allclose(run.parameters["scales"][-1][0], mixtures["target"]["scales"], atol=1e-6)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_thousand_dimensions_neither_overflow_nor_lose_accuracy(precision):
    """At the particles of each of two concentric shells the other component's density is smaller by exp(-150)."""
    d, beta, target_scale = 1024, 0.3, 1.1
    weights, scales = np.array([0.25, 0.75]), np.array([0.5, 1.5])
    means, nu = np.zeros((2, d)), np.full((1, d), 0.1)
    estimate = estimate_velocity(
        means,
        nu,
        {"weights": [1.0], "scales": [target_scale]},
        {"weights": weights, "scales": scales},
        beta,
        particles=64,
        replicas=32,
        seed=9,
        manifold="euclidean",
        learn=ALL,
        precision=precision,
        device="cpu",
    )
    squared = d * scales**2 + np.sum(nu**2)
    log_ratios = np.log(weights) - d * np.log(scales) + beta * squared / (2 * target_scale**2)
    logits = -weights * (log_ratios - weights @ log_ratios)
    expected = (
        weights[:, None] * beta * nu / target_scale**2 * np.ones((2, 1)),
        weights * (logits - weights @ logits),
        scales * weights * d * (1 - beta * scales**2 / target_scale**2),
    )
    assert compare(estimate, expected) < bound(means.size + 4, 32)
    assert np.all(estimate.parameters_standard_error["scales"] < 1e-2 * np.abs(estimate.parameters["scales"]))


def test_single_precision_agrees_with_double():
    means, mixtures = problem(3)
    double, single = (
        simulate_particles(
            means[None],
            **mixtures,
            betas=np.full(20, 0.5),
            dt=0.05,
            particles=64,
            seed=8,
            learn=ALL,
            precision=precision,
            device="cpu",
        )
        for precision in ("float64", "float32")
    )
    np.testing.assert_allclose(single.final_means, double.final_means, rtol=0, atol=1e-6)
    for name, values in double.parameters.items():
        np.testing.assert_allclose(single.parameters[name][-1], values[-1], rtol=0, atol=1e-6)


def test_each_replica_has_its_own_start_and_no_thread_count_matters(monkeypatch):
    means, mixtures = problem(3)
    starts = np.repeat(means[None], 5, axis=0)
    weights = np.linspace(0.2, 0.8, 5)[:, None] * [1.0, -1.0] + [0.0, 1.0]
    scales = np.linspace(0.5, 1.5, 10).reshape(5, 2)

    def run(rows=slice(None), **options):
        arguments = {**mixtures, "proposal": {"weights": weights[rows], "scales": scales[rows]}, **options}
        return simulate_particles(
            starts[rows],
            **arguments,
            betas=np.full(9, 0.5),
            dt=0.05,
            particles=9,
            seed=6,
            learn=ALL,
            record_every=4,
            device="cpu",
        )

    reference = run()
    np.testing.assert_array_equal(reference.parameters["weights"][0], weights)
    np.testing.assert_array_equal(reference.parameters["scales"][0], scales)
    assert np.all(reference.parameters["weights"][-1] != reference.parameters["weights"][0])
    for threads in (1, 2, 7):
        monkeypatch.setattr(numba, "get_num_threads", lambda threads=threads: threads)
        again = run()
        np.testing.assert_array_equal(again.M, reference.M)
        np.testing.assert_array_equal(again.final_means, reference.final_means)
        for name, values in reference.parameters.items():
            np.testing.assert_array_equal(again.parameters[name], values)
    np.testing.assert_array_equal(run(slice(0, 2)).parameters["scales"], reference.parameters["scales"][:, :2])
    same_for_all = run(proposal={"weights": weights[0], "scales": scales[0]})
    np.testing.assert_array_equal(same_for_all.parameters["weights"][-1][0], reference.parameters["weights"][-1][0])
    np.testing.assert_array_equal(same_for_all.parameters["scales"][0], np.broadcast_to(scales[0], (5, 2)))


def test_standard_errors_of_weights_fall_with_the_particles():
    """A standard error from n replicas has a relative error of 1 / sqrt(2 n), here 2.5 %.

    0.35 is five times the error of the ratio.
    """
    means, mixtures = problem(2)
    few, many = (
        estimate_velocity(means, **mixtures, beta=0.5, particles=n, replicas=800, seed=n, learn=ALL, device="cpu")
        for n in (32, 128)
    )
    assert np.all(
        np.abs(few.parameters_standard_error["weights"] / many.parameters_standard_error["weights"] - 2) < 0.35
    )
    assert np.all(np.abs(few.parameters_standard_error["scales"] / many.parameters_standard_error["scales"] - 2) < 0.35)


def test_too_long_a_step_of_the_scales_is_an_error():
    mixtures = one_gaussian(64, 1.0, 2.0)
    with pytest.raises(DivergenceError, match=r"^the scales diverge with dt = 5; .* below 1 / \(d w_i\), here 0\.016$"):
        simulate_particles(
            np.ones((1, 1, 64)),
            **mixtures,
            betas=np.ones(9),
            dt=5.0,
            particles=4,
            seed=1,
            learn=("scales",),
        )


def test_too_long_a_step_of_the_weights_is_an_error():
    """A weight that one step makes vanish could not grow again."""
    means, mixtures = problem(3)
    with pytest.raises(DivergenceError, match=r"^the weights diverge with dt = 1000; .* below 2 / w_i"):
        simulate_particles(
            means[None], **mixtures, betas=np.ones(9), dt=1000.0, particles=4, seed=1, learn=("weights",), device="cpu"
        )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("learn", (), "learn"),
        ("learn", "means", "in a tuple"),
        ("learn", ("means", "variances"), "weights"),
        ("proposal weights", [[0.5, 0.5]], "2 replicas"),
        ("proposal weights", [[0.5, 0.5], [0.5, 0.6]], r"not to 1\.1"),
        ("proposal scales", np.ones((2, 3)), "2 positive numbers"),
        ("proposal scales", np.zeros((2, 2)), "2 positive numbers"),
        ("proposal scales", np.ones((1, 2, 2)), "1 or 2 dimensions"),
    ],
)
def test_bad_input_is_one_clear_line(key, value, message):
    means, mixtures = problem(3)
    good = {**mixtures, "betas": [0.5], "dt": 0.1, "particles": 4, "seed": 0, "learn": ALL, "device": "cpu"}
    with pytest.raises(ValueError, match=message) as caught:
        simulate_particles(np.repeat(means[None], 2, axis=0), **changed(good, key, value))
    assert "\n" not in str(caught.value)


def test_a_velocity_has_one_state():
    means, mixtures = problem(3)
    rows = changed(mixtures, "proposal weights", np.full((4, 2), 0.5))
    with pytest.raises(ValueError, match="proposal weights"):
        estimate_velocity(means, **rows, beta=0.5, particles=4, replicas=4, seed=0)
