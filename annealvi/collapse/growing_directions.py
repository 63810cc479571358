"""The directions of small initial overlaps that the flow amplifies, and by how much.

In many dimensions the initial overlaps of independent means are small and Gaussian: those between unit means and the
unit vectors of the modes' span, and those between two unit means, all have variance 1/d. The path of infinitely many
dimensions begins with none of them. Around this path deviations obey a linear flow. Those that it damps play no part to
leading order; what decides which modes are missed is the others' direction, and their size against their growth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from annealvi.session.session import Session
from derive.objects.short_repr import short_repr
from kernels.integrate.kernel import Kernel

SMALL = 1e-4
"""The deviations whose paths are followed. Central differences are off by their square times the square of the growth:
1e-3 where deviations have grown three hundredfold.
"""
RTOL = 1e-8
"""Its error, relative to SMALL, is a tenth of that of the differences."""
TIMES = 256
"""Number of times at which deviations are compared."""
LOOKED_AT_ONCE = 16
"""Number of times between two looks at whether the deviations are still small."""
GREW = 1 + SMALL
"""Deviations that nowhere exceed this multiple of their first size are damped. One, but for the differences' error."""


@dataclass(frozen=True)
class InitialOverlaps:
    """Initial overlaps as coordinates, which in d dimensions have variance 1/d.

    The first L·r coordinates are the cosines of each mean with orthonormal vectors that span the modes, and the others
    the cosines of pairs of means.

    Attributes
    ----------
    session : Session
        The problem.
    """

    session: Session

    __repr__ = short_repr

    @cached_property
    def components(self) -> int:
        """L, the number of means."""
        return len(self.session.problem.proposal.weights)

    @cached_property
    def independent_modes(self) -> np.ndarray:
        """Independent modes in orthonormal coordinates of their span, shape (r, r)."""
        modes = self.session.modes(len(self.session.problem.target.means[0]))
        independent = modes[list(self.session.symbolic.independent_modes)]
        return np.linalg.qr(independent.T)[1].T if len(independent) else np.zeros((0, 0))

    @property
    def count(self) -> int:
        """Number of coordinates."""
        L = self.components
        return L * len(self.independent_modes) + L * (L - 1) // 2

    @property
    def least_dimension(self) -> int:
        """The fewest dimensions in which every small deviation is possible."""
        return len(self.independent_modes) + self.components

    def cosines(self, coordinates: np.ndarray) -> np.ndarray:
        """Return Gram matrices (n, r + L, r + L) of orthonormal vectors and unit means, at coordinates (n, count)."""
        L, r = self.components, len(self.independent_modes)
        gram = np.tile(np.eye(r + L), (len(coordinates), 1, 1))
        gram[:, r:, :r] = coordinates[:, : L * r].reshape(len(coordinates), L, r)
        rows, columns = np.tril_indices(L, -1)
        gram[:, r + rows, r + columns] = coordinates[:, L * r :]
        return gram + np.tril(gram, -1).swapaxes(1, 2)

    def states(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the states (n, states) at coordinates (n, count)."""
        r = len(self.independent_modes)
        vectors = np.zeros((r + self.components,) * 2)
        vectors[:r, :r] = self.independent_modes
        vectors[r:, r:] = np.diag(self.session.problem.proposal.radii)
        return self.session.states_of_gram(vectors @ self.cosines(coordinates) @ vectors.T)

    def log_density(self, coordinates: np.ndarray, dimension: int) -> np.ndarray:
        """Return the logarithm of the density in d dimensions (n,), up to a constant, at possible coordinates."""
        exponent = (dimension - self.least_dimension - 1) / 2
        return exponent * np.linalg.slogdet(self.cosines(coordinates))[1]

    @cached_property
    def measure(self) -> np.ndarray:
        """The linear map from deviations of states to coordinates, followed by the states that have none."""
        origin = self.states(np.zeros((1, self.count)))
        slopes = (self.states(np.eye(self.count)) - origin).T
        moved = np.any(slopes != 0, axis=1)
        return np.concatenate([np.linalg.pinv(slopes), np.eye(len(slopes))[~moved]])


@dataclass(frozen=True)
class GrowingDirections:
    """The deviations that the flow amplifies while they are small.

    Attributes
    ----------
    overlaps : InitialOverlaps
        The coordinates.
    directions : ndarray
        Shape (m, coordinates). Orthonormal, by falling growth.
    growth : ndarray
        Shape (m,). Λ, the logarithm of the largest growth of each direction.
    until : float
        The time to which the deviations are small, in units of the flow's time.
    damped : float
        The logarithm of the largest growth of all other directions: zero, as at the start, but for numerical error.
    """

    overlaps: InitialOverlaps
    directions: np.ndarray
    growth: np.ndarray
    until: float
    damped: float

    __repr__ = short_repr


def growing_directions(session: Session, kernel: Kernel, t_end: float, most: float) -> GrowingDirections:
    """Find the directions of initial overlaps that grow before any has grown by a factor `most`, or until t_end.

    The first direction is the one with the largest growth at any time, the next one the same among those orthogonal to
    it, and so on; what is left has nowhere grown. `most` is √d: deviations of 1/√d are then of order one.
    """
    overlaps = InitialOverlaps(session)
    count = overlaps.count
    deviations = SMALL * np.concatenate([np.eye(count), -np.eye(count)])
    y = overlaps.states(np.concatenate([np.zeros((1, count)), deviations]))
    times = np.linspace(0.0, t_end, TIMES + 1)
    maps, until = [overlaps.measure @ _differences(y)], 0.0
    for first in range(0, TIMES, LOOKED_AT_ONCE):
        part = times[first : first + LOOKED_AT_ONCE + 1]
        paths = kernel.integrate(y, part, rtol=RTOL, atol=RTOL * SMALL).y
        for time, states in zip(part[1:], paths[:, 1:].swapaxes(0, 1), strict=True):
            grown = overlaps.measure @ _differences(states)
            maps.append(grown)
            until = float(time)
            if np.linalg.norm(grown, 2) >= most:
                return _by_growth(overlaps, np.array(maps), until)
        y = paths[:, -1]
    return _by_growth(overlaps, np.array(maps), until)


def _by_growth(overlaps: InitialOverlaps, maps: np.ndarray, until: float) -> GrowingDirections:
    """Take the direction that grows most, then the same orthogonal to those taken, as long as it grows.

    maps: those from coordinates to deviations, by time, shape (times, measured, coordinates).
    """
    found: list[np.ndarray] = []
    growth: list[float] = []
    rest = np.eye(overlaps.count)
    while len(rest):
        _, sizes, directions = np.linalg.svd(maps @ rest.T, full_matrices=False)
        largest = int(sizes[:, 0].argmax())
        growth.append(float(np.log(sizes[largest, 0])))
        if sizes[largest, 0] <= GREW:
            break
        found.append(directions[largest, 0] @ rest)
        rest = rest[:0] if len(found) == overlaps.count else _complement(np.array(found))
    m = len(found)
    directions = np.array(found).reshape(m, overlaps.count)
    return GrowingDirections(overlaps, directions, np.array(growth[:m]), until, growth[m] if len(growth) > m else 0.0)


def _complement(rows: np.ndarray) -> np.ndarray:
    """Return orthonormal rows that span what is orthogonal to the given orthonormal rows."""
    return np.linalg.svd(rows)[2][len(rows) :]


def _differences(states: np.ndarray) -> np.ndarray:
    """Central differences (states, coordinates) of a path and those around it (1 + 2 coordinates, states)."""
    count = len(states) // 2
    return (states[1 : count + 1] - states[count + 1 :]).T / (2 * SMALL)
