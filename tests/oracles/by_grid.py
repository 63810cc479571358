"""The velocity of a problem's flow from the gradient of its objective on a grid.

This route uses the densities and the definition of the flow, and no derived equation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from annealvi.runs.velocity import State
from annealvi.session.particle_objective import objective_of_particles
from derive.problem.specification import Problem
from kernels.particles.kl_grid import KlGradient, Mixture, kl_gradient

TOLERANCE = {1: 1e-11, 2: 1e-11, 3: 1e-9}
ROUNDING = 2e-12
"""The error of the derived velocity. Each average has a relative error of 1e-13, and a rate contains some tens of
averages with factors up to ten."""


class GridVelocity(NamedTuple):
    """da/dt (L, d), dw/dt and dσ/dt (L,), their gradient, and the largest allowed difference from an exact velocity.

    The bound follows from the error of one entry of the gradient. The projection onto the sphere does not lengthen a
    gradient of d entries; the error of dw_i/dt = w_i (w·g − g_i) is at most twice that of an entry, and the error of
    dσ_i/dt is σ_i times that of an entry.
    """

    means: np.ndarray
    weights: np.ndarray
    scales: np.ndarray
    gradient: KlGradient
    bound: float


def mixtures(problem: Problem, state: State) -> tuple[Mixture, Mixture]:
    """Proposal and target in the coordinates of the state."""
    means = np.array(state.means)
    modes = np.zeros((len(problem.target.means), means.shape[1]))
    modes[:, : problem.target.coordinates] = problem.target.means
    target = Mixture(modes, problem.target.weights, problem.target.scales)
    return Mixture(means, state.proposal.weights, state.proposal.scales), target


def velocity_by_grid(problem: Problem, state: State, tolerance: float | None = None) -> GridVelocity:
    proposal, target = mixtures(problem, state)
    means, weights, scales = (np.asarray(part, float) for part in proposal[:3])
    dimension, learn = means.shape[1], problem.flow.learn
    gradient = kl_gradient(
        proposal, target, state.beta, tolerance or TOLERANCE[dimension], objective_of_particles(problem)
    )
    descent = -gradient.means
    if problem.flow.manifold == "sphere":
        descent = descent - means * np.sum(means * descent, axis=1, keepdims=True) / np.sum(
            means**2, axis=1, keepdims=True
        )
    return GridVelocity(
        descent * ("means" in learn),
        weights * (weights @ gradient.logits - gradient.logits) * ("weights" in learn),
        -scales * gradient.log_scales * ("scales" in learn),
        gradient,
        max(2.0, dimension**0.5, scales.max()) * gradient.error + ROUNDING,
    )


def logit_rates(weights: np.ndarray, weight_rates: np.ndarray) -> np.ndarray:
    """dθ/dt from dw_i/dt = w_i (dθ_i/dt − Σ_j w_j dθ_j/dt).

    The components of a gradient along softmax logits sum to zero, which fixes the constant.
    """
    relative = np.asarray(weight_rates) / np.asarray(weights)
    return relative - relative.mean()
