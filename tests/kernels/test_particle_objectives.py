"""The particles under other objectives: a reference, the forward KL, and mixtures of both divergences.

Velocities are compared with the gradient on a grid, paths with closed forms of Gaussians. Seeds are fixed. A comparison
uses Student's t at a level of 1e-3, divided among all its numbers.
"""

import numba
import numpy as np
import pytest
from scipy.stats import t as student

from kernels.particles.kl_grid import KlGradient, Mixture, kl_gradient
from kernels.particles.objective import TEMPERED_REVERSE_KL, Objective
from kernels.particles.runs import extrapolate_step
from kernels.particles.simulation import estimate_velocity, simulate_particles

ALL = ("means", "weights", "scales")
REPLICAS = 64
MEANS = np.array([[1.0, 0.8, -0.2], [-0.6, 0.9, 0.5]])
OBJECTIVES = {
    "geometric path": Objective(reference_scale=1.6),
    "forward": Objective(1.0),
    "mixed": Objective(0.3),
    "mixed with a reference": Objective(0.6, 1.6),
}
objectives = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


def problem(d):
    return MEANS[:, :d], {
        "target_means": np.array([[2.0, 0.5, 0.3], [-1.5, 1.0, -0.4], [0.2, -1.0, 0.6]])[:, :d],
        "target": {"weights": [0.5, 0.3, 0.2], "scales": [1.0, 0.7, 1.2]},
        "proposal": {"weights": [0.6, 0.4], "scales": [1.2, 0.8]},
    }


def expected_velocities(means, mixtures, beta, objective):
    """da/dt, dw/dt and dsigma/dt in Euclidean space, by the grid."""
    proposal = Mixture(means, **mixtures["proposal"])
    target = Mixture(mixtures["target_means"], **mixtures["target"])
    gradient: KlGradient = kl_gradient(proposal, target, beta, 1e-6, objective)
    weights, scales = (np.array(mixtures["proposal"][name]) for name in ("weights", "scales"))
    logits = -weights * (gradient.logits - weights @ gradient.logits)
    return np.concatenate([*-gradient.means, logits, -scales * gradient.log_scales])


def estimated(estimate):
    rates = np.concatenate([*estimate.means, *estimate.parameters.values()])
    return rates, np.concatenate([*estimate.means_standard_error, *estimate.parameters_standard_error.values()])


def bound(numbers, replicas=REPLICAS):
    return float(student.isf(0.5e-3 / numbers, replicas - 1))


CASES = [*((name, d, "float64") for name in OBJECTIVES for d in (1, 2, 3)), ("mixed with a reference", 2, "float32")]


@pytest.mark.parametrize(("name", "d", "precision"), CASES)
def test_velocities_descend_the_objective(name, d, precision):
    """The estimates tell the objective from the reverse KL, from another beta and from other shares of it."""
    objective, (means, mixtures) = OBJECTIVES[name], problem(d)
    beta, options = 0.4, {"replicas": REPLICAS, "manifold": "euclidean", "learn": ALL, "device": "cpu"}
    estimate = estimate_velocity(
        means, **mixtures, beta=beta, particles=4096, seed=d, precision=precision, objective=objective, **options
    )
    rates, errors = estimated(estimate)
    assert errors.max() < 8e-3
    expected = expected_velocities(means, mixtures, beta, objective)
    assert np.max(np.abs(rates - expected) / errors) < bound(len(rates))
    wrong = [TEMPERED_REVERSE_KL, Objective(0.5 * objective.forward_share, 1.3 * objective.reference_scale)]
    for other in wrong:
        off = expected_velocities(means, mixtures, beta, other)
        assert np.max(np.abs(rates - off) / errors) > 10
    colder = expected_velocities(means, mixtures, 0.6, objective)
    assert (np.max(np.abs(rates - colder) / errors) > 10) == (objective.forward_share < 1)


@objectives
def test_the_forward_part_alone_does_not_know_beta(objective):
    means, mixtures = problem(2)
    options = {"dt": 0.05, "particles": 32, "seed": 3, "learn": ALL, "device": "cpu", "objective": objective}
    hot, cold = (simulate_particles(means[None], **mixtures, betas=np.full(5, beta), **options) for beta in (0.2, 1.0))
    same = np.array_equal(hot.final_means, cold.final_means)
    assert same == (objective.forward_share == 1)
    assert hot.M.shape == (6, 1, 2, 3)


