"""The law of collapse in many dimensions: the probability that each set of modes is missed, in every dimension at once.

The equations of mixtures of equal scales do not depend on d; the dimension enters through the law of the initial
overlaps alone. Their density at the cosines x is known: proportional to det(G(x))^((d − r − L − 1)/2), with G the Gram
matrix of r orthonormal vectors of the modes' span and L unit means. So the outcomes of one ensemble, whose starts have
sizes from those in few dimensions to those in many, hold for all dimensions by importance sampling.

To leading order in 1/√d the density is Gaussian, of variance 1/d, and only those directions matter which the flow
amplifies (see `annealvi.collapse.growing_directions`). An ensemble that starts in these directions alone gives this
order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import ndtri
from scipy.stats import chi, qmc

from annealvi.collapse.ensemble import collapse_by_ensemble, compiled_for_ensembles
from annealvi.collapse.growing_directions import GrowingDirections, InitialOverlaps, growing_directions
from annealvi.session.session import Session
from derive.objects.mixtures import DIMENSION
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked
from derive.problem.specification import BadInput

DIMENSIONS = (32, 128, 1024, 16_384, 131_072)
"""The dimensions of a law by default."""
REPLICATES = 16
"""Independent randomisations of the quasi-random starts; standard errors come from their spread."""
OUTSIDE = 1e-5
"""The probability of sizes of the initial deviation that are left out, at either end."""
FEWEST = 1024
TINY = 2.0**-53
FEWEST_EFFECTIVE = 50.0
"""The fewest effective starts in a dimension, 1/Σw² for normalised weights w, by which a law says anything."""

LogDensity = Callable[[np.ndarray, int], np.ndarray]
"""From starts (n, coordinates) and a dimension to the logarithm of their density up to a constant, shape (n,)."""


@dataclass(frozen=True)
class Order:
    """Probabilities of one order by dimension.

    Attributes
    ----------
    p : ndarray
        Shape (dimensions,). P(collapse), the probability that some mode is missed.
    stderr : ndarray
        Shape (dimensions,). Its standard error.
    missed : Mapping[tuple of int, ndarray]
        By the missed modes, counted from 1: the probability and its standard error, shape (dimensions, 2).
    runs : int
        Number of trajectories.
    """

    p: np.ndarray
    stderr: np.ndarray
    missed: Mapping[tuple[int, ...], np.ndarray]
    runs: int

    __repr__ = short_repr

    def at(self, place: int) -> dict[str, Any]:
        """Return the JSON form of one dimension's probabilities."""
        missed = {modes: rows[place] for modes, rows in self.missed.items() if rows[place, 0] > 0}
        falling = sorted(missed, key=lambda modes: -missed[modes][0])
        return {
            "p": float(self.p[place]),
            "stderr": float(self.stderr[place]),
            "modes_missed": {",".join(map(str, modes)): float(missed[modes][0]) for modes in falling},
            "modes_missed_stderr": {",".join(map(str, modes)): float(missed[modes][1]) for modes in falling},
        }


@dataclass(frozen=True)
class CollapseLaw:
    """The probability that each set of modes is missed, by dimension.

    Attributes
    ----------
    dimensions : tuple of int
        The dimensions d.
    exact : Order
        With the exact law of the initial overlaps in each dimension.
    leading : Order
        To leading order in 1/√d: Gaussian starts in the growing directions alone.
    growing : GrowingDirections
        The directions of initial overlaps that grow, and how much, while deviations in the largest dimension are small.
    device : str
        Where the trajectories were integrated.
    """

    dimensions: tuple[int, ...]
    exact: Order
    leading: Order
    growing: GrowingDirections
    device: str

    SHOWN: ClassVar = ("dimensions", "exact", "leading", "device")
    __repr__ = short_repr

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "dimensions": [
                {"dimension": d, **self.exact.at(place), "leading": self.leading.at(place)}
                for place, d in enumerate(self.dimensions)
            ],
            "growth": self.growing.growth,
            "coordinates": self.growing.overlaps.count,
            "small_until": self.growing.until,
            "runs": {"exact": self.exact.runs, "leading": self.leading.runs},
            "device": self.device,
        }


