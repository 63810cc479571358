"""The probability of collapse by brute force: many trajectories of the derived equations, from random initial overlaps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from annealvi.collapse.outcome import Outcomes, outcomes_of_states
from annealvi.collapse.trapping import decided_sets
from annealvi.costs import cost_of_integration, require_affordable
from annealvi.paths import FASTER_INTEGRATION, chunk_of, side_by_side
from annealvi.session import Session
from annealvi.trajectories import integrate
from derive.problem import BadInput
from derive.schedules import settling_time

if TYPE_CHECKING:
    from kernels.integrator import Kernel

RTOL = 1e-6
"""Per step. Outcomes ask less than paths: a local error moves the boundary between them by about itself relative to the overlaps, far
below the standard error of any number of runs that one can afford."""


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
    if session.rule is not None:
        options: dict[str, Any] = {"max_cost": max_cost, "progress": progress, "tell": tell}
        paths = integrate(session, n=n, points=2, rtol=rtol, seed=seed, device=device, **options)
        outcomes = outcomes_of_states(session, paths.values[:, -1, : len(session.state_names)])
        return Ensemble(outcomes, np.full(n, float(paths.t[-1])), n, paths.device, paths.method)
    if session.problem.space.dimension == 1 and session.problem.flow.manifold == "sphere":
        raise BadInput("space.dimension", "on a sphere in one dimension no mean can move", "give 2 dimensions or more")
    settling_time(session.schedule)  # refuses one that never reaches T = 1
    end = session.end_time()
    kernel = kernel or session.compile(device)
    traps = decided_sets(session, kernel)
    states = session.random_states(n, seed)
    times = np.array([0.0, end])
    if len(traps) == 0:
        require_affordable(cost_of_integration(kernel, states, times, rtol, side_by_side(kernel)), max_cost, FASTER_INTEGRATION, tell)
    finals, reached, method = np.empty_like(states), np.empty(n), ""
    for first in range(0, n, chunk_of(kernel)):
        part = slice(first, first + chunk_of(kernel))
        run = kernel.integrate(states[part], times, rtol=rtol, atol=rtol / 100, traps=traps)
        finals[part], reached[part], method = run.y[:, -1], run.reached, run.method
        if progress is not None:
            progress(min(part.stop, n), n)
    undecided = int((reached >= end).sum())
    return Ensemble(outcomes_of_states(session, finals), reached, undecided, kernel.device, method)
