"""The probability of collapse by brute force: many trajectories of the derived equations, from random initial overlaps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from annealvi.adaptive import ends_with_rule
from annealvi.collapse.outcome import Outcomes, covering
from annealvi.collapse.trapping import decided_sets
from annealvi.costs import cost_of_integration, require_affordable, stopped_in_time
from annealvi.paths import FASTER_INTEGRATION, random_chunks, side_by_side
from annealvi.session import Session
from annealvi.trajectories import COARSEST_AVERAGES
from derive.problem import BadInput
from derive.schedules import settling_time

if TYPE_CHECKING:
    from kernels.integrator import Kernel

RTOL = 1e-6
"""Per step. Outcomes ask less than paths: a local error moves the boundary between them by about itself relative to the overlaps, far
below the standard error of any number of runs that one can afford."""

JUDGED_AT_ONCE = 2**14
"""Final states, whose distances to the modes take several times their memory."""


@dataclass(frozen=True)
class Ensemble:
    """outcomes: of n trajectories. t: (n,) when each was decided, or the end. undecided: how many were proven decided by no trap."""

    outcomes: Outcomes
    t: np.ndarray
    undecided: int
    device: str
    method: str

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        more = {"decided_by": float(self.t.max()), "proven_decided": len(self.t) - self.undecided}
        return {**self.outcomes.as_dict(), **more, "device": self.device, "method": self.method}


def collapse_by_ensemble(
    session: Session,
    *,
    n: int = 10_000,
    rtol: float = RTOL,
    seed: int = 0,
    device: str = "auto",
    max_cost: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
    kernel: Kernel | None = None,
) -> Ensemble:
    """The outcomes of n trajectories of the summary-statistics ODE, from the exact law of the initial overlaps.

    A trajectory stops early only in a set that is proven to be one the flow never leaves (see `trapping`); where none is known, each runs
    until the schedule has ended and the flow had time to settle. rtol: per step. max_cost: refuse what is expected to take more seconds.
    kernel: the session's, where it is compiled already. Raises BadInput for a schedule that never reaches T = 1, and above max_cost.
    """
    from kernels.integrator import widest_tolerance

    if session.rule is not None:
        options: dict[str, Any] = {"device": device, "max_cost": max_cost, "progress": progress, "tell": tell}
        ends = ends_with_rule(session, n, seed=seed, rtol=rtol, tolerance=min(COARSEST_AVERAGES, rtol), **options)
        cover = covering(session)
        covered = np.concatenate([cover(part) for part in np.array_split(ends.states, 1 + n // JUDGED_AT_ONCE)])
        return Ensemble(Outcomes(covered), np.full(n, ends.t), n, ends.device, ends.method)
    if session.problem.space.dimension == 1 and session.problem.flow.manifold == "sphere":
        raise BadInput("space.dimension", "on a sphere in one dimension no mean can move", "give 2 dimensions or more")
    settling_time(session.schedule)  # refuses one that never reaches T = 1
    end = session.end_time()
    kernel = kernel or session.compile(device)
    traps = decided_sets(session, kernel)
    times = np.array([0.0, end])
    if len(traps) == 0:
        cost = cost_of_integration(kernel, session.random_states(1, seed), times, rtol, side_by_side(kernel), n)
        require_affordable(cost, max_cost, FASTER_INTEGRATION, tell)
    cover = covering(session)
    covered, reached, method = np.empty((n, len(session.problem.target.weights)), bool), np.empty(n), ""
    # Among many states some are nearly parallel, and which part they are in must not decide what the others are allowed.
    control: dict[str, Any] = {"rtol": rtol, "atol": rtol / 100, "traps": traps, "domain_tolerance": widest_tolerance(rtol)}
    with stopped_in_time(max_cost, FASTER_INTEGRATION):
        for part, states in random_chunks(session, kernel, n, seed):
            run = kernel.integrate(states, times, number=part.start, **control)
            covered[part], reached[part], method = cover(run.y[:, -1]), run.reached, run.method
            if progress is not None:
                progress(part.stop, n)
    undecided = int((reached >= end).sum())
    return Ensemble(Outcomes(covered), reached, undecided, kernel.device, method)
