"""RealNVP by itself.

The tests compare the change of variables with automatic differentiation, divergences with closed forms, and adaptive
rules with NumPy; then flows are trained.
"""

import json
import math
import os
import random
import time
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.optimize import brentq
from scipy.stats import multivariate_normal

from annealvi import components
from annealvi.cli.program import main
from annealvi.realnvp.checkpoint import load_checkpoint, save_checkpoint
from annealvi.realnvp.couplings import RealNVP
from annealvi.realnvp.diagnostics import diagnose
from annealvi.realnvp.side_by_side import LARGEST_GROUP, in_groups, number_of_groups
from annealvi.realnvp.target import Mixture, main_axes, turned
from annealvi.realnvp.tempering import AFTER_SETTLING, betas_of, default_steps, next_beta
from annealvi.realnvp.training import STEPS_AT_ONCE, Architecture, Optimiser, Rule, Steps, make_trainer
from annealvi.realnvp.training_run import _tasks, train_flow
from derive.problem.specification import BadInput, Problem, ScheduleSpec, Space, Target
from kernels.particles.simulation import DivergenceError

SMALL = {"architecture": Architecture(2, 8, 2), "optimiser": Optimiser(32, 1e-3), "samples": 200}
"""Tests that can take these settings for two flows at once share their compiled steps."""
UNTEMPERED = ScheduleSpec(kind="hold", T0=1.0, t0=1.0)


def problem_in(dimension, schedule=UNTEMPERED, target=None):
    return Problem(target=target or Target(), schedule=schedule, space=Space(dimension))


@pytest.fixture
def in_double():
    with jax.enable_x64(True):
        yield


diagnosed = eqx.filter_jit(diagnose)
"""Compiled as a whole, as the training compiles it; each operation alone takes much longer to compile."""


def wide_flow(dimension, normalised=False):
    """A flow whose parameters are far from their initial values, at which all layers are nearly the identity."""
    flow = RealNVP(dimension, 5, 16, 2, jax.random.key(dimension), normalised)
    arrays, rest = eqx.partition(flow, eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(lambda a: 1.7 * a.astype(float), arrays), rest)


@eqx.filter_jit
def changed_variables(flow, z):
    """log q(x) at x = f(z) along the map and against it, and f'(z)."""
    x, log_q = flow.forward(z)
    return log_q, flow.log_density(x), jax.jacfwd(lambda z: flow.forward(z)[0])(z)


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("dimension", [2, 3, 6, 7])
def test_density_is_the_change_of_variables(dimension):
    """The density is the change of variables, log q(f(z)) + log |det f'(z)| = log N(z).

    Forward-mode differentiation of the whole map gives the determinant.
    """
    flow = wide_flow(dimension)
    for z in np.random.default_rng(dimension).normal(size=(5, dimension)):
        log_q, against, jacobian = changed_variables(flow, jnp.array(z))
        expected = multivariate_normal(np.zeros(dimension)).logpdf(z) - np.linalg.slogdet(np.asarray(jacobian))[1]
        assert log_q == pytest.approx(expected, abs=1e-11)
        assert against == pytest.approx(expected, abs=1e-9)
        assert abs(np.linalg.slogdet(np.asarray(jacobian))[1]) > 0.05  # the map is not the identity


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("normalised", [False, True], ids=["plain", "study"])
def test_density_integrates_to_one_in_the_plane(normalised):
    """The trapezoidal rule on a square that holds all of the mass gives one.

    The running averages of a normalised flow are those that a few batches leave. The rule's own error with 400
    intervals along each axis is a third of the bound, and a tenth of that with 800.
    """
    flow = wide_flow(2, normalised)
    for n in range(3 if normalised else 0):
        flow = flow.remembering(flow.normalised_by(jax.random.normal(jax.random.key(n), (64, 2)) + n), 64)
    x, _ = eqx.filter_jit(RealNVP.sample)(flow, jax.random.key(0), 4000)
    low, high = np.asarray(x).min(0) - 3, np.asarray(x).max(0) + 3
    axes = [np.linspace(a, b, 401) for a, b in zip(low, high, strict=True)]
    points = jnp.array(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2))
    total = np.exp(np.asarray(jax.jit(jax.vmap(flow.log_density))(points))).sum() * np.prod((high - low) / 400)
    assert total == pytest.approx(1, abs=2e-3)


