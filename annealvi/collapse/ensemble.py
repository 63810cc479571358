"""The probability of collapse by brute force: many trajectories of the derived equations, from random initial
overlaps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from annealvi.collapse.outcome import LEAST_WEIGHT, Outcomes, judging
from annealvi.collapse.trapping import beyond_steps, decided_sets
from annealvi.runs.adaptive import ends_with_rule
from annealvi.runs.costs import MOST, Pace, affordable_number, pace_of_integration, require_affordable, stopped_in_time
from annealvi.runs.paths import FASTER_ENSEMBLE, random_chunks, side_by_side
from annealvi.runs.trajectories import COARSEST_AVERAGES
from annealvi.session.session import Session
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked
from derive.problem.schedules import settling_time
from derive.problem.specification import BadInput

if TYPE_CHECKING:
    from kernels.integrate.kernel import Kernel

RTOL = 1e-6
"""Per step. Outcomes ask less than paths: a local error moves the boundary between them by about itself relative to the
overlaps, far below the standard error of any number of runs that one can afford."""

READ = np.array([0.25, 0.5, 1.0])
"""When trajectories with learned weights are read, between the schedule's end and theirs."""

JUDGED_AT_ONCE = 2**14
"""Final states, whose distances to the modes take several times their memory."""


PILOT_RUNS, PILOT_RUNS_WITH_RULE = 2000, 10


@dataclass(frozen=True)
class Ensemble:
    """outcomes: of n trajectories. t: (n,) when each was decided, or the end. undecided: how many were proven decided
    by no trap.

    readings: time -> outcomes, of those then not decided as they stand. With learned weights, which go on moving for
    very long once the schedule has ended, they are several and the last is `outcomes`. least_weight: see
    `outcome.judging`.
    """

    outcomes: Outcomes
    t: np.ndarray
    undecided: int
    device: str
    method: str
    readings: Mapping[float, Outcomes] = field(default_factory=dict)
    least_weight: float = LEAST_WEIGHT

    SHOWN: ClassVar = ("outcomes", "undecided", "device", "method")
    __repr__ = short_repr

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        more: dict[str, Any] = {"decided_by": float(self.t.max()), "proven_decided": len(self.t) - self.undecided}
        if self.outcomes.mechanisms is not None:
            more["least_weight"] = self.least_weight
            more["in_time"] = [{"t": t, "p": read.p, **(read.mechanisms or {})} for t, read in self.readings.items()]
        return {**self.outcomes.as_dict(), **more, "device": self.device, "method": self.method}


