"""One step along a curve of fixed points in (place, log T): predictor and Newton corrections.

The predictor goes along the tangent, and the corrections are orthogonal to the tangent.

The curve's parameter is its arclength, in which angles of the means, logarithms of the components and log T count
alike. So a step passes folds. In the embedding of the means it also passes the point where the curve loses a dimension
and goes on into its own mirror image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from annealvi.fixed_points.mean_flow import MeanFlow
from annealvi.fixed_points.spectra import idle_motions

CORRECTIONS = 8
CONVERGED = 1e-11
"""Velocity left after the corrections, relative to the forces. It is ten times what the search asks for, because the
linearisation here is a difference of second order.
"""
SINGULAR = 1e-6
"""Smallest singular value of a correction, relative to the largest; differences of second order know it to some 1e-7.
Below it, at a branch point, a correction would be rounding over zero, and lead to another branch. It is that of equal
weights: the forces on a component are proportional to its weight.
"""


@dataclass(frozen=True)
class PathPoint:
    """A point of the curve, with its unit tangent.

    `place` has shape (L, p + n), at log temperature `log_t`. The tangent's part in the flow's units, such as angles, is
    `direction`, shape (L, p + n), and its part in log T is `slope`. `corrections` is the number of Newton corrections.
    """

    place: np.ndarray
    log_t: float
    direction: np.ndarray
    slope: float
    corrections: int = 0

    @property
    def beta(self) -> float:
        """The inverse temperature."""
        return math.exp(-self.log_t)

    def reversed(self) -> PathPoint:
        """Return the same point with the opposite tangent."""
        return PathPoint(self.place, self.log_t, -self.direction, -self.slope)


def on_path(flow: MeanFlow, place: np.ndarray, log_t: float) -> PathPoint:
    """Return the point at a fixed point's place (L, p + n), with the tangent towards higher temperatures."""
    tangent = _tangent(flow, place, log_t, np.zeros_like(place), 1.0)
    return PathPoint(place, log_t, *tangent)


def advance(flow: MeanFlow, start: PathPoint, length: float) -> PathPoint | None:
    """Return the point at arclength `length` from the start along its tangent.

    Returns None where the corrections do not converge.
    """
    basis = flow.basis(start.place)
    step = length * flow.units(basis.shape[-1]) * np.einsum("inm,in->im", basis, start.direction)
    predicted = flow.moved(start.place, basis, step.ravel())
    found = _corrected(flow, predicted, start.log_t + length * start.slope, start.direction, start.slope)
    if found is None:
        return None
    place, log_t, corrections = found
    direction, slope = _tangent(flow, place, log_t, start.direction, start.slope)
    return PathPoint(place, log_t, direction, slope, corrections)


def _linear_parts(
    flow: MeanFlow, place: np.ndarray, log_t: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return velocity, derivative, basis and directions that change a state.

    The place has D = L(p + m) coordinates, and D' of the directions change a state. The velocity has shape (D'), the
    derivative by coordinates, in the flow's units, and log T (D', D' + 1), the basis (L, p + n, p + m), and the
    directions (D, D').
    """
    beta = math.exp(-log_t)
    velocity, basis = flow.tangent_velocity(beta, place[None])
    units = flow.units(basis.shape[-1]).ravel()
    slopes = flow.linearisation(beta, place[None], basis)[0]
    # The velocity is affine in beta, and d/d(log T) = −β d/dβ.
    by_log_t = flow.tangent_velocity(0.0, place[None])[0][0] - velocity[0]
    idle = idle_motions(flow, place, basis[0]) / units[:, None]
    rest = np.linalg.qr(idle, mode="complete")[0][:, idle.shape[1] :] if idle.shape[1] else np.eye(len(units))
    matrix = np.column_stack([rest.T @ (slopes * units) @ rest, rest.T @ by_log_t])
    return rest.T @ velocity[0], matrix, basis[0], rest


def _in_coordinates(direction: np.ndarray, slope: float, basis: np.ndarray, rest: np.ndarray) -> np.ndarray:
    return np.append(rest.T @ np.einsum("inm,in->im", basis, direction).ravel(), slope)


def _tangent(
    flow: MeanFlow, place: np.ndarray, log_t: float, direction: np.ndarray, slope: float
) -> tuple[np.ndarray, float]:
    """Return the curve's unit tangent, on the side of the given direction."""
    _, matrix, basis, rest = _linear_parts(flow, place, log_t)
    null = np.linalg.svd(matrix)[2][-1]
    if null @ _in_coordinates(direction, slope, basis, rest) < 0:
        null = -null
    parts = (rest @ null[:-1]).reshape(len(place), -1)
    return np.einsum("inm,im->in", basis, parts), float(null[-1])


def _corrected(
    flow: MeanFlow, place: np.ndarray, log_t: float, direction: np.ndarray, slope: float
) -> tuple[np.ndarray, float, int] | None:
    for n in range(CORRECTIONS):
        velocity, matrix, basis, rest = _linear_parts(flow, place, log_t)
        strength = float(flow.strength(math.exp(-log_t), place[None])[0])
        if np.linalg.norm(velocity) <= CONVERGED * strength:
            return place, log_t, n
        square = np.vstack([matrix, _in_coordinates(direction, slope, basis, rest)])
        lightest = math.exp(-np.ptp(flow.log_weights(place[None])))
        step = np.linalg.lstsq(square, np.append(-velocity, 0.0), rcond=SINGULAR * lightest)[0]
        if not np.linalg.norm(step) < 1:
            return None
        moves = flow.units(basis.shape[-1]).ravel() * (rest @ step[:-1])
        place, log_t = flow.moved(place, basis, moves), log_t + float(step[-1])
    return None
