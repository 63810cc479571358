"""Problems that differ in a few numbers, at the cost of none but those: nothing is derived or compiled again from one to the next."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from annealvi.collapse.separatrix import LEAST_DIMENSION, Separatrix, covers, has_equal_scales
from annealvi.session import Session, open_session
from derive.problem import BadInput, Problem, Space
from derive.schedules import settling_time
from kernels.integrator import Kernel

AVERAGES = 1e-6
"""Absolute error of each average: far below what moves a probability by 1e-3, and cheaper than 1e-12 by half."""

SETTLING = 50.0
"""Units of the flow's time after the schedule's end, as in `Session.end_time`."""


def _with_start(problem: Problem, T0: float) -> Problem:
    return replace(problem, schedule=replace(problem.schedule, T0=T0))


def _with_time_scale(problem: Problem, t0: float) -> Problem:
    return replace(problem, schedule=replace(problem.schedule, t0=t0))


def _with_separation(problem: Problem, R: float) -> Problem:
    lengths = [math.hypot(*row) for row in problem.target.means]
    means = tuple(tuple(R * x / length for x in row) for row, length in zip(problem.target.means, lengths, strict=True))
    return replace(problem, target=replace(problem.target, means=means), proposal=replace(problem.proposal, radius=R))


def _with_mode_weight(problem: Problem, w: float) -> Problem:
    return replace(problem, target=replace(problem.target, weights=(w, 1 - w)))


def _with_component_weight(problem: Problem, w: float) -> Problem:
    return replace(problem, proposal=replace(problem.proposal, weights=(w, 1 - w)))


def _with_dimension(problem: Problem, d: float) -> Problem:
    if round(d) < LEAST_DIMENSION:
        raise BadInput("space.dimension", f"the formula needs d >= {LEAST_DIMENSION}, not {round(d)}", "begin at more dimensions", "")
    return replace(problem, space=Space(round(d)))


KEYS: Mapping[str, Callable[[Problem, float], Problem]] = {
    "schedule.T0": _with_start,
    "schedule.t0": _with_time_scale,
    "space.dimension": _with_dimension,
    "R": _with_separation,
    "w_star": _with_mode_weight,
    "w_1": _with_component_weight,
}
"""What may vary: two numbers of the schedule, the dimension, and the bimodal case's own R (of the modes and the radius), w* and w_1."""

CHEAP = ("schedule.T0", "schedule.t0", "space.dimension")
"""These change no average, so the tables behind the kernel stay as they are."""


def require_key(key: str, option: str) -> None:
    """Raise BadInput for a key that cannot vary."""
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, 1)
        raise BadInput(option, f"{key[:40]!r} cannot vary", f"did you mean {near[0]}?" if near else f"choose from {', '.join(KEYS)}", "")


@dataclass(frozen=True)
class Member:
    """One problem of the family: its session, kernel and separatrix."""

    session: Session
    kernel: Kernel
    separatrix: Separatrix


@dataclass(frozen=True)
class Family:
    """A problem that the separatrix formula covers, and those that differ from it in KEYS."""

    base: Member

    @classmethod
    def of(cls, problem: Problem, device: str = "auto") -> Family:
        """Derive and compile. BadInput for a problem that the formula does not cover."""
        session = open_session(problem)
        if covers(session) and not has_equal_scales(session):
            raise BadInput(
                "problem", "with unequal scales each point would take many minutes", "use `annealvi collapse` for single ones", ""
            )
        kernel = session.compile(device, AVERAGES)
        return cls(Member(session, kernel, Separatrix.of(session, kernel)))

    def at(self, values: Mapping[str, float], near: Member | None = None) -> Member:
        """The problem with these values. near: one whose averages it may share, where only CHEAP keys differ between the two.

        BadInput for a value that the problem file would refuse too.
        """
        problem = self.base.session.problem
        names = {p.name for p in self.base.session.schedule.parameters}
        for key, value in values.items():
            if key.startswith("schedule.") and key.removeprefix("schedule.") not in names:
                raise BadInput(
                    key, f"schedule.kind {problem.schedule.kind!r} has no such number", "vary another key or choose another kind", ""
                )
            problem = KEYS[key](problem, value)
        start = near or self.base
        if (problem.target, problem.proposal) != (start.session.problem.target, start.session.problem.proposal):
            session = open_session(problem)
            kernel = session.compile(self.base.kernel.where.kind, AVERAGES)
            return Member(session, kernel, Separatrix.of(session, kernel))
        old, numbers = start.session.schedule, {"T0": problem.schedule.T0, "t0": problem.schedule.t0}
        schedule = replace(old, values=tuple(numbers[p.name] for p in old.parameters))
        session = replace(start.session, problem=problem, schedule=schedule)
        kernel = start.kernel.with_parameters(dict(zip(schedule.parameters, schedule.values, strict=True)))
        t_end = settling_time(schedule) + SETTLING
        separatrix = replace(start.separatrix, kernel=kernel, t_end=t_end, dimension=problem.space.dimension)
        return Member(session, kernel, separatrix)
