"""Zeros of the means' velocity: a damped Newton iteration for many starts side by side, and the starts."""

from __future__ import annotations

import itertools

import numpy as np

from annealvi.fixed_points.mean_flow import MeanFlow, retract

ITERATIONS = 60
RESOLVED = 1e-12
"""A velocity below this value, relative to the forces that cancel in it, counts as zero: some hundred times the
rounding of the forces.
"""
LEAST_DAMPING = 1e-8
"""Least damping, relative to the forces. It keeps the iteration from drifting at random along rotations about the
modes, along which nothing changes.
"""
LARGEST_ANGLE = 0.5
JITTERS = 0.02, 0.2
"""How far structured starts are moved off the invariant manifolds on which they lie: a little for components that
split, and more for others.
"""


def zeros_near(flow: MeanFlow, beta: np.ndarray | float, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find zeros of the velocity, of whatever stability, from starts (N, L, n).

    Returns the means (N, L, n) and the relative velocity (N,) left there. beta is one number, or an array (N,). The
    method is Levenberg–Marquardt, in the eigenbasis of the symmetric linearisation. Where the relative velocity is
    above RESOLVED, no zero was found.
    """
    means = starts.copy()
    betas = np.broadcast_to(beta, len(means)).astype(float)
    size, n = means.shape[1:]
    if n == 1:
        return means, np.zeros(len(means))
    strength = np.maximum(flow.strength(betas, means), np.finfo(float).tiny)
    velocity, basis = flow.tangent_velocity(betas, means)
    left = np.linalg.norm(velocity, axis=1)
    damping = 0.1 * strength
    rates, directions = _eigen(flow, betas, means, basis)
    active = np.flatnonzero(left > 0.1 * RESOLVED * strength)
    for _ in range(ITERATIONS):
        if len(active) == 0:
            break
        slopes = np.einsum("nde,nd->ne", directions[active], velocity[active])
        rate, level = rates[active], damping[active, None]
        step = -np.einsum("nde,ne->nd", directions[active], slopes * rate / (rate**2 + level**2))
        angles = np.linalg.norm(step.reshape(len(active), size, n - 1), axis=2) / flow.radii
        step *= np.minimum(1.0, LARGEST_ANGLE / np.maximum(angles.max(1), 1e-300))[:, None]
        trial = retract(means[active], basis[active], step, flow.radii)
        trial_velocity, trial_basis = flow.tangent_velocity(betas[active], trial)
        trial_left = np.linalg.norm(trial_velocity, axis=1)
        better = trial_left < left[active]
        moved, stuck = active[better], active[~better]
        means[moved], velocity[moved], basis[moved], left[moved] = (
            trial[better],
            trial_velocity[better],
            trial_basis[better],
            trial_left[better],
        )
        strength[moved] = np.maximum(flow.strength(betas[moved], means[moved]), np.finfo(float).tiny)
        damping[moved] = np.maximum(0.1 * damping[moved], LEAST_DAMPING * strength[moved])
        damping[stuck] *= 5
        rates[moved], directions[moved] = _eigen(flow, betas[moved], means[moved], basis[moved])
        active = active[(left[active] > 0.1 * RESOLVED * strength[active]) & (damping[active] < 1e3 * strength[active])]
    return means, left / strength


def _eigen(flow: MeanFlow, betas: np.ndarray, means: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    slopes = flow.linearisation(betas, means, basis)
    return tuple(np.linalg.eigh((slopes + slopes.transpose(0, 2, 1)) / 2))  # type: ignore[return-value]


def starts(flow: MeanFlow, orthogonal: int, count: int, random: np.random.Generator) -> np.ndarray:
    """Return means (N, L, r + orthogonal) to start from.

    The first `count` are uniform. Then components are placed near modes, their opposites and orthogonal axes, in all
    ways or in 2 `count` ways at random, each of them twice (see JITTERS).
    """
    n, size = flow.span + orthogonal, len(flow.radii)
    uniform = random.normal(size=(count, size, n))
    axes = np.concatenate([np.pad(flow.all_modes, ((0, 0), (0, orthogonal))), np.eye(n)[flow.span :]])
    axes = axes[np.linalg.norm(axes, axis=1) > 0]
    axes = np.concatenate([axes, -axes])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    axes = axes[np.sort(np.unique(axes.round(9), axis=0, return_index=True)[1])]
    choices = _choices(len(axes), size, 2 * count, random)
    structured = [axes[choices] + jitter * random.normal(size=(*choices.shape, n)) for jitter in JITTERS]
    means = np.concatenate([uniform, *structured])
    return flow.radii[:, None] * means / np.linalg.norm(means, axis=-1, keepdims=True)


def _choices(axes: int, size: int, most: int, random: np.random.Generator) -> np.ndarray:
    """Return the axis at which each component starts, shape (N, L): all ways, or `most` ways at random."""
    if axes**size <= most:
        return np.array(list(itertools.product(range(axes), repeat=size))).reshape(-1, size)
    return random.integers(axes, size=(most, size))
