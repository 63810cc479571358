"""RealNVP: affine coupling layers with alternating masks, whose two networks share nothing and whose log-scales are bounded by tanh.

flowjax's coupling flows cannot express it: there one network gives both parameters, the split is into halves, and the scale is
a softplus.
"""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp


class Coupling(eqx.Module):
    """One layer: coordinates of one parity stay, the others become x e^s + t with s = tanh(net_s), t = net_t of those that stay."""

    scale: eqx.nn.MLP
    shift: eqx.nn.MLP
    kept: int = eqx.field(static=True)

    def __init__(self, dimension: int, width: int, depth: int, kept: int, key: jax.Array):
        """kept: 0 or 1, the parity of the coordinates that stay. width, depth: of the hidden ReLU layers."""
        keys = jax.random.split(key)
        sizes = (dimension - kept + 1) // 2, (dimension + kept) // 2
        self.scale, self.shift = (eqx.nn.MLP(*sizes, width, depth, key=k) for k in keys)
        self.kept = kept

    def forward(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x (d,) ↦ its image and log |det| of the Jacobian."""
        stay = x[self.kept :: 2]
        s = jnp.tanh(self.scale(stay))
        return x.at[1 - self.kept :: 2].set(x[1 - self.kept :: 2] * jnp.exp(s) + self.shift(stay)), jnp.sum(s)

    def inverse(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The x with forward(x) = y, and log |det| of the inverse's Jacobian."""
        stay = y[self.kept :: 2]
        s = jnp.tanh(self.scale(stay))
        return y.at[1 - self.kept :: 2].set((y[1 - self.kept :: 2] - self.shift(stay)) * jnp.exp(-s)), -jnp.sum(s)


class RealNVP(eqx.Module):
    """The law of x = f(z), z standard normal in R^d."""

    layers: tuple[Coupling, ...]
    dimension: int = eqx.field(static=True)

    def __init__(self, dimension: int, layers: int, width: int, depth: int, key: jax.Array):
        """dimension: at least 2, so that each parity has a coordinate."""
        keys = jax.random.split(key, layers)
        self.layers = tuple(Coupling(dimension, width, depth, n % 2, k) for n, k in enumerate(keys))
        self.dimension = dimension

    def forward(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """z (d,) ↦ x and log q(x)."""
        log_density = _log_normal(z)
        for layer in self.layers:
            z, log_det = layer.forward(z)
            log_density -= log_det
        return z, log_density

    def log_density(self, x: jax.Array) -> jax.Array:
        """log q(x) at x (d,)."""
        total = jnp.zeros(())
        for layer in reversed(self.layers):
            x, log_det = layer.inverse(x)
            total += log_det
        return total + _log_normal(x)

    def sample(self, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
        """n samples (n, d) and their log q (n,)."""
        return jax.vmap(self.forward)(jax.random.normal(key, (n, self.dimension)))


def _log_normal(z: jax.Array) -> jax.Array:
    return -0.5 * (jnp.sum(z * z) + len(z) * math.log(2 * math.pi))