@checked
def collapse_by_ensemble(
    session: Session,
    *,
    n: int | None = 10_000,
    rtol: float = RTOL,
    t_end: float | None = None,
    least_weight: float | None = None,
    seed: int = 0,
    device: str = "auto",
    max_cost: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
    kernel: Kernel | None = None,
) -> Ensemble:
    """The outcomes of n trajectories of the summary-statistics ODE, from the exact law of the initial overlaps.

    A trajectory stops early only in a set of which it is proven that the flow never leaves it (see `trapping`); where
    none is known, each runs to t_end, by default until the schedule has ended and the flow had time to settle; an
    adaptive schedule has no other end. rtol: per step. least_weight: with learned weights the share of a mode's own
    weight below which it is missed, by default LEAST_WEIGHT. max_cost: refuse what is expected to take more seconds. n:
    None for as many as the problem can afford, see `costs.affordable_number`. kernel: the session's, where it is
    compiled already. Raises BadInput for a schedule that never reaches T = 1, and above max_cost.
    """
    from kernels.integrate.domain import widest_tolerance

    judge = judging(session, least_weight)
    share = LEAST_WEIGHT if least_weight is None else least_weight
    if session.rule is not None:
        if t_end is not None and tell is not None:
            tell(
                "under an adaptive schedule trajectories run until all have come to T = 1 and settled, whatever --t-end"
            )
        options: dict[str, Any] = {"device": device, "max_cost": max_cost, "progress": progress, "tell": tell}
        ends = ends_with_rule(session, n, seed=seed, rtol=rtol, tolerance=min(COARSEST_AVERAGES, rtol), **options)
        outcomes = Outcomes.joined(
            [judge(part) for part in np.array_split(ends.states, 1 + len(ends.states) // JUDGED_AT_ONCE)]
        )
        n = len(ends.states)
        return Ensemble(outcomes, np.full(n, ends.t), n, ends.device, ends.method, {ends.t: outcomes}, share)
    if session.problem.space.dimension == 1 and session.problem.flow.manifold == "sphere":
        raise BadInput("space.dimension", "on a sphere in one dimension no mean can move", "give 2 dimensions or more")
    settling_time(session.schedule)  # refuses one that never reaches T = 1
    end = session.end_time() if t_end is None else t_end
    kernel = kernel or session.compile(device)
    traps = beyond_steps(decided_sets(session, kernel), rtol)
    times = _reading_times(session, end)
    if len(traps) == 0 and (n is None or max_cost is not None or tell is not None):
        pace = _pace(session, kernel, times, rtol, seed)
        if n is None:
            n = affordable_number(pace, max_cost, tell)
        require_affordable(pace.cost(n), max_cost, FASTER_ENSEMBLE, tell)
    n = MOST if n is None else n  # what is decided early takes a moment
    parts: list[list[Outcomes]] = []
    reached, method = np.empty(n), ""
    # Among many states some are nearly parallel, and which part they are in must not decide what the others are
    # allowed.
    control: dict[str, Any] = {
        "rtol": rtol,
        "atol": rtol / 100,
        "traps": traps,
        "domain_tolerance": widest_tolerance(rtol),
    }
    if progress is not None:
        progress(0, n)
    with stopped_in_time(max_cost, FASTER_ENSEMBLE):
        for part, states in random_chunks(session, kernel, n, seed):
            run = kernel.integrate(states, times, number=part.start, **control)
            reached[part], method = run.reached, run.method
            parts.append([judge(states) for states in run.y.transpose(1, 0, 2)[1:]])
            if progress is not None:
                progress(part.stop, n)
    undecided = int((reached >= end).sum())
    readings = {float(t): Outcomes.joined(read) for t, read in zip(times[1:], zip(*parts, strict=True), strict=True)}
    return Ensemble(readings[float(times[-1])], reached, undecided, kernel.device, method, readings, share)


def _reading_times(session: Session, end: float) -> np.ndarray:
    """0 and when trajectories are read: at the end, and where weights are learned on the way from the schedule's end to
    it too."""
    settled = settling_time(session.schedule)  # refuses one that never reaches T = 1
    learned = "weights" in session.problem.flow.learn
    return np.array([0.0, *(settled + (end - settled) * READ if learned and end > settled else [end])])


def seconds_of_ensemble(
    point: Callable[[], tuple[Session, Kernel | None]], n: int, device: str, t_end: float | None = None
) -> float:
    """What an ensemble of n is expected to take at a point of a sweep, given by its session and the kernel that it has
    already, if any.

    Derivation and tables are timed, compilation, which other points share, is not. Where trajectories are decided
    early, up to PILOT_RUNS are run; others are sampled (see `pace_of_integration`), which takes some ten seconds at the
    most.
    """
    session, kernel = point()  # whatever all points share is made
    begun = time.perf_counter()
    session, kernel = point()
    kernel = kernel or (session.compile(device) if session.rule is None else None)
    seconds = time.perf_counter() - begun
    if kernel is None or len(decided_sets(session, kernel)) > 0:
        few = min(n, PILOT_RUNS if kernel is not None else PILOT_RUNS_WITH_RULE)
        run = partial(collapse_by_ensemble, session, t_end=t_end, kernel=kernel, device=device)
        run(n=1)  # compiles
        begun = time.perf_counter()
        run(n=few)
        return seconds + (time.perf_counter() - begun) * n / few
    times = _reading_times(session, session.end_time() if t_end is None else t_end)
    return seconds + _pace(session, kernel, times, RTOL, 0).cost(n).seconds


def _pace(session: Session, kernel: Kernel, times: np.ndarray, rtol: float, seed: int) -> Pace:
    crew = side_by_side(kernel)
    return pace_of_integration(kernel, session.random_states(crew, seed), times, rtol, crew)
