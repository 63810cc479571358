"""Hold and quench: the best temperature for a given duration, and what it tends to as holds grow long.

A long hold waits where m_1 = m_2 = m are in equilibrium (see `derive.asymptotics.quasi_static`), and log b_c = φ(T) −
λ(T) D with λ the growth of b there. The best temperature is therefore that of the largest λ, up to a term of order 1/D.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from annealvi.collapse.family import Family, Member
from annealvi.collapse.growth import heavier_side, require_alike, waiting_states
from annealvi.collapse.separatrix import Accuracy
from annealvi.session.session import open_session
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked
from derive.problem.specification import BadInput, Problem, ScheduleSpec

HOTTEST = 1e7
PRECISE = Accuracy(width=1e-4, rtol=1e-7)
"""b_c to 1e-5 of itself."""


@dataclass(frozen=True)
class BestHold:
    """temperature: T_h, 1 from the hold's end on. p: P(collapse) with it. b_c: its boundary to leading order, 0 for
    equal modes."""

    temperature: float
    p: float
    b_c: float

    __repr__ = short_repr


@dataclass(frozen=True)
class UltimateHold:
    """What holds tend to as the duration D grows: their temperature, and the rate of log b_c, −d log b_c/dD. overlap: m
    while waiting."""

    temperature: float
    rate: float
    overlap: float

    __repr__ = short_repr


@checked
def best_hold(problem: Problem, duration: float, leading: bool = False, device: str = "auto") -> BestHold:
    """The hold-and-quench of the given duration (units of the flow's time) with the smallest P(collapse).

    leading: minimise b_c, the limit of many dimensions, instead of P in the problem's own. The whole range of
    temperatures is scanned before the best one is refined. Raises BadInput for a problem that the formula does not
    cover, for a duration that is not positive, and for modes of equal weight with `leading`, as their b_c is zero.
    """
    if not (np.isfinite(duration) and duration > 0):
        raise BadInput("duration", f"{duration!r} is not a positive number", "give the time that the hold may take", "")
    if leading and len(set(problem.target.weights)) == 1:
        raise BadInput("target.weights", "b_c is zero to leading order for equal modes", "leave `leading` out", "")
    family = Family.of(replace(problem, schedule=ScheduleSpec("hold", 100.0, duration)), device)
    member = family.base

    def at(log_T: float) -> Member:
        nonlocal member
        member = family.at({"schedule.T0": float(np.exp(log_T))}, member)
        return member

    def cost(log_T: float) -> float:
        separatrix = at(log_T).separatrix
        return (
            float(np.log(max(separatrix.leading(PRECISE).b_c[1], 1e-300)))
            if leading
            else separatrix.corrected(Accuracy()).p
        )

    places = np.linspace(np.log(1.02), np.log(HOTTEST), 49)
    first = int(np.argmin([cost(x) for x in places]))
    bounds = places[max(first - 1, 0)], places[min(first + 1, len(places) - 1)]
    found = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    separatrix = at(float(found.x)).separatrix
    boundary = separatrix.leading(PRECISE)
    return BestHold(float(np.exp(found.x)), boundary.p if leading else float(found.fun), float(boundary.b_c[1]))


@checked
def ultimate_hold(problem: Problem, device: str = "auto") -> UltimateHold:
    """The best long hold: the largest growth of b in an equilibrium m_1 = m_2, over temperatures.

    BadInput for a problem other than two alike components under two opposite modes.
    """
    session = open_session(problem)
    require_alike(session)
    kernel = session.compile(device)
    side = heavier_side(kernel)

    def slowness(m: float) -> float:
        return -float(waiting_states(kernel, np.array([side * m])).growth[0])

    found = minimize_scalar(slowness, bounds=(1e-3, 0.7), method="bounded", options={"xatol": 1e-7})
    best = waiting_states(kernel, np.array([side * float(found.x)]))
    return UltimateHold(1 / float(best.beta[0]), float(best.growth[0]), float(best.overlap[0]))