def test_target_density_and_samples():
    target = Target(weights=(0.5, 0.3, 0.2), means=((3, 0), (0, 2), (-2, -1)), scales=(1.0, 0.5, 2.0))
    mixture, axes = turned(target, 5, 1, 0)
    modes = np.asarray(mixture.modes, float)
    np.testing.assert_allclose(modes @ modes.T, np.array(target.means) @ np.array(target.means).T, atol=1e-5)
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
    x = np.random.default_rng(0).normal(size=(50, 5)) * 3
    components = zip(target.weights, modes, target.scales, strict=True)
    expected = np.log(sum(w * multivariate_normal(m, s**2 * np.eye(5)).pdf(x) for w, m, s in components))
    np.testing.assert_allclose(jax.vmap(mixture.log_density)(jnp.array(x)), expected, rtol=2e-5)
    samples = np.asarray(mixture.sample(jax.random.key(0), 40_000), float)
    spread = np.sqrt(np.einsum("k,k->", target.weights, np.array(target.scales) ** 2) + 9)
    np.testing.assert_allclose(samples.mean(0), np.array(target.weights) @ modes, atol=5 * spread / 200)
    second = np.einsum("k,ki,kj->ij", target.weights, modes, modes) + np.eye(5) * (
        target.weights @ np.array(target.scales) ** 2
    )
    # A product of two coordinates has a standard deviation below three times the largest second moment; the bound is
    # five standard errors.
    np.testing.assert_allclose(samples.T @ samples / 40_000, second, atol=5 * 3 * second.max() / 200)


def test_directions_differ_between_flows_and_projections_do_not():
    tetrahedron = Target(weights=(0.25,) * 4, means=((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)), scales=(1,) * 4)
    for target in (Target(), tetrahedron):
        found = [turned(target, 6, 0, n) for n in range(4)]
        shown = np.array([np.asarray(m.modes) @ axes.T for m, axes in found])
        np.testing.assert_allclose(shown, np.broadcast_to(shown[:1], shown.shape), atol=1e-5)
        assert len({float(m.modes[0, 0]) for m, _ in found}) == 4
    axes = main_axes(np.array([[3.0, 0], [-3, 0]]), np.array([0.8, 0.2]))
    np.testing.assert_allclose(np.abs(axes), np.eye(2), atol=1e-9)
    assert axes[0, 0] > 0


def test_diagnostics_are_right_where_everything_is_known():
    """For q = N(0, I) and p = N(m, s² I) both divergences and both effective sample sizes have closed forms."""
    d, s, n = 4, 0.8, 200_000
    m = np.array([0.3, -0.2, 0.1, 0.25])
    flow = jax.tree.map(
        lambda a: jnp.zeros_like(a) if eqx.is_inexact_array(a) else a, RealNVP(d, 2, 4, 1, jax.random.key(0))
    )
    mixture = Mixture(jnp.array([m], jnp.float32), jnp.ones(1), jnp.full(1, s, jnp.float32))
    axes = np.stack([m / np.linalg.norm(m), np.array([2.0, 3, 0, 0]) / math.sqrt(13)])
    found = diagnosed(flow, mixture, jnp.array(axes, jnp.float32), jax.random.key(1), n)
    square = m @ m
    reverse = 0.5 * ((d + square) / s**2 - d + 2 * d * math.log(s))
    forward = 0.5 * (d * s**2 + square - d - 2 * d * math.log(s))
    assert float(found.reverse_kl) == pytest.approx(reverse, abs=5 * float(found.reverse_kl_error))
    assert float(found.forward_kl) == pytest.approx(forward, abs=5 * float(found.forward_kl_error))
    # E_q[w²] = E_p[w] = ∫ p²/q. As p has the lighter tails, w is bounded by 4, so that 2 % are ten standard errors.
    second = (s**2 * (2 - s**2)) ** (-d / 2) * math.exp(square / (2 - s**2))
    assert float(found.reverse_ess) == pytest.approx(1 / second, rel=0.02)
    assert float(found.forward_ess) == pytest.approx(1 / second, rel=0.02)
    assert float(found.projected_variance) == pytest.approx(1, abs=5 * math.sqrt(2 / n))
    assert float(found.projected_mean) == pytest.approx(0, abs=5 / math.sqrt(n))
    np.testing.assert_allclose(found.mode_weights, [1])


