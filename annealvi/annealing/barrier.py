"""The barrier between the modes of a target, found from log p* itself, and the start temperature that follows from it.

This serves targets whose separation is not known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse.csgraph import minimum_spanning_tree

from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked
from derive.problem.specification import BadInput

Function = Callable[[np.ndarray], np.ndarray]

HOTTER = 2.0
"""T0 in heights of the barrier. At T0 = 2 heights the tempered target falls between the modes only by e^{−1/2}."""
DIP = 0.1
"""Maxima separated by a smaller fall of log p* than this count as one, because such a dip traps no component."""
POINTS, ZOOMS = 65, 3
"""The points on a segment, and how often the search repeats in the two intervals about the segment's lowest point."""


@dataclass(frozen=True)
class Barrier:
    """The modes of a target that a search has found, and the barrier between them.

    Attributes
    ----------
    modes : numpy.ndarray, shape (K, d)
        The maxima found, the highest first.
    log_p : numpy.ndarray, shape (K,)
        log p* at the maxima.
    hits : numpy.ndarray of int, shape (K,)
        The number of starts that ended at each maximum. Where some maxima were hit only once, others were probably
        missed.
    valleys : numpy.ndarray, shape (K, K)
        The lowest log p* on the straight segment between each two maxima; log p* itself on the diagonal.
    height : float
        How far log p* falls below its highest maximum along straight segments that join all modes found, for the choice
        of segments that falls least. A curved path may fall less, so this is an upper bound for the modes found. It is
        0 for one mode.
    """

    modes: np.ndarray
    log_p: np.ndarray
    hits: np.ndarray
    valleys: np.ndarray
    height: float

    SHOWN = ("modes", "log_p", "hits", "height")
    __repr__ = short_repr

    @property
    def T0(self) -> float:
        """The start temperature: twice the height, and at least 1.

        Raises `BadInput` where only one maximum was found, because that does not prove that there is no other.
        """
        if len(self.modes) == 1:
            found = f"one maximum was found from {self.hits[0]} starts, and so no barrier"
            raise BadInput(
                "starts", found, "give more of them and wider ones; if p* has one mode, it needs no annealing", ""
            )
        return max(1.0, HOTTER * self.height)


@checked
def find_barrier(log_density: Callable, starts: np.ndarray, gradient: Callable | None = None) -> Barrier:
    """Find the modes of a target and the barrier between them.

    L-BFGS climbs log p* from each start, and the barrier is sought along the straight segments between the maxima.

    Parameters
    ----------
    log_density : callable
        log p* up to a constant, finite everywhere: from NumPy points of shape (n, d) to n values, shape (n,), of any
        library.
    starts : array_like, shape (m, d)
        Points that are spread as widely as the modes may lie, such as draws from a broad normal law. A mode to which no
        start leads is not seen.
    gradient : callable, optional
        ∇log p*, from (n, d) to (n, d). Without it, central differences take 2 d + 1 points for each step of a climb.

    Returns
    -------
    Barrier
        The modes, the valleys between them, and the barrier's height.

    Raises
    ------
    BadInput
        For starts of another shape, and where log p* or its gradient is not finite or has another shape.

    Notes
    -----
    A wall thinner than 1/64 of a segment may be missed. Only the values of log p* count: where the modes differ much in
    width, as happens in many dimensions, the height of a mode says little about its weight.

    Examples
    --------
    Two unit Gaussians at ±3 have a barrier of 9/2 − log 2.

    >>> import numpy as np
    >>> from annealvi import find_barrier
    >>> def log_density(x):
    ...     return np.logaddexp(-0.5 * (x[:, 0] - 3) ** 2, -0.5 * (x[:, 0] + 3) ** 2)
    >>> found = find_barrier(log_density, [[5.0], [-1.0], [0.5]])
    >>> found.hits, round(found.height, 3)
    (array([2, 1]), 3.807)
    """
    points = np.array(starts, dtype=float)
    if points.ndim != 2 or not points.size or not np.isfinite(points).all():
        raise BadInput("starts", f"an array of shape {points.shape}, or not finite", "give some points, (m, d)", "")
    values = _evaluating("log_density", log_density, points[:, 0].shape[1:])
    slopes = None if gradient is None else _evaluating("gradient", gradient, points.shape[1:])
    ends = np.array([_climb(values, slopes, start) for start in points])
    heights = values(ends)
    modes: list[int] = []
    hits: list[int] = []
    for n in np.argsort(-heights, kind="stable"):
        nearest_first = np.argsort(np.linalg.norm(ends[modes] - ends[n], axis=1)) if modes else ()
        same = next((k for k in nearest_first if heights[n] - _valley(values, ends[modes[k]], ends[n]) < DIP), None)
        if same is None:
            modes.append(n)
            hits.append(1)
        else:
            hits[same] += 1
    log_p = heights[modes]
    valleys = np.diag(log_p)
    for i in range(len(modes)):
        for j in range(i):
            valleys[i, j] = valleys[j, i] = _valley(values, ends[modes[i]], ends[modes[j]])
    falls = minimum_spanning_tree(log_p[0] - valleys).data
    return Barrier(ends[modes], log_p, np.array(hits), valleys, float(falls.max(initial=0.0)))


def _evaluating(name: str, function: Callable, tail: tuple[int, ...]) -> Function:
    """The function with its results checked: `BadInput` unless they are finite numbers of shape (n, *tail)."""

    def evaluated(points: np.ndarray) -> np.ndarray:
        found = np.asarray(function(points))
        wanted = (len(points), *tail)
        if found.shape != wanted or found.dtype.kind not in "fiu":
            raise BadInput(
                name,
                f"of {len(points)} points it is a {found.dtype} of shape {found.shape}",
                f"let it be of {wanted}",
                "",
            )
        if not np.isfinite(found).all():
            where = points[np.flatnonzero(~np.isfinite(found).reshape(len(points), -1).all(1))[0]]
            coordinates = ", ".join(f"{x:.4g}" for x in where[:3]) + (", …" if len(where) > 3 else "")
            raise BadInput(
                name, f"not finite at ({coordinates})", "give coordinates in which p* is positive everywhere", ""
            )
        return found

    return evaluated


def _climb(values: Function, slopes: Function | None, start: np.ndarray) -> np.ndarray:
    """The point at which L-BFGS ends: a maximum, as exactly as the precision of `values` allows."""
    d, precision = len(start), float(np.finfo(values(start[None]).dtype).eps)

    def fall(x: np.ndarray) -> tuple[float, np.ndarray]:
        if slopes is not None:
            return -float(values(x[None])[0]), -slopes(x[None])[0].astype(float)
        steps = np.cbrt(precision) * np.maximum(1, np.abs(x))
        found = values(np.concatenate([x[None], x + np.diag(steps), x - np.diag(steps)])).astype(float)
        return -found[0], (found[1 + d :] - found[1 : 1 + d]) / (2 * steps)

    return minimize(fall, start, jac=True, method="L-BFGS-B", options={"ftol": max(1e-9, 10 * precision)}).x


def _valley(values: Function, one: np.ndarray, other: np.ndarray) -> float:
    """The lowest value found on the segment between two points."""
    low, high = 0.0, 1.0
    for _ in range(ZOOMS):
        shares = np.linspace(low, high, POINTS)
        found = values(one + shares[:, None] * (other - one))
        lowest = int(found.argmin())
        low, high = shares[max(0, lowest - 1)], shares[min(POINTS - 1, lowest + 1)]
    return float(found.min())
