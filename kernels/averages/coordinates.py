"""The few coordinates in which a group's moments can be tabulated, and the logits as functions of them.

As many invariants of the logits are coordinates as are independent. They are chosen such that they fill a box: states
themselves where the covariances do not vary or where there is but one state; else standard deviations of logits, the
cosines between pairs of these, and means of logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import sympy as sp

from kernels.averages.moment_sums import Coefficients
from kernels.lower.invariants import Invariants
from kernels.lower.lattice import Group, Moment

MOST_COORDINATES = 3
SAME = 1e-11
"""Numbers of logits that agree to this relative difference are the same."""
INDEPENDENT = 1e-9
"""An invariant that differs from a combination of others by less than this share of its range depends on them."""
NEGATIVE = 1e-9
"""How far below zero, relative to the largest, a variance may come by rounding."""


@dataclass(frozen=True)
class Logits:
    """The invariants of a group at given parameters, as affine functions of the basic ones.

    Attributes
    ----------
    offsets
        (C, 1 + n): the constant, then the coefficients of the n basic invariants.
    covariances
        (C, C, 1 + n), likewise.
    constants
        (2, C): curvatures, and slopes in the χ² variable.
    normals
        The number of normal variables.
    degrees
        The degrees of freedom of the χ² variable, or None.
    moments
        The moments of the group.
    """

    offsets: np.ndarray
    covariances: np.ndarray
    constants: np.ndarray
    normals: int
    degrees: float | None
    moments: tuple[Moment, ...]

    @property
    def numbers(self) -> tuple:
        """What decides the moments as functions of the basic invariants."""
        arrays = (self.offsets, self.covariances, self.constants)
        return *(a.tolist() for a in arrays), self.normals, self.degrees, self.moments

    def same(self, other: Logits) -> bool:
        """Whether the moments are the same functions of the basic invariants."""
        if (self.normals, self.degrees, self.moments) != (other.normals, other.degrees, other.moments):
            return False
        mine, others = ((l.offsets, l.covariances, l.constants) for l in (self, other))
        return all(
            a.shape == b.shape and bool(np.all(np.abs(a - b) <= SAME * (1 + np.abs(a).max())))
            for a, b in zip(mine, others, strict=True)
        )

    def slopes(self, basic: np.ndarray) -> np.ndarray:
        """Slopes (N, C, normals) with the covariances at basic invariants (N, n); nan where there are none."""
        matrix = np.einsum("lmx,nx->nlm", self.covariances, _with_one(basic))
        variances, directions = np.linalg.eigh(matrix)
        variances, directions = variances[:, ::-1], directions[:, :, ::-1]
        slopes = directions[..., : self.normals] * np.sqrt(np.maximum(variances[:, None, : self.normals], 0.0))
        missed = np.abs(slopes @ slopes.transpose(0, 2, 1) - matrix).max(axis=(1, 2))
        slopes[missed > NEGATIVE * np.maximum(variances[:, 0], 1.0)] = np.nan
        return np.pad(slopes, ((0, 0), (0, 0), (0, self.normals - slopes.shape[2])))

    def at(self, basic: np.ndarray) -> Coefficients:
        """The logits at basic invariants (N, n), with slopes that are nan where there are none."""
        curvatures, chi_slopes = (np.broadcast_to(row, (len(basic), len(row))) for row in self.constants)
        return Coefficients(_with_one(basic) @ self.offsets.T, self.slopes(basic), curvatures, chi_slopes)


@dataclass(frozen=True)
class Coordinates:
    """The coordinates of a group.

    Attributes
    ----------
    expressions
        The coordinates in states and parameters.
    box
        (n, 2) the interval of each.
    logits
        The logits as functions of basic invariants.
    deviations
        Which coordinates are roots of basic invariants.
    cosines
        The coordinates that are quotients of a basic invariant and two deviations: these two, by the coordinate.
    """

    expressions: tuple[sp.Expr, ...]
    box: np.ndarray
    logits: Logits
    deviations: tuple[int, ...] = ()
    cosines: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    everywhere = True
    """Whether the states stay within the box."""

    @property
    def degrees(self) -> float | None:
        """The degrees of freedom of the χ² variable, or None."""
        return self.logits.degrees

    @property
    def moments(self) -> tuple[Moment, ...]:
        """The moments of the table."""
        return self.logits.moments

    @property
    def own_moments(self) -> tuple[Moment, ...]:
        """The moments of the group, in the order of the table's."""
        return self.logits.moments

    @property
    def numbers(self) -> tuple:
        """What decides the moments as functions of the coordinates."""
        return self.box.tolist(), self.deviations, sorted(self.cosines.items()), *self.logits.numbers

    def same(self, other: object) -> bool:
        """Whether the moments are the same functions of the coordinates."""
        if not isinstance(other, Coordinates):
            return False
        mine, others = ((c.deviations, c.cosines, c.box.shape) for c in (self, other))
        return mine == others and np.allclose(self.box, other.box, rtol=SAME) and self.logits.same(other.logits)

    def logits_at(self, u: np.ndarray) -> Coefficients:
        """The logits at points u (N, n) of the cube from −1 to 1, with slopes that are nan where none exist."""
        return self.logits.at(self.basic(u))

    def basic(self, u: np.ndarray) -> np.ndarray:
        """The basic invariants (N, n) at points u (N, n) of the cube from −1 to 1 that stands for the box."""
        low, high = self.box.T
        coordinates = (low + high) / 2 + (high - low) / 2 * u
        found = coordinates.copy()
        for k in self.deviations:
            found[:, k] = coordinates[:, k] ** 2
        for k, (one, other) in self.cosines.items():
            found[:, k] = coordinates[:, k] * coordinates[:, one] * coordinates[:, other]
        return found


