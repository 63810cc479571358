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
    """One layer: half of the coordinates stay, the others become x e^s + t with s = tanh(net_s), t = net_t of those that stay."""

    scale: eqx.nn.MLP
    shift: eqx.nn.MLP

    def __init__(self, staying: int, moving: int, width: int, depth: int, key: jax.Array):
        """staying, moving: coordinates of each half. width, depth: of the hidden ReLU layers."""
        self.scale, self.shift = (eqx.nn.MLP(staying, moving, width, depth, key=k) for k in jax.random.split(key))

    def forward(self, stays: jax.Array, moves: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The image of the half that moves, and log |det| of the Jacobian."""
        s = jnp.tanh(self.scale(stays))
        return moves * jnp.exp(s) + self.shift(stays), jnp.sum(s)

    def inverse(self, stays: jax.Array, moved: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What forward maps to `moved`, and log |det| of the inverse's Jacobian."""
        s = jnp.tanh(self.scale(stays))
        return (moved - self.shift(stays)) * jnp.exp(-s), -jnp.sum(s)


class RealNVP(eqx.Module):
    """The law of x = f(z), z standard normal in R^d. The halves are the coordinates of even and of odd number, and stay in turn."""

    layers: tuple[Coupling, ...]
    dimension: int = eqx.field(static=True)

    def __init__(self, dimension: int, layers: int, width: int, depth: int, key: jax.Array):
        """dimension: at least 2, so that each half has a coordinate."""
        keys, sizes = jax.random.split(key, layers), ((dimension + 1) // 2, dimension // 2)
        self.layers = tuple(Coupling(sizes[n % 2], sizes[1 - n % 2], width, depth, k) for n, k in enumerate(keys))
        self.dimension = dimension

    def forward(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """z (d,) ↦ x and log q(x)."""
        log_density, halves = _log_normal(z), [z[0::2], z[1::2]]
        for n, layer in enumerate(self.layers):
            halves[1 - n % 2], log_det = layer.forward(halves[n % 2], halves[1 - n % 2])
            log_density -= log_det
        return _interleaved(*halves), log_density

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


def _interleaved(even: jax.Array, odd: jax.Array) -> jax.Array:
    """A stack rather than writes with a stride, whose gradient is slow on a CPU."""
    padded = jnp.pad(odd, (0, len(even) - len(odd)))
    return jnp.stack([even, padded], 1).reshape(-1)[: len(even) + len(odd)]


def _log_normal(z: jax.Array) -> jax.Array:
    return -0.5 * (jnp.sum(z * z) + len(z) * math.log(2 * math.pi))