def test_mode_weights_and_coverage_of_a_flow_between_two_equal_modes():
    flow = jax.tree.map(
        lambda a: jnp.zeros_like(a) if eqx.is_inexact_array(a) else a, RealNVP(3, 2, 4, 1, jax.random.key(0))
    )
    mixture, axes = turned(Target(weights=(0.5, 0.5)), 3, 0, 0)
    found = diagnosed(flow, mixture, jnp.array(axes, jnp.float32), jax.random.key(1), 20_000)
    np.testing.assert_allclose(found.mode_weights, [0.5, 0.5], atol=5 * 0.5 / math.sqrt(20_000))
    assert float(found.entropic_mode_coverage) == pytest.approx(1, abs=1e-3)


def test_betas_are_the_schedule_at_the_steps():
    exponential = betas_of(ScheduleSpec(kind="exponential", T0=30.0, t0=40.0), 100, 0.5)
    np.testing.assert_allclose(exponential, 1 / (1 + 29 * np.exp(-np.arange(100) * 0.5 / 40)), rtol=1e-6)
    hold = betas_of(ScheduleSpec(kind="hold", T0=20.0, t0=10.0), 20, 1.0)
    np.testing.assert_allclose(hold, np.where(np.arange(20) < 10, 1 / 20, 1), rtol=1e-6)
    assert default_steps(ScheduleSpec(kind="linear", T0=20.0, t0=100.0), None, 0.5) == pytest.approx(
        200 + AFTER_SETTLING, abs=1
    )


@pytest.mark.quick
def test_adaptive_rules_against_numpy():
    log_target = np.random.default_rng(0).normal(size=400) * 7 - 40
    beta = jnp.float32(0.05)
    adaann = next_beta("adaann", 0.3, beta, jnp.array(log_target))
    assert float(adaann) == pytest.approx(0.05 + 0.3 / log_target.std(), rel=1e-5)

    def relative_size(step):
        weights = np.exp(step * (log_target - log_target.max()))
        return weights.sum() ** 2 / (weights**2).sum() / len(weights)

    ess = next_beta("ess", 0.8, beta, jnp.array(log_target))
    assert float(ess) == pytest.approx(0.05 + brentq(lambda step: relative_size(step) - 0.8, 1e-6, 0.9), rel=1e-4)
    for kind, strength in (("adaann", 100.0), ("ess", 1e-3)):
        assert float(next_beta(kind, strength, beta, jnp.array(0.01 * log_target))) == 1.0


def test_an_adaptive_rule_acts_at_its_own_times():
    """The interval of the rule is in units of the schedule's time.

    The run is the same where the interval and the time of a step are both halved.
    """

    def beta(t0, time_per_step):
        spec = ScheduleSpec(kind="adaann", T0=20.0, t0=t0, tau=0.2)
        run = train_flow(problem_in(4, spec), steps=24, seeds=2, records=24, time_per_step=time_per_step, **SMALL)
        return run.data["beta"].to_numpy()

    found = beta(4.0, 1.0)
    changed = np.flatnonzero(np.diff(found[0]))  # a record has the β of the step before
    assert changed.tolist() == [4, 8, 12, 16, 20]
    np.testing.assert_array_equal(beta(2.0, 0.5), found)


def test_a_run_says_when_it_was_annealed():
    """A run records the step at which T = 1.05.

    The schedule is linear from T = 20 in 40 steps, so that T = 1.05 at step 40 − 40 · 0.05/19 = 39.9.
    """
    run = train_flow(
        problem_in(4, ScheduleSpec(kind="linear", T0=20.0, t0=40.0)), steps=60, seeds=2, records=3, **SMALL
    )
    np.testing.assert_array_equal(run.data["annealed_at"], [[np.nan, np.nan, np.nan, 40]] * 2)
    cold = train_flow(problem_in(4), steps=6, seeds=2, **SMALL)
    np.testing.assert_array_equal(cold.data["annealed_at"][:, 1:], 0)