def _with_one(basic: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((len(basic), 1)), basic], axis=1)


def coordinates_of(
    group: Group,
    invariants: Invariants,
    values: Mapping[sp.Symbol, float],
    limits: Mapping[sp.Symbol, tuple[float, float]],
) -> Coordinates | None:
    """The coordinates of a group at given parameters, for states within the limits; None where there are too many."""
    low, high = np.array([limits[s] for s in invariants.states]).reshape(-1, 2).T
    halves = (high - low) / 2
    at_middle = {**values, **dict(zip(invariants.states, (low + high) / 2, strict=True))}
    central = np.array([float(e.xreplace(at_middle)) for e in invariants.varying])
    slopes = [
        [float(sp.diff(e, s).xreplace(values)) if s in e.free_symbols else 0.0 for s in invariants.states]
        for e in invariants.varying
    ]
    ranges = np.array(slopes).reshape(len(central), -1) * halves
    if not ranges.size or not np.isfinite(ranges).all():
        return None
    least = INDEPENDENT * max(1.0, float(np.abs(ranges).max()))
    dimension = int((np.linalg.svd(ranges, compute_uv=False) > least).sum())
    if not 1 <= dimension <= MOST_COORDINATES:
        return None
    of_covariances = ranges[len(invariants.offsets) :]
    if dimension == len(invariants.states) and (dimension == 1 or np.abs(of_covariances).max() <= least):
        logits = _logits(group, invariants, values, central, ranges, np.diag(halves), (low + high) / 2)
        return Coordinates(invariants.states, np.stack([low, high], axis=1), logits)
    chosen = _basic_invariants(ranges, dimension, invariants, least)
    if chosen is None:
        return None
    logits = _logits(group, invariants, values, central, ranges, ranges[chosen], central[chosen])
    reach = np.abs(ranges[chosen]).sum(axis=1)
    bounds = np.stack([central[chosen] - reach, central[chosen] + reach], axis=1)
    return _filling_a_box(chosen, invariants, bounds, logits)


