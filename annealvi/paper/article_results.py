"""The results that the article states, computed anew.

The flows, whose training takes hours, and the maps for components that learn their shape are stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import sympy as sp

from annealvi.collapse.best_holds import BestHold, UltimateHold, best_hold, ultimate_hold
from annealvi.collapse.ensemble import collapse_by_ensemble
from annealvi.collapse.family import Family
from annealvi.collapse.formula import Formula, collapse_by_formula
from annealvi.collapse.map_overlays import overlay_by_ode
from annealvi.collapse.outcome import Outcomes
from annealvi.collapse.phase_maps import phase_map
from annealvi.collapse.recommendation import Recommendation, recommend
from annealvi.collapse.scaling import ScalingLaw, scaling_law
from annealvi.collapse.separatrix import QUICK
from annealvi.fixed_points import Branches, continue_branches
from annealvi.session.session import Session, open_session
from annealvi.sweeps.axis import Axis
from annealvi.verification.check import Check
from annealvi.verification.derivation_steps import derivation_checks
from annealvi.verification.every_check import Verification, verify
from annealvi.verification.theory import Theory
from derive.asymptotics.equal_weights import HALF_LOG_ODDS
from derive.asymptotics.limits import Asymptotics
from derive.dynamics.derivation import Derivation
from derive.dynamics.symbolic_problem import derive_problem
from derive.problem.built_in import BUILT_IN
from derive.problem.specification import Problem, ScheduleSpec
from derive.rules.geometry import R

if TYPE_CHECKING:
    import xarray as xr

Progress = Callable[[str], None]

COMPARED_SCHEDULES = (
    ScheduleSpec("constant", 1.0, 1.0),
    ScheduleSpec("exponential", 300.0, 100.0),
    ScheduleSpec("exponential", 300.0, 1152.0),
    ScheduleSpec("linear", 300.0, 1000.0),
    ScheduleSpec("geometric", 1000.0, 3000.0),
    ScheduleSpec("hold", 300.0, 1000.0),
)
"""Schedules whose P(collapse) the article gives by the formula and by an ensemble."""

HOT, SLOW = Axis("schedule.T0", 3, 3000, 40, log=True), Axis("schedule.t0", 10, 3000, 40, log=True)
COARSE = 7
"""Number of points along each axis of the grid of ensembles."""
SCALES = (100.0, 300.0, 1000.0, 3000.0)
STARTS = np.geomspace(3, 30_000, 36)
SEPARATIONS = (2, 3, 4, 5, 6)
TRADE_OFF = 1000.0
"""The element of SCALES that the text quotes."""

COLDEST, HOTTEST = 1.0, 1000.0
"""The range of temperatures in which fixed points are followed."""

P_MAX = 0.05
HOLD_DURATIONS = (1000.0, 2000.0, 4000.0)
OTHERS = ("simplex", "two-scales", "learned-weights")
"""Built-in problems whose equations are in the article's appendix."""


