"""Branches of fixed points as the temperature varies.

Two branches meet in a fold, and others leave in a pitchfork.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from annealvi.fixed_points.continuation import Arm, Bifurcation, follow
from annealvi.fixed_points.curve_steps import on_path
from annealvi.fixed_points.mean_flow import MeanFlow, open_mean_flow
from annealvi.fixed_points.search import SAME, FixedPoint, distance, search
from annealvi.fixed_points.spectra import Spectrum, spectrum_at
from annealvi.session.session import Session
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked
from derive.problem.specification import BadInput

COLDEST, HOTTEST = 1.0, 1e12


@dataclass(frozen=True)
class Branch:
    """A curve of n fixed points, in order along the curve.

    Attributes
    ----------
    rank : int
        Number of dimensions orthogonal to the modes into which the means reach.
    temperature : ndarray
        Shape (n,). The temperature T = 1/β.
    states : ndarray
        Shape (n, states). The overlaps, and learned weights and scales.
    images : tuple of ndarray
        Each of shape (n, states): the curves that the problem's symmetries make of this one, itself first. Their
        spectra and bifurcations are the same.
    spectra : tuple of Spectrum
        The spectrum of each point.
    bifurcations : tuple of Bifurcation
        The bifurcations on the curve, in order.
    ends : tuple of str
        How the curve ends on either side. "range": at the range's edge. "pitchfork": where it meets its own mirror
        image on another branch, which lists the bifurcation. "dying": where a learned weight falls below 1e-6.
        "closed": the curve is closed. "not followed": the continuation failed.
    """

    rank: int
    temperature: np.ndarray
    states: np.ndarray
    images: tuple[np.ndarray, ...]
    spectra: tuple[Spectrum, ...]
    bifurcations: tuple[Bifurcation, ...]
    ends: tuple[str, str]

    __repr__ = short_repr

    @property
    def stable(self) -> np.ndarray:
        """Whether each point attracts, shape (n,)."""
        return np.array([s.stable for s in self.spectra])

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "rank": self.rank,
            "T": self.temperature,
            "states": self.states,
            "eigenvalues": [s.all for s in self.spectra],
            "stable": self.stable,
            "bifurcations": [b.as_dict() for b in self.bifurcations],
            "ends": self.ends,
        }


@dataclass(frozen=True)
class Branches:
    """One branch of each class under the problem's symmetries.

    Attributes
    ----------
    state_names : tuple of str
        The states' names.
    branches : tuple of Branch
        The branches.
    seeds : tuple of FixedPoint
        The fixed points of all classes that the search found; the branches start from some of them.
    device : str
        Where the kernel ran.
    """

    state_names: tuple[str, ...]
    branches: tuple[Branch, ...]
    seeds: tuple[FixedPoint, ...]
    device: str

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from annealvi.fixed_points.table import print_bifurcations
        from annealvi.show.printing import as_html

        return as_html(print_bifurcations, self)

    @property
    def complete(self) -> bool:
        """Whether every branch was followed to an end."""
        return not any("not followed" in branch.ends for branch in self.branches)

    @property
    def bifurcations(self) -> tuple[Bifurcation, ...]:
        """The bifurcations of all branches, by falling temperature."""
        return tuple(sorted((b for branch in self.branches for b in branch.bifurcations), key=lambda b: -b.temperature))

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "states": self.state_names,
            "branches": [b.as_dict() for b in self.branches],
            "bifurcations": [b.as_dict() for b in self.bifurcations],
            "points": [p.as_dict() for p in self.seeds],
            "device": self.device,
        }


@checked
def continue_branches(
    session: Session,
    lowest: float = 1.0,
    highest: float = 1000.0,
    *,
    levels: int = 5,
    count: int = 48,
    seed: int = 0,
    tolerance: float = 1e-12,
    device: str = "cpu",
) -> Branches:
    """Follow the branches of fixed points between two temperatures.

    A search at several temperatures finds fixed points, and the continuation follows every branch through one of them.
    A closed branch between two of these temperatures is missed.

    Parameters
    ----------
    session : Session
        The problem, whose flow learns the means.
    lowest, highest : float
        The range of temperatures, 1 <= lowest < highest.
    levels : int
        Number of temperatures of the search, at least 2, equally spaced in log T from `lowest` to `highest`.
    count : int
        Random starts of the search for each number of orthogonal dimensions, besides structured starts.
    seed : int
        Seed of the random starts.
    tolerance : float
        Absolute error of each average.
    device : {"cpu", "cuda", "auto"}
        Where the kernel runs.

    Returns
    -------
    Branches
        The branches with their spectra and bifurcations.

    Raises
    ------
    BadInput
        For an empty range, for fewer than two levels, and for a flow that is not covered, see `find_fixed_points`.

    Examples
    --------
    >>> import annealvi
    >>> session = annealvi.open_session(annealvi.load_problem("bimodal"))  # doctest: +SKIP
    >>> for b in annealvi.continue_branches(session, 1.0, 100.0).bifurcations:  # doctest: +SKIP
    ...     print(b.kind, b.temperature)
    """
    if not COLDEST <= lowest < highest <= HOTTEST:
        found = f"temperatures from {lowest:g} to {highest:g}"
        raise BadInput("--T", found, f"give 1 <= lowest < highest <= {HOTTEST:.0e}", "")
    if levels < 2:
        raise BadInput("--levels", f"{levels}", "give at least two temperatures to search at", "")
    flow = open_mean_flow(session, tolerance, device)
    log_t = np.linspace(math.log(lowest), math.log(highest), levels)
    points: list[FixedPoint] = []
    branches: list[Branch] = []
    passed: list[tuple[float, np.ndarray]] = []
    for level in map(float, log_t):
        here = search(flow, math.exp(-level), count, seed, points).found
        for point in here:
            if not _is_passed(flow, level, point.place, passed):
                branch, crossings = _trace(flow, point, level, log_t)
                branches.append(branch)
                passed += [(level, point.place), *crossings]
        points += here
    return Branches(session.state_names, tuple(branches), tuple(points), flow.kernel.device)


def _is_passed(flow: MeanFlow, level: float, place: np.ndarray, passed: list[tuple[float, np.ndarray]]) -> bool:
    alike = [other for at, other in passed if at == level and other.shape == place.shape]
    return any(distance(flow, image, place) < 10 * SAME for other in alike for image in flow.images(other))


def _trace(
    flow: MeanFlow, point: FixedPoint, level: float, levels: np.ndarray
) -> tuple[Branch, list[tuple[float, np.ndarray]]]:
    """Return the whole branch through a fixed point, and the places where it passes one of the levels of log T."""
    start = on_path(flow, point.place, level)
    up = follow(flow, start, levels)
    down = Arm(end="closed") if up.end == "closed" else follow(flow, start.reversed(), levels)
    points = [*down.points[::-1], start, *up.points]
    states = np.concatenate([flow.states(p.place[None]) for p in points])
    temperature = np.exp([p.log_t for p in points])
    spectra = tuple(spectrum_at(flow, p.beta, p.place) for p in points)
    bifurcations = (*down.bifurcations[::-1], *up.bifurcations)
    images = np.stack([flow.states(flow.images(p.place)) for p in points], axis=1)
    branch = Branch(point.rank, temperature, states, _distinct(images), spectra, bifurcations, (down.end, up.end))
    return branch, [*down.crossings, *up.crossings]


def _distinct(images: np.ndarray) -> tuple[np.ndarray, ...]:
    """Keep the images (G, n, states) of a branch that differ, itself first."""
    kept: list[np.ndarray] = []
    for image in images:
        same = [np.allclose(image, other, atol=1e-6 * np.abs(images).max()) for other in kept]
        reversed_too = [np.allclose(image[::-1], other, atol=1e-6 * np.abs(images).max()) for other in kept]
        if not any(same + reversed_too):
            kept.append(image)
    return tuple(kept)
