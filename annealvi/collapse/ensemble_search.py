"""The search for the shortest schedule by ensembles, for the problems that the separatrix formula does not cover.

An ensemble takes seconds where the formula takes milliseconds, so this search asks fewer questions than that of
`annealvi.collapse.schedule_search`, and each question is whether P is at most a number: an ensemble grows until the
answer is clear. All ensembles of a search begin with the same starts, so that noise hardly enters a comparison.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from annealvi.annealing.betas import ANNEALED
from annealvi.collapse.ensemble import Ensemble, collapse_by_ensemble
from annealvi.collapse.family import Family, Member
from annealvi.collapse.outcome import Outcomes
from annealvi.collapse.schedule_search import HOTTEST, SEPARATIONS, Candidate
from derive.problem.schedules import settling_time
from derive.problem.specification import Problem, ScheduleSpec

LONGEST = 1e5
"""Longest duration of the search, in units of the flow's time."""
COLDEST = 1.5
PRECISION = 1.1
"""Ratio to which a duration is found, and by which a schedule has to be shorter to be better."""
GALLOP = 4.0
STEP = 2.0
"""Ratio between the start temperatures that are compared at first; those compared last have its square root."""
FIRST_T0 = 10.0
"""The first start temperature, in units of the largest squared distance of a mode from the origin, in whose units the
temperature is at which modes part.
"""
FIRST_DURATION = 300.0
CLEAR = 2.5
"""Standard errors between P and the wanted bound at which an ensemble has answered."""
FEWEST, MOST = 256, 4096
"""Limits of the number of trajectories that answer one question."""