@dataclass(frozen=True)
class Mixture:
    """One problem's derivation with the checks of its steps. notes: lines that name the steps without a check."""

    name: str
    problem: Problem
    derivation: Derivation
    checks: tuple[Check, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Critical:
    """The onset of tearing at one separation: T_c exactly, and by its expansion."""

    separation: int
    exact: float
    expanded: float


@dataclass(frozen=True)
class Results:
    """Everything behind the article's numbers, tables and figures.

    n: number of trajectories in each ensemble. phase: the map by the formula. ode: ensembles on a coarse grid.
    at_ensembles: the formula on that grid.
    """

    session: Session
    verification: Verification
    theory: Theory
    critical: tuple[Critical, ...]
    compared: tuple[tuple[ScheduleSpec, Formula, Outcomes], ...]
    n: int
    phase: xr.Dataset
    ode: xr.Dataset
    at_ensembles: xr.Dataset
    trade_off: tuple[tuple[float, np.ndarray], ...]
    together: tuple[np.ndarray, np.ndarray, np.ndarray]
    recommended: Recommendation
    holds: tuple[tuple[float, BestHold], ...]
    ultimate: UltimateHold
    scaling: ScalingLaw
    branches: Branches
    others: tuple[Mixture, ...]


def compute(device: str, seed: int, tell: Progress, n: int = 4000) -> Results:
    """Compute everything for the study's own problem, in the order of the article. tell: called with what runs now."""
    problem = Problem()
    session = open_session(problem)
    tell("verification")
    verification = verify(session, device, seed)
    theory = verification.theory
    assert theory is not None, "the study's own problem is what the theory is of"
    tell("probabilities by formula and ensemble")
    compared = tuple(_compare(replace(problem, schedule=spec), n, device, seed) for spec in COMPARED_SCHEDULES)
    tell("map of the probability of collapse")
    phase = phase_map(problem, HOT, SLOW, device=device)
    ode = overlay_by_ode(problem, HOT, SLOW, COARSE, n=n // 2, seed=seed, device=device)
    at_ensembles = phase_map(problem, replace(HOT, count=COARSE), replace(SLOW, count=COARSE), device=device)
    trade_off, together = _trade_off(problem, device)
    tell("schedules compared")
    recommended = recommend(problem, P_MAX, n=n, seed=seed, device=device)
    holds = tuple((duration, best_hold(problem, duration, device=device)) for duration in HOLD_DURATIONS)
    tell("fixed points")
    branches = continue_branches(session, COLDEST, HOTTEST)
    others = tuple(mixture(name, BUILT_IN[name], tell) for name in OTHERS)
    return Results(
        session,
        verification,
        theory,
        tuple(_critical(theory.limits, r, problem.target.weights[0]) for r in SEPARATIONS),
        compared,
        n,
        phase,
        ode,
        at_ensembles,
        trade_off,
        together,
        recommended,
        holds,
        ultimate_hold(problem),
        scaling_law(problem, device=device),
        branches,
        others,
    )


def mixture(name: str, problem: Problem, tell: Progress) -> Mixture:
    """Derive a problem under the name for its labels, and check the steps to 30 digits."""
    tell(f"derivation of {name}")
    derivation = derive_problem(replace(problem, name=name))
    checks: list[Check] = []
    notes: list[str] = []
    for outcome in derivation_checks(derivation):
        if isinstance(outcome, Check):
            checks.append(outcome)
        else:
            notes.append(outcome)
    return Mixture(name, problem, derivation, tuple(checks), tuple(notes))


def _compare(problem: Problem, n: int, device: str, seed: int) -> tuple[ScheduleSpec, Formula, Outcomes]:
    session = open_session(problem)
    return (
        problem.schedule,
        collapse_by_formula(session, device=device),
        collapse_by_ensemble(session, n=n, seed=seed, device=device).outcomes,
    )


def _trade_off(
    problem: Problem, device: str
) -> tuple[tuple[tuple[float, np.ndarray], ...], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """P(collapse) against T0 at fixed t0, and along t0 = 3 T0, for cooling that is linear in T."""
    family = Family.of(replace(problem, schedule=ScheduleSpec("linear", 300.0, 1000.0)), device)

    def along(starts: np.ndarray, scales: np.ndarray) -> np.ndarray:
        member, found = family.base, []
        for T0, t0 in zip(starts, scales, strict=True):
            member = family.at({"schedule.T0": float(T0), "schedule.t0": float(t0)}, member)
            found.append(member.separatrix.corrected(QUICK).p)
        return np.array(found)

    raised = STARTS[STARTS < 4000]
    curves = tuple((t0, along(STARTS, np.full(len(STARTS), t0))) for t0 in SCALES)
    return curves, (raised, 3 * raised, along(raised, 3 * raised))


def _critical(limits: Asymptotics, separation: int, weight: float) -> Critical:
    """T_c at a separation, to 15 digits. weight: w*."""
    at = {R: separation, HALF_LOG_ODDS: sp.log(weight / (1 - weight)) / 2}
    (expansion,) = (e for e in limits.expansions if e.name == "critical temperature")
    exact = limits.pair.written_out(1 / limits.path.critical_beta).subs(at).evalf(15)
    return Critical(separation, float(exact), float(expansion.expression.subs(at).evalf(15)))


def stored_results(name: str) -> Path | None:
    """A folder of stored results, "flows" or "shapes"; None if the package does not run from its repository."""
    folder = Path(__file__).resolve().parents[2] / "tests" / "benchmarks" / "results" / name
    return folder if folder.is_dir() else None