def test_a_flat_reference_and_no_share_are_the_tempered_reverse_kl():
    means, mixtures = problem(3)
    options = {"betas": np.full(6, 0.3), "dt": 0.1, "particles": 40, "seed": 5, "learn": ALL, "device": "cpu"}
    plain, stated, flat, cold = (
        simulate_particles(means[None], **mixtures, **{**options, **changes}).final_means
        for changes in (
            {},
            {"objective": Objective(0.0)},
            {"objective": Objective(reference_scale=1e9)},
            {"objective": Objective(1e-300)},
        )
    )
    np.testing.assert_array_equal(stated, plain)
    for same in (flat, cold):
        np.testing.assert_allclose(same, plain, rtol=0, atol=1e-13)


def test_at_beta_one_a_reference_has_no_force():
    means, mixtures = problem(2)
    options = {"betas": np.ones(6), "dt": 0.1, "particles": 40, "seed": 5, "learn": ALL, "device": "cpu"}
    plain, referred = (
        simulate_particles(means[None], **mixtures, **options, objective=objective).final_means
        for objective in (TEMPERED_REVERSE_KL, Objective(reference_scale=0.5))
    )
    np.testing.assert_allclose(referred, plain, rtol=0, atol=1e-13)


def one_gaussian(d, target_scale, scale):
    return {
        "target_means": np.linspace(-1, 1, d)[None] if d > 1 else np.array([[0.7]]),
        "target": {"weights": [1.0], "scales": [target_scale]},
        "proposal": {"weights": [1.0], "scales": [scale]},
    }


@pytest.mark.parametrize("d", [1, 6, 1024])
def test_the_mean_of_one_gaussian_relaxes_to_the_point_between_target_and_reference(d):
    """da/dt = beta (nu - a) / sigma*^2 - (1 - beta) a / sigma_0^2; there is no noise where the three scales agree."""
    scale, beta, dt, steps = 1.3, 0.3, 0.2, 12
    mixtures, start = one_gaussian(d, scale, scale), np.sin(np.arange(2.0 * d)).reshape(2, 1, d)
    run = simulate_particles(
        start,
        **mixtures,
        betas=np.full(steps, beta),
        dt=dt,
        particles=3,
        seed=8,
        manifold="euclidean",
        device="cpu",
        objective=Objective(reference_scale=scale),
    )
    limit = beta * mixtures["target_means"]
    expected = limit + (1 - dt / scale**2) ** steps * (start - limit)
    np.testing.assert_allclose(run.final_means, expected, rtol=0, atol=1e-13 * d)


@pytest.mark.parametrize("d", [1, 6, 301])
def test_the_forward_kl_of_one_gaussian_has_a_closed_velocity(d):
    """da/dt = (nu - a) / sigma^2, and sigma dsigma/dt = d sigma*^2 + |nu - a|^2 - d sigma^2."""
    scale, target_scale, beta = 0.9, 1.4, 0.2
    mixtures, start = one_gaussian(d, target_scale, scale), np.full((1, d), 0.4)
    estimate = estimate_velocity(
        start,
        **mixtures,
        beta=beta,
        particles=512,
        replicas=REPLICAS,
        seed=9,
        manifold="euclidean",
        learn=ALL,
        device="cpu",
        objective=Objective(1.0),
    )
    away = mixtures["target_means"] - start
    rates = np.append(away[0], (d * (target_scale**2 - scale**2) + np.sum(away**2)) / scale)
    found = np.concatenate([estimate.means[0] * scale**2, estimate.parameters["scales"]])
    errors = np.concatenate([estimate.means_standard_error[0] * scale**2, estimate.parameters_standard_error["scales"]])
    assert np.max(np.abs(found - rates) / errors) < bound(d + 1)
    assert estimate.parameters["weights"] == pytest.approx(0, abs=1e-14)


def test_weights_and_means_under_the_forward_kl_end_at_the_target():
    """Forward KL covers both modes from a start near one of them, and a step's noise does not vanish at the target."""
    target = {"target_means": np.array([[2.5, 0.0], [-2.5, 0.0]]), "target": {"weights": [0.8, 0.2], "scales": [1, 1]}}
    run = simulate_particles(
        np.repeat([[[2.4, 0.3], [2.0, -0.4]]], 16, axis=0),
        **target,
        proposal={"weights": [0.5, 0.5], "scales": [1.3, 0.8]},
        betas=np.ones(2000),
        dt=0.1,
        particles=256,
        seed=6,
        manifold="euclidean",
        learn=ALL,
        record_every=1000,
        device="cpu",
        objective=Objective(1.0),
    )
    order = np.argsort(-run.final_means[:, :, 0], axis=1)
    means = np.take_along_axis(run.final_means, order[:, :, None], axis=1).mean(0)
    weights = np.take_along_axis(run.parameters["weights"][-1], order, axis=1).mean(0)
    np.testing.assert_allclose(means, target["target_means"], atol=0.1)
    np.testing.assert_allclose(weights, [0.8, 0.2], atol=0.02)


