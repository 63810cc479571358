"""The search for the shortest schedule of one kind whose probability of collapse is at most a wanted one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from annealvi.annealing.betas import ANNEALED
from annealvi.collapse.family import Family, Member
from annealvi.collapse.separatrix import FINE, QUICK
from derive.objects.short_repr import short_repr
from derive.problem.schedules import settling_time
from derive.problem.specification import BadInput, Problem, ScheduleSpec

LONGEST = 1e6
"""Longest duration of the search, in units of the flow's time."""
SPANS = ((1.0, 1e3), (1e3, LONGEST**0.75), (LONGEST**0.75, LONGEST))
"""Spans of durations in which the first duration is sought, one after the other: most shortest schedules lie in the
first, and paths under cold schedules as long as LONGEST take a thousand times as long to compute.
"""
HOTTEST = 1e5
"""Highest T0 of the search; the lowest is 1.5."""
SEPARATIONS = 5
"""Number of values of R at which the worst case is sought, when R is given as a range."""

NEAR = 0.5
"""A search for a somewhat longer schedule stays this close to the log T0 that was found."""


@dataclass(frozen=True)
class Candidate:
    """The best schedule of one kind.

    Attributes
    ----------
    kind : str
        The kind of schedule.
    T0, t0, duration, p : float
        Parameters, duration and P(collapse) of the shortest schedule with P <= p_max; nan where none was found.
    equal, equal_start : float
        The smallest P at the duration of the recommended schedule, and the T0 where it is reached.
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
        """Return the JSON form."""
        own = {"kind": self.kind, "T0": self.T0, "t0": self.t0, "duration": self.duration, "p": self.p}
        numbers = {**own, "p_at_equal_duration": self.equal, "T0_at_equal_duration": self.equal_start}
        return {
            key: None if isinstance(value, float) and math.isnan(value) else value for key, value in numbers.items()
        }


class ScheduleSearch:
    """The search within one kind, over T0, for the shortest time scale with P <= p_max."""

    longest = LONGEST

    def __init__(self, members: list[tuple[Family, Member]], kind: str, p_max: float) -> None:
        self.members, self.kind, self.p_max = members, kind, p_max
        self.T0 = self.t0 = math.nan
        self.duration, self.span = math.inf, SPANS[0]

    @classmethod
    def of(
        cls, problem: Problem, kind: str, R: tuple[float, float] | None, p_max: float, device: str
    ) -> ScheduleSearch:
        """Derive and compile the kind's kernel, and tabulate the averages of each separation."""
        plain = replace(problem, schedule=ScheduleSpec(kind, 100.0, 100.0))
        family = Family.of(plain, device)
        values = [{}] if R is None else [{"R": float(r)} for r in np.linspace(*R, SEPARATIONS)]
        members = [(family, family.at(v)) for v in values]
        for _, member in members:
            _require_two_attractors(member)
        return cls(members, kind, p_max)

    def p(self, T0: float, t0: float) -> float:
        """Return the largest P over the separations. The largest R, usually the worst, is tried first."""
        worst = 0.0
        for family, member in reversed(self.members):
            worst = max(worst, self._at(family, member, T0, t0).separatrix.corrected(QUICK).p)
            if worst > 2 * self.p_max:
                break
        return worst

    def find(self) -> None:
        """Set T0, t0 and duration to the shortest schedule.

        The search takes a grid over log T0, then a golden section around its best point.
        """
        grid = np.linspace(math.log(1.5), math.log(HOTTEST), 12)
        durations = self._durations(grid)
        best = int(np.argmin(durations))
        if durations[best] > LONGEST:
            return
        low, high = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
        self._refine(low, high, grid[best], durations[best])

    def tightened(self, p_max: float) -> ScheduleSearch:
        """Return the same search for another P, near the temperature of this one."""
        other, x = ScheduleSearch(self.members, self.kind, p_max), math.log(self.T0)
        (duration,) = other._durations([x])
        if duration <= LONGEST:
            other._refine(max(x - NEAR, math.log(1.5)), min(x + NEAR, math.log(HOTTEST)), x, duration)
        return other

    def _durations(self, grid: Iterable[float]) -> list[float]:
        """Return the shortest duration at each log T0, from the first span that holds one of them."""
        for self.span in SPANS:
            durations = [self._shortest(x) for x in grid]
            if math.isfinite(self.duration):
                break
        return durations

    def _refine(self, low: float, high: float, x: float, duration: float) -> None:
        """Set T0, t0 and duration to the shortest schedule with log T0 between low and high, or at x."""
        refined = minimize_scalar(
            self._shortest, bounds=(low, high), method="bounded", options={"xatol": 0.02, "maxiter": 12}
        )
        x = refined.x if refined.fun < duration else x
        self.T0 = math.exp(x)
        self.duration = self._shortest(x)
        self.t0 = self._scale(self.T0, self.duration)

    def candidate(self, duration: float) -> Candidate:
        """Return the kind's best schedule, and its smallest P at the given duration."""
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
        """Return P of the found schedule with fine quadrature, and the member of the separation where P is largest."""
        found = [self._at(family, member, self.T0, self.t0) for family, member in self.members]
        values = [member.separatrix.corrected(FINE).p for member in found]
        worst = int(np.argmax(values))
        return values[worst], found[worst]

    def _all_p(self, T0: float, t0: float) -> float:
        return max(self._at(family, member, T0, t0).separatrix.corrected(QUICK).p for family, member in self.members)

    def _shortest(self, x: float) -> float:
        """Return the shortest duration at T0 = e^x with P <= p_max, to 1 %.

        It is at most 5 % above the shortest known duration, or within the span where none is known. The result is
        beyond LONGEST where no such duration is enough, or T0 is too cold.
        """
        T0 = math.exp(x)
        low, high = (1.0, min(LONGEST, 1.05 * self.duration)) if math.isfinite(self.duration) else self.span
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
        """Return the t0 of a schedule with this duration; in every kind the duration is proportional to t0."""
        _, member = self.members[0]
        schedule = member.session.schedule
        numbers = {"T0": T0, "t0": 1.0}
        unit = settling_time(replace(schedule, values=tuple(numbers[s.name] for s in schedule.parameters)), ANNEALED)
        return duration / unit

    def _at(self, family: Family, member: Member, T0: float, t0: float) -> Member:
        return family.at({"R": member.session.problem.proposal.radii[0], "schedule.T0": T0, "schedule.t0": t0}, member)


def _require_two_attractors(member: Member) -> None:
    """Raise BadInput where the heavier mode attracts from everywhere.

    No schedule then keeps a component at the other mode.
    """
    traps = member.separatrix.traps
    if len(traps) > 0 and not (traps[:, 0] != traps[:, 1]).any():
        found = (
            f"at R = {member.session.problem.proposal.radii[0]:g} both components end at the "
            f"heavier mode under every schedule"
        )
        raise BadInput("--R", found, "give modes that are farther apart or more alike", "")
