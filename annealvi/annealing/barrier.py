"""The barrier between the modes of a target of unknown separation, from log p* itself, and the temperature to begin
annealing at."""

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
"""T0 in heights of the barrier: between modes of log p* = −height/T0 the tempered target falls by e^{−1/2} alone."""
DIP = 0.1
"""Maxima that less than this in log p* parts count as one: no schedule need care."""
POINTS, ZOOMS = 65, 3
"""Of a segment, and how often the two intervals about its lowest point are looked at anew."""


@dataclass(frozen=True)
class Barrier:
    """What a search has seen of a log p*.

    modes: (K, d) the maxima found, the highest first. log_p: (K,) log p* there. hits: (K,) how many starts ended at
    each; where some were hit once, others were probably not hit. valleys: (K, K) the lowest log p* on the straight
    segment between each two. height: how far log p* falls from its highest maximum on the way, from mode to mode along
    straight segments, that joins all of them and falls least. Between the modes found it is an upper bound, as a curved
    way may fall less; 0 for one mode.
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
        """Twice the height, and at least 1. Raises BadInput where one maximum was found, which is no proof that there
        is no other."""
        if len(self.modes) == 1:
            found = f"one maximum was found from {self.hits[0]} starts, and so no barrier"
            raise BadInput(
                "starts", found, "give more of them and wider ones; if p* has one mode, it needs no annealing", ""
            )
        return max(1.0, HOTTER * self.height)


@checked
def find_barrier(log_density: Callable, starts: np.ndarray, gradient: Callable | None = None) -> Barrier:
    """Climb log p* from each start by L-BFGS, and look along the straight segments between the maxima.

    log_density: log p* up to a constant, from points (n, d) of NumPy to (n,) of any library; finite everywhere. starts:
    (m, d) points as wide as the modes may lie, draws from a broad normal law, say: a mode that no start leads to is not
    seen. gradient: ∇log p*, from (n, d) to (n, d); by default central differences, for which each step of a climb takes
    2 d + 1 points. A wall thinner than a 64th of a segment may be missed. Energies alone count: where modes differ much
    in width, as seen in many dimensions, height and weight have little to do with each other.

    Raises BadInput for starts of another shape, and where log p* or its gradient is of another shape or not finite.

    >>> log_density = lambda x: np.logaddexp(-0.5 * (x[:, 0] - 3) ** 2, -0.5 * (x[:, 0] + 3) ** 2)
    >>> found = find_barrier(log_density, [[5.0], [-1.0], [0.5]])
    >>> found.hits, round(found.height, 3)  # 9/2 less log 2
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
    """The function with what it gives held to (n, *tail) finite numbers."""

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
    """The point at which L-BFGS ends: a maximum, or as near to one as the precision of `values` lets it come."""
    d, precision = len(start), float(np.finfo(values(start[None]).dtype).eps)

    def fall(x: np.ndarray) -> tuple[float, np.ndarray]:
        if slopes is not None:
            return -float(values(x[None])[0]), -slopes(x[None])[0].astype(float)
        steps = np.cbrt(precision) * np.maximum(1, np.abs(x))
        found = values(np.concatenate([x[None], x + np.diag(steps), x - np.diag(steps)])).astype(float)
        return -found[0], (found[1 + d :] - found[1 : 1 + d]) / (2 * steps)

    return minimize(fall, start, jac=True, method="L-BFGS-B", options={"ftol": max(1e-9, 10 * precision)}).x


def _valley(values: Function, one: np.ndarray, other: np.ndarray) -> float:
    """The lowest value on the segment between two points."""
    low, high = 0.0, 1.0
    for _ in range(ZOOMS):
        shares = np.linspace(low, high, POINTS)
        found = values(one + shares[:, None] * (other - one))
        lowest = int(found.argmin())
        low, high = shares[max(0, lowest - 1)], shares[min(POINTS - 1, lowest + 1)]
    return float(found.min())