class EnsembleSearch:
    """The search within one kind, over T0, for the shortest time scale with P <= p_max."""

    longest = LONGEST

    def __init__(self, members: list[tuple[Family, Member]], kind: str, p_max: float, seed: int) -> None:
        self.members, self.kind, self.p_max, self.seed = members, kind, p_max, seed
        self.T0 = self.t0 = math.nan
        self.duration = math.inf
        self.answers: dict[tuple[float, float], bool] = {}
        self.values: dict[tuple[float, float], float] = {}

    @classmethod
    def of(
        cls, problem: Problem, kind: str, R: tuple[float, float] | None, p_max: float, device: str, seed: int
    ) -> EnsembleSearch:
        """Derive and compile the kind's kernel, and tabulate the averages of each separation."""
        family = Family.of(replace(problem, schedule=ScheduleSpec(kind, 100.0, 100.0)), device, formula=False)
        values = [{}] if R is None else [{"R": float(r)} for r in np.linspace(*R, SEPARATIONS)]
        return cls([(family, family.at(v)) for v in values], kind, p_max, seed)

    def find(self) -> None:
        """Set T0, t0 and duration to the shortest schedule.

        The search first looks for any duration that is enough at its best T0. From there it goes to colder and to
        hotter starts as long as these give shorter schedules.
        """
        first, duration = self._first_start, FIRST_DURATION
        while not self._is_enough(first := self._best_start(first, duration), duration):
            duration *= GALLOP
            if duration > LONGEST:
                return
        self.duration = PRECISION * duration
        self._try(first)
        for factor in (1 / STEP, STEP, 1 / math.sqrt(STEP), math.sqrt(STEP)):
            T0 = self.T0 * factor
            while COLDEST <= T0 <= HOTTEST and self._try(T0):
                T0 *= factor

    def tightened(self, p_max: float) -> EnsembleSearch:
        """Return the same search for another P, near the temperature of this one."""
        other = copy(self)
        other.p_max, other.answers = p_max, {}
        duration = self.duration
        while not other._is_enough(self.T0, duration) and duration <= LONGEST:
            duration *= PRECISION**2
        other.duration = PRECISION * duration
        if not other._try(self.T0):
            other.duration = math.inf
        return other

    def candidate(self, duration: float) -> Candidate:
        """Return the kind's best schedule, and its smallest P at the given duration."""
        own = Candidate(self.kind, math.nan, math.nan, math.nan, math.nan)
        if math.isfinite(self.duration):
            own = Candidate(self.kind, self.T0, self.t0, self.duration, self._p(self.T0, self.duration))
        start = self._best_start(self.T0 if math.isfinite(self.T0) else self._first_start, duration)
        return replace(own, equal=self._p(start, duration), equal_start=start)

    def checked(self) -> tuple[float, Member]:
        """Return P of the found schedule, and the member of the separation where P is largest."""
        members = [self._at(pair, self.T0, self.duration) for pair in self.members]
        values = [self._ensemble(member, error=self.p_max / 8).outcomes.p for member in members]
        worst = int(np.argmax(values))
        return values[worst], members[worst]

    @property
    def _first_start(self) -> float:
        (_, member), *_ = self.members
        farthest = max(math.hypot(*mean) for mean in member.session.problem.target.means)
        return min(max(FIRST_T0 * farthest**2, COLDEST), HOTTEST)

    def _best_start(self, T0: float, duration: float) -> float:
        """Go from T0 to colder and to hotter starts as long as P falls."""
        for factor in (STEP, 1 / STEP):
            while COLDEST <= T0 * factor <= HOTTEST and self._p(T0 * factor, duration) < self._p(T0, duration):
                T0 *= factor
        return T0

    def _try(self, T0: float) -> bool:
        """Take the shortest schedule at T0 if it is shorter than the one known, and say whether it is."""
        high = self.duration / PRECISION
        if not self._is_enough(T0, high):
            return False
        while (low := high / GALLOP) > 1 and self._is_enough(T0, low):
            high = low
        while high > PRECISION * low:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if self._is_enough(T0, middle) else (middle, high)
        self.T0, self.t0, self.duration = T0, self._scale(T0, high), high
        return True

    def _is_enough(self, T0: float, duration: float) -> bool:
        """Whether P <= p_max at every separation; the largest, usually the worst, is tried first."""
        if (T0, duration) not in self.answers:
            self.answers[T0, duration] = all(
                self._ensemble(self._at(pair, T0, duration), wanted=self._to_answer).outcomes.p <= self.p_max
                for pair in reversed(self.members)
            )
        return self.answers[T0, duration]

    def _to_answer(self, found: Outcomes | None) -> int:
        """Double an ensemble until it is clear on which side of p_max its P is."""
        if found is None:
            return FEWEST
        seen, clear = len(found.covered), abs(found.p - self.p_max) > CLEAR * found.stderr
        return 0 if clear or seen >= MOST else seen

    def _p(self, T0: float, duration: float) -> float:
        """Return the largest P over the separations, by FEWEST trajectories each."""
        if (T0, duration) not in self.values:
            members = (self._at(pair, T0, duration) for pair in self.members)
            self.values[T0, duration] = max(self._ensemble(member, n=FEWEST).outcomes.p for member in members)
        return self.values[T0, duration]

    def _ensemble(self, member: Member, **options: Any) -> Ensemble:
        return collapse_by_ensemble(member.session, **{"n": MOST, **options}, seed=self.seed, kernel=member.kernel)

    def _scale(self, T0: float, duration: float) -> float:
        """Return the t0 of a schedule with this duration; in every kind the duration is proportional to t0."""
        (_, member), *_ = self.members
        schedule = member.session.schedule
        numbers = {"T0": T0, "t0": 1.0}
        unit = settling_time(replace(schedule, values=tuple(numbers[s.name] for s in schedule.parameters)), ANNEALED)
        return duration / unit

    def _at(self, pair: tuple[Family, Member], T0: float, duration: float) -> Member:
        family, member = pair
        numbers = {"schedule.T0": T0, "schedule.t0": self._scale(T0, duration)}
        if len(self.members) > 1:
            numbers["R"] = member.session.problem.proposal.radii[0]
        return family.at(numbers, member)
