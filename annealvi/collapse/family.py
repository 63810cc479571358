"""Problems that differ in a few numbers, so that one derivation and one compilation serve all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from annealvi.collapse.ensemble import compiled_for_ensembles
from annealvi.collapse.formula_coverage import LEAST_DIMENSION, require_quick
from annealvi.collapse.separatrix import Separatrix
from annealvi.session.session import TIME_TO_SETTLE, Session, open_session
from annealvi.sweeps.keys import require_numbers, vary
from derive.objects.short_repr import short_repr
from derive.problem.schedules import settling_time
from derive.problem.specification import BadInput, Problem
from kernels.integrate.kernel import Kernel

AVERAGES = 1e-6
"""Absolute error of each average: it moves a probability by far less than 1e-3, and costs half as much as 1e-12."""

CHEAP = ("T0", "t0")
"""Numbers of the schedule that change no average: the tables behind the kernel stay as they are. The same holds for the
dimension where the formula holds.
"""


@dataclass(frozen=True)
class Member:
    """One problem of a family, with its session, its kernel and, in a family for the formula, its separatrix."""

    session: Session
    kernel: Kernel
    by_formula: Separatrix | None = None

    __repr__ = short_repr

    @classmethod
    def of(cls, problem: Problem, device: str, formula: bool = True) -> Member:
        """Derive and compile a problem, for the formula or for ensembles.

        Raises BadInput for a problem that the formula does not cover, or covers only in a long time.
        """
        if not formula:
            session = open_session(problem)
            return cls(session, compiled_for_ensembles(session, device))
        require_quick(problem, "use `annealvi collapse --method ode`")
        session = open_session(problem)
        kernel = session.compile(device, AVERAGES)
        return cls(session, kernel, Separatrix.of(session, kernel))

    @property
    def separatrix(self) -> Separatrix:
        """The separatrix, which members of a family for the formula have."""
        if self.by_formula is None:
            raise ValueError("this member belongs to a family for ensembles, which has no separatrix")
        return self.by_formula


@dataclass(frozen=True)
class Family:
    """A problem, and the problems that differ from it in what a sweep may vary.

    Attributes
    ----------
    base : Member
        The problem itself with its session, compiled kernel and separatrix.

    Examples
    --------
    >>> import annealvi
    >>> family = annealvi.Family.of(annealvi.load_problem("bimodal"))  # doctest: +SKIP
    >>> hotter = family.at({"schedule.T0": 600.0})  # doctest: +SKIP
    >>> hotter.separatrix.corrected().p  # doctest: +SKIP
    """

    base: Member

    __repr__ = short_repr

    @classmethod
    def of(cls, problem: Problem, device: str = "auto", *, formula: bool = True) -> Family:
        """Derive and compile a problem.

        Parameters
        ----------
        problem : Problem
            A problem whose schedule is a function of time.
        device : {"auto", "cpu", "cuda"}
            Where its kernel runs.
        formula : bool
            Whether the members have the separatrix formula. Without it they serve ensembles, of any problem.

        Returns
        -------
        Family
            The family around this problem.

        Raises
        ------
        BadInput
            With `formula`, for a problem that the formula does not cover, or covers only in a long time.
        """
        return cls(Member.of(problem, device, formula))

    @property
    def formula(self) -> bool:
        """Whether the members have the separatrix formula."""
        return self.base.by_formula is not None

    def at(self, values: Mapping[str, Any], near: Member | None = None) -> Member:
        """Return the problem with other values at some keys.

        T0 and t0, and the dimension where the formula holds, change no average, so the returned member shares the
        kernel's tables with a member that differs in these alone. Any other value needs a new derivation and
        compilation.

        Parameters
        ----------
        values : Mapping[str, Any]
            Key of the problem file, or R, w_star or w_1 -> value; see `annealvi.sweeps.keys`.
        near : Member, optional
            A member whose tables may be shared; by default the family's own problem.

        Returns
        -------
        Member
            Session, kernel and separatrix of the changed problem.

        Raises
        ------
        BadInput
            For a value that the problem file would refuse, and for a problem that the formula does not cover.
        """
        problem = vary(self.base.session.problem, values)
        start = near or self.base
        if self._of_tables(problem) != self._of_tables(start.session.problem):
            start = Member.of(problem, self.base.kernel.where.kind, self.formula)
        require_numbers(problem.schedule.kind, numbers_of(start.session), values)
        if self.formula and problem.space.dimension < LEAST_DIMENSION:
            found = f"the formula needs d >= {LEAST_DIMENSION}, not {problem.space.dimension}"
            raise BadInput("space.dimension", found, "begin at more dimensions", "")
        old, numbers = start.session.schedule, {name: getattr(problem.schedule, name) for name in CHEAP}
        schedule = replace(old, values=tuple(numbers[p.name] for p in old.parameters))
        session = replace(start.session, problem=problem, schedule=schedule)
        kernel = start.kernel.with_parameters(dict(zip(schedule.parameters, schedule.values, strict=True)))
        if not self.formula:
            return Member(session, kernel)
        t_end = settling_time(schedule) + TIME_TO_SETTLE
        d = problem.space.dimension
        return Member(session, kernel, replace(start.separatrix, kernel=kernel, t_end=t_end, dimension=d))

    def _of_tables(self, problem: Problem) -> tuple[Any, ...]:
        """Return all of a problem that decides its averages and their tables."""
        schedule = {name: value for name, value in vars(problem.schedule).items() if name not in CHEAP}
        infinite = math.isinf(problem.schedule.T0)  # such a schedule has a formula without T0
        dimension = None if self.formula else problem.space.dimension
        mixtures = problem.target, problem.proposal, problem.flow, problem.init, problem.objective
        return *mixtures, schedule, infinite, dimension


def numbers_of(session: Session) -> tuple[str, ...]:
    """Return which of T0 and t0 the schedule has."""
    return CHEAP if session.rule is not None else tuple(p.name for p in session.schedule.parameters)
