"""RealNVP: affine coupling layers with alternating masks, two separate networks each, and log-scales bounded by tanh.

flowjax's coupling flows cannot express this flow: one network gives both parameters there, the split is into the first
and second half of the coordinates, and the scale is a softplus.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

VARIANCE_FLOOR, MOMENTUM = 1e-5, 0.1
"""The usual constants of batch normalisation: the floor is added to the variance, the momentum is the newest batch's
share in the running averages."""


class Moments(NamedTuple):
    """Mean and variance of a layer's batch normalisations, (staying coordinates,) each."""

    mean: jax.Array
    variance: jax.Array


class Network(eqx.Module):
    """Hidden ReLU layers. Normalised inputs are stretched and shifted by learned vectors first."""

    mlp: eqx.nn.MLP
    stretch: jax.Array | None
    shift: jax.Array | None

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, normalised: bool, key: jax.Array):
        self.mlp = eqx.nn.MLP(inputs, outputs, width, depth, key=key)
        self.stretch, self.shift = (jnp.ones(inputs), jnp.zeros(inputs)) if normalised else (None, None)

    def __call__(self, u: jax.Array) -> jax.Array:
        return self.mlp(u if self.stretch is None or self.shift is None else self.stretch * u + self.shift)


class Coupling(eqx.Module):
    """One layer: half of the coordinates stay, the others become x e^s + t.

    s = tanh(net_s) and t = net_t are functions of the coordinates that stay. moments: running averages of the batch
    normalisation on both networks' inputs, which no optimiser changes; None without normalisation.
    """

    scale: Network
    shift: Network
    moments: Moments | None

    def __init__(self, staying: int, moving: int, width: int, depth: int, normalised: bool, key: jax.Array):
        """Make both networks.

        staying, moving: numbers of coordinates. width, depth: width and number of the hidden ReLU layers.
        """
        self.scale, self.shift = (Network(staying, moving, width, depth, normalised, k) for k in jax.random.split(key))
        self.moments = Moments(jnp.zeros(staying), jnp.ones(staying)) if normalised else None

    def parameters(self, stays: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The log-scales s and the shifts t of the moving coordinates."""
        if self.moments is not None:
            stays = (stays - self.moments.mean) / jnp.sqrt(self.moments.variance + VARIANCE_FLOOR)
        return jnp.tanh(self.scale(stays)), self.shift(stays)

    def forward(self, stays: jax.Array, moves: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The image of the half that moves, and log |det| of the Jacobian."""
        s, t = self.parameters(stays)
        return moves * jnp.exp(s) + t, jnp.sum(s)

    def inverse(self, stays: jax.Array, moved: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The preimage of `moved`, and log |det| of the inverse's Jacobian."""
        s, t = self.parameters(stays)
        return (moved - t) * jnp.exp(-s), -jnp.sum(s)

    def push_score(
        self, stays: jax.Array, moves: jax.Array, of_staying: jax.Array, of_moving: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The score at the image of a point, for both halves, from the score at the point itself.

        log q(stays, moved) is the old log density at u = (moved − t) e^{−s}, minus Σs. So ∂/∂moved = e^{−s} ∂/∂u, and
        s and t have the cotangents −(1 + u ∂/∂u) and −∂/∂moved (Vaitl, Winkler, Richter and Kessel, "Fast and unified
        path gradient estimators", 2024).
        """
        (s, _), pull = jax.vjp(self.parameters, stays)
        of_moved = of_moving * jnp.exp(-s)
        return of_staying + pull((-(1 + moves * of_moving), -of_moved))[0], of_moved


class RealNVP(eqx.Module):
    """The law of x = f(z) for standard normal z in R^d. Layers keep the even and the odd coordinates in turn."""

    layers: tuple[Coupling, ...]
    dimension: int = eqx.field(static=True)

    def __init__(self, dimension: int, layers: int, width: int, depth: int, key: jax.Array, normalised: bool = False):
        """Make the coupling layers.

        dimension: at least 2, so that each half has a coordinate. normalised: with batch normalisation.
        """
        keys, sizes = jax.random.split(key, layers), ((dimension + 1) // 2, dimension // 2)
        self.layers = tuple(
            Coupling(sizes[n % 2], sizes[1 - n % 2], width, depth, normalised, k) for n, k in enumerate(keys)
        )
        self.dimension = dimension

    def forward(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """z (d,) ↦ x and log q(x)."""
        log_density, halves = _log_normal(z), [z[0::2], z[1::2]]
        for n, layer in enumerate(self.layers):
            halves[1 - n % 2], log_det = layer.forward(halves[n % 2], halves[1 - n % 2])
            log_density -= log_det
        return _interleaved(*halves), log_density

    def score(self, z: jax.Array) -> jax.Array:
        """z (d,) ↦ ∇log q at x = f(z), (d,), in one pass forward; automatic differentiation of `log_density` agrees."""
        halves, scores = [z[0::2], z[1::2]], [-z[0::2], -z[1::2]]
        for n, layer in enumerate(self.layers):
            stays, moves = n % 2, 1 - n % 2
            scores[stays], scores[moves] = layer.push_score(halves[stays], halves[moves], scores[stays], scores[moves])
            halves[moves], _ = layer.forward(halves[stays], halves[moves])
        return _interleaved(*scores)

    def log_density(self, x: jax.Array) -> jax.Array:
        """log q(x) at x (d,)."""
        total, halves = jnp.zeros(()), [x[0::2], x[1::2]]
        for n, layer in reversed(list(enumerate(self.layers))):
            halves[1 - n % 2], log_det = layer.inverse(halves[n % 2], halves[1 - n % 2])
            total += log_det
        return total + _log_normal(_interleaved(*halves))

    def sample(self, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
        """n samples (n, d) and their log q (n,)."""
        return jax.vmap(self.forward)(jax.random.normal(key, (n, self.dimension)))

    def normalised_by(self, z: jax.Array) -> RealNVP:
        """The flow with the moments of a batch z (n, d); the flow itself if it does not normalise."""
        halves, layers = [z[:, 0::2], z[:, 1::2]], list(self.layers)
        for n, layer in enumerate(self.layers):
            if layer.moments is None:
                return self
            stays, moves = halves[n % 2], halves[1 - n % 2]
            layers[n] = _with_moments(layer, Moments(jnp.mean(stays, 0), jnp.var(stays, 0)))
            halves[1 - n % 2], _ = jax.vmap(layers[n].forward)(stays, moves)
        return eqx.tree_at(lambda flow: flow.layers, self, tuple(layers))

    def remembering(self, newest: RealNVP, n: int) -> RealNVP:
        """The flow with its running averages moved towards the moments of `newest`, from a batch of n samples."""
        return eqx.tree_at(
            lambda flow: flow.layers,
            self,
            tuple(
                old
                if old.moments is None or new.moments is None
                else _with_moments(old, _averaged(old.moments, new.moments, n))
                for old, new in zip(self.layers, newest.layers, strict=True)
            ),
        )


def _averaged(old: Moments, new: Moments, n: int) -> Moments:
    """The running averages after a batch of n samples, whose variance is made unbiased as usual."""
    unbiased = Moments(new.mean, new.variance * n / max(1, n - 1))
    return Moments(*((1 - MOMENTUM) * a + MOMENTUM * b for a, b in zip(old, unbiased, strict=True)))


def _with_moments(layer: Coupling, moments: Moments) -> Coupling:
    return eqx.tree_at(lambda layer: layer.moments, layer, moments)


def _interleaved(even: jax.Array, odd: jax.Array) -> jax.Array:
    """The coordinates in order. A stack is used, since the gradient of strided writes is slow on a CPU."""
    padded = jnp.pad(odd, (0, len(even) - len(odd)))
    return jnp.stack([even, padded], 1).reshape(-1)[: len(even) + len(odd)]


def _log_normal(z: jax.Array) -> jax.Array:
    return -0.5 * (jnp.sum(z * z) + len(z) * math.log(2 * math.pi))
