"""The results with which claims are compared: one record each, computed by what the package has for it.

A claim adds nothing of its own here. The critical temperature, slopes and hot growth are the derived expressions of
`derive.asymptotics` in 20 digits; growth, separatrix and ensemble are those of `annealvi collapse`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp

from annealvi.collapse.ensemble import collapse_by_ensemble
from annealvi.collapse.family import Family
from annealvi.collapse.formula_coverage import is_quick
from annealvi.collapse.growth import CELLS, require_alike, transverse_growth
from annealvi.collapse.separatrix import Accuracy, Separatrix
from annealvi.comparison.claims.ranges import Place
from annealvi.session.session import Session, open_session
from derive.asymptotics.equal_weights import HALF_LOG_ODDS, PULL, REPULSION, equal_weights
from derive.asymptotics.growth_exponents import CRITICAL_TEMPERATURE, HOT_KINDS, PULL_SLOPE, hot_growth
from derive.asymptotics.transverse_growth import MEAN, SymmetricPath, symmetric_path
from derive.objects.expectation import Expectation
from derive.problem.kinds import KINDS
from derive.problem.specification import BadInput

DIGITS = 20
QUICK_RUNS, RUNS = 10_000, 4_000
"""Number of trajectories of an ensemble, where each is soon proven decided and elsewhere."""
PATH = 1e-7
"""Relative error of a growth exponent beside that of its quadrature: the path has rtol = 1e-8."""
CLOSE_SHOT, NEXT_SHOT = Accuracy(width=1e-6, rtol=1e-9), Accuracy(width=1e-6, rtol=1e-7)

SLOPE = sp.diff(PULL(MEAN), MEAN).subs(MEAN, 0)


@dataclass(frozen=True)
class Found:
    """A result at one place.

    Attributes
    ----------
    value, error : float
        The number, and its numerical error or standard error; zero where it is exact to rounding.
    more : mapping
        What else belongs to it: the seed and number of runs of an ensemble, the formula's value.
    """

    value: float
    error: float = 0.0
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Effort:
    """Where results are computed, and how large their ensembles are; by default as large as takes seconds."""

    device: str = "auto"
    seed: int = 0
    runs: int | None = None


Compute = Callable[[Place, int], Found]
"""The result at a place; the number tells the places of a claim apart, for their seeds."""


@dataclass(frozen=True)
class Result:
    """One result of the package.

    Attributes
    ----------
    name : str
        Its name in a file of claims.
    meaning : str
        What it is, in words that follow "the claim is".
    method : str
        How it is computed.
    prepare : callable
        Given a session and the effort, the function that computes the result at a place. It raises BadInput where the
        result does not exist for the problem.
    sampled : bool
        Whether it has a sampling error.
    alike : bool
        Whether it exists for components of equal weight alone, so that their weights cannot vary.
    """

    name: str
    meaning: str
    method: str
    prepare: Callable[[Session, Effort], Compute]
    sampled: bool = False
    alike: bool = True


def _derived(pick: Callable[[SymmetricPath], sp.Expr]) -> Callable[[Session, Effort], Compute]:
    """A derived expression of the symmetric path, evaluated to DIGITS."""

    def prepare(session: Session, effort: Effort) -> Compute:
        expression = _written_out(session, pick)
        return lambda place, n: Found(number(expression, place.numbers))

    return prepare


def _written_out(session: Session, pick: Callable[[SymmetricPath], sp.Expr]) -> sp.Expr:
    """A derived expression in the problem's parameters."""
    require_alike(session)
    try:
        pair = equal_weights(session.derivation.system)
    except ValueError as error:
        raise BadInput("problem", str(error), "leave the claim out", "") from None
    target = session.derivation.setting.target.weights
    return pair.written_out(pick(symmetric_path(pair))).xreplace({HALF_LOG_ODDS: sp.log(target[0] / target[1]) / 2})


def number(expression: sp.Expr, numbers: Mapping[sp.Symbol, float]) -> float:
    """An expression at numbers, by mpmath to DIGITS; nan where it is no finite real number."""
    value = expression.xreplace({s: sp.Float(x, DIGITS + 10) for s, x in numbers.items()})
    while averages := value.atoms(Expectation):
        value = value.xreplace({a: _average(a) for a in averages if not a.integrand.has(Expectation)})
    value = value.evalf(DIGITS)
    return float(value) if value.is_Float or value.is_Rational or value.is_NumberSymbol else float("nan")


def claimed_number(expression: sp.Expr, numbers: Mapping[sp.Symbol, float], where: str, key: str, source: str) -> float:
    """A claimed formula at numbers. Raises BadInput where it is no finite real number. where: the place, in words."""
    try:
        value = number(expression, numbers)
    except ArithmeticError:  # an average that diverges, or has a pole at a node
        remedy = "write an integrand without poles that grows more slowly than exp(z**2/2)"
        raise BadInput(key, f"an average does not settle at {where}", remedy, source) from None
    if not math.isfinite(value):
        remedy = "avoid division by zero and roots of negative numbers, or state another range"
        raise BadInput(key, f"no finite real number at {where}", remedy, source)
    return value


@lru_cache(maxsize=4096)
def _average(average: Expectation) -> sp.Expr:
    """An average without symbols; definitions and claims have many in common."""
    return average.evalf(DIGITS)