@pytest.mark.parametrize(("temperature", "kind"), [(1.0, "study"), (4.0, "plain")])
def test_a_tempered_gaussian_is_learned(temperature, kind):
    """For one component, p^β is the Gaussian of variance T σ².

    A loss without β would learn σ² at every temperature.
    """
    target = Target(weights=(1.0,), means=((1.5,),), scales=(0.7,))
    schedule = ScheduleSpec(kind="constant", T0=temperature, t0=1.0)
    options = {**SMALL, "samples": 5000, "architecture": Architecture(2, 8, 2, kind)}
    run = train_flow(problem_in(4, schedule, target), steps=1500, seeds=2, **options)
    last, variance = run.data.isel(step=-1), temperature * 0.49
    # Five standard errors of 5000 samples are 10 %; the rest allows for q's own error.
    np.testing.assert_allclose(last["projected_variance"], variance, rtol=0.12)
    # Each of four coordinates has KL(N(0, T σ²) ‖ N(0, σ²)) = (T − 1 − log T)/2. log q − log p is (T − 1)/2 times a χ²
    # variable of four degrees of freedom. Its mean over 5000 samples has a standard error of 0.02 (T − 1); the other
    # 0.02 allows for q's own error.
    np.testing.assert_allclose(
        last["reverse_kl"], 2 * (temperature - 1 - math.log(temperature)), atol=0.02 + 5 * 0.02 * (temperature - 1)
    )
    if temperature == 1:
        assert (last["reverse_ess"] > 0.95).all()
        assert (run.data.isel(step=0)["reverse_kl"] > 0.5).all()


def test_density_of_narrow_modes_far_out_keeps_its_digits():
    """The density in single precision agrees with that in double precision.

    At 3000 scales from the origin, |x|² alone would lose the digits of the scale.
    """
    modes, scale = np.array([[3.0, 0, 0], [-3.0, 0, 0]]), 1e-3
    mixture = Mixture(jnp.array(modes, jnp.float32), jnp.full(2, 0.5), jnp.full(2, scale, jnp.float32))
    x = (modes[0] + scale * np.random.default_rng(0).normal(size=(50, 3))).astype(np.float32)
    expected = math.log(0.5) + multivariate_normal(modes[0], scale**2 * np.eye(3)).logpdf(x.astype(float))
    np.testing.assert_allclose(jax.vmap(mixture.log_density)(jnp.array(x)), expected, atol=2e-4)


def test_uncovered_is_the_weight_of_the_mode_that_is_missed():
    """The flow q = N(0, I) is exactly one of two modes that are far apart."""
    flow = jax.tree.map(
        lambda a: jnp.zeros_like(a) if eqx.is_inexact_array(a) else a, RealNVP(4, 2, 4, 1, jax.random.key(0))
    )
    modes = jnp.array([[0.0, 0, 0, 0], [9.0, 0, 0, 0]])
    found = diagnosed(
        flow, Mixture(modes, jnp.array([0.7, 0.3]), jnp.ones(2)), jnp.eye(4)[:2], jax.random.key(1), 20_000
    )
    assert float(found.uncovered) == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 20_000))
    assert float(found.entropic_mode_coverage) == pytest.approx(0, abs=1e-3)
    one = diagnosed(flow, Mixture(modes[:1], jnp.ones(1), jnp.ones(1)), jnp.eye(4)[:2], jax.random.key(1), 2000)
    assert float(one.uncovered) == 0
    assert float(one.entropic_mode_coverage) == 1


@pytest.mark.slow
def test_cold_flows_collapse_and_annealed_ones_do_not():
    """The study's claim in sixteen dimensions.

    Without annealing the KL divergence ends near log(1/w*), and with annealing nearer to zero.
    """
    settings = {"seeds": 6, "architecture": Architecture(4, 32, 3), "optimiser": Optimiser(128, 1e-3)}
    cold = train_flow(problem_in(16), steps=1500, **settings)
    warm = train_flow(problem_in(16, ScheduleSpec(kind="exponential", T0=300.0, t0=150.0)), steps=3000, **settings)
    assert cold.outcomes.p >= 5 / 6
    assert warm.outcomes.p <= 1 / 6
    collapsed = cold.data["reverse_kl"].isel(step=-1).to_numpy()[cold.outcomes.collapsed]
    np.testing.assert_allclose(collapsed, math.log(1 / 0.8), atol=0.06)
    assert warm.data["reverse_kl"].isel(step=-1).median() < 0.18


def values(run):
    return {name: array.to_numpy() for name, array in run.data.data_vars.items()}


STUDY = {
    **SMALL,
    "architecture": Architecture(2, 8, 2, "study"),
    "optimiser": Optimiser(32, 1e-3, "path", "cosine", 0.5),
}


