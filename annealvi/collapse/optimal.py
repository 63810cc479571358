"""The best monotone β(t) of a given duration: a control problem on the summary statistics, solved numerically.

The cost is log b_c, the boundary to leading order in large d. The controls are temperatures T(t) that fall from knot to
knot, with log T linear in between, and are 1 from the end on. This class contains smooth cooling as well as holding and
quenching.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import sympy as sp
from scipy.optimize import minimize
from scipy.special import erf

from annealvi.collapse.best_holds import best_hold
from annealvi.collapse.family import AVERAGES
from annealvi.collapse.separatrix import Accuracy, Separatrix
from annealvi.session.session import TIME_TO_SETTLE, Session, open_session
from derive.objects.short_repr import short_repr
from derive.objects.system import TIME
from derive.problem.arguments import checked
from derive.problem.interpolation import Interpolated, Numbers
from derive.problem.schedules import Schedule
from derive.problem.specification import BadInput, Problem, ScheduleSpec
from kernels.integrate.kernel import Kernel

EXACT = Accuracy(width=1e-4, rtol=1e-6)
"""With this accuracy b_c is correct to 1e-5, so that differences over a step of 1e-2 in log T give the slope."""

STEP = 1e-2
"""Step in log T of the finite differences."""
HOTTEST = 1e6
"""Bound of every temperature ratio in the minimisation."""


@dataclass(frozen=True)
class Optimal:
    """The best schedule that the minimisation found, beside the best hold-and-quench of the same duration.

    Attributes
    ----------
    t, T : ndarray
        Shape (knots,). Times, in units of the flow's time, and temperatures of the schedule; T = 1 after the last knot.
    b_c : float
        Boundary of the collapsed initial states in b = m_1 − m_2, to leading order in large d.
    p : float
        P(collapse) to leading order in large d.
    hold_temperature, hold_b_c : float
        Temperature and boundary of the best hold-and-quench.
    evaluations : int
        Number of times that b_c was computed.
    """

    t: np.ndarray
    T: np.ndarray
    b_c: float
    p: float
    hold_temperature: float
    hold_b_c: float
    evaluations: int

    __repr__ = short_repr


@checked
def optimal_schedule(
    problem: Problem,
    duration: float,
    knots: int = 9,
    device: str = "auto",
    start: np.ndarray | None = None,
    monotone: bool = True,
) -> Optimal:
    """Find the schedule with the smallest b_c among those with equally spaced knots within a duration.

    The result is a local minimum; begin from other temperatures to see whether it is the only one.

    Parameters
    ----------
    problem : Problem
        A problem that the separatrix formula covers; its schedule is ignored.
    duration : float
        Duration of the schedule, in units of the flow's time.
    knots : int
        Number of temperatures, at least 2.
    device : {"auto", "cpu", "cuda"}
        Where the kernels run.
    start : ndarray, optional
        Shape (knots,). Temperatures to begin with, at least 1, and falling if `monotone`. By default they are near that
        of the best hold.
    monotone : bool
        Whether the temperature may only fall.

    Returns
    -------
    Optimal
        The schedule, its boundary and probability, and those of the best hold.

    Raises
    ------
    BadInput
        For a problem that the formula does not cover, for modes of equal weight, whose b_c is zero, and for a duration,
        knots or start that make no schedule.

    Examples
    --------
    >>> import annealvi
    >>> annealvi.optimal_schedule(annealvi.load_problem("bimodal"), duration=1152.0, knots=5)  # doctest: +SKIP
    """
    if knots < 2:
        raise BadInput("knots", f"{knots} do not make a schedule", "give 2 or more", "")
    if start is not None and not _is_schedule(np.asarray(start, float), knots, monotone):
        shape = "falling temperatures" if monotone else "temperatures"
        raise BadInput("start", "it is no schedule", f"give {knots} {shape} of at least 1", "")
    hold = best_hold(problem, duration, leading=True, device=device)
    session = open_session(replace(problem, schedule=ScheduleSpec("hold", 100.0, duration)))
    shooting = _Shooting(session, duration, knots, device, monotone)
    first = np.log(hold.temperature) + np.linspace(0.2, 0, knots) if start is None else np.log(np.asarray(start, float))
    falls = np.append(-np.diff(first), first[-1])  # of log T from each knot to the next, and at the end to T = 1

    def objective(falls: np.ndarray) -> tuple[float, np.ndarray]:
        levels = np.cumsum(falls[::-1])[::-1]
        value = shooting.log_boundary(levels)
        slope = (
            np.array(
                [shooting.log_boundary(np.cumsum((falls + STEP * row)[::-1])[::-1]) - value for row in np.eye(knots)]
            )
            / STEP
        )
        return value, slope

    hottest = np.log(HOTTEST)
    bounds = [(0.0 if monotone else -hottest, hottest)] * (knots - 1) + [(0.0, hottest)]
    found = minimize(
        objective, falls, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60, "ftol": 1e-7}
    )
    levels = np.cumsum(found.x[::-1])[::-1]
    b_c = float(np.exp(found.fun))
    p = float(erf(b_c * np.sqrt(problem.space.dimension) / 2))
    return Optimal(shooting.times, np.exp(levels), b_c, p, hold.temperature, hold.b_c, shooting.evaluations)


def _is_schedule(temperatures: np.ndarray, knots: int, monotone: bool) -> bool:
    if temperatures.shape != (knots,) or not np.isfinite(temperatures).all() or (temperatures < 1).any():
        return False
    return not monotone or bool((np.diff(temperatures) <= 0).all())


class _Shooting:
    """The cost log b_c of piecewise schedules, from one kernel whose parameters are the knots' log T."""

    def __init__(self, session: Session, duration: float, knots: int, device: str, monotone: bool) -> None:
        self.times = np.linspace(0, duration, knots)
        self.symbols = tuple(sp.Symbol(f"log_T_{k}", real=True) for k in range(knots))
        levels = (*self.symbols, sp.Symbol("log_T_end", real=True))  # a jump after the last knot
        log_T = Interpolated(TIME, Numbers([*self.times, duration]), sp.Tuple(*levels))
        breaks = tuple(sp.Float(t) for t in self.times[1:])
        values = (*(1.0,) * knots, 0.0)
        kind = "monotone" if monotone else "free"
        schedule = Schedule(kind, sp.exp(log_T), sp.exp(-log_T), levels, values, breaks, duration, "")
        self.kernel: Kernel = replace(session, schedule=schedule).compile(device, AVERAGES)
        separatrix = Separatrix.of(replace(session, schedule=schedule), self.kernel)
        self.separatrix = separatrix.with_kernel(self.kernel, duration + TIME_TO_SETTLE)
        self.evaluations = 0
        self.guess: float | None = None

    def log_boundary(self, levels: np.ndarray) -> float:
        """Return log b_c at the given log T (knots,)."""
        self.evaluations += 1
        kernel = self.kernel.with_parameters(dict(zip(self.symbols, np.maximum(levels, 0.0), strict=True)))
        leading = self.separatrix.with_kernel(kernel, self.separatrix.t_end).leading(EXACT, self.guess)
        self.guess = leading.b_c[1]
        return float(np.log(max(leading.b_c[1], 1e-300)))
