"""Adaptive schedules of the particle simulation: comparison with closed forms of Gaussians, and their bookkeeping.

Seeds are fixed. A comparison allows 4.5 standard errors (probability 7e-6 for each number under the null law).
"""

import math
import subprocess
import sys

import numba
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import logsumexp

from kernels.particles import simulation as particles_module
from kernels.particles.adaptive_schedules import (
    AdaAnn,
    EffectiveSampleSize,
    mixture_variance,
    relative_effective_sample_size,
    simulate_adaptively,
)
from kernels.particles.cpu import log_target_of_particles
from kernels.particles.initial_means import uniform_sphere_means
from kernels.particles.random_stream import MAX_PARTICLES, fill_normals
from kernels.particles.runs import extrapolate_step, mean_and_standard_error
from kernels.particles.simulation import simulate_particles
from kernels.particles.step import replicas_at

STANDARD_ERRORS = 4.5

BIMODAL = {
    "target_means": [[2.0, 0, 0, 0], [-2.0, 0, 0, 0]],
    "target": {"weights": [0.8, 0.2], "scales": [1.0, 0.8]},
    "proposal": {"weights": [0.6, 0.4], "scales": [1.0, 1.2]},
}
ADAANN = AdaAnn(tau=0.2, every=3, start_beta=0.05, particles=50)
ESS = EffectiveSampleSize(level=0.9, every=3, start_beta=0.05, particles=50)

SIGMA, TARGET_SIGMA, DISTANCE, DIMENSION = 0.8, 1.3, 1.7, 5


def adaptive_run(rule, replicas=4, **options):
    options = {"dt": 0.05, "steps": 60, "particles": 6, "seed": 11, "device": "cpu", **options}
    return simulate_adaptively(uniform_sphere_means(4, 2, 4, 2.0, seed=1)[:replicas], **BIMODAL, rule=rule, **options)


def first_betas_of_one_gaussian(rule, replicas):
    """beta after the rule's first change, (replicas,), with a proposal that does not move."""
    means = np.zeros((replicas, 1, DIMENSION))
    nu = np.zeros((1, DIMENSION))
    nu[0, 2] = DISTANCE
    run = simulate_adaptively(
        means,
        nu,
        {"weights": [1.0], "scales": [TARGET_SIGMA]},
        {"weights": [1.0], "scales": [SIGMA]},
        rule,
        0.1,
        steps=2,
        particles=1,
        seed=3,
        manifold="euclidean",
        learn=("weights",),
        device="cpu",
    )
    np.testing.assert_array_equal(run.beta[0], rule.start_beta)
    np.testing.assert_array_equal(run.final_means, means)
    return run.beta[1]


def test_adaann_steps_by_the_standard_deviation_of_a_gaussian():
    """log p* = -|x - nu|^2 / (2 sigma*^2) has Var_q = (d sigma^4 / 2 + sigma^2 |a - nu|^2) / sigma*^4.

    The inverse square root of an estimate from n particles has a bias of about 1 / n, here 1 / 16 of a standard error.
    """
    rule, replicas = AdaAnn(tau=0.3, every=1, start_beta=0.25, particles=16384), 64
    mean, error = mean_and_standard_error(first_betas_of_one_gaussian(rule, replicas), axis=0)
    variance = (DIMENSION * SIGMA**4 / 2 + SIGMA**2 * DISTANCE**2) / TARGET_SIGMA**4
    assert abs(mean - 0.25 - 0.3 / math.sqrt(variance)) < STANDARD_ERRORS * error
    assert error < 1e-3


def log_moment(c):
    """log E_q exp(-c |x - nu|^2) in closed form."""
    return -0.5 * DIMENSION * math.log1p(2 * c * SIGMA**2) - c * DISTANCE**2 / (1 + 2 * c * SIGMA**2)


def test_effective_sample_size_of_a_gaussian_is_at_the_level():
    def excess(increment):
        c = increment / (2 * TARGET_SIGMA**2)
        return 2 * log_moment(c) - log_moment(2 * c) - math.log(0.8)

    increment = brentq(excess, 1e-6, 0.7)
    rule, replicas = EffectiveSampleSize(level=0.8, every=1, start_beta=0.25, particles=16384), 64
    mean, error = mean_and_standard_error(first_betas_of_one_gaussian(rule, replicas), axis=0)
    assert abs(mean - 0.25 - increment) < STANDARD_ERRORS * error
    assert error < 1e-3


