"""The probability of collapse by brute force: many trajectories of the derived ODE from random initial overlaps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from annealvi.collapse.outcome import LEAST_WEIGHT, Outcomes, judging
from annealvi.collapse.settling import COMPANY, SCOUTS, Followed, Scouts, Task, follow
from annealvi.collapse.trapping import beyond_steps, decided_sets
from annealvi.runs import paths
from annealvi.runs.adaptive import ends_with_rule
from annealvi.runs.costs import (
    LONGEST_PILOT,
    MOST,
    Pace,
    affordable_number,
    pace_of_integration,
    require_affordable,
    stopped_in_time,
)
from annealvi.runs.trajectories import COARSEST_AVERAGES
from annealvi.session.session import Session
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked
from derive.problem.schedules import settling_time
from derive.problem.specification import BadInput

if TYPE_CHECKING:
    from kernels.integrate.kernel import Kernel

RTOL = 1e-6
"""Relative tolerance of each integration step.

Outcomes need less accuracy than paths: a local error moves the boundary between outcomes by about the same amount
relative to the overlaps, and that is far below the standard error of any affordable number of runs.
"""

AVERAGES = 1e-7
"""Error of each average where averages run over several variables or look at several states: a tenth of the error
of a step. Tables of these averages are then small; to 1e-12 many have none.
"""

READ = np.array([0.25, 0.5, 1.0])
"""With learned weights, trajectories are read at these fractions of the time between the schedule's end and the run's
end.
"""

JUDGED_AT_ONCE = 2**14
"""Number of final states judged together; their distances to the modes take several times the memory of the states."""


FIRST_SHARE = 128
"""Number of trajectories after which the standard error is first looked at, where a given error is enough; later
numbers are multiples of it.
"""

PILOT_RUNS, PILOT_RUNS_WITH_RULE = 2000, 10
"""Number of trajectories that are timed before a sweep, without and with an adaptive rule."""


@dataclass(frozen=True)
class Ensemble:
    """The outcomes of an ensemble of n trajectories.

    With learned weights, which go on moving long after the schedule has ended, the trajectories are read several times.

    Attributes
    ----------
    outcomes : Outcomes
        Outcomes at the last reading.
    t : ndarray
        Shape (n,). Time to which each trajectory was followed, in units of the flow's time: until it was decided, until
        it settled, or to the end.
    undecided : int
        Number of trajectories that no trap has proven decided.
    settled : int
        Number of those among them that stopped in a settled cell, see `annealvi.collapse.settling`.
    device, method : str
        Where and how the trajectories were integrated.
    readings : Mapping[float, Outcomes]
        Outcomes by the time of reading; a trajectory that is not decided by then counts as it stands. The last one is
        `outcomes`.
    least_weight : float
        Share of a mode's own weight below which a mode counts as missed; see `outcome.judging`.
    """

    outcomes: Outcomes
    t: np.ndarray
    undecided: int
    device: str
    method: str
    readings: Mapping[float, Outcomes] = field(default_factory=dict)
    least_weight: float = LEAST_WEIGHT
    settled: int = 0

    SHOWN: ClassVar = ("outcomes", "undecided", "device", "method")
    __repr__ = short_repr

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        proven, to_end = len(self.t) - self.undecided, self.undecided - self.settled
        more: dict[str, Any] = {"decided_by": float(self.t.max()), "proven_decided": proven}
        more |= {"settled": self.settled, "run_to_end": to_end}
        if self.outcomes.mechanisms is not None:
            more["least_weight"] = self.least_weight
            more["in_time"] = [{"t": t, "p": read.p, **(read.mechanisms or {})} for t, read in self.readings.items()]
        return {**self.outcomes.as_dict(), **more, "device": self.device, "method": self.method}


@checked
def collapse_by_ensemble(
    session: Session,
    *,
    n: int | None = 10_000,
    error: float = 0.0,
    wanted: Callable[[Outcomes | None], int] | None = None,
    starts: np.ndarray | None = None,
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
    """Integrate trajectories of the summary-statistics ODE, and read their outcomes.

    The initial states are drawn from the exact law of the initial overlaps. A trajectory stops early inside a set that
    the flow provably never leaves (see `annealvi.collapse.trapping`). Where no such set is known, it stops where it has
    settled among trajectories that are followed to `t_end` (see `annealvi.collapse.settling`).

    Parameters
    ----------
    session : Session
        The problem with its schedule and parameter values.
    n : int or None
        Number of trajectories; None takes as many as are affordable for the problem.
    error : float
        Standard error of P that is enough: the ensemble then stops before it has n trajectories. By default 0, which
        takes all n, as an adaptive schedule always does.
    wanted : callable, optional
        Says how many more trajectories are wanted after the outcomes so far, which are None at first. It takes the
        place of `error`.
    starts : ndarray, optional
        Shape (n, states). Initial states in the place of random ones; they set n, and need a schedule that is a
        function of time.
    rtol : float
        Relative tolerance of each integration step.
    t_end : float, optional
        Final time; by default the schedule's end and 50 units more, in which the flow settles. An adaptive schedule
        runs to its own end and ignores `t_end`.
    least_weight : float, optional
        With learned weights, the share of a mode's own weight below which the mode counts as missed, between 0 and 1;
        by default 0.1.
    seed : int
        Seed of the initial states.
    device : {"auto", "cpu", "cuda"}
        Where the kernel runs.
    max_cost : float, optional
        Refuse a run that is expected to take more seconds than this.
    progress : callable, optional
        Called with (trajectories done, trajectories in all).
    tell : callable, optional
        Called with lines for people.
    kernel : Kernel, optional
        The session's kernel, if it is compiled already.

    Returns
    -------
    Ensemble
        Outcomes with their binomial standard error, decision times and readings.

    Raises
    ------
    BadInput
        For a schedule that never reaches T = 1, for a sphere in one dimension, for a `least_weight` outside (0, 1) or
        without learned weights, and for a run dearer than `max_cost`.

    Examples
    --------
    >>> import annealvi
    >>> session = annealvi.open_session(annealvi.load_problem("bimodal"))  # doctest: +SKIP
    >>> found = annealvi.collapse_by_ensemble(session, n=10_000, seed=1)  # doctest: +SKIP
    >>> found.outcomes.p, found.outcomes.stderr  # doctest: +SKIP
    """
    from kernels.integrate.domain import widest_tolerance

    judge = judging(session, least_weight)
    n = n if starts is None else len(starts)
    share = LEAST_WEIGHT if least_weight is None else least_weight
    if starts is not None:
        session.require_states(starts, "starts", "")
        if session.rule is not None:
            raise BadInput(
                "starts", "an adaptive schedule draws its own", "choose a schedule that is a function of time"
            )
    if session.rule is not None:
        if t_end is not None and tell is not None:
            tell(
                "under an adaptive schedule trajectories run until all have come to T = 1 and settled, whatever --t-end"
            )
        options: dict[str, Any] = {"device": device, "max_cost": max_cost, "progress": progress, "tell": tell}
        ends = ends_with_rule(session, n, seed=seed, rtol=rtol, tolerance=min(COARSEST_AVERAGES, rtol), **options)
        outcomes = _judged(judge, ends.states)
        n = len(ends.states)
        return Ensemble(outcomes, np.full(n, ends.t), n, ends.device, ends.method, {ends.t: outcomes}, share)
    if session.problem.space.dimension == 1 and session.problem.flow.manifold == "sphere":
        raise BadInput("space.dimension", "on a sphere in one dimension no mean can move", "give 2 dimensions or more")
    settling_time(session.schedule)  # refuses one that never reaches T = 1
    end = session.end_time() if t_end is None else t_end
    kernel = kernel or compiled_for_ensembles(session, device)
    traps = beyond_steps(decided_sets(session, kernel), rtol)
    times = _reading_times(session, end)
    control: dict[str, Any] = {
        "rtol": rtol,
        "atol": rtol / 100,
        # Among many states some are nearly parallel; that allowance must not depend on the part they fall into.
        "domain_tolerance": widest_tolerance(rtol),
    }
    task, scouts = Task(kernel, times[1:], judge, control), None
    if len(traps) == 0 and (n is None or max_cost is not None or tell is not None):
        first = session.random_states(max(SCOUTS, paths.side_by_side(kernel)), seed) if starts is None else starts
        pace, scouts = _pace(task, n, first)
        if n is None:
            n = affordable_number(pace, max_cost, tell)
        require_affordable(pace.cost(n), max_cost, paths.FASTER_ENSEMBLE, tell)
    n = MOST if n is None else n  # decided trajectories are cheap
    parts: list[list[Outcomes]] = []
    if wanted is None and error > 0:
        wanted = partial(_to_error, error)
    size = COMPANY if len(traps) == 0 else paths.chunk_of(kernel)
    if starts is not None:
        companies: Iterable[np.ndarray] = (starts[first : first + size] for first in range(0, n, size))
    elif wanted is not None:
        of_parts = partial(_of_parts, wanted, parts)
        companies = _as_wanted(session.random_states_in_parts(n, seed, FIRST_SHARE), of_parts)
    else:
        companies = session.random_states_in_parts(n, seed, size)

    def report(done: int) -> None:
        if progress is not None:
            progress(done, n)

    report(0)
    runs = follow(task, companies, report, scouts) if len(traps) == 0 else _until_proven(task, companies, report, traps)
    t, seen, settled, method = np.empty(n), 0, 0, ""
    with stopped_in_time(max_cost, paths.FASTER_ENSEMBLE):
        for run in runs:
            t[seen : seen + len(run.t)] = run.t
            seen += len(run.t)
            settled, method = settled + int(run.settled.sum()), run.method
            parts.append([_judged(judge, states) for states in run.y.transpose(1, 0, 2)])
    t = t[:seen]
    readings = {
        float(at): Outcomes.joined(read) for at, read in zip(task.readings, zip(*parts, strict=True), strict=True)
    }
    undecided = seen if len(traps) == 0 else int((t >= end).sum())
    return Ensemble(readings[float(end)], t, undecided, kernel.device, method, readings, share, settled)


def _to_error(error: float, found: Outcomes | None) -> int:
    """Estimate how many trajectories are still missing to the standard error that is enough."""
    if found is None:
        return FIRST_SHARE
    seen = len(found.covered)
    return 0 if found.stderr <= error else max(1, math.ceil(seen * (found.stderr / error) ** 2) - seen)


def _of_parts(wanted: Callable[[Outcomes | None], int], parts: list[list[Outcomes]]) -> int:
    """Ask how many more are wanted after the last readings of the parts so far."""
    return wanted(Outcomes.joined([read[-1] for read in parts]) if parts else None)


def _as_wanted(parts: Iterator[np.ndarray], wanted: Callable[[], int]) -> Iterator[np.ndarray]:
    """Join parts into companies, each with as many trajectories as are wanted when its turn comes, or a few more."""
    for first in parts:
        missing = wanted()
        if missing == 0:
            return
        company, missing = [first], missing - len(first)
        while missing > 0 and (part := next(parts, None)) is not None:
            company.append(part)
            missing -= len(part)
        yield np.concatenate(company)


def _until_proven(
    task: Task, companies: Iterable[np.ndarray], progress: Callable[[int], None], traps: np.ndarray
) -> Iterator[Followed]:
    """Follow each trajectory until it is in a trap, or to the end."""
    number, times = 0, np.array([0.0, *task.readings])
    for states in companies:
        run = task.kernel.integrate(states, times, number=number, traps=traps, **task.options)
        number += len(states)
        progress(number)
        yield Followed(run.y[:, 1:], run.reached, np.zeros(len(states), bool), run.method)


def _judged(judge: Callable[[np.ndarray], Outcomes], states: np.ndarray) -> Outcomes:
    return Outcomes.joined([judge(part) for part in np.array_split(states, 1 + len(states) // JUDGED_AT_ONCE)])


def compiled_for_ensembles(session: Session, device: str) -> Kernel:
    """Compile the kernel of a problem with averages to the error that outcomes need.

    Rates with averages over several variables or at several states are dear, and at high temperatures stability alone
    bounds the steps of DOP853; the kernel then has a second method, whose steps are longer there.
    """
    from kernels.lower.lattice import averages_of

    dear = bool(averages_of(session.derivation.system))
    return session.compile(device, AVERAGES, stabilised=True) if dear else session.compile(device)


def _reading_times(session: Session, end: float) -> np.ndarray:
    """Return 0 and the reading times.

    These are the run's end, and with learned weights some times between the schedule's end and the run's end.
    """
    settled = settling_time(session.schedule)  # refuses one that never reaches T = 1
    learned = "weights" in session.problem.flow.learn
    return np.array([0.0, *(settled + (end - settled) * READ if learned and end > settled else [end])])


def seconds_of_ensemble(
    point: Callable[[], tuple[Session, Kernel | None]], n: int, device: str, t_end: float | None = None
) -> float:
    """Estimate the seconds that an ensemble of n takes at one point of a sweep.

    `point` returns the point's session and, if there is one, its compiled kernel. The estimate times derivation and
    tables, but not compilation, which other points share. Where trajectories are decided early, up to PILOT_RUNS of
    them are run; other trajectories are sampled (see `pace_of_integration`), which takes at most some ten seconds.
    """
    session, kernel = point()  # makes whatever all points share
    begun = time.perf_counter()
    session, kernel = point()
    kernel = kernel or (compiled_for_ensembles(session, device) if session.rule is None else None)
    seconds = time.perf_counter() - begun
    if kernel is None or len(decided_sets(session, kernel)) > 0:
        few = min(n, PILOT_RUNS if kernel is not None else PILOT_RUNS_WITH_RULE)
        run = partial(collapse_by_ensemble, session, t_end=t_end, kernel=kernel, device=device)
        run(n=1)  # compiles
        begun = time.perf_counter()
        run(n=few)
        return seconds + (time.perf_counter() - begun) * n / few
    from kernels.integrate.domain import widest_tolerance

    control = {"rtol": RTOL, "atol": RTOL / 100, "domain_tolerance": widest_tolerance(RTOL)}
    times = _reading_times(session, session.end_time() if t_end is None else t_end)
    first = session.random_states(max(SCOUTS, paths.side_by_side(kernel)), 0)
    pace, _ = _pace(Task(kernel, times[1:], judging(session), control), n, first)
    return seconds + pace.cost(n).seconds


def _pace(task: Task, n: int | None, first: np.ndarray) -> tuple[Pace, Scouts | None]:
    """Measure the pace of an ensemble of n without traps, of which `first` (some, states) are the first states.

    Scouts are sent, and returned, where they take at most LONGEST_PILOT seconds; else the pace is that of trajectories
    that are followed to the end.
    """
    crew, times = paths.side_by_side(task.kernel), np.array([0.0, *task.readings])
    some = np.resize(first, (crew, first.shape[1]))
    pace = pace_of_integration(task.kernel, some, times, task.options["rtol"], crew)
    if (n is not None and n <= SCOUTS) or pace.least or pace.cost(SCOUTS).seconds > LONGEST_PILOT:
        return pace, None
    scouts = Scouts.of(task, first)
    return scouts.pace(task, pace), scouts
