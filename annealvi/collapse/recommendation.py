"""The cheapest schedule whose probability of collapse is at most a wanted one, over kinds and their parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize_scalar

from annealvi.annealing.betas import ANNEALED, TIMED_KINDS
from annealvi.collapse.ensemble import Ensemble, collapse_by_ensemble
from annealvi.collapse.family import Family, Member
from annealvi.collapse.formula_coverage import INSTEAD_OF_RECOMMENDING, require_quick
from annealvi.collapse.separatrix import FINE, QUICK
from annealvi.session.resolution import warnings_of
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked, require_choice
from derive.problem.schedules import settling_time
from derive.problem.specification import BadInput, Problem, ScheduleSpec

if TYPE_CHECKING:
    from annealvi.show.printing import Printer

KINDS = TIMED_KINDS
LONGEST = 1e6
HOTTEST = 1e5
SEPARATIONS = 5
"""Values of R at which the worst case is sought, when R is known to lie in a range only."""

CONFIDENCE, ROUNDS = 0.95, 4
"""Of the ensembles' confirmation, all rounds together: each may be wrong in a fourth of 5 % only."""
NEAR = 0.5
"""How far from the log T0 that was found a somewhat longer schedule begins."""

SCOPE = (
    "for two Gaussian components of fixed width and weight on a sphere, without",
    "the noise of finite samples;",
    "T0 and t0 do not carry over to flows, whose width is free: see find_barrier",
)


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

    __repr__ = short_repr

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        own = {"kind": self.kind, "T0": self.T0, "t0": self.t0, "duration": self.duration, "p": self.p}
        numbers = {**own, "p_at_equal_duration": self.equal, "T0_at_equal_duration": self.equal_start}
        return {
            key: None if isinstance(value, float) and math.isnan(value) else value for key, value in numbers.items()
        }


@dataclass(frozen=True)
class Recommendation:
    """schedule: the cheapest found, p its probability by the formula (the largest over `separations`), p_ode by an ODE
    ensemble.

    stderr: of p_ode. p_max: what was asked for. p_upper: what P is below by the ensemble alone, at CONFIDENCE.
    confirmed: p_upper <= p_max. compared: the best of each kind by the formula, cheapest first. separation: the R at
    which p is largest. n: of the ensemble.
    """

    schedule: ScheduleSpec
    p: float
    duration: float
    separation: float
    p_ode: float
    stderr: float
    compared: tuple[Candidate, ...]
    device: str
    p_max: float
    p_upper: float
    confirmed: bool
    n: int
    warnings: tuple[str, ...] = ()

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from annealvi.show.printing import as_html

        return as_html(print_recommendation, self)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        spec = {"kind": self.schedule.kind, "T0": self.schedule.T0, "t0": self.schedule.t0}
        sampled = {"p_ode": self.p_ode, "stderr": self.stderr, "worst_R": self.separation, "device": self.device}
        sampled |= {
            "n": self.n,
            "p_upper": self.p_upper,
            "confidence": CONFIDENCE,
            "confirmed": self.confirmed,
            "covers": " ".join(SCOPE),
        }
        sampled["warnings"] = list(self.warnings)
        return {
            "schedule": spec,
            "p": self.p,
            "duration": self.duration,
            "compared": [c.as_dict() for c in self.compared],
            **sampled,
        }


@checked
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
    """The schedule of shortest duration, in the flow's time, with P(collapse) <= p_max, and the best of each kind
    beside it.

    Where an ODE ensemble does not confirm P <= p_max at CONFIDENCE, longer schedules of that kind are tried, in ROUNDS
    at most. R: a range of the separation (modes at ±R on a sphere of radius R), for the worst case over it; by default
    the problem's own. n, seed: of the ensembles, whose later rounds take the seeds that follow. Raises BadInput for
    p_max outside (0, 1), an empty range, modes so close that the heavier one attracts from everywhere, and where no
    schedule of duration up to 1e6 is good enough.
    """
    kinds = tuple(kinds)
    if not 0 < p_max < 1:
        raise BadInput("--p-max", f"{p_max:g} is no probability to ask for", "give a number above 0 and below 1", "")
    require_choice("kinds", kinds, KINDS)
    if not kinds:
        raise BadInput("kinds", "no kind to choose from", f"give some of {', '.join(KINDS)}", "")
    if R is not None and not (0 < R[0] < R[1] < math.inf):
        raise BadInput("--R", f"the range {R[0]:g}:{R[1]:g} is empty", "give LO:HI with 0 < LO < HI", "")
    require_quick(problem, INSTEAD_OF_RECOMMENDING)
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
    check = _confirm(found[0], p_max, n, seed, device)
    best = check.search
    compared = []
    for done, search in enumerate(sorted(searches, key=lambda s: s.duration)):
        compared.append(search.candidate(best.duration))
        if progress is not None:
            progress(2 * len(kinds) + done + 1, 3 * len(kinds))
    problem, outcomes, upper = check.worst.session.problem, check.ensemble.outcomes, check.upper
    return Recommendation(
        schedule=problem.schedule,
        p=check.p,
        duration=best.duration,
        separation=problem.proposal.radii[0],
        p_ode=outcomes.p,
        stderr=outcomes.stderr,
        compared=tuple(compared),
        device=check.ensemble.device,
        p_max=p_max,
        p_upper=upper,
        confirmed=upper <= p_max,
        n=n,
        warnings=tuple(
            dict.fromkeys(line for _, member in best.members for line in warnings_of(member.session.problem))
        ),
    )


