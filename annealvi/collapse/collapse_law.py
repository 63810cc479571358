"""The law of collapse in many dimensions: the probability that each set of modes is missed, in all dimensions at once.

The equations of mixtures of equal scales do not depend on d. The dimension enters through the law of the initial
overlaps alone, so the outcomes of one ensemble hold in every dimension by importance sampling: its starts have sizes
from those in the most dimensions to those in the fewest, and each dimension weighs them by its own density.

To leading order in 1/√d this density is Gaussian, of variance 1/d in every coordinate, and only those directions matter
that the flow amplifies (see `annealvi.collapse.growing_directions`). The exact density in d dimensions is proportional
to det(G)^((d − r − L − 1)/2), where G is the Gram matrix of r orthonormal vectors that span the modes and of the L unit
means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.special import ndtri
from scipy.stats import chi, qmc

from annealvi.collapse.ensemble import collapse_by_ensemble, compiled_for_ensembles
from annealvi.collapse.growing_directions import GrowingDirections, InitialOverlaps, growing_directions
from annealvi.session.session import Session
from derive.objects.mixtures import DIMENSION
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked
from derive.problem.objective_scope import require_isotropic
from derive.problem.specification import BadInput

if TYPE_CHECKING:
    from kernels.integrate.kernel import Kernel

DIMENSIONS = (32, 128, 1024, 16_384)
"""The dimensions of a law by default."""
TRAJECTORIES = 4096
FEWEST = 1024
"""The number of trajectories of a law by default, and the fewest that it takes."""
OUTSIDE = 1e-5
"""The probability, in the most and in the fewest dimensions, of initial overlaps smaller or larger than all starts."""
FEWEST_EFFECTIVE = 50.0
"""The fewest effective starts in a dimension, 1/Σw² for normalised weights w, by which a law says anything."""
TINY = 2.0**-53


@dataclass(frozen=True)
class CollapseLaw:
    """The probability that each set of modes is missed, by dimension.

    Attributes
    ----------
    dimensions : tuple of int
        The dimensions d, increasing.
    p : ndarray
        Shape (dimensions,). P(collapse), the probability that some mode is missed.
    stderr : ndarray
        Shape (dimensions,). Its standard error.
    missed : Mapping[tuple of int, ndarray]
        By the missed modes, counted from 1: the probability and its standard error, shape (dimensions, 2).
    effective : ndarray
        Shape (dimensions,). Number of effective starts in each dimension.
    growing : GrowingDirections
        The directions of initial overlaps that grow, and how much, while deviations in the most dimensions are small.
    exact : bool
        Whether starts have their exact law; else their law to leading order in 1/√d.
    n : int
        Number of trajectories.
    device : str
        Where they were integrated.
    """

    dimensions: tuple[int, ...]
    p: np.ndarray
    stderr: np.ndarray
    missed: Mapping[tuple[int, ...], np.ndarray]
    effective: np.ndarray
    growing: GrowingDirections
    exact: bool
    n: int
    device: str

    SHOWN: ClassVar = ("dimensions", "p", "stderr", "exact", "n", "device")
    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from annealvi.collapse.collapse_tables import print_law
        from annealvi.show.printing import as_html

        return as_html(print_law, self)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        sets = sorted(self.missed, key=lambda modes: -self.missed[modes][:, 0].max())
        missed = {",".join(map(str, modes)): self.missed[modes] for modes in sets}
        return {
            "dimensions": self.dimensions,
            "p": self.p,
            "stderr": self.stderr,
            "modes_missed": {name: {"p": rows[:, 0], "stderr": rows[:, 1]} for name, rows in missed.items()},
            "effective_runs": self.effective,
            "growth": self.growing.growth,
            "coordinates": self.growing.overlaps.count,
            "small_until": self.growing.until,
            "order": "exact" if self.exact else "leading",
            "runs": self.n,
            "device": self.device,
        }


@checked
def collapse_law(
    session: Session,
    dimensions: Sequence[int] = DIMENSIONS,
    *,
    exact: bool = False,
    n: int = TRAJECTORIES,
    seed: int = 0,
    device: str = "auto",
    least_weight: float | None = None,
    t_end: float | None = None,
    max_cost: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
    kernel: Kernel | None = None,
) -> CollapseLaw:
    """Compute the probability that each set of modes is missed, in many dimensions at once.

    Parameters
    ----------
    session : Session
        The problem; its own dimension plays no part.
    dimensions : sequence of int
        The dimensions d, each of at least r + L + 1, where r is the dimension of the modes' span.
    exact : bool
        Take the exact law of the initial overlaps. By default starts lie in the growing directions alone, and are
        Gaussian, which is the leading order in 1/√d.
    n : int
        Number of trajectories, rounded up to a power of two of at least 1024. They are shared between the dimensions:
        of five from 32 to 100 000, each has a fifth of them or less.
    seed : int
        Seed of the starts.
    device : {"auto", "cpu", "cuda"}
        Where the kernel runs.
    least_weight : float, optional
        With learned weights, the share of a mode's own weight below which the mode counts as missed; by default 0.1.
    t_end : float, optional
        Final time; by default as of `collapse_by_ensemble`.
    max_cost : float, optional
        Refuse a run that is expected to take more seconds than this.
    progress : callable, optional
        Called with (trajectories done, trajectories in all).
    tell : callable, optional
        Called with lines for people.
    kernel : Kernel, optional
        The session's kernel for ensembles, if it is compiled already.

    Returns
    -------
    CollapseLaw
        Probabilities by dimension, with their standard errors.

    Raises
    ------
    BadInput
        For dimensions that are too few, or too far apart for n; for an adaptive schedule; for mixtures of unequal or
        learned scales, whose equations depend on d; and for a run dearer than `max_cost`.

    Examples
    --------
    >>> import annealvi
    >>> session = annealvi.open_session(annealvi.load_problem("simplex"))  # doctest: +SKIP
    >>> law = annealvi.collapse_law(session, [128, 1024, 16_384])  # doctest: +SKIP
    >>> law.missed[(3,)], law.growing.growth  # doctest: +SKIP
    """
    require_law(session)
    overlaps = InitialOverlaps(session)
    chosen = _checked(dimensions, overlaps)
    size = max(FEWEST, 1 << (n - 1).bit_length())
    kernel = kernel or compiled_for_ensembles(session, device)
    end = session.end_time() if t_end is None else t_end
    growing = growing_directions(session, kernel, end, math.sqrt(chosen[-1]))
    starts, log_own = _starts(np.eye(overlaps.count) if exact else growing.directions, chosen, size, seed)
    log_density = overlaps.log_density if exact else _gaussian
    possible = np.linalg.eigvalsh(overlaps.cosines(starts))[:, 0] > 0
    starts, log_own = starts[possible], log_own[possible]
    log_weights = np.array([log_density(starts, d) - log_own for d in chosen])
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    effective = 1 / np.sum(weights**2, axis=1)
    if effective.min() < FEWEST_EFFECTIVE:
        found = f"only some {effective.min():.0f} of {size} starts count at d = {chosen[int(effective.argmin())]}"
        raise BadInput("--dimensions", found, "give dimensions that are less far apart, or a larger --n", "")
    options: dict[str, Any] = {"least_weight": least_weight, "t_end": t_end, "max_cost": max_cost, "seed": seed}
    options |= {"kernel": kernel, "device": device, "progress": progress, "tell": tell}
    found_modes = collapse_by_ensemble(session, starts=overlaps.states(starts), **options).outcomes.covered
    sets, place = np.unique(~found_modes, axis=0, return_inverse=True)
    missed = {
        tuple(int(k) + 1 for k in np.flatnonzero(modes)): _shares(weights, place.ravel() == number)
        for number, modes in enumerate(sets)
        if modes.any()
    }
    p, stderr = _shares(weights, np.any(~found_modes, axis=1)).T
    return CollapseLaw(chosen, p, stderr, missed, effective, growing, exact, len(starts), kernel.device)


def require_law(session: Session) -> None:
    """Raise BadInput for a problem that has no law over dimensions."""
    require_isotropic(session.problem, "the law over dimensions is made for", "use the ODE ensemble in each dimension")
    if session.rule is not None:
        found = f"{session.problem.schedule.kind!r} takes its temperatures from the ensemble, which has one dimension"
        raise BadInput("schedule.kind", found, "choose a schedule that is a function of time")
    if DIMENSION in session.derivation.system.parameters:
        target, proposal = session.problem.target, session.problem.proposal
        causes = {
            "flow.learn": "scales" in session.problem.flow.learn,
            "target.scales": len(set(target.scales)) > 1,
            "proposal.scales": len(set(proposal.scales)) > 1,
        }
        key = next((key for key, holds in causes.items() if holds), "objective")
        raise BadInput(key, "the equations themselves depend on d", "use the ODE ensemble in each dimension")


def _checked(dimensions: Sequence[int], overlaps: InitialOverlaps) -> tuple[int, ...]:
    """The different dimensions, increasing."""
    least = overlaps.least_dimension + 1
    if len(dimensions) == 0:
        raise BadInput("--dimensions", "there is none", f"name at least one, of {least} or more", "")
    if (low := min(dimensions)) < least:
        raise BadInput("--dimensions", f"{low} is too few for this many means and modes", f"give {least} or more", "")
    return tuple(sorted(set(map(int, dimensions))))


def _starts(basis: np.ndarray, dimensions: Sequence[int], size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw cosines (size, coordinates) in the span of orthonormal rows, and the logarithm of their density there.

    Directions are uniform, and sizes log-uniform over all that the dimensions make likely, from a scrambled Sobol' set.
    """
    m, coordinates = basis.shape
    if m == 0:
        return np.zeros((size, coordinates)), np.zeros(size)
    low = math.log(chi.ppf(OUTSIDE, m) / math.sqrt(dimensions[-1]))
    high = math.log(chi.isf(OUTSIDE, m) / math.sqrt(dimensions[0]))
    uniform = qmc.Sobol(m + 1, seed=np.random.default_rng(seed)).random(size)
    directions = ndtri(np.clip(uniform[:, 1:], TINY, 1 - TINY))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    log_sizes = low + (high - low) * uniform[:, 0]
    return np.exp(log_sizes)[:, None] * directions @ basis, -m * log_sizes


def _gaussian(x: np.ndarray, dimension: int) -> np.ndarray:
    return -dimension * np.sum(x**2, axis=1) / 2


def _shares(weights: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Return the weighed share of some starts and its standard error, shape (dimensions, 2).

    The error is that of independent starts, to first order in the ratio of two sums, and with one effective start more
    of each kind, so that it is not zero where nothing or all is seen. Quasi-random starts err less.
    """
    share = weights @ which
    own = np.sum(weights**2 * (which - share[:, None]) ** 2, axis=1)
    return np.stack([share, np.sqrt(own + np.sum(weights**2, axis=1) ** 2)], axis=1)
