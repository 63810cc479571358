"""The tempered reverse KL on a grid, its normalisation, and the flow's velocity from the gradient on the grid.

They complete `kernels.particles.kl_grid`, which has the gradient.
"""

from __future__ import annotations

import math

import numpy as np

from kernels.particles import kl_grid
from kernels.particles.kl_grid import Array, Axes, Mixture, kl_gradient


def objective(proposal: Mixture, target: Mixture, beta: float, tolerance: float = 1e-10) -> tuple[float, float]:
    """E_q[log q] - beta E_q[log p*], which is the reverse KL minus log Z(beta), and its estimated absolute error.

    Raises ValueError for a malformed mixture, and ArithmeticError where the tolerance needs more than MAX_NODES nodes.
    """
    q, p = kl_grid._checked(proposal, target)

    def sums(axes: Axes) -> Array:
        return np.array([np.sum(kl_grid._integrand(axes, q, beta * kl_grid._log_density(axes, p)))])

    value, error = kl_grid._quadrature(sums, q, (q, p), 1 + beta, tolerance)
    return float(value[0]), error


def log_partition(target: Mixture, beta: float, tolerance: float = 1e-10) -> tuple[float, float]:
    """log Z(beta) and its estimated absolute error, where Z is the integral of p*^beta.

    In three dimensions a small beta needs more than MAX_NODES nodes. The errors are those of `objective`.
    """
    p, _ = kl_grid._checked(target, target)
    envelope = p._replace(log_scales=p.log_scales - math.log(beta) / 2)
    dimension = p.means.shape[1]
    highest = float(np.max(kl_grid._log_weights(p) - dimension * (p.log_scales + math.log(2 * math.pi) / 2)))
    # Dividing the integral by that of one tempered component turns the absolute tolerance of the quadrature into one
    # of the logarithm.
    widest = float(np.max(envelope.log_scales))
    unit = beta * highest + dimension * (widest + math.log(2 * math.pi) / 2)

    def sums(axes: Axes) -> Array:
        return np.array([np.sum(np.exp(beta * kl_grid._log_density(axes, p) - unit))])

    value, error = kl_grid._quadrature(sums, envelope, (p,), 1.0, tolerance)
    return unit + math.log(value[0]), error / float(value[0])


def reverse_kl(proposal: Mixture, target: Mixture, beta: float, tolerance: float = 1e-10) -> tuple[float, float]:
    """KL(q || p*^beta / Z(beta)) and its estimated absolute error."""
    value, error = objective(proposal, target, beta, tolerance)
    log_z, log_z_error = log_partition(target, beta, tolerance)
    return value + log_z, error + log_z_error


def flow_velocity(
    proposal: Mixture, target: Mixture, beta: float, manifold: str = "sphere", tolerance: float = 1e-10
) -> Array:
    """da/dt, (L, d), of the gradient flow of the means.

    manifold: "sphere" keeps every mean on its sphere, "euclidean" does not.
    """
    if manifold not in ("sphere", "euclidean"):
        raise ValueError(f"manifold is {manifold!r}: use 'sphere' or 'euclidean'")
    velocity = -kl_gradient(proposal, target, beta, tolerance).means
    if manifold == "euclidean":
        return velocity
    means = np.asarray(proposal.means, dtype=float)
    squared_radii = np.sum(means**2, axis=1, keepdims=True)
    if not np.all(squared_radii > 0):
        raise ValueError("a mean at the origin has no sphere")
    return velocity - means * np.sum(means * velocity, axis=1, keepdims=True) / squared_radii


def overlap_velocity(
    proposal: Mixture, target: Mixture, beta: float, manifold: str = "sphere", tolerance: float = 1e-10
) -> tuple[Array, Array]:
    """The velocities dM/dt (L, K) and dQ/dt (L, L) of the overlaps M_ik = a_i . nu_k and Q_ij = a_i . a_j."""
    means = np.asarray(proposal.means, dtype=float)
    velocity = flow_velocity(proposal, target, beta, manifold, tolerance)
    one_sided = velocity @ means.T
    return velocity @ np.asarray(target.means, dtype=float).T, one_sided + one_sided.T