@pytest.mark.parametrize(
    ("schedule", "settings"),
    [(ScheduleSpec(kind="linear", T0=20.0, t0=40.0), SMALL), (ScheduleSpec(kind="adaann", T0=20.0, t0=5.0), STUDY)],
)
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, schedule, settings):
    problem, path = problem_in(4, schedule), tmp_path / "checkpoint.npz"
    options = {"steps": 50, "seeds": 2, "records": 5, **settings}
    whole = train_flow(problem, **options)
    beta = whole.data["beta"].to_numpy()
    assert (np.diff(beta, axis=1) >= 0).all()
    assert beta[0, 0] == pytest.approx(1 / 20)
    assert beta[0, -1] > beta[0, 0]

    def interrupt(done, total):
        if done >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_flow(problem, **options, checkpoint=path, progress=interrupt)
    begun = []
    resumed = train_flow(problem, **options, checkpoint=path, progress=lambda done, total: begun.append(done))
    assert begun == [30, 40]
    for name, value in values(whole).items():
        np.testing.assert_array_equal(values(resumed)[name], value)
    optimiser, kind = settings["optimiser"], "plain" if settings["architecture"].kind == "study" else "study"
    others = [
        {"optimiser": replace(optimiser, **{name: value})}
        for name, value in (("gradient", "total"), ("decay", "constant"), ("clip", 2))
    ]
    for other in ({"steps": 60}, {"architecture": replace(settings["architecture"], kind=kind)}, *others):
        with pytest.raises(BadInput, match="another run"):
            train_flow(problem, **{**options, **other}, checkpoint=path)
    path.write_bytes(b"not an archive")
    with pytest.raises(BadInput, match="cannot be read"):
        train_flow(problem, **options, checkpoint=path)


def test_any_damage_to_a_checkpoint_is_one_line_or_changes_nothing(tmp_path):
    """A damaged file is refused in one line, or its damage does not matter.

    Files are cut short, or have bytes changed or replaced. A pipe is refused too, because reading it would wait.
    """
    path, chance = tmp_path / "checkpoint.npz", random.Random(1)
    state = {"weights": np.arange(12.0).reshape(3, 4), "steps": np.float32(3)}
    save_checkpoint(path, "settings", state, [{"loss": np.arange(3.0)} for _ in range(2)])
    whole, refused = path.read_bytes(), []
    for n in range(400):
        damaged = bytearray(whole)
        if n % 3 == 0:
            del damaged[chance.randrange(len(whole)) :]
        elif n % 3 == 1:
            damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        else:
            damaged[chance.randrange(len(whole)) :] = chance.randbytes(chance.randrange(1, 99))
        path.write_bytes(damaged)
        try:
            found, records = load_checkpoint(path, "settings", state)
        except BadInput as wrong:
            refused.append(str(wrong))
            continue
        np.testing.assert_array_equal(found["weights"], state["weights"])
        assert len(records) == 2
    assert 200 < len(refused) < 400
    assert all(line.count("\n") == 0 and "remove it to begin anew" in line for line in refused)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BadInput, match="cannot be read"):
        load_checkpoint(path, "settings", state)


def test_a_flow_does_not_depend_on_how_many_there_are():
    """A flow is the same in any number of flows, up to roundings of float32.

    The roundings depend on how sums are grouped, and 40 steps of Adam let them grow a little.
    """
    two, five = (values(train_flow(problem_in(4), steps=40, seeds=n, records=2, **SMALL)) for n in (2, 5))
    np.testing.assert_allclose(five["loss"][:2, 1:], two["loss"][:, 1:], atol=1e-3)
    np.testing.assert_allclose(five["projection"][:2], two["projection"], atol=1e-2)
    assert abs(two["loss"][0, 1] - two["loss"][1, 1]) > 1e-3
    other = values(train_flow(problem_in(4), steps=40, seeds=2, records=2, seed=1, **SMALL))
    assert np.abs(other["loss"][:, 1:] - two["loss"][:, 1:]).max() > 1e-3


def test_the_cores_decide_nothing(monkeypatch):
    """Results do not depend on the number of cores.

    Five flows are two groups. One core trains the groups in turn; three cores train them at once.
    """
    found = []
    for count in (1, 3):
        monkeypatch.setattr("annealvi.realnvp.side_by_side.cores", lambda count=count: count)
        problem = problem_in(4, ScheduleSpec(kind="adaann", T0=20.0, t0=5.0))
        found.append(train_flow(problem, steps=20, seeds=5, records=2, **STUDY).data)
    xr.testing.assert_identical(*found)