def test_extrapolation_and_the_sphere_serve_every_objective():
    means, mixtures = problem(3)
    for objective in OBJECTIVES.values():
        runs = [
            simulate_particles(
                np.repeat(means[None], 4, axis=0),
                **mixtures,
                betas=np.full(8 * halvings, 0.5),
                dt=0.1 / halvings,
                particles=8,
                seed=halvings,
                learn=ALL,
                record_every=4 * halvings,
                device="cpu",
                objective=objective,
            )
            for halvings in (1, 2)
        ]
        assert np.isfinite(extrapolate_step(*runs).M).all()
        norms = np.linalg.norm(runs[0].final_means, axis=-1)
        np.testing.assert_allclose(norms, np.broadcast_to(np.linalg.norm(means, axis=-1), norms.shape), rtol=1e-14)


@objectives
def test_no_thread_count_and_no_other_replica_matters(objective, monkeypatch):
    means, mixtures = problem(3)
    starts = np.stack([means * factor for factor in np.linspace(0.8, 1.2, 5)])

    def run(replicas=5, **options):
        options = {"betas": np.full(6, 0.5), "dt": 0.1, "particles": 41, "seed": 6, "learn": ALL, **options}
        return simulate_particles(starts[:replicas], **mixtures, device="cpu", objective=objective, **options)

    reference = run()
    for threads in (1, 2, 7):
        monkeypatch.setattr(numba, "get_num_threads", lambda threads=threads: threads)
        again = run()
        np.testing.assert_array_equal(again.final_means, reference.final_means)
        for name, values in reference.parameters.items():
            np.testing.assert_array_equal(again.parameters[name], values)
    np.testing.assert_array_equal(run(replicas=2).final_means, reference.final_means[:2])
    assert np.abs(run(seed=7).final_means - reference.final_means).min() > 0


def test_only_means_and_all_parameters_move_the_means_alike():
    objective, (means, mixtures) = OBJECTIVES["mixed with a reference"], problem(2)
    options = {"beta": 0.5, "particles": 40, "replicas": 3, "seed": 2, "device": "cpu", "objective": objective}
    alone, together = (estimate_velocity(means, **mixtures, learn=learn, **options) for learn in (("means",), ALL))
    np.testing.assert_allclose(alone.means, together.means, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(alone.parameters["weights"], 0.0)


def test_single_and_double_precision_agree():
    means, mixtures = problem(3)
    options = {"betas": np.full(10, 0.5), "dt": 0.05, "particles": 64, "seed": 8, "learn": ALL, "device": "cpu"}
    double, single = (
        simulate_particles(
            means[None], **mixtures, **options, precision=precision, objective=OBJECTIVES["mixed with a reference"]
        )
        for precision in ("float64", "float32")
    )
    np.testing.assert_allclose(single.final_means, double.final_means, rtol=0, atol=1e-6)
    for name, values in double.parameters.items():
        np.testing.assert_allclose(single.parameters[name][-1], values[-1], rtol=0, atol=1e-6)


def test_projected_particles_and_too_many_components_are_refused():
    means, mixtures = problem(2)
    options = {"betas": [0.5], "dt": 0.1, "particles": 4, "seed": 0, "device": "cpu", "objective": Objective(0.5)}
    equal = {**mixtures, "target": {"weights": [0.5, 0.3, 0.2], "scales": [1, 1, 1]}}
    equal["proposal"] = {"weights": [0.5, 0.5], "scales": [1, 1]}
    with pytest.raises(ValueError, match=r"tempered reverse KL .* alone: leave out projected=True"):
        simulate_particles(means[None], **equal, projected=True, **options)
    many = {"weights": np.full(254, 1 / 254), "scales": np.ones(254)}
    with pytest.raises(ValueError, match="at most 256 components in all, not 257"):
        simulate_particles(np.ones((1, 254, 2)), **{**mixtures, "proposal": many}, **options)
