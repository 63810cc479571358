"""Problems that differ in a few numbers, at the cost of none but those: nothing is derived or compiled again from one
to the next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from annealvi.collapse.formula_coverage import LEAST_DIMENSION, require_quick
from annealvi.collapse.separatrix import Separatrix
from annealvi.session.session import Session, open_session
from annealvi.sweeps.keys import require_numbers, vary
from derive.objects.short_repr import short_repr
from derive.problem.schedules import settling_time
from derive.problem.specification import BadInput, Problem
from kernels.integrate.kernel import Kernel

AVERAGES = 1e-6
"""Absolute error of each average: far below what moves a probability by 1e-3, and cheaper than 1e-12 by half."""

SETTLING = 50.0
"""Units of the flow's time after the schedule's end, as in `Session.end_time`."""


CHEAP = ("T0", "t0")
"""Numbers of the schedule that change no average, so the tables behind the kernel stay as they are. So does the
dimension."""


@dataclass(frozen=True)
class Member:
    """One problem of the family that the separatrix formula covers: its session, kernel and separatrix."""

    session: Session
    kernel: Kernel
    separatrix: Separatrix

    __repr__ = short_repr

    @classmethod
    def of(cls, problem: Problem, device: str) -> Member:
        """Derive and compile. BadInput for a problem that the formula does not cover, or not in little time."""
        require_quick(problem, "use `annealvi collapse --method ode`")
        session = open_session(problem)
        kernel = session.compile(device, AVERAGES)
        return cls(session, kernel, Separatrix.of(session, kernel))


@dataclass(frozen=True)
class Family:
    """A problem that the separatrix formula covers, and those that differ from it in what a sweep may vary."""

    base: Member

    __repr__ = short_repr

    @classmethod
    def of(cls, problem: Problem, device: str = "auto") -> Family:
        """Derive and compile. BadInput for a problem that the formula does not cover."""
        return cls(Member.of(problem, device))

    def at(self, values: Mapping[str, Any], near: Member | None = None) -> Member:
        """The problem with these values (see `sweeps.keys`). near: one whose averages it may share, where only numbers
        that change none differ.

        BadInput for a value that the problem file would refuse too, and for a problem that the formula does not cover.
        """
        problem = vary(self.base.session.problem, values)
        start = near or self.base
        if _but_for_cheap(problem) != _but_for_cheap(start.session.problem):
            start = Member.of(problem, self.base.kernel.where.kind)
        require_numbers(problem.schedule.kind, numbers_of(start.session), values)
        if problem.space.dimension < LEAST_DIMENSION:
            found = f"the formula needs d >= {LEAST_DIMENSION}, not {problem.space.dimension}"
            raise BadInput("space.dimension", found, "begin at more dimensions", "")
        old, numbers = start.session.schedule, {name: getattr(problem.schedule, name) for name in CHEAP}
        schedule = replace(old, values=tuple(numbers[p.name] for p in old.parameters))
        session = replace(start.session, problem=problem, schedule=schedule)
        kernel = start.kernel.with_parameters(dict(zip(schedule.parameters, schedule.values, strict=True)))
        t_end = settling_time(schedule) + SETTLING
        separatrix = replace(start.separatrix, kernel=kernel, t_end=t_end, dimension=problem.space.dimension)
        return Member(session, kernel, separatrix)


def numbers_of(session: Session) -> tuple[str, ...]:
    """Those of T0 and t0 that the schedule has."""
    return CHEAP if session.rule is not None else tuple(p.name for p in session.schedule.parameters)


def _but_for_cheap(problem: Problem) -> tuple[Any, ...]:
    schedule = {name: value for name, value in vars(problem.schedule).items() if name not in CHEAP}
    infinite = math.isinf(problem.schedule.T0)  # such a schedule has a formula without T0
    return problem.target, problem.proposal, problem.flow, problem.init, schedule, infinite
