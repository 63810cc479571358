"""Diagnostics that tell a collapsed flow from one that covers the target, from fresh samples of both."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from annealvi.realnvp.couplings import RealNVP
from annealvi.realnvp.target import Mixture

FAR_BELOW = 100.0
"""A sample of the target is uncovered if q < p/FAR_BELOW there."""


class Diagnostics(NamedTuple):
    """Estimates from n samples of q and n samples of the normalised target p.

    Attributes
    ----------
    mode_weights : jax.Array
        E_q[p(mode k | x)], (K,).
    projected_mean, projected_variance : jax.Array
        Mean and variance of q along the first axis; the variance is biased by 1/n.
    entropic_mode_coverage : jax.Array
        Entropy of the mode weights over log K; one for equal weights.
    reverse_ess : jax.Array
        (Σw)²/(n Σw²) at x ~ q with w = p/q; one for q = p. It sees only the region that q covers.
    forward_ess : jax.Array
        1/E_p[p/q]; near zero if q misses a mode, or if its tails are too light. The few largest ratios decide it.
    uncovered : jax.Array
        Share of the target's samples with q < p/FAR_BELOW, with a binomial error; a missed mode adds its weight.
    reverse_kl, forward_kl : jax.Array
        KL(q‖p) and KL(p‖q), with the standard errors `reverse_kl_error` and `forward_kl_error`.
    projection : jax.Array
        Samples of q along both axes, (n, 2).
    """

    mode_weights: jax.Array
    projected_mean: jax.Array
    projected_variance: jax.Array
    entropic_mode_coverage: jax.Array
    reverse_ess: jax.Array
    forward_ess: jax.Array
    uncovered: jax.Array
    reverse_kl: jax.Array
    reverse_kl_error: jax.Array
    forward_kl: jax.Array
    forward_kl_error: jax.Array
    projection: jax.Array


def diagnose(flow: RealNVP, target: Mixture, axes: jax.Array, key: jax.Array, n: int) -> Diagnostics:
    """Diagnose a flow with n samples of q and of the target. axes: (2, d) orthonormal directions to project on."""
    of_flow, of_target = jax.random.split(key)
    x, log_q = flow.sample(of_flow, n)
    log_ratio = jax.vmap(target.log_density)(x) - log_q
    y = target.sample(of_target, n)
    log_ratio_of_target = jax.vmap(target.log_density)(y) - jax.vmap(flow.log_density)(y)
    weights = jnp.mean(jax.vmap(target.responsibilities)(x), 0)
    projection = x @ axes.T
    entropy = -jnp.sum(jax.scipy.special.xlogy(weights, weights))
    return Diagnostics(
        weights,
        jnp.mean(projection[:, 0]),
        jnp.var(projection[:, 0]),
        entropy / jnp.log(len(weights)) if len(weights) > 1 else jnp.ones(()),
        jnp.exp(2 * jax.nn.logsumexp(log_ratio) - jax.nn.logsumexp(2 * log_ratio)) / n,
        n * jnp.exp(-jax.nn.logsumexp(log_ratio_of_target)),
        jnp.mean(log_ratio_of_target > jnp.log(FAR_BELOW)),
        -jnp.mean(log_ratio),
        jnp.std(log_ratio) / jnp.sqrt(n),
        jnp.mean(log_ratio_of_target),
        jnp.std(log_ratio_of_target) / jnp.sqrt(n),
        projection,
    )
