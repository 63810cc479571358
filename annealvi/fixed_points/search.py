"""All fixed points at given temperatures, with a check of completeness.

The search starts from many means, in every number of orthogonal dimensions, and keeps each point once. In enough
dimensions, d ≥ r + L, the overlaps form a convex set of Gram matrices, which the flow maps into itself. By the
Lefschetz–Hopf theorem the indices of the fixed points in this set sum to one. The index is 0 for a point that is
unstable across its span, because there the set is a cone that the flow expands from its tip. Otherwise it is
(−1)^(number of unstable directions within the span). A sum other than one shows that a point is missing. The search
adds starts until they find nothing new and the sum is one, in at most MOST_ROUNDS rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from annealvi.fixed_points.mean_flow import MeanFlow, open_mean_flow
from annealvi.fixed_points.spectra import Spectrum, spectrum_at
from annealvi.fixed_points.zeros import RESOLVED, starts, zeros_near
from annealvi.session.session import Session
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked
from derive.problem.specification import BadInput

SAME = 1e-5
"""Largest distance, in radii, between means of the same point; Newton's iteration leaves some 1e-8."""
RANK = 1e-6
"""Smallest singular value, in radii, of the means' orthogonal parts that counts as a dimension."""
MOST_ROUNDS = 4


@dataclass(frozen=True)
class FixedPoint:
    """One fixed point of the overlaps' flow.

    Attributes
    ----------
    beta : float
        The inverse temperature.
    state : Mapping[str, float]
        Overlap by name.
    means : ndarray
        Shape (L, r + rank). The means in the span of the modes and `rank` orthogonal dimensions, unique up to rotations
        about the modes.
    rank : int
        Number of dimensions orthogonal to the modes into which the means reach.
    spectrum : Spectrum
        Eigenvalues of the linearised flow.
    residual : float
        The velocity left, relative to the forces that cancel at the point.
    error : float
        Error of the means, in radii.
    """

    beta: float
    state: Mapping[str, float]
    means: np.ndarray
    rank: int
    spectrum: Spectrum
    residual: float
    error: float

    __repr__ = short_repr

    @property
    def stable(self) -> bool:
        """Whether the point attracts all neighbours in R^d.

        False where an eigenvalue's sign is not resolved, see `Spectrum.resolved`.
        """
        return self.spectrum.stable

    @property
    def eigenvalues(self) -> np.ndarray:
        """Growth rates per unit of the flow's time, decreasing.

        A rate across the span occurs in each of the span's orthogonal directions, and is listed once.
        """
        return self.spectrum.all

    @property
    def unstable_directions(self) -> int:
        """The number of independent directions in which a perturbation of the means grows."""
        return int((self.spectrum.within > 0).sum() + self.spectrum.copies * (self.spectrum.across > 0).sum())

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "state": dict(self.state),
            "beta": self.beta,
            "eigenvalues": self.eigenvalues,
            "stable": self.stable,
            "resolved": self.spectrum.resolved,
            "eigenvalues_within": self.spectrum.within,
            "eigenvalues_across": self.spectrum.across,
            "copies_across": self.spectrum.copies,
            "rank": self.rank,
            "residual": self.residual,
        }


@dataclass(frozen=True)
class FixedPoints:
    """The fixed points at some temperatures.

    Attributes
    ----------
    state_names : tuple of str
        The overlaps' names.
    points : tuple of FixedPoint
        By falling beta, the stable points first.
    index_sums : Mapping[float, int or None]
        For each beta, the sum of the points' indices, which is one if none is missing. None where the theorem does not
        apply: d < r + L, or a sign that is not resolved.
    unresolved : Mapping[float, int]
        For each beta, the number of starts that ended at no isolated point: at a bifurcation or a continuous family.
    device : str
        Where the kernel ran.
    """

    state_names: tuple[str, ...]
    points: tuple[FixedPoint, ...]
    index_sums: Mapping[float, int | None]
    unresolved: Mapping[float, int]
    device: str

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from annealvi.fixed_points.table import print_fixed_points
        from annealvi.show.printing import as_html

        return as_html(print_fixed_points, self)

    @property
    def complete(self) -> bool:
        """Whether no index sum shows that a point is missing."""
        return all(found in (None, 1) for found in self.index_sums.values())

    def at(self, beta: float) -> tuple[FixedPoint, ...]:
        """Return the points at one beta."""
        return tuple(p for p in self.points if p.beta == beta)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        by_beta = [
            {"beta": b, "index_sum": s, "unresolved_starts": self.unresolved[b]} for b, s in self.index_sums.items()
        ]
        return {
            "states": self.state_names,
            "points": [p.as_dict() for p in self.points],
            "counts": by_beta,
            "device": self.device,
        }


