"""The cheapest schedule whose probability of collapse is at most a wanted one, over kinds and their parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from annealvi.betas import ANNEALED
from annealvi.collapse.ensemble import collapse_by_ensemble
from annealvi.collapse.family import Family, Member
from annealvi.collapse.separatrix import FINE, QUICK, require_quick
from derive.problem import BadInput, Problem, ScheduleSpec
from derive.schedules import settling_time

KINDS = ("exponential", "geometric", "linear", "beta-exponential", "beta-linear", "cosine", "hold")
"""Those with an initial temperature T0 and a time scale t0, for the user to choose."""

LONGEST = 1e6
HOTTEST = 1e5
SEPARATIONS = 5
"""Values of R at which the worst case is sought, when R is known to lie in a range only."""


@dataclass(frozen=True)
class Candidate:
    """The best schedule of one kind. T0, t0, duration, p: the shortest with P <= p_max; nan where none was found.

    equal: the smallest P at the recommended schedule's duration, and equal_start where.
    """

    kind: str
    T0: float
    t0: float
    duration: float
    p: float
    equal: float = math.nan
    equal_start: float = math.nan

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        own = {"kind": self.kind, "T0": self.T0, "t0": self.t0, "duration": self.duration, "p": self.p}
        numbers = {**own, "p_at_equal_duration": self.equal, "T0_at_equal_duration": self.equal_start}
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in numbers.items()}


@dataclass(frozen=True)
class Recommendation:
    """schedule: the cheapest found, p its probability by the formula (the largest over `separations`), p_ode by an ODE ensemble.

    stderr: of p_ode. compared: the best of each kind, cheapest first. separation: the R at which p is largest.
    """

    schedule: ScheduleSpec
    p: float
    duration: float
    separation: float
    p_ode: float
    stderr: float
    compared: tuple[Candidate, ...]
    device: str

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        spec = {"kind": self.schedule.kind, "T0": self.schedule.T0, "t0": self.schedule.t0}
        sampled = {"p_ode": self.p_ode, "stderr": self.stderr, "worst_R": self.separation, "device": self.device}
        return {"schedule": spec, "p": self.p, "duration": self.duration, "compared": [c.as_dict() for c in self.compared], **sampled}


def recommend(
    problem: Problem,
    p_max: float,
    *,
    kinds: Sequence[str] = KINDS,
    R: tuple[float, float] | None = None,
    n: int = 20_000,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Recommendation:
    """The schedule of shortest duration, in the flow's time, with P(collapse) <= p_max, and the best of each kind beside it.

    R: a range of the separation (modes at ±R on a sphere of radius R), for the worst case over it; by default the problem's own.
    n, seed: of the ODE ensemble that checks the result. Raises BadInput for p_max outside (0, 1), an empty range, modes so close
    that the heavier one attracts from everywhere, and where no schedule of duration up to 1e6 is good enough.
    """
    if not 0 < p_max < 1:
        raise BadInput("--p-max", f"{p_max:g} is no probability to ask for", "give a number above 0 and below 1", "")
    if R is not None and not (0 < R[0] < R[1] < math.inf):
        raise BadInput("--R", f"the range {R[0]:g}:{R[1]:g} is empty", "give LO:HI with 0 < LO < HI", "")
    require_quick(problem, "compare schedules by ensembles: `annealvi collapse --over schedule.T0=LO:HI:N:log`")
    searches = []
    for done, kind in enumerate(kinds):
        searches.append(_Search.of(problem, kind, R, p_max, device))
        if progress is not None:
            progress(2 * done + 1, 3 * len(kinds))
        searches[-1].find()
        if progress is not None:
            progress(2 * done + 2, 3 * len(kinds))
    found = sorted((s for s in searches if math.isfinite(s.duration)), key=lambda s: s.duration)
    if not found:
        remedy = "ask for a larger --p-max, or for modes that are closer or more alike"
        raise BadInput("--p-max", f"no schedule of duration up to {LONGEST:.0e} reaches P <= {p_max:g}", remedy, "")
    best = found[0]
    compared = []
    for done, search in enumerate(sorted(searches, key=lambda s: s.duration)):
        compared.append(search.candidate(best.duration))
        if progress is not None:
            progress(2 * len(kinds) + done + 1, 3 * len(kinds))
    p, worst = best.checked()
    ensemble = collapse_by_ensemble(worst.session, n=n, seed=seed, device=device)
    spec = worst.session.problem.schedule
    R_worst = worst.session.problem.proposal.radii[0]
    outcomes = ensemble.outcomes
    return Recommendation(spec, p, best.duration, R_worst, outcomes.p, outcomes.stderr, tuple(compared), ensemble.device)


def _require_two_attractors(member: Member) -> None:
    """Raise BadInput where the heavier mode attracts from everywhere: no schedule keeps a component at the other one."""
    traps = member.separatrix.traps
    if len(traps) > 0 and not (traps[:, 0] != traps[:, 1]).any():
        found = f"at R = {member.session.problem.proposal.radii[0]:g} both components end at the heavier mode under every schedule"
        raise BadInput("--R", found, "give modes that are farther apart or more alike", "")


class _Search:
    """The search within one kind: over T0, for the shortest time scale with P <= p_max."""

    def __init__(self, members: list[tuple[Family, Member]], kind: str, p_max: float) -> None:
        self.members, self.kind, self.p_max = members, kind, p_max
        self.T0 = self.t0 = math.nan
        self.duration = math.inf

    @classmethod
    def of(cls, problem: Problem, kind: str, R: tuple[float, float] | None, p_max: float, device: str) -> _Search:
        """Derive and compile the kind's kernel, and the averages of each separation."""
        plain = replace(problem, schedule=ScheduleSpec(kind, 100.0, 100.0))
        family = Family.of(plain, device)
        values = [{}] if R is None else [{"R": float(r)} for r in np.linspace(*R, SEPARATIONS)]
        members = [(family, family.at(v)) for v in values]
        for _, member in members:
            _require_two_attractors(member)
        return cls(members, kind, p_max)

    def p(self, T0: float, t0: float) -> float:
        """The largest P over the separations; the largest R, which is the worst as a rule, is tried first."""
        worst = 0.0
        for family, member in reversed(self.members):
            worst = max(worst, self._at(family, member, T0, t0).separatrix.corrected(QUICK).p)
            if worst > 2 * self.p_max:
                break
        return worst

    def find(self) -> None:
        """Set T0, t0 and duration to the shortest: a grid over log T0, then a golden section about its best."""
        grid = np.linspace(math.log(1.5), math.log(HOTTEST), 12)
        durations = []
        for x in grid:
            durations.append(self._shortest(x))
        best = int(np.argmin(durations))
        if durations[best] > LONGEST:
            return
        low, high = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
        refined = minimize_scalar(self._shortest, bounds=(low, high), method="bounded", options={"xatol": 0.02, "maxiter": 12})
        x = refined.x if refined.fun < durations[best] else grid[best]
        self.T0 = math.exp(x)
        self.duration = self._shortest(x)
        self.t0 = self._scale(self.T0, self.duration)

    def candidate(self, duration: float) -> Candidate:
        """The kind's best, and its smallest P at the given duration."""
        if not math.isfinite(self.duration):
            own = Candidate(self.kind, math.nan, math.nan, math.nan, math.nan)
        else:
            own = Candidate(self.kind, self.T0, self.t0, self.duration, self.p(self.T0, self.t0))

        def p_of(x: float) -> float:
            return self._all_p(math.exp(x), self._scale(math.exp(x), duration))

        grid = np.linspace(math.log(1.5), math.log(HOTTEST), 12)
        values = [p_of(x) for x in grid]
        best = int(np.argmin(values))
        low, high = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
        refined = minimize_scalar(p_of, bounds=(low, high), method="bounded", options={"xatol": 0.02, "maxiter": 12})
        x, p = min(((refined.x, refined.fun), (grid[best], values[best])), key=lambda pair: pair[1])
        return replace(own, equal=float(p), equal_start=math.exp(x))

    def checked(self) -> tuple[float, Member]:
        """P of the found schedule with fine quadrature, and the member of the separation where it is largest."""
        found = [self._at(family, member, self.T0, self.t0) for family, member in self.members]
        values = [member.separatrix.corrected(FINE).p for member in found]
        worst = int(np.argmax(values))
        return values[worst], found[worst]

    def _all_p(self, T0: float, t0: float) -> float:
        return max(self._at(family, member, T0, t0).separatrix.corrected(QUICK).p for family, member in self.members)

    def _shortest(self, x: float) -> float:
        """The shortest duration at T0 = e^x with P <= p_max, to 1 %; beyond LONGEST where that is too short or T0 too cold."""
        T0 = math.exp(x)
        low, high = 1.0, min(LONGEST, 1.05 * self.duration)
        if self.p(T0, self._scale(T0, high)) > self.p_max:
            return 2 * LONGEST
        while high > 1.01 * low:
            middle = math.sqrt(low * high)
            if self.p(T0, self._scale(T0, middle)) <= self.p_max:
                high = middle
            else:
                low = middle
        self.duration = min(self.duration, high)
        return high

    def _scale(self, T0: float, duration: float) -> float:
        """The t0 of a schedule that takes `duration`: time scales with t0 in every kind."""
        _, member = self.members[0]
        schedule = member.session.schedule
        numbers = {"T0": T0, "t0": 1.0}
        unit = settling_time(replace(schedule, values=tuple(numbers[s.name] for s in schedule.parameters)), ANNEALED)
        return duration / unit

    def _at(self, family: Family, member: Member, T0: float, t0: float) -> Member:
        return family.at({"R": member.session.problem.proposal.radii[0], "schedule.T0": T0, "schedule.t0": t0}, member)


def print_recommendation(found: Recommendation, title: str, p_max: float) -> None:
    """The schedule in one line, then the kinds side by side."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    spec = found.schedule
    console.print(
        f"[bold]{spec.kind}[/], T0 = {spec.T0:.4g}, t0 = {spec.t0:.5g}: P(collapse) = {found.p:.4g} in {found.duration:.5g} units of time"
    )
    table = Table(title=f"shortest schedules with P <= {p_max:g} · {title}", title_justify="left", header_style="bold")
    for heading in ("kind", "T0", "t0", "duration", "P", f"P in {found.duration:.4g}", "its T0"):
        table.add_column(heading, justify="left" if heading == "kind" else "right", no_wrap=heading == "kind")
    for c in found.compared:
        row = (c.T0, c.t0, c.duration, c.p, c.equal, c.equal_start)
        table.add_row(c.kind, *("–" if math.isnan(x) else f"{x:.0f}" if x >= 1000 else f"{x:.3g}" for x in row))
    console.print(table)
    checked = f"ODE ensemble at R = {found.separation:g}: {found.p_ode:.4f} ± {found.stderr:.4f}"
    console.print(f"  {checked} · a schedule has ended once T <= {1 + ANNEALED:g} · {found.device}", highlight=False)
