"""The target mixture in all its dimensions, in JAX: normalised log density, responsibilities and samples."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derive.problem.specification import Target


class Mixture(NamedTuple):
    """Σ_k weights[k] N(x; modes[k], scales[k]² I). modes: (K, d). weights, scales: (K,)."""

    modes: jax.Array
    weights: jax.Array
    scales: jax.Array

    def log_terms(self, x: jax.Array) -> jax.Array:
        """log of each component's weight times density at x (d,): (K,)."""
        d = self.modes.shape[1]
        # The square is not expanded: in |x|² − 2 x·ν + |ν|² narrow modes far from the origin would lose all digits of
        # single precision.
        squares = jnp.sum(((x - self.modes) / self.scales[:, None]) ** 2, 1)
        return jnp.log(self.weights) - 0.5 * squares - d * (jnp.log(self.scales) + 0.5 * math.log(2 * math.pi))

    def log_density(self, x: jax.Array) -> jax.Array:
        """log p*(x) at x (d,), normalised."""
        return jax.nn.logsumexp(self.log_terms(x))

    def responsibilities(self, x: jax.Array) -> jax.Array:
        """p(mode k | x) at x (d,): (K,)."""
        return jax.nn.softmax(self.log_terms(x))

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """n samples, (n, d)."""
        which, noise = jax.random.split(key)
        k = jax.random.choice(which, len(self.weights), (n,), p=self.weights)
        return self.modes[k] + self.scales[k, None] * jax.random.normal(noise, (n, self.modes.shape[1]))


def turned(target: Target, dimension: int, seed: int, flow: int) -> tuple[Mixture, np.ndarray]:
    """The problem's target in R^dimension, turned to a random direction, and its two main axes (2, dimension).

    Each flow has a direction of its own: a flow's masks single out the coordinates, so one direction may be easier to
    learn than another.
    """
    given = np.array(target.means)
    own = np.pad(given, ((0, 0), (0, max(0, 2 - given.shape[1]))))
    frame = np.linalg.qr(np.random.default_rng([seed, flow]).normal(size=(dimension, own.shape[1])))[0].T
    mixture = Mixture(*(jnp.asarray(a, jnp.float32) for a in (own @ frame, target.weights, target.scales)))
    return mixture, main_axes(own, np.array(target.weights)) @ frame


def main_axes(modes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The unit direction in which the weighted modes (K, r), r >= 2, vary most, and the next one: (2, r).

    If the modes span no plane, the second is any orthogonal direction. Signs make the first mode's coordinates
    non-negative.
    """
    centred = np.sqrt(weights)[:, None] * (modes - weights @ modes)
    # Tiny rows complete the basis; their size puts them last.
    tail = 1e-9 * max(1.0, float(np.abs(centred).max())) * np.eye(modes.shape[1])
    axes = np.linalg.svd(np.concatenate([centred, tail]), full_matrices=False)[2][:2]
    return axes * np.where(axes @ modes[0] < 0, -1.0, 1.0)[:, None]
