"""Path and total gradients of the tempered loss.

The score agrees with automatic differentiation, the two gradients agree in expectation, and path gradients have no
noise where q = p.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from annealvi.realnvp.couplings import Moments, RealNVP
from annealvi.realnvp.target import Mixture, turned
from annealvi.realnvp.training import (
    JUDGING,
    TRAINING,
    Architecture,
    Optimiser,
    Rule,
    Steps,
    Task,
    make_trainer,
    tempered_loss,
)
from derive.problem.specification import Problem, Space

pytestmark = pytest.mark.usefixtures("in_double")


@pytest.fixture
def in_double():
    with jax.enable_x64(True):
        yield


def generic_flow(dimension, layers, width, depth, normalised, seed=0):
    """A flow with random parameters of order one and moments unlike those of a standard normal."""
    flow = RealNVP(dimension, layers, width, depth, jax.random.key(seed), normalised)
    arrays, rest = eqx.partition(flow, eqx.is_inexact_array)
    flat, unflatten = ravel_pytree(arrays)
    flow = eqx.combine(unflatten(np.random.default_rng(seed).normal(size=flat.shape) * 0.6), rest)
    if not normalised:
        return flow
    chance = np.random.default_rng(seed + 1)

    def random_moments(n):
        return Moments(jnp.array(chance.normal(size=n)), jnp.array(chance.uniform(0.3, 3, n)))

    moments = [random_moments(len(layer.moments.mean)) for layer in flow.layers]
    return eqx.tree_at(
        lambda flow: [layer.moments for layer in flow.layers],
        flow,
        moments,
        is_leaf=lambda leaf: isinstance(leaf, Moments),
    )


@pytest.mark.parametrize(
    ("dimension", "layers", "depth", "normalised"),
    [(2, 1, 1, False), (3, 4, 2, True), (6, 3, 3, False), (7, 2, 1, False), (2, 3, 3, True)],
)
def test_the_score_is_the_derivative_of_the_log_density(dimension, layers, depth, normalised):
    """The score is the derivative of the log density, which passes through the inverse of the flow.

    The score itself never uses the inverse. Values of order ten are rounded some hundred times.
    """
    flow = generic_flow(dimension, layers, 5, depth, normalised)
    z = jnp.array(np.random.default_rng(1).normal(size=(20, dimension)))

    def everything(z):
        x, log_q = flow.forward(z)
        back = jax.value_and_grad(flow.log_density)(x)
        halves = [x[0::2], x[1::2]]
        for n in reversed(range(layers)):
            halves[1 - n % 2], _ = flow.layers[n].inverse(halves[n % 2], halves[1 - n % 2])
        return log_q, *back, flow.score(z), *halves

    log_q, log_density, derivative, score, even, odd = jax.jit(jax.vmap(everything))(z)
    np.testing.assert_allclose(score, derivative, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(log_density, log_q, atol=1e-10)
    np.testing.assert_allclose(even, z[:, 0::2], atol=1e-10)
    np.testing.assert_allclose(odd, z[:, 1::2], atol=1e-10)
    assert np.abs(np.asarray(score + z)).max() > 0.3  # the score differs from that of identity layers


MODES = [[1.5, 0.0, 0.5, 0.0], [-1.0, 1.0, 0.0, 0.5], [0.0, -2.0, 1.0, 0.0]]
THREE = Mixture(jnp.array(MODES), jnp.array([0.5, 0.3, 0.2]), jnp.array([1.0, 0.6, 1.4]))


def log_three(x):
    return THREE.log_density(x)


@eqx.filter_jit
def gradients(flow, z, beta, gradient, log_target=log_three, freeze=False):
    """The gradients of the loss for each batch of z (batches, n, d), with shape (batches, parameters).

    All parameters form one vector. With `freeze`, batches leave the moments as they are.
    """
    arrays, rest = eqx.partition(flow, eqx.is_inexact_array)
    flat, unflatten = ravel_pytree(arrays)

    def value(flat, z):
        flow = eqx.combine(unflatten(flat), rest)
        return tempered_loss(Frozen(flow) if freeze else flow, z, log_target, beta, gradient)[0]

    return jax.vmap(jax.grad(value), (None, 0))(flat, z)


class Frozen(eqx.Module):
    """A flow whose moments do not depend on the batch."""

    flow: RealNVP

    def normalised_by(self, z):
        return self.flow


def off_by(differences):
    """The means of `differences` (batches, parameters) in units of their standard errors.

    Parameters on which nothing depends are left out.
    """
    deviations = differences.std(0, ddof=1)
    alive = deviations > 1e-9
    assert 0.7 * len(alive) < alive.sum() < 150
    return np.abs(differences.mean(0)[alive]) / deviations[alive] * math.sqrt(len(differences))


def test_path_and_total_gradients_agree_in_expectation():
    """Path and total gradients have the same mean over independent batches, compared in pairs.

    The probability that one of so many parameters is off by four standard errors is below 1 %.
    """
    flow = generic_flow(4, 3, 3, 1, normalised=False)
    z = jnp.array(np.random.default_rng(3).normal(size=(1500, 8, 4)))
    for beta in (0.05, 0.4, 1.0):
        total, path, plain, swapped = (
            np.asarray(gradients(flow, z, jnp.array(b), gradient))
            for gradient, b in (("total", beta), ("path", beta), ("path", 1.0), ("path", -beta))
        )
        assert off_by(path - total).max() < 4
        wrong = {"sign of log p": swapped, "sign of the score": -swapped}
        if beta < 1:
            wrong |= {"β dropped": plain, "β on the score too": beta * plain}
        for name, gradient in wrong.items():
            assert off_by(gradient - total).max() > 12, name


def test_gradients_of_frozen_moments_agree_in_expectation():
    flow = generic_flow(4, 3, 3, 1, normalised=True)
    z = jnp.array(np.random.default_rng(4).normal(size=(1500, 8, 4)))
    path, total = (
        np.asarray(gradients(flow, z, jnp.array(0.4), gradient, freeze=True)) for gradient in ("path", "total")
    )
    assert off_by(path - total).max() < 4


def test_gradients_of_batch_moments_agree_as_batches_grow():
    """Where a batch decides the moments, a path gradient leaves out a term whose mean falls as one over the batch size.

    Half of the batches of 8 give the direction in which the term shows best; the other half measures it along this
    direction.
    """
    flow = generic_flow(4, 3, 3, 1, normalised=True)
    chance, differences = np.random.default_rng(5), {}
    for n in (8, 128):
        z = jnp.array(chance.normal(size=(64_000 // n, n, 4)))
        path, total = (np.asarray(gradients(flow, z, jnp.array(1.0), gradient)) for gradient in ("path", "total"))
        differences[n] = path - total
    half = differences[8][:4000]
    direction = half.mean(0) / np.maximum(half.var(0), 1e-9)
    small, large = (each @ direction for each in (differences[8][4000:], differences[128]))
    assert off_by(small[:, None]) > 6
    error = large.std() / math.sqrt(len(large))
    assert abs(large.mean()) < 2 * small.mean() / 16 + 4 * error
    assert 4 * error < 0.5 * small.mean()


def shifted_and_scaled(shift, scale):
    """A flow onto N(shift 1, scale² I) in R^4.

    It has no weights, and the same biases in both of its layers.
    """
    flow = jax.tree.map(
        lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else leaf,
        RealNVP(4, 2, 3, 1, jax.random.key(0)),
    )
    for name, value in (("scale", math.atanh(math.log(scale))), ("shift", shift)):
        flow = eqx.tree_at(
            lambda flow, name=name: [getattr(layer, name).mlp.layers[-1].bias for layer in flow.layers],
            flow,
            [jnp.full(2, value)] * 2,
        )
    return flow


@pytest.mark.parametrize("target", ["its own, plain", "its own, study", "standard normal", "normal"])
def test_path_gradients_have_no_noise_where_q_is_p(target):
    """Every batch has a path gradient of zero, up to roundings.

    The total gradient is not zero, nor is a path gradient at another temperature.
    """
    z = jnp.array(np.random.default_rng(6).normal(size=(12, 8, 4)))
    if target.startswith("its own"):
        flow = generic_flow(4, 3, 3, 1, normalised=target.endswith("study"))
        log_target = flow.log_density
    else:
        shift, scale = (0.0, 1.0) if target == "standard normal" else (0.7, 1.6)
        flow = shifted_and_scaled(shift, scale)
        normal = Mixture(jnp.full((1, 4), shift), jnp.ones(1), jnp.full(1, scale))

        def log_target(x):
            return normal.log_density(x)

    frozen = target.endswith("study")
    noise = {
        gradient: np.asarray(gradients(flow, z, jnp.array(1.0), gradient, log_target, frozen))
        for gradient in ("path", "total")
    }
    np.testing.assert_allclose(noise["path"], 0, atol=1e-12)
    assert noise["total"].std(0).max() > 0.1
    assert np.abs(gradients(flow, z, jnp.array(0.9), "path", log_target, frozen)).max() > 0.03


def test_path_gradients_have_no_noise_where_a_batch_makes_q_equal_p():
    """A path gradient vanishes where the moments of the batch itself make q equal to the target.

    What the moments do to the samples is part of the path, and is multiplied by zero.
    """
    flow = generic_flow(4, 3, 3, 1, normalised=True)
    z = jnp.array(np.random.default_rng(7).normal(size=(1, 8, 4)))
    log_target = flow.normalised_by(z[0]).log_density
    np.testing.assert_allclose(gradients(flow, z, jnp.array(1.0), "path", log_target), 0, atol=1e-12)
    assert np.abs(gradients(flow, z, jnp.array(1.0), "path", flow.log_density)).max() > 0.01


def by_numpy(flow, z, moments=None):
    """The images of a batch z (n, d), and for each layer statistics of the half that stays.

    The statistics are the mean, the variance without and the variance with Bessel's factor.
    """

    def network(net, u):
        u = np.asarray(net.stretch) * u + np.asarray(net.shift)
        for n, layer in enumerate(net.mlp.layers):
            u = u @ np.asarray(layer.weight).T + np.asarray(layer.bias)
            u = np.maximum(u, 0) if n < len(net.mlp.layers) - 1 else u
        return u

    x, found = np.array(z), []
    for n, layer in enumerate(flow.layers):
        stays, moves = (slice(n % 2, None, 2), slice(1 - n % 2, None, 2))
        found.append((x[:, stays].mean(0), x[:, stays].var(0), x[:, stays].var(0, ddof=1)))
        mean, variance = found[-1][:2] if moments is None else moments[n]
        u = (x[:, stays] - mean) / np.sqrt(variance + 1e-5)
        x[:, moves] = x[:, moves] * np.exp(np.tanh(network(layer.scale, u))) + network(layer.shift, u)
    return x, found


def test_batches_are_normalised_and_remembered_as_in_numpy():
    flow, chance = generic_flow(5, 3, 4, 2, normalised=True), np.random.default_rng(8)
    running = [[np.asarray(each) for each in layer.moments] for layer in flow.layers]
    for _ in range(3):
        z = chance.normal(size=(6, 5))
        expected, moments = by_numpy(flow, z)
        moved = flow.normalised_by(jnp.array(z))
        np.testing.assert_allclose(jax.vmap(moved.forward)(jnp.array(z))[0], expected, rtol=1e-10, atol=1e-10)
        running = [
            [0.9 * a + 0.1 * b for a, b in zip(old, (new[0], new[2]), strict=True)]
            for old, new in zip(running, moments, strict=True)
        ]
        flow = flow.remembering(moved, 6)
    for layer, expected in zip(flow.layers, running, strict=True):
        np.testing.assert_allclose(layer.moments.mean, expected[0], rtol=1e-12)
        np.testing.assert_allclose(layer.moments.variance, expected[1], rtol=1e-12)
    np.testing.assert_allclose(
        jax.vmap(flow.forward)(jnp.array(z))[0], by_numpy(flow, z, running)[0], rtol=1e-10, atol=1e-10
    )


CLIP = 0.05


def test_a_step_is_clipped_adam_and_leaves_moments_to_the_batch():
    """Each flow's gradient is clipped by its own norm, and the moments become NumPy's running averages.

    The moments contribute nothing to the norm.
    """
    with jax.enable_x64(False):
        trainer = make_trainer(5, Architecture(2, 4, 1, "study"), Optimiser(16, 1.0, clip=CLIP, decay="constant"), 50)
        problem = Problem(space=Space(5))
        mixtures, axes = zip(*(turned(problem.target, 5, 0, n) for n in range(2)), strict=True)
        keys = jnp.stack([jax.random.key(n) for n in (3, 4)])
        task = Task(
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *mixtures), jnp.array(np.array(axes), jnp.float32), keys
        )
        start = jax.tree.map(np.array, trainer.begin(task, Rule()))
        steps = Steps(jnp.full(1, 0.5), jnp.full(1, 1e-3))
        end, _ = trainer.advance(jax.tree.map(jnp.array, start), task, Rule(), 0, steps)
        for n in range(2):
            before, after = (trainer.flow(state, n) for state in (start, end))
            z = jax.random.normal(jax.random.fold_in(jax.random.fold_in(keys[n], TRAINING), 0), (16, 5))
            for layer, (mean, _, variance) in zip(after.layers, by_numpy(before, z)[1], strict=True):
                np.testing.assert_allclose(layer.moments.mean, 0.1 * mean, rtol=1e-4, atol=1e-6)
                np.testing.assert_allclose(layer.moments.variance, 0.9 + 0.1 * variance, rtol=1e-4)
            gradient = one_gradient(before, z, mixtures[n])
            assert not any(np.any(leaf) for layer in gradient.layers for leaf in layer.moments)
            gradient, old, new = (flat_networks(flow) for flow in (gradient, before, after))
            norm = np.linalg.norm(gradient)
            assert norm > 2 * CLIP
            clipped = gradient * CLIP / norm
            large = np.abs(clipped) > 1e-5  # Adam's epsilon and roundings decide the others
            assert large.mean() > 0.5
            np.testing.assert_allclose((new - old)[large], -1e-3 * np.sign(clipped)[large], rtol=2e-2)
            kept = np.concatenate([np.ravel(leaf[n]) for leaf in jax.tree.leaves(end.moments[1].mu)])
            assert np.linalg.norm(kept) == pytest.approx(0.1 * CLIP, rel=1e-4)
        # Judging uses the running averages, so that an image does not depend on the number of samples.
        judged = trainer.judge(end, task, 1)
        key = jax.random.split(jax.random.fold_in(jax.random.fold_in(keys[1], JUDGING), 1))[0]
        x = by_numpy(
            after,
            jax.random.normal(key, (50, 5)),
            [[np.asarray(each) for each in layer.moments] for layer in after.layers],
        )[0]
        np.testing.assert_allclose(judged.projection[1], x @ np.asarray(axes[1]).T, atol=1e-4)


@eqx.filter_jit
def one_gradient(flow, z, mixture):
    return eqx.filter_grad(lambda flow: tempered_loss(flow, z, mixture.log_density, 0.5, "path")[0])(flow)


def flat_networks(flow):
    """All parameters except the moments, in one vector."""
    return np.concatenate(
        [
            np.ravel(leaf)
            for layer in flow.layers
            for leaf in jax.tree.leaves(eqx.filter((layer.scale, layer.shift), eqx.is_array))
        ]
    )