def test_gaussian_log_weights_have_the_lognormal_sample_size():
    """(E u)^2 / E u^2 = exp(-increment^2 v) where log p* is Gaussian under each component, with variance v under q."""
    generator = np.random.default_rng(2)
    values, increment, v = generator.normal(-700.0, 3.0, (64, 2, 16384)), 0.2, 9.0
    weights = np.tile([0.3, 0.7], (64, 1))
    sizes = relative_effective_sample_size(np.full(64, increment), values, weights)
    mean, error = mean_and_standard_error(sizes, axis=0)
    assert abs(mean - math.exp(-(increment**2) * v)) < STANDARD_ERRORS * error
    assert error < 2e-3
    np.testing.assert_allclose(relative_effective_sample_size(np.zeros(64), values, weights), 1.0, rtol=1e-12)
    chosen = EffectiveSampleSize(level=0.7, every=1, start_beta=0.1, particles=2).next_betas(
        np.full(64, 0.1), values, weights
    )
    np.testing.assert_allclose(relative_effective_sample_size(chosen - 0.1, values, weights), 0.7, rtol=1e-9)


def test_variance_of_a_mixture_is_unbiased_from_two_particles():
    generator = np.random.default_rng(1)
    weights, means, deviations = np.array([0.2, 0.5, 0.3]), np.array([1.0, -2.0, 0.5]), np.array([1.0, 0.3, 2.0])
    values = means[:, None] + deviations[:, None] * generator.normal(size=(40000, 3, 2))
    mean, error = mean_and_standard_error(mixture_variance(values, weights), axis=0)
    exact = weights @ (deviations**2 + means**2) - (weights @ means) ** 2
    assert abs(mean - exact) < STANDARD_ERRORS * error
    assert error < 0.02


def test_the_rule_sees_the_target_at_particles_of_its_own():
    """log p* equals NumPy's up to a constant, at draws whose numbers count down from the last one of a component."""
    means, scales = uniform_sphere_means(3, 2, 5, 2.0, seed=4), np.array([[1.0, 0.5], [0.8, 1.2], [2.0, 0.1]])
    nu, target_weights, target_scales = np.eye(5)[:2], np.array([0.7, 0.3]), np.array([1.0, 0.4])
    state = replicas_at(means, np.array([np.full((3, 2), 0.5), scales]), np.array([target_weights, target_scales]))
    found = log_target_of_particles(state, nu, np.array([2, 0]), 3, np.uint64(9), 17)
    assert found.shape == (2, 2, 3)
    z = np.empty(8)
    for row, i, particle in np.ndindex(found.shape):
        replica = (2, 0)[row]
        fill_normals(z, np.uint64(9), replica, 17, i, MAX_PARTICLES - 1 - particle)
        x = means[replica, i] + scales[replica, i] * z[:5]
        squares = np.sum((x - nu) ** 2, axis=-1)
        expected = logsumexp(np.log(target_weights) - 5 * np.log(target_scales) - 0.5 * squares / target_scales**2)
        assert found[row, i, particle] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rule", [ADAANN, ESS])
