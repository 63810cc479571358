"""Zeros of the velocity: a damped Newton iteration for many starts side by side, and the starts."""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy.special import logsumexp

from annealvi.fixed_points.mean_flow import MeanFlow
from derive.objects.parameters import SCALES, WEIGHTS
from derive.objects.states import StateKind

ITERATIONS = 60
RESOLVED = 1e-12
"""A velocity below this value, relative to the forces that cancel in it, counts as zero: some hundred times the
rounding of the forces.
"""
LEAST_DAMPING = 1e-8
"""Least damping, relative to the forces. It keeps the iteration from drifting at random along rotations about the
modes, along which nothing changes.
"""
LARGEST_STEP = 0.5
"""Largest step of one component: an angle in radians, or a change of a logarithm."""
FARTHEST = 1.5
"""Largest length of random means off spheres, in the flow's unit of length."""
JITTERS = 0.02, 0.2
"""How far structured starts are moved off the invariant manifolds on which they lie: a little for components that
split, and more for others.
"""


def zeros_near(flow: MeanFlow, beta: np.ndarray | float, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find zeros of the velocity, of whatever stability, from starts (N, L, p + n).

    Returns the places (N, L, p + n) and the relative velocity (N,) left there. beta is one number, or an array (N,).
    The method is Levenberg–Marquardt, in the eigenbasis of the symmetric linearisation. Where the relative velocity is
    above RESOLVED, no zero was found; it is infinite at a place that the flow does not cover.
    """
    places = starts.copy()
    betas = np.broadcast_to(beta, len(places)).astype(float)
    velocity, basis = flow.tangent_velocity(betas, places)
    if velocity.shape[1] == 0:
        return places, np.zeros(len(places))
    units = flow.units(basis.shape[-1])
    strength = np.maximum(flow.strength(betas, places), np.finfo(float).tiny)
    left = np.linalg.norm(velocity, axis=1)
    damping = 0.1 * strength
    rates, directions = _eigen(flow, betas, places, basis)
    active = np.flatnonzero(left > 0.1 * RESOLVED * strength)
    for _ in range(ITERATIONS):
        if len(active) == 0:
            break
        slopes = np.einsum("nde,nd->ne", directions[active], velocity[active])
        rate, level = rates[active], damping[active, None]
        step = -np.einsum("nde,ne->nd", directions[active], slopes * rate / (rate**2 + level**2))
        sizes = np.linalg.norm(step.reshape(-1, *units.shape) / units, axis=2)
        step *= np.minimum(1.0, LARGEST_STEP / np.maximum(sizes.max(1), 1e-300))[:, None]
        trial = flow.moved(places[active], basis[active], step)
        if flow.learned:
            covered = flow.is_covered(trial)
            places[active[~covered]], left[active[~covered]] = trial[~covered], np.inf
            active, trial = active[covered], trial[covered]
        trial_velocity, trial_basis = flow.tangent_velocity(betas[active], trial)
        trial_left = np.linalg.norm(trial_velocity, axis=1)
        better = trial_left < left[active]
        moved, stuck = active[better], active[~better]
        places[moved], velocity[moved], basis[moved], left[moved] = (
            trial[better],
            trial_velocity[better],
            trial_basis[better],
            trial_left[better],
        )
        strength[moved] = np.maximum(flow.strength(betas[moved], places[moved]), np.finfo(float).tiny)
        damping[moved] = np.maximum(0.1 * damping[moved], LEAST_DAMPING * strength[moved])
        damping[stuck] *= 5
        rates[moved], directions[moved] = _eigen(flow, betas[moved], places[moved], basis[moved])
        active = active[(left[active] > 0.1 * RESOLVED * strength[active]) & (damping[active] < 1e3 * strength[active])]
    return places, left / strength


def _eigen(flow: MeanFlow, betas: np.ndarray, places: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    slopes = flow.linearisation(betas, places, basis)
    return tuple(np.linalg.eigh((slopes + slopes.transpose(0, 2, 1)) / 2))  # type: ignore[return-value]


def starts(flow: MeanFlow, beta: float, orthogonal: int, count: int, random: np.random.Generator) -> np.ndarray:
    """Return places (N, L, p + r + orthogonal) to start from.

    The first `count` means are uniform, on their spheres or in a ball. Then components are placed near modes, their
    opposites, orthogonal axes and, off spheres, the origin, in all ways or in 2 `count` ways at random, each of them
    twice (see JITTERS), first with equal weights and equal scales. All other logarithms are random.
    """
    n, size = flow.span + orthogonal, len(flow.radii)
    uniform = random.normal(size=(count, size, n))
    choices, axes = _axes(flow, orthogonal, count, random)
    structured = [axes[choices] + jitter * random.normal(size=(*choices.shape, n)) for jitter in JITTERS]
    if flow.on_spheres:
        means = np.concatenate([uniform, *structured])
        means = flow.radii[:, None] * means / np.linalg.norm(means, axis=-1, keepdims=True)
    else:
        lengths = random.uniform(0, FARTHEST, size=(count, size, 1))
        means = np.concatenate([lengths * uniform / np.linalg.norm(uniform, axis=-1, keepdims=True), *structured])
        means *= flow.radii[:, None]
    number = np.arange(len(means))
    alike = (count <= number) & (number < count + len(choices))
    return np.concatenate([_logarithms(flow, beta, alike, random), means], axis=-1)


def _axes(flow: MeanFlow, orthogonal: int, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return which axis each component starts at, shape (N, L), and the axes (A, r + orthogonal).

    Axes are unit vectors on spheres; off spheres, modes are in the flow's unit of length.
    """
    n, size = flow.span + orthogonal, len(flow.radii)
    modes = np.pad(flow.all_modes, ((0, 0), (0, orthogonal)))
    axes = np.concatenate([modes if flow.on_spheres else modes / flow.radii.max(), np.eye(n)[flow.span :]])
    axes = axes[np.linalg.norm(axes, axis=1) > 0]
    axes = np.concatenate([axes, -axes])
    if flow.on_spheres:
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    else:
        axes = np.concatenate([axes, np.zeros((1, n))])
    axes = axes[np.sort(np.unique(axes.round(9), axis=0, return_index=True)[1])]
    return _choices(len(axes), size, 2 * count, random), axes


def _logarithms(flow: MeanFlow, beta: float, alike: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return random log weights and log scales, shape (N, L, p), equal for all components where `alike` (N,).

    A component alone under a mode of scale σ* has the scale σ*/√β at rest, and one that lies over many modes a wider
    one.
    """
    size = len(alike), len(flow.radii)
    columns = []
    if WEIGHTS in flow.learned:
        logs = random.normal(size=size) * ~alike[:, None]
        columns.append(logs - logsumexp(logs, axis=1, keepdims=True))
    problem = flow.session.problem
    along_axis = tuple(math.sqrt(matrix[0][0]) for matrix in problem.mode_covariances)
    shapes = {SCALES: problem.target.scales, StateKind.COVARIANCE: along_axis}
    for scales in (shapes[parameter] for parameter in flow.learned if parameter in shapes):
        low, high = math.log(min(scales)), math.log(max(scales)) - math.log(beta) / 2
        common = random.uniform(low - 0.3, high + 0.3, size=(len(alike), 1))
        columns.append(common + random.uniform(-0.3, 0.3, size=size) * ~alike[:, None])
    return np.stack(columns, axis=-1) if columns else np.zeros((*size, 0))


def _choices(axes: int, size: int, most: int, random: np.random.Generator) -> np.ndarray:
    """Return the axis at which each component starts, shape (N, L): all ways, or `most` ways at random."""
    if axes**size <= most:
        return np.array(list(itertools.product(range(axes), repeat=size))).reshape(-1, size)
    return random.integers(axes, size=(most, size))