@checked
def find_fixed_points(
    session: Session,
    betas: Sequence[float] = (1.0,),
    *,
    count: int = 48,
    seed: int = 0,
    tolerance: float = 1e-12,
    device: str = "cpu",
) -> FixedPoints:
    """Find the fixed points of the spherical flow of the means at given temperatures, with their spectra.

    The search starts from random and structured means. A start that leads to no zero of the velocity is dropped. A zero
    whose place is not resolved is counted, and not returned. The points' indices tell whether a point is missing, see
    `FixedPoints.index_sums`.

    Parameters
    ----------
    session : Session
        The problem: a spherical flow of the means alone.
    betas : sequence of float
        Inverse temperatures, 0 < beta <= 1.
    count : int
        Random starts for each number of orthogonal dimensions, besides structured starts.
    seed : int
        Seed of the random starts.
    tolerance : float
        Absolute error of each average.
    device : {"cpu", "cuda", "auto"}
        Where the kernel runs.

    Returns
    -------
    FixedPoints
        The points; eigenvalues are growth rates per unit of the flow's time.

    Raises
    ------
    BadInput
        For a beta outside (0, 1], and for a flow that is not covered: Euclidean, with learned weights or scales, or in
        the limit of many dimensions.

    Examples
    --------
    >>> import annealvi
    >>> session = annealvi.open_session(annealvi.load_problem("bimodal"))  # doctest: +SKIP
    >>> found = annealvi.find_fixed_points(session, [1.0])  # doctest: +SKIP
    >>> [(dict(p.state), p.stable) for p in found.points]  # doctest: +SKIP
    """
    wanted = require_betas(betas)
    flow = open_mean_flow(session, tolerance, device)
    points: list[FixedPoint] = []
    sums: dict[float, int | None] = {}
    unresolved: dict[float, int] = {}
    for beta in wanted:
        found, left = search(flow, beta, count, seed, points)
        sums[beta], unresolved[beta] = index_sum(flow, found), left
        points += sorted(found, key=lambda p: (not p.stable, p.unstable_directions, [-x for x in p.state.values()]))
    return FixedPoints(session.state_names, tuple(points), sums, unresolved, flow.kernel.device)


def search(
    flow: MeanFlow, beta: float, count: int, seed: int, known: Sequence[FixedPoint] = ()
) -> tuple[list[FixedPoint], int]:
    """Return the fixed points at one beta, and how many starts ended at a point that is not resolved.

    `known` holds points at other temperatures, which serve as further starts.
    """
    random = np.random.default_rng(seed)
    found: list[FixedPoint] = []
    unresolved = 0
    for _ in range(MOST_ROUNDS):
        before = len(found)
        for rank in range(flow.most_orthogonal + 1):
            near = [p.means[None] for p in known if p.rank == rank]
            means, left = zeros_near(flow, beta, np.concatenate([*near, starts(flow, rank, count, random)]))
            unresolved += _add_new(flow, beta, means[left <= RESOLVED], left[left <= RESOLVED], found)
        if len(found) == before and index_sum(flow, found) in (None, 1):
            break
    return found, unresolved


def _add_new(flow: MeanFlow, beta: float, means: np.ndarray, left: np.ndarray, found: list[FixedPoint]) -> int:
    """Add new points among the zeros (N, L, n), with their images under the problem's symmetries.

    Returns the number of zeros that are not resolved.
    """
    unresolved = 0
    rank = means.shape[2] - flow.span
    for zero, residual in zip(means, left, strict=True):
        parts = np.linalg.svd(zero[:, flow.span :] / flow.radii[:, None], compute_uv=False)
        if rank and parts[-1] < RANK:
            continue  # a point of lower rank, which the search at that rank finds
        if any(distance(flow, zero, p.means) < SAME for p in found if p.rank == rank):
            continue
        point = fixed_point(flow, beta, zero, float(residual))
        if point.error > min(SAME, 0.1 * parts[-1] if rank else SAME):
            unresolved += 1
            continue
        for image in flow.images(zero):
            if not any(distance(flow, image, p.means) < SAME for p in found if p.rank == rank):
                found.append(fixed_point(flow, beta, image, float(residual)))
    return unresolved


def fixed_point(flow: MeanFlow, beta: float, means: np.ndarray, residual: float) -> FixedPoint:
    """Return the point with its spectrum at a zero (L, n) of the velocity whose means reach into all n dimensions."""
    spectrum = spectrum_at(flow, beta, means)
    state = dict(zip(flow.session.state_names, map(float, flow.states(means[None])[0]), strict=True))
    strength = float(flow.strength(beta, means[None])[0])
    slowest = np.abs(spectrum.within).min(initial=np.inf)
    error = float(residual * strength / max(slowest, spectrum.resolution, np.finfo(float).tiny) / flow.radii.min())
    if slowest < spectrum.resolution:
        error = np.inf
    return FixedPoint(beta, state, means, means.shape[1] - flow.span, spectrum, residual, error)


def distance(flow: MeanFlow, first: np.ndarray, second: np.ndarray) -> float:
    """Return the largest distance of a mean, in radii, between two sets (L, n) of means.

    The sets are brought closest by a rotation about the modes before.
    """
    r = flow.span
    left, _, right = np.linalg.svd(first[:, r:].T @ second[:, r:])
    turned = np.concatenate([first[:, :r], first[:, r:] @ (left @ right)], axis=1)
    return float(np.max(np.linalg.norm(turned - second, axis=1) / flow.radii))


def index_sum(flow: MeanFlow, found: Iterable[FixedPoint]) -> int | None:
    """Return the sum of the points' indices, which is one if none is missing; None where the theorem does not apply."""
    points = list(found)
    if flow.dimension < flow.span + len(flow.radii) or not all(p.spectrum.resolved for p in points):
        return None
    return sum(p.spectrum.index for p in points)


def require_betas(betas: Sequence[float]) -> tuple[float, ...]:
    """Return inverse temperatures in falling order. Raises BadInput unless each is above 0 and at most 1."""
    for beta in betas:
        if not 0 < beta <= 1:
            raise BadInput("--beta", f"{beta:g}", "give inverse temperatures above 0 and at most 1", "")
    if not betas:
        raise BadInput("--beta", "no inverse temperature", "give at least one, above 0 and at most 1", "")
    return tuple(sorted({float(b) for b in betas}, reverse=True))