def _hot_growth(session: Session, effort: Effort) -> Compute:
    """Λ_hot, which exists where the schedule starts above T_c."""
    kind = session.problem.schedule.kind
    if kind not in HOT_KINDS:
        found = f"{kind!r} has no closed form of the growth above T_c"
        raise BadInput("schedule.kind", found, f"choose one of {', '.join(HOT_KINDS)}", "")

    def exponent(path: SymmetricPath) -> sp.Expr:
        known = {CRITICAL_TEMPERATURE: 1 / path.critical_beta, PULL_SLOPE: SLOPE}
        return hot_growth(kind, path).exponent.subs(known)

    growth, critical = _written_out(session, exponent), _written_out(session, lambda path: 1 / path.critical_beta)

    def compute(place: Place, n: int) -> Found:
        T_c, T0 = number(critical, place.numbers), place.problem.schedule.T0
        if T_c > T0:
            found = f"the schedule starts at T0 = {T0:g}, below T_c = {T_c:.6g}, above which this growth is"
            raise BadInput("schedule.T0", found, "state a range of hotter starts", "")
        return Found(number(growth, place.numbers))

    return compute


def _growth(session: Session, kernel: Any, separatrix: Separatrix) -> tuple[float, float]:
    """Λ and its error: what twice as many cells change, and the path's own."""
    coarse, fine = (
        transverse_growth(kernel, separatrix.traps, separatrix.t_end, cells) for cells in (CELLS, 2 * CELLS)
    )
    if np.isinf(fine):
        found = "the growth exponent is infinite for modes of equal weight: the pair waits between them"
        raise BadInput("target.weights", found, "give modes of unequal weight", "")
    return fine, abs(fine - coarse) + PATH * fine


def _boundary(separatrix: Separatrix) -> tuple[float, float]:
    """b_c and its error: that of the bracket, and what a coarser integration changes."""
    fine, coarse = (separatrix.leading(accuracy).b_c[1] for accuracy in (CLOSE_SHOT, NEXT_SHOT))
    return float(fine), float(abs(fine - coarse) + CLOSE_SHOT.width * fine)


def _shot(name: str) -> Callable[[Session, Effort], Compute]:
    """Λ, b_c or C by integration and shooting."""

    def prepare(session: Session, effort: Effort) -> Compute:
        require_alike(session)
        return compute

    def compute(place: Place, n: int) -> Found:
        session = open_session(place.problem)
        kernel = session.compile("cpu")
        separatrix = Separatrix.of(session, kernel)
        if name == "Lambda":
            return Found(*_growth(session, kernel, separatrix))
        b_c, error = _boundary(separatrix)
        if name == "b_c":
            return Found(b_c, error)
        growth, growth_error = _growth(session, kernel, separatrix)
        prefactor = b_c * float(np.exp(growth))
        return Found(prefactor, prefactor * (error / b_c + growth_error))

    return prepare


def _collapse(session: Session, effort: Effort) -> Compute:
    """P(collapse) by an ensemble with a seed of its own at each place, and by the formula where it is quick."""
    adaptive = KINDS[session.problem.schedule.kind].adaptive
    runs = effort.runs or (QUICK_RUNS if is_quick(session.problem) else RUNS)
    family = None if adaptive else Family.of(session.problem, effort.device, formula=False)

    def compute(place: Place, n: int) -> Found:
        seed, more, kernel, here = effort.seed + n, {}, None, None
        if family is None:
            here = open_session(place.problem)
        else:
            member = family.at(place.settings)
            here, kernel = member.session, member.kernel
            if is_quick(place.problem):
                more = {"formula": Separatrix.of(here, kernel).corrected().p}
        found = collapse_by_ensemble(here, n=runs, seed=seed, device=effort.device, kernel=kernel).outcomes
        counts = {"collapsed": int(found.collapsed.sum()), "runs": len(found.covered), "seed": seed}
        return Found(found.p, found.stderr, {**counts, **more})

    return compute


RESULTS = {
    result.name: result
    for result in (
        Result(
            "beta_c",
            "the critical inverse temperature, below which a pair between the modes is not torn apart",
            "the derived 2 G(-1)/F'(0), to 20 digits",
            _derived(lambda path: path.critical_beta),
        ),
        Result(
            "T_c",
            "the critical temperature, above which a pair between the modes is not torn apart",
            "the derived F'(0)/(2 G(-1)), to 20 digits",
            _derived(lambda path: 1 / path.critical_beta),
        ),
        Result(
            "F'(0)",
            "the slope of the target's average pull between the modes",
            "the derived average, to 20 digits",
            _derived(lambda _: SLOPE),
        ),
        Result(
            "G(-1)",
            "the repulsion of an antipodal pair",
            "the derived average, to 20 digits",
            _derived(lambda _: REPULSION(sp.S.NegativeOne)),
        ),
        Result(
            "Lambda_hot",
            "the growth exponent of m_1 - m_2 above T_c",
            "the derived closed form of the schedule's kind, to 20 digits",
            _hot_growth,
        ),
        Result(
            "Lambda",
            "the growth exponent, the largest integral of the transverse rate along the symmetric path",
            f"quadrature along the integrated path, {CELLS} and {2 * CELLS} cells",
            _shot("Lambda"),
        ),
        Result(
            "b_c",
            "the separatrix, the smallest |m_1 - m_2| that ends separated from m_1 + m_2 = s = 0",
            f"shooting to {CLOSE_SHOT.width:g} of b_c",
            _shot("b_c"),
        ),
        Result(
            "C",
            "the prefactor b_c exp(Lambda) of the separatrix",
            "shooting, and quadrature along the integrated path",
            _shot("C"),
        ),
        Result(
            "P",
            "the probability of mode collapse",
            "ensembles of the ODE",
            _collapse,
            sampled=True,
            alike=False,
        ),
    )
}