@dataclass(frozen=True)
class _Check:
    """search: what was found in the end. p, worst: by the formula, and the separation where it is largest. upper: by
    the ensemble there."""

    search: _Search
    p: float
    worst: Member
    ensemble: Ensemble
    upper: float


def _confirm(search: _Search, p_max: float, n: int, seed: int, device: str) -> _Check:
    """Ask the formula for less until an ensemble of its own seed confirms P <= p_max; no longer than n runs could."""
    aim, confidence = p_max, 1 - (1 - CONFIDENCE) / ROUNDS
    for done in range(1, ROUNDS + 1):
        p, worst = search.checked()
        ensemble = collapse_by_ensemble(worst.session, n=n, seed=(seed + done - 1) % 2**64, device=device)
        check = _Check(search, p, worst, ensemble, ensemble.outcomes.upper_bound(confidence))
        if check.upper <= p_max or done == ROUNDS or n < fewest_to_confirm(p_max):
            break
        aim -= min(check.upper - p_max, aim / 2)
        longer = search.tightened(aim)
        if not math.isfinite(longer.duration):
            break
        search = longer
    return check


def fewest_to_confirm(p_max: float) -> int:
    """How many trajectories confirm P <= p_max if none of them collapses."""
    return math.ceil(math.log((1 - CONFIDENCE) / ROUNDS) / math.log1p(-p_max))


def _require_two_attractors(member: Member) -> None:
    """Raise BadInput where the heavier mode attracts from everywhere: no schedule keeps a component at the other
    one."""
    traps = member.separatrix.traps
    if len(traps) > 0 and not (traps[:, 0] != traps[:, 1]).any():
        found = (
            f"at R = {member.session.problem.proposal.radii[0]:g} both components end at the "
            f"heavier mode under every schedule"
        )
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
        self._refine(low, high, grid[best], durations[best])

    def tightened(self, p_max: float) -> _Search:
        """The same for another P, sought near the temperature of this one."""
        other, x = _Search(self.members, self.kind, p_max), math.log(self.T0)
        duration = other._shortest(x)
        if duration <= LONGEST:
            other._refine(max(x - NEAR, math.log(1.5)), min(x + NEAR, math.log(HOTTEST)), x, duration)
        return other

    def _refine(self, low: float, high: float, x: float, duration: float) -> None:
        """Set T0, t0 and duration to the shortest in between, or at x."""
        refined = minimize_scalar(
            self._shortest, bounds=(low, high), method="bounded", options={"xatol": 0.02, "maxiter": 12}
        )
        x = refined.x if refined.fun < duration else x
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
        """The shortest duration at T0 = e^x with P <= p_max, to 1 %; beyond LONGEST where that is too short or T0 too
        cold."""
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


def print_recommendation(found: Recommendation, title: str = "", to: Printer | None = None) -> None:
    """The schedule in one line, then the kinds side by side."""
    from rich.table import Table

    from annealvi.show.printing import Terminal

    console = to or Terminal()
    spec, p_max = found.schedule, found.p_max
    console.print(
        f"[bold]{spec.kind}[/], T0 = {spec.T0:.4g}, t0 = {spec.t0:.5g}: P(collapse) = {found.p:.4g} in "
        f"{found.duration:.5g} units of time"
    )
    table = Table(
        title=f"shortest schedules with P <= {p_max:g}{' · ' if title else ''}{title}",
        title_justify="left",
        header_style="bold",
    )
    for heading in ("kind", "T0", "t0", "duration", "P", f"P in {found.duration:.4g}", "its T0"):
        table.add_column(heading, justify="left" if heading == "kind" else "right", no_wrap=heading == "kind")
    for c in found.compared:
        row = (c.T0, c.t0, c.duration, c.p, c.equal, c.equal_start)
        table.add_row(c.kind, *("–" if math.isnan(x) else f"{x:.0f}" if x >= 1000 else f"{x:.3g}" for x in row))
    console.print(table)
    verdict = "confirmed" if found.confirmed else "NOT CONFIRMED"
    bound = f"P <= {found.p_upper:.4g} at {CONFIDENCE:.0%}"
    lines = [f"{verdict}: {found.n} runs at R = {found.separation:g}: {found.p_ode:.4f} ± {found.stderr:.4f}, {bound}"]
    if not found.confirmed:
        lines.append(f"P <= {p_max:g} takes more runs: --n {max(4 * found.n, 2 * fewest_to_confirm(p_max))}")
    if found.duration > found.compared[0].duration:
        lines.append(f"longer than the formula's own (in the table), so that the runs confirm {p_max:g}")
    lines += [*SCOPE, f"a schedule has ended once T <= {1 + ANNEALED:g} · {found.device}"]
    for line in lines:
        console.print(f"  {line}", highlight=False)
