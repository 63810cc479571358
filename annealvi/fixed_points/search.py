"""All fixed points at given temperatures, with a check of completeness.

The search starts from many places, in every number of orthogonal dimensions, and keeps each point once. It adds starts
until they find nothing new and the points' indices sum to one (see `completeness`), in at most MOST_ROUNDS rounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from annealvi.fixed_points.completeness import index_sum, why_unchecked
from annealvi.fixed_points.mean_flow import MeanFlow, open_mean_flow
from annealvi.fixed_points.spectra import Spectrum, spectrum_at
from annealvi.fixed_points.zeros import RESOLVED, starts, zeros_near
from annealvi.session.session import Session
from derive.objects.parameters import WEIGHTS
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked
from derive.problem.specification import BadInput

SAME = 1e-5
"""Largest distance, in radii and logarithms, between places of the same point; Newton's iteration leaves some 1e-8."""
LIGHTEST = 1e-6
"""A component with a learned weight below this value counts as dying. Its forces are proportional to its weight, so
nothing beyond could be told from rest.
"""
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
        Overlap, learned weight or learned scale by name.
    place : ndarray
        Shape (L, p + r + rank). For each component its p learned logarithms, of the weight before that of the scale,
        and its mean; see `means`.
    logarithms : int
        p, the number of learned parameters of a component beside its mean.
    rank : int
        Number of dimensions orthogonal to the modes into which the means reach.
    spectrum : Spectrum
        Eigenvalues of the linearised flow.
    residual : float
        The velocity left, relative to the forces that cancel at the point.
    error : float
        Error of the means, in radii, and of the logarithms.
    """

    beta: float
    state: Mapping[str, float]
    place: np.ndarray
    logarithms: int
    rank: int
    spectrum: Spectrum
    residual: float
    error: float

    __repr__ = short_repr

    @property
    def means(self) -> np.ndarray:
        """The means in the span of the modes and `rank` orthogonal dimensions, shape (L, r + rank).

        They are unique up to rotations about the modes.
        """
        return self.place[:, self.logarithms :]

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
        """The number of independent directions in which a perturbation grows."""
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
        The states' names.
    points : tuple of FixedPoint
        By falling beta, the stable points first.
    index_sums : Mapping[float, int or None]
        For each beta, the sum of the points' indices, which is one if none is missing. None where the theorem does not
        apply, for the reason in `unchecked`.
    unchecked : Mapping[float, str]
        For each beta without an index sum, why it has none: learned weights, spheres in d < r + L dimensions, or an
        unknown sign.
    unresolved : Mapping[float, int]
        For each beta, the number of starts that ended at no isolated point: at a bifurcation or a continuous family.
    ran_away : Mapping[float, int]
        For each beta, the number of starts at whose end a component was dying, its learned weight below 1e-6, a state
        was outside the interval for which the averages are made, or learned scales differed by more than a factor 4.
    device : str
        Where the kernel ran.
    """

    state_names: tuple[str, ...]
    points: tuple[FixedPoint, ...]
    index_sums: Mapping[float, int | None]
    unchecked: Mapping[float, str]
    unresolved: Mapping[float, int]
    ran_away: Mapping[float, int]
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
            {
                "beta": b,
                "index_sum": s,
                "no_index_sum": self.unchecked.get(b, ""),
                "unresolved_starts": self.unresolved[b],
                "runaway_starts": self.ran_away[b],
            }
            for b, s in self.index_sums.items()
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
    """Find the fixed points of the flow at given temperatures, with their spectra.

    The flow is on spheres or Euclidean, and learns the means alone or with weights, scales or both. The search starts
    from random and structured places. A start that leads to no zero of the velocity is dropped. A zero whose place is
    not resolved is counted, and not returned; so is a start that runs away, such as one along which a learned weight
    vanishes. The points' indices tell whether a point is missing, see `FixedPoints.index_sums`.

    Parameters
    ----------
    session : Session
        The problem, whose flow learns the means.
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
        For a beta outside (0, 1], and for a flow that is not covered: one whose means rest, or the limit of many
        dimensions.

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
    searches: dict[float, Search] = {}
    for beta in wanted:
        searches[beta] = search(flow, beta, count, seed, points)
        found = searches[beta].found
        points += sorted(found, key=lambda p: (not p.stable, p.unstable_directions, [-x for x in p.state.values()]))
    reasons = {beta: why_unchecked(flow, s.found) for beta, s in searches.items()}
    return FixedPoints(
        session.state_names,
        tuple(points),
        {beta: index_sum(flow, s.found) for beta, s in searches.items()},
        {beta: reason for beta, reason in reasons.items() if reason},
        {beta: s.unresolved for beta, s in searches.items()},
        {beta: s.ran_away for beta, s in searches.items()},
        flow.kernel.device,
    )


class Search(NamedTuple):
    """The fixed points at one beta, and the numbers of starts that ended elsewhere; see `FixedPoints`."""

    found: list[FixedPoint]
    unresolved: int
    ran_away: int


def search(flow: MeanFlow, beta: float, count: int, seed: int, known: Sequence[FixedPoint] = ()) -> Search:
    """Return the fixed points at one beta, and how many starts ended at a point that is not resolved or ran away.

    `known` holds points at other temperatures, which serve as further starts.
    """
    random = np.random.default_rng(seed)
    found: list[FixedPoint] = []
    unresolved = ran_away = 0
    for _ in range(MOST_ROUNDS):
        before = len(found)
        for rank in range(flow.least_orthogonal, flow.most_orthogonal + 1):
            near = [p.place[None] for p in known if p.rank == rank]
            places, left = zeros_near(flow, beta, np.concatenate([*near, starts(flow, beta, rank, count, random)]))
            gone = ~flow.is_covered(places)
            if WEIGHTS in flow.learned:
                gone |= flow.log_weights(places).min(axis=1) < math.log(LIGHTEST)
            ran_away += int(gone.sum())
            rests = ~gone & (left <= RESOLVED)
            unresolved += _add_new(flow, beta, places[rests], left[rests], found)
        if len(found) == before and index_sum(flow, found) in (None, 1):
            break
    return Search(found, unresolved, ran_away)


def _add_new(flow: MeanFlow, beta: float, places: np.ndarray, left: np.ndarray, found: list[FixedPoint]) -> int:
    """Add new points among the zeros (N, L, p + n), with their images under the problem's symmetries.

    Returns the number of zeros that are not resolved.
    """
    unresolved = 0
    rank = places.shape[2] - flow.unturned
    for zero, residual in zip(places, left, strict=True):
        parts = np.linalg.svd(zero[:, flow.unturned :] / flow.radii[:, None], compute_uv=False)
        if rank and parts[-1] < RANK:
            continue  # a point of lower rank, which the search at that rank finds
        if any(distance(flow, zero, p.place) < SAME for p in found if p.rank == rank):
            continue
        point = fixed_point(flow, beta, zero, float(residual))
        if point.error > min(SAME, 0.1 * parts[-1] if rank else SAME):
            unresolved += 1
            continue
        for image in flow.images(zero):
            if not any(distance(flow, image, p.place) < SAME for p in found if p.rank == rank):
                found.append(fixed_point(flow, beta, image, float(residual)))
    return unresolved


def fixed_point(flow: MeanFlow, beta: float, place: np.ndarray, residual: float) -> FixedPoint:
    """Return the point with its spectrum at a zero (L, p + n) whose means reach into all n dimensions."""
    spectrum = spectrum_at(flow, beta, place)
    state = dict(zip(flow.session.state_names, map(float, flow.states(place[None])[0]), strict=True))
    strength = float(flow.strength(beta, place[None])[0])
    slowest = np.abs(spectrum.within).min(initial=np.inf)
    error = float(residual * strength / max(slowest, spectrum.resolution, np.finfo(float).tiny))
    error /= flow.least_unit
    if slowest < spectrum.resolution:
        error = np.inf
    rank = place.shape[1] - flow.unturned
    return FixedPoint(beta, state, place, flow.lead, rank, spectrum, residual, error)


def distance(flow: MeanFlow, first: np.ndarray, second: np.ndarray) -> float:
    """Return the largest distance of a component, in radii and logarithms, between two places (L, p + n).

    The places are brought closest by a rotation about the modes before.
    """
    q = flow.unturned
    left, _, right = np.linalg.svd(first[:, q:].T @ second[:, q:])
    turned = np.concatenate([first[:, :q], first[:, q:] @ (left @ right)], axis=1)
    return float(np.max(np.linalg.norm((turned - second) / flow.units(first.shape[1]), axis=1)))


def require_betas(betas: Sequence[float]) -> tuple[float, ...]:
    """Return inverse temperatures in falling order. Raises BadInput unless each is above 0 and at most 1."""
    for beta in betas:
        if not 0 < beta <= 1:
            raise BadInput("--beta", f"{beta:g}", "give inverse temperatures above 0 and at most 1", "")
    if not betas:
        raise BadInput("--beta", "no inverse temperature", "give at least one, above 0 and at most 1", "")
    return tuple(sorted({float(b) for b in betas}, reverse=True))