@checked
def collapse_law(
    session: Session,
    dimensions: Sequence[int] = DIMENSIONS,
    *,
    n: int = 4096,
    seed: int = 0,
    device: str = "auto",
    least_weight: float | None = None,
    t_end: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> CollapseLaw:
    """Compute the probability that each set of modes is missed, in many dimensions at once.

    Parameters
    ----------
    session : Session
        The problem; its own dimension plays no part.
    dimensions : sequence of int
        The dimensions d, each of at least r + L + 1, where r is the dimension of the modes' span.
    n : int
        Number of trajectories of each order, rounded up to a power of two of at least 1024.
    seed : int
        Seed of the starts.
    device : {"auto", "cpu", "cuda"}
        Where the kernel runs.
    least_weight : float, optional
        With learned weights, the share of a mode's own weight below which the mode counts as missed; by default 0.1.
    t_end : float, optional
        Final time; by default as of `collapse_by_ensemble`.
    progress : callable, optional
        Called with (trajectories done, trajectories in all).
    tell : callable, optional
        Called with lines for people.

    Returns
    -------
    CollapseLaw
        Probabilities with their standard errors: with the exact law of the starts, and to leading order in 1/√d.

    Raises
    ------
    BadInput
        For dimensions that are too few or too far apart for n, for an adaptive schedule, and for mixtures of unequal or
        learned scales, whose equations depend on d.

    Examples
    --------
    >>> import annealvi
    >>> session = annealvi.open_session(annealvi.load_problem("simplex"))  # doctest: +SKIP
    >>> annealvi.collapse_law(session, [128, 1024]).exact.missed[(3,)]  # doctest: +SKIP
    """
    require_law(session)
    overlaps = InitialOverlaps(session)
    dimensions = _checked(dimensions, overlaps)
    size = max(FEWEST, 1 << (n - 1).bit_length())
    kernel = compiled_for_ensembles(session, device)
    end = session.end_time() if t_end is None else t_end
    growing = growing_directions(session, kernel, end, math.sqrt(dimensions[-1]))

    def order(basis: np.ndarray, log_density: LogDensity, done: int) -> Order:
        starts = _starts(basis, dimensions, size, seed)
        possible = np.linalg.eigvalsh(overlaps.cosines(starts))[:, 0] > 0
        states = overlaps.states(starts[possible])
        report = None if progress is None else lambda seen, _: progress(done + seen, 2 * size)
        options: dict[str, Any] = {"least_weight": least_weight, "t_end": t_end, "kernel": kernel}
        found = collapse_by_ensemble(session, starts=states, seed=seed, device=device, progress=report, **options)
        covered = np.ones((size, found.outcomes.covered.shape[1]), bool)
        covered[possible] = found.outcomes.covered
        log_weights = np.full((len(dimensions), size), -np.inf)
        # The starts have the density |x|^(−m) in the m dimensions of their basis.
        own = -len(basis) * np.log(np.linalg.norm(starts[possible], axis=1)) if len(basis) else 0.0
        log_weights[:, possible] = [log_density(starts[possible], d) - own for d in dimensions]
        return _weighed(log_weights, covered, dimensions, len(states))

    exact = order(np.eye(overlaps.count), overlaps.log_density, 0)
    leading = order(growing.directions, _gaussian, size)
    return CollapseLaw(dimensions, exact, leading, growing, kernel.device)


def require_law(session: Session) -> None:
    """Raise BadInput for a problem without a law over dimensions."""
    if session.rule is not None:
        found = f"{session.problem.schedule.kind!r} takes its temperatures from the ensemble, which has one dimension"
        raise BadInput("schedule.kind", found, "choose a schedule that is a function of time")
    if DIMENSION in session.derivation.system.parameters:
        found = "with unequal or learned scales the equations themselves depend on d"
        raise BadInput("scales", found, "use --method ode in each dimension")


def _checked(dimensions: Sequence[int], overlaps: InitialOverlaps) -> tuple[int, ...]:
    """The different dimensions, increasing."""
    least = overlaps.least_dimension + 1
    if not dimensions:
        raise BadInput("--dimensions", "there is none", f"name at least one, of {least} or more", "")
    if (low := min(dimensions)) < least:
        raise BadInput("--dimensions", f"{low} is too few for means in general position", f"give {least} or more", "")
    return tuple(sorted(set(dimensions)))


def _starts(basis: np.ndarray, dimensions: Sequence[int], size: int, seed: int) -> np.ndarray:
    """Draw cosines (size, coordinates) in the span of `basis` (m, coordinates): REPLICATES randomised Sobol' sets.

    Directions are uniform, and sizes log-uniform over all that the dimensions make likely.
    """
    m, coordinates = basis.shape
    if m == 0:
        return np.zeros((size, coordinates))
    low = math.log(chi.ppf(OUTSIDE, m) / math.sqrt(dimensions[-1]))
    high = math.log(chi.isf(OUTSIDE, m) / math.sqrt(dimensions[0]))
    generators = np.random.default_rng(seed).spawn(REPLICATES)
    uniform = np.concatenate([qmc.Sobol(m + 1, rng=one).random(size // REPLICATES) for one in generators])
    directions = ndtri(np.clip(uniform[:, 1:], TINY, 1 - TINY))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.exp(low + (high - low) * uniform[:, :1]) * directions @ basis


def _gaussian(x: np.ndarray, dimension: int) -> np.ndarray:
    return -dimension * np.sum(x**2, axis=1) / 2


def _weighed(log_weights: np.ndarray, covered: np.ndarray, dimensions: Sequence[int], runs: int) -> Order:
    """Weigh outcomes (size, K) with weights (dimensions, size) that are known up to a factor for each dimension."""
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    effective = 1 / np.sum(weights**2, axis=1)
    worst = int(effective.argmin())
    if effective[worst] < FEWEST_EFFECTIVE:
        found = f"only some {effective[worst]:.0f} of {log_weights.shape[1]} starts count at d = {dimensions[worst]}"
        raise BadInput("--dimensions", found, "give dimensions that are less far apart, or a larger --n", "")
    sets, place = np.unique(~covered, axis=0, return_inverse=True)
    missed = {
        tuple(int(k) + 1 for k in np.flatnonzero(modes)): _shares(weights, place.ravel() == number, effective)
        for number, modes in enumerate(sets)
        if modes.any()
    }
    p, stderr = _shares(weights, np.any(~covered, axis=1), effective).T
    return Order(p, stderr, missed, runs)


def _shares(weights: np.ndarray, which: np.ndarray, effective: np.ndarray) -> np.ndarray:
    """Return the weighed share of some starts and its standard error, shape (dimensions, 2).

    The error comes from the spread between the randomisations, to first order in the ratio of two sums. Where nothing
    or all is seen, it is that of one effective start more.
    """
    share = weights @ which
    residuals = (weights * (which - share[:, None])).reshape(len(weights), REPLICATES, -1).sum(axis=2)
    error = residuals.std(axis=1, ddof=1) * math.sqrt(REPLICATES)
    certain = (share == 0) | (1 - share < 1e-12)
    return np.stack([share, np.where(certain, 1 / effective, error)], axis=1)