def _logits(
    group: Group,
    invariants: Invariants,
    values: Mapping[sp.Symbol, float],
    central: np.ndarray,
    ranges: np.ndarray,
    basis: np.ndarray,
    origin: np.ndarray,
) -> Logits:
    """The invariants as affine functions of the basic ones, whose ranges are `basis` and whose middles are `origin`."""
    weights = np.linalg.lstsq(basis.T, ranges.T, rcond=None)[0].T
    weights[np.abs(weights) < SAME] = 0.0
    affine = np.column_stack([central - weights @ origin, weights])
    components = len(invariants.offsets)
    covariances = np.zeros((components, components, affine.shape[1]))
    for (l, m), row in zip(invariants.covariances, affine[components:], strict=True):
        covariances[l, m] = covariances[m, l] = row
    constants = [[float(e.xreplace(values)) for e in row] for row in (invariants.curvatures, invariants.chi_slopes)]
    chi_squared = group.chi_squared
    degrees = None if chi_squared is None else float(sp.sympify(chi_squared.degrees).xreplace(values))
    # Without curvature the logits look at as many directions as there are others than the reference.
    normals = len(group.normals) if any(constants[0]) else min(len(group.normals), components - 1)
    return Logits(affine[:components], covariances, np.array(constants), normals, degrees, tuple(sorted(group.moments)))


def _basic_invariants(ranges: np.ndarray, dimension: int, invariants: Invariants, least: float) -> list[int] | None:
    """The rows of the basic invariants: of those left, each time the one that varies most.

    A covariance of two logits fills a box only beside both variances. It is chosen after all others, and None is the
    result where a variance is missing.
    """
    offsets = len(invariants.offsets)
    pairs = list(invariants.covariances)
    crossed = [offsets + n for n, (l, m) in enumerate(pairs) if l != m]
    others = [n for n in range(len(ranges)) if n not in crossed]
    # A variance goes before a mean of the same range, which may differ from it by no more than a factor.
    preferred = np.array([1.001 if n >= offsets else 1.0 for n in range(len(ranges))])
    chosen: list[int] = []
    rest = ranges.copy()
    for rows in (others, crossed):
        while rows and len(chosen) < dimension:
            sizes = (preferred * np.linalg.norm(rest, axis=1))[rows]
            if sizes.max() <= least:
                break
            row = rows[int(np.argmax(sizes))]
            chosen.append(row)
            direction = rest[row] / np.linalg.norm(rest[row])
            rest = rest - np.outer(rest @ direction, direction)
    variances = {pairs[row - offsets] for row in chosen if row >= offsets}
    if len(chosen) < dimension or any({(l, l), (m, m)} - variances for l, m in variances):
        return None
    return chosen


def _filling_a_box(chosen: list[int], invariants: Invariants, bounds: np.ndarray, logits: Logits) -> Coordinates | None:
    """Coordinates for the basic invariants: a root for a variance, a cosine for a covariance, and a mean for itself."""
    pairs = [None] * len(invariants.offsets) + list(invariants.covariances)
    place = {pairs[row]: k for k, row in enumerate(chosen) if pairs[row] is not None}
    expressions, box = [invariants.varying[row] for row in chosen], bounds.copy()
    deviations: list[int] = []
    cosines: dict[int, tuple[int, int]] = {}
    for k, row in enumerate(chosen):
        pair = pairs[row]
        if pair is None:
            continue
        l, m = pair
        if l == m:
            deviations.append(k)
            expressions[k] = sp.sqrt(invariants.varying[row])
            box[k] = math.sqrt(max(bounds[k, 0], 0.0)), math.sqrt(max(bounds[k, 1], 0.0))
        else:
            cosines[k] = place[l, l], place[m, m]
            # Where a deviation vanishes, the moments do not depend on the cosine, which need not be a number.
            both = sp.sqrt(invariants.covariances[l, l]) * sp.sqrt(invariants.covariances[m, m])
            expressions[k] = sp.Max(-1, sp.Min(1, invariants.varying[row] / sp.Max(both, sp.Float(1e-30))))
            box[k] = -1.0, 1.0
    return Coordinates(tuple(expressions), box, logits, tuple(deviations), cosines)
