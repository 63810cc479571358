"""Hold and quench: the best temperature for a given duration, and the limit of that temperature for long holds.

During a long hold the pair of components waits in the equilibrium m_1 = m_2 = m (see
`derive.asymptotics.quasi_static`). There log b_c = φ(T) − λ(T) D, where D is the duration and λ the growth rate of b =
m_1 − m_2. The best temperature is therefore the one with the largest λ, up to a correction of order 1/D.
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
from derive.problem.objective_scope import require_tempered_reverse_kl
from derive.problem.specification import BadInput, Problem, ScheduleSpec

HOTTEST = 1e7
"""The highest temperature of the scan; the lowest is 1.02."""
PRECISE = Accuracy(width=1e-4, rtol=1e-7)
"""With this accuracy b_c is correct to a relative 1e-5."""


@dataclass(frozen=True)
class BestHold:
    """The best hold-and-quench schedule of a given duration.

    Attributes
    ----------
    temperature : float
        Temperature T_h of the hold; T jumps to 1 when the hold ends.
    p : float
        P(collapse) under this schedule.
    b_c : float
        Boundary of the collapsed initial states in b = m_1 − m_2, to leading order in large d; 0 for modes of equal
        weight.
    """

    temperature: float
    p: float
    b_c: float

    __repr__ = short_repr


@dataclass(frozen=True)
class UltimateHold:
    """The limit of the best hold as its duration D grows.

    Attributes
    ----------
    temperature : float
        Temperature of the hold.
    rate : float
        −d log b_c/dD, per unit of the flow's time.
    overlap : float
        The overlap m = m_1 = m_2 at which the pair of components waits.
    """

    temperature: float
    rate: float
    overlap: float

    __repr__ = short_repr


@checked
def best_hold(problem: Problem, duration: float, leading: bool = False, device: str = "auto") -> BestHold:
    """Find the hold-and-quench schedule of a given duration with the smallest P(collapse).

    The function scans the whole range of temperatures, and then refines the best one.

    Parameters
    ----------
    problem : Problem
        A problem that the separatrix formula covers; its schedule is ignored.
    duration : float
        Duration of the hold, in units of the flow's time.
    leading : bool
        Minimise b_c, which decides in the limit of many dimensions, instead of P in the problem's own dimension.
    device : {"auto", "cpu", "cuda"}
        Where the kernels run.

    Returns
    -------
    BestHold
        Temperature, probability and boundary.

    Raises
    ------
    BadInput
        For a problem that the formula does not cover, for a duration that is not positive, and, with `leading`, for
        modes of equal weight, whose b_c is zero.

    Examples
    --------
    >>> import annealvi
    >>> annealvi.best_hold(annealvi.load_problem("bimodal"), duration=1152.0)  # doctest: +SKIP
    """
    if not (np.isfinite(duration) and duration > 0):
        raise BadInput("duration", f"{duration!r} is not a positive number", "give the time that the hold may take", "")
    if leading and len(set(problem.target.weights)) == 1:
        raise BadInput("target.weights", "b_c is zero to leading order for equal modes", "leave `leading` out", "")
    require_tempered_reverse_kl(problem, "holds are sought for", "leave it out")
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
    """Find the best temperature of a long hold: the one with the largest growth of b in an equilibrium m_1 = m_2.

    Parameters
    ----------
    problem : Problem
        Two alike components under two opposite modes; its schedule is ignored.
    device : {"auto", "cpu", "cuda"}
        Where the kernel runs.

    Returns
    -------
    UltimateHold
        Temperature, rate of log b_c and overlap.

    Raises
    ------
    BadInput
        For any other problem.

    Examples
    --------
    >>> import annealvi
    >>> annealvi.ultimate_hold(annealvi.load_problem("bimodal"))  # doctest: +SKIP
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