EVERY_FOUR_STEPS = 4, SMALL["architecture"], Optimiser(32, 1.0, decay="constant"), SMALL["samples"], "adaann", 4
"""The trainer of the first test of adaptive rules, so that its compiled steps serve here too."""


def test_steps_taken_at_once_are_those_taken_one_by_one(monkeypatch):
    """Steps taken at once give the same bits as steps taken one by one.

    Each step has draws of its own, and β is adjusted in between.
    """
    trainer, taken = make_trainer(*EVERY_FOUR_STEPS), 12
    tasks, rule = _tasks(problem_in(4), 0, 2), Rule(0.05, 0.1)
    rates = np.linspace(1e-3, 1e-2, taken, dtype=np.float32)
    found = []
    for at_once in (STEPS_AT_ONCE, 1):
        monkeypatch.setattr("annealvi.realnvp.training.STEPS_AT_ONCE", at_once)
        found.append(
            trainer.advance(trainer.begin(tasks, rule), tasks, rule, 0, Steps(np.ones(taken, np.float32), rates))
        )
    (state, losses), (one_by_one, each) = found
    assert losses.loss.shape == losses.beta.shape == (2, taken)
    assert len(np.unique(losses.beta[0])) == 3
    np.testing.assert_array_equal(losses.beta, each.beta)
    np.testing.assert_array_equal(losses.loss, each.loss)
    for value, other in zip(jax.tree.leaves(state), jax.tree.leaves(one_by_one), strict=True):
        np.testing.assert_array_equal(value, other)


def test_an_interrupt_ends_the_steps(monkeypatch):
    monkeypatch.setattr("annealvi.realnvp.training.STEPS_AT_ONCE", 1)
    trainer = make_trainer(*EVERY_FOUR_STEPS)
    tasks, rule = _tasks(problem_in(4), 0, 2), Rule(0.05, 0.1)
    steps = Steps(np.ones(10, np.float32), np.full(10, 1e-3, np.float32))
    looks = iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        trainer.advance(trainer.begin(tasks, rule), tasks, rule, 0, steps, lambda: next(looks))
    assert next(looks, None) is None


def test_an_error_in_one_group_ends_the_others(monkeypatch):
    monkeypatch.setattr("annealvi.realnvp.side_by_side.cores", lambda: 2)
    ended = []

    def compute(flows, stopped):
        if flows[0] == 0:
            raise DivergenceError("the first")
        while not stopped():
            time.sleep(0.01)
        ended.append(flows.tolist())
        raise KeyboardInterrupt

    with pytest.raises(DivergenceError, match="the first"):
        in_groups(compute, jax.devices("cpu")[0], (np.arange(4),), interruptible=True)
    assert ended == [[2, 3]]


def test_no_flow_is_alone_in_its_group_and_a_gpu_has_one():
    for flows in range(2, 40):
        count = number_of_groups(flows, "cpu")
        assert flows // count >= 2
        assert -(-flows // count) <= LARGEST_GROUP
        assert number_of_groups(flows, "gpu") == 1
    assert number_of_groups(4, "cpu") == 2  # the command's default number of flows


def test_a_loss_that_is_not_finite_is_an_error():
    with pytest.raises(DivergenceError, match="smaller learning rate"):
        train_flow(problem_in(4), steps=60, seeds=2, **{**SMALL, "optimiser": Optimiser(32, 1e6)})
    with pytest.raises(DivergenceError, match="density of flow 0 is not finite at step 1"):  # at the last update
        train_flow(problem_in(4), steps=1, seeds=2, **{**SMALL, "optimiser": Optimiser(32, 1e30)})


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"seeds": 0}, {"records": 0}, {"samples": 0}, {"time_per_step": 0.0}],
)
def test_nothing_is_trained_for_nothing(options):
    with pytest.raises(BadInput, match="is not positive"):
        train_flow(problem_in(4), **options)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Optimiser(0), "--batch: 0 is not positive"),
        (lambda: Optimiser(clip=-1), "--clip: -1 is not positive"),
        (lambda: Optimiser(clip=math.inf), "--clip: inf is not positive"),
        (lambda: Optimiser(learning_rate=math.nan), "--learning-rate: nan is not positive"),
        (lambda: Optimiser(learning_rate="fast"), "learning_rate: 'fast' is not a number"),
        (lambda: Optimiser(gradient="x"), "choose from path, total"),
        (lambda: Optimiser(gradient=None), "gradient: None is not a text"),
        (lambda: Optimiser(decay="x"), "choose from cosine, constant"),
        (lambda: Architecture(0), "--layers: 0 is not positive"),
        (lambda: Architecture(width=2.5), "width: 2.5 is not a whole number"),
        (lambda: Architecture(kind=3), "kind: 3 is not a text"),
        (lambda: Architecture(kind="x"), "choose from plain, study"),
        (
            lambda: train_flow(problem_in(4), architecture=Architecture(kind="study"), optimiser=Optimiser(1)),
            "choose at least 2",
        ),
    ],
)
def test_settings_of_a_training_are_refused_in_one_line(make, words):
    with pytest.raises(BadInput) as refused:
        make()
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.quick
def test_learning_rates_fall_as_a_cosine_or_not_at_all():
    steps = 400
    rates = Optimiser(learning_rate=2e-3).rates(steps)
    expected = [2e-3 * (0.01 + 0.99 * math.cos(0.5 * math.pi * n / steps) ** 2) for n in range(steps)]
    assert rates.dtype == np.float32
    np.testing.assert_allclose(rates, expected, rtol=1e-5)  # float32 loses digits near a cosine of −1
    np.testing.assert_array_equal(
        Optimiser(learning_rate=2e-3, decay="constant").rates(steps), np.full(steps, 2e-3, np.float32)
    )