def test_beta_rises_from_its_start_to_one_and_the_cost_is_counted(rule):
    run = adaptive_run(rule)
    assert run.beta.shape == (61, 4)
    np.testing.assert_array_equal(run.beta[:3], 0.05)
    assert np.all(np.diff(run.beta, axis=0) >= 0)
    np.testing.assert_array_equal(run.beta[-1], 1.0)
    assert len(np.unique(run.beta[6])) == 4
    # The last record repeats the last step's beta; earlier, beta changes only after every `every` steps.
    changes = np.diff(run.beta[:-1], axis=0) != 0
    steps = np.arange(1, 60)
    assert np.all(changes[steps % 3 == 0].sum(0) == run.cost.updates)
    assert not np.any(changes[steps % 3 != 0])
    np.testing.assert_array_equal(run.cost.steps_to_one, np.argmax(run.beta == 1, axis=0))
    np.testing.assert_array_equal(run.cost.updates, run.cost.steps_to_one // 3)
    np.testing.assert_array_equal(run.cost.rule_evaluations, run.cost.updates * 2 * 50)
    np.testing.assert_array_equal(run.cost.gradient_evaluations, np.full(4, 60 * 2 * 6))


def test_a_more_cautious_rule_takes_more_updates():
    for rules in (
        [AdaAnn(tau, 1, 0.05, 50) for tau in (0.4, 0.2, 0.1)],
        [EffectiveSampleSize(level, 1, 0.05, 50) for level in (0.8, 0.9, 0.97)],
    ):
        updates = [adaptive_run(rule).cost.updates for rule in rules]
        assert np.all(updates[0] < updates[1])
        assert np.all(updates[1] < updates[2])


def test_a_run_that_never_reaches_one_and_one_that_starts_there():
    short = adaptive_run(ADAANN, steps=7, record_every=4)
    np.testing.assert_array_equal(short.cost.steps_to_one, -1)
    np.testing.assert_array_equal(short.cost.updates, 2)
    assert short.beta.shape == (3, 4)
    assert np.all((short.beta[1] < short.beta[2]) & (short.beta[2] < 1))
    cold = adaptive_run(AdaAnn(tau=0.2, every=3, start_beta=1.0, particles=50))
    for zero in (cold.cost.steps_to_one, cold.cost.updates, cold.cost.rule_evaluations):
        np.testing.assert_array_equal(zero, 0)
    # A density that is constant under q lets beta reach 1 at once.
    whole = ADAANN.next_betas(np.array([0.1]), np.zeros((1, 2, 5)), np.full((1, 2), 0.5))
    np.testing.assert_array_equal(whole, 1.0)
    np.testing.assert_array_equal(ESS.next_betas(np.array([0.1]), np.zeros((1, 2, 5)), np.full((1, 2), 0.5)), 1.0)


def test_the_same_betas_given_beforehand_give_the_same_run():
    """A run under a rule and a run with the same betas given beforehand differ in nothing."""
    for learn in (("means",), ("means", "weights", "scales")):
        run = adaptive_run(ADAANN, learn=learn)
        again = simulate_particles(
            uniform_sphere_means(1, 2, 4, 2.0, seed=1),
            **BIMODAL,
            betas=run.beta[:-1, 0],
            dt=0.05,
            particles=6,
            seed=11,
            learn=learn,
            device="cpu",
        )
        np.testing.assert_array_equal(run.M[:, :1], again.M)
        np.testing.assert_array_equal(run.Q[:, :1], again.Q)
        for name, values in again.parameters.items():
            np.testing.assert_array_equal(run.parameters[name][:, :1], values)
        assert (run.dt, run.seed, run.particles) == (0.05, 11, 6)


@pytest.mark.parametrize("rule", [ADAANN, ESS])
def test_results_depend_neither_on_threads_nor_on_chunks_nor_on_other_replicas(rule, monkeypatch):
    reference = adaptive_run(rule)
    for threads in (1, 2, 7):
        monkeypatch.setattr(numba, "get_num_threads", lambda threads=threads: threads)
        again = adaptive_run(rule)
        np.testing.assert_array_equal(again.beta, reference.beta)
        np.testing.assert_array_equal(again.final_means, reference.final_means)
    np.testing.assert_array_equal(adaptive_run(rule, replicas=2).beta, reference.beta[:, :2])
    seldom = adaptive_run(rule, record_every=7)
    np.testing.assert_array_equal(seldom.beta[:-1], reference.beta[:-1:7])
    np.testing.assert_array_equal(seldom.final_means, reference.final_means)
    monkeypatch.setitem(particles_module.COORDINATES_PER_CALL, "cpu", 1.0)
    seen = []
    again = adaptive_run(rule, progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(again.beta, reference.beta)
    assert seen == [(n, 60) for n in range(1, 61)]


def test_extrapolation_refuses_replicas_at_different_temperatures():
    coarse, fine = (
        adaptive_run(ADAANN, steps=4, record_every=2),
        adaptive_run(ADAANN, steps=8, record_every=4, dt=0.025),
    )
    with pytest.raises(ValueError, match="adaptive"):
        extrapolate_step(coarse, fine)


def test_the_rules_know_nothing_of_the_derivation():
    code = (
        "import sys, kernels.particles.adaptive_schedules; print([m for m in sys.modules if "
        "m.split('.')[0] in ('derive', 'sympy')])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize(
    ("kind", "key", "value", "message"),
    [
        (AdaAnn, "tau", 0.0, "tau"),
        (AdaAnn, "tau", math.nan, "tau"),
        (AdaAnn, "tau", math.inf, "tau"),
        (AdaAnn, "tau", "small", "tau"),
        (AdaAnn, "every", 0, "every"),
        (AdaAnn, "every", 1.5, "every"),
        (AdaAnn, "start_beta", -0.1, "start_beta"),
        (AdaAnn, "start_beta", 1.1, "start_beta"),
        (AdaAnn, "particles", 1, "particles"),
        (EffectiveSampleSize, "level", 0.0, "level"),
        (EffectiveSampleSize, "level", 1.0, "level"),
        (EffectiveSampleSize, "level", math.nan, "level"),
        (EffectiveSampleSize, "level", None, "level"),
        (EffectiveSampleSize, "every", True, "every"),
        (EffectiveSampleSize, "start_beta", math.nan, "start_beta"),
        (EffectiveSampleSize, "particles", 2**32, "particles"),
    ],
)
def test_bad_rules_are_one_clear_line(kind, key, value, message):
    good = {"every": 2, "start_beta": 0.1, "particles": 8, ("tau" if kind is AdaAnn else "level"): 0.5}
    with pytest.raises(ValueError, match=message) as caught:
        kind(**{**good, key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", 0, "steps"),
        ("rule", [0.5], "rule must be"),
        ("particles", 2**32 - 10, "together"),
        ("record_every", 0, "record_every"),
    ],
)
def test_bad_runs_are_one_clear_line(key, value, message):
    options = {"rule": ADAANN, key: value}
    with pytest.raises(ValueError, match=message) as caught:
        adaptive_run(**options)
    assert "\n" not in str(caught.value)