def test_a_device_that_is_none_is_refused():
    with pytest.raises(BadInput, match="is no device"):
        train_flow(problem_in(4), device="tpu9")


ARGUMENTS = [
    "flow",
    "--set",
    "space.dimension=3",
    "--steps",
    "6",
    "--layers",
    "2",
    "--width",
    "4",
    "--batch",
    "16",
    "--samples",
    "200",
]


def test_command_writes_what_it_says(tmp_path, capsys):
    assert main([*ARGUMENTS, "--seeds", "3", "--records", "2", "--out", str(tmp_path / "run"), "--json", "-"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert {"mode_weights", "projected_variance", "emc", "ess", "collapsed"} <= found.keys()
    assert len(found["collapsed"]) == 3
    assert found["steps"] == 6
    assert found["runs"] == 3
    assert "P(collapse) = " in printed.err
    assert "cpu" in found["device"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["flow.nc", "flow.png"]
    data = xr.load_dataset(tmp_path / "run" / "flow.nc", engine="scipy")
    assert data["mode_weights"].dims == ("seed", "step", "mode")
    assert data["step"].to_numpy().tolist() == [0, 3, 6]
    np.testing.assert_allclose(data["mode_weights"].isel(step=-1), found["mode_weights"])


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        (["--set", "space.dimension=1"], 2, "choose at least 2"),
        (["--steps", "0"], 2, "--steps"),
        (["--learning-rate", "-1"], 2, "--learning-rate"),
        (["--gradient", "foo"], 2, "choose from 'path', 'total'"),
        (["--decay", "foo"], 2, "choose from 'cosine', 'constant'"),
        (["--architecture", "foo"], 2, "choose from 'plain', 'study'"),
        (["--clip", "0"], 2, "--clip"),
        (["--clip", "nan"], 2, "--clip"),
        (["--architecture", "study", "--batch", "1"], 2, "--batch"),
        (["--max-cost", "1e-6"], 2, "--max-cost"),
        (["--device", "cuda"], 3, "JAX sees no CUDA device"),
        (["--learning-rate", "1e6", "--steps", "60"], 1, "smaller learning rate"),
    ],
)
def test_wrong_input_is_one_line(changes, status, words, capsys, tmp_path):
    if changes[-1] == "cuda" and jax.default_backend() != "cpu":
        pytest.skip("there is a CUDA device")
    assert main([*ARGUMENTS, *changes, "--seeds", "3", "--out", str(tmp_path / "run")]) == status
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("annealvi: ")
    assert words in error


def test_missing_libraries_are_named(monkeypatch, capsys):
    monkeypatch.setattr(components, "find_spec", lambda name: None)
    assert main(["flow"]) == 3
    error = capsys.readouterr().err
    for way in ('pip install "annealvi[flows]"', 'pip install ".[flows]"', "uv run --extra flows"):
        assert way in error
