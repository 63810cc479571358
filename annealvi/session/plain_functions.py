"""The derived equations as plain values: right-hand sides in SymPy, their limits and stability, and a function that
evaluates them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import sympy as sp

from annealvi.runs.paths import require_tolerance
from annealvi.session.session import open_session
from derive.asymptotics.limits import Asymptotics
from derive.asymptotics.limits import asymptotics as limits_of
from derive.asymptotics.linear_stability import BimodalStability, bimodal_stability
from derive.dynamics.symbolic_problem import derive_problem
from derive.objects.system import BETA, TIME
from derive.problem.arguments import checked
from derive.problem.specification import BadInput, Problem

Derived = TypeVar("Derived")
RateFunction = Callable[[float | np.ndarray, np.ndarray], np.ndarray]


@checked
def equations(problem: Problem, large_dimension: bool = False) -> dict[sp.Symbol, sp.Expr]:
    """State → its rate d(state)/dt, in the states' order, with every named part written out.

    What is left are the states, the problem's parameters (see `Session.values`), `beta`, and averages over independent
    N(0, 1) and χ² variables. large_dimension: the limit d → ∞ of what unequal scales make depend on d. Raises BadInput
    for what is not derived.
    """
    system = derive_problem(problem, large_dimension).system
    return dict(zip(system.states, system.expanded_rhs(), strict=True))


@checked
def symbols(problem: Problem, large_dimension: bool = False) -> dict[str, sp.Symbol]:
    """The symbols of `equations` by name: the states, then the parameters, in their order, then `beta`, and the time
    `t` of schedules.

    A symbol that is made by its name alone, as by sympy.Symbol("m_1"), is another one, since these are known to be real
    or positive. With them `subs`, `evalf` and `sympy.lambdify` (NumPy, SciPy, math, mpmath) work on the equations,
    averages included: those over one variable take milliseconds for arrays of any shape, those over several seconds,
    for which `rate_function` is made.
    """
    system = derive_problem(problem, large_dimension).system
    return {symbol.name: symbol for symbol in (*system.states, *system.parameters, BETA, TIME)}


@checked
def rate_function(
    problem: Problem, device: str = "auto", tolerance: float = 1e-12, large_dimension: bool = False
) -> RateFunction:
    """rates(beta, y) → dy/dt, compiled, with the problem's own parameters.

    beta: an inverse temperature, or (n,) of them. y: (n, states) or (states,), in the order of `equations`; dy/dt has
    the shape of y, per unit of the flow's time. tolerance: absolute error of each average, from 1e-13 to 1e-2.
    large_dimension: as in `equations`. Raises BadInput for what is not derived or not tabulated, as do the rates for
    what is no state and no temperature.
    """
    require_tolerance("tolerance", tolerance)
    kernel = open_session(problem, large_dimension).compile(device, tolerance)
    count = len(kernel.system.states)

    def rates(beta: float | np.ndarray, y: np.ndarray) -> np.ndarray:
        try:
            betas, states = np.asarray(beta, float), np.asarray(y, float)
        except (TypeError, ValueError):
            raise BadInput("y", "beta or y is not made of numbers", "give arrays of numbers", "") from None
        if not (np.isfinite(betas).all() and (betas >= 0).all()):
            raise BadInput(
                "beta", "not a number of at least 0", "give an inverse temperature, or one for each state", ""
            )
        if states.ndim not in (1, 2) or states.shape[-1] != count:
            raise BadInput(
                "y",
                f"an array of shape {states.shape}",
                f"give ({count},) or (n, {count}), in the order of `equations`",
                "",
            )
        if betas.ndim > 1 or (betas.ndim == 1 and states.shape[:-1] != betas.shape):
            raise BadInput(
                "beta", f"{betas.size} of them for {states[..., 0].size} states", "give one, or one for each state", ""
            )
        if outside := kernel.outside(np.atleast_2d(states)):
            raise BadInput(
                "y", f"{outside}, for which the averages' tables are made", "give states of vectors that there are", ""
            )
        return kernel.rhs_at_beta(betas, states).reshape(states.shape)

    return rates


@checked
def asymptotics(problem: Problem) -> Asymptotics:
    """Every limit that the theory knows of the bimodal system at w_1 = w_2, derived from it: high temperature, distant
    modes (and with them the critical temperature), small overlaps, near components, slow schedules, and the growth
    exponent of each schedule kind.

    `.expansions` are values with what is left out and under which hypothesis; `.latex()` has all of it by name. Raises
    BadInput for a problem that is not two antipodal modes and two components of equal scales on the modes' sphere.
    """
    return _bimodal(lambda: limits_of(derive_problem(problem).system))


@checked
def linear_stability(problem: Problem) -> BimodalStability:
    """The linearisation at the bimodal system's symmetric states (collapsed, mixed, separated, antipodal), with spectra
    and `.latex()`.

    Raises BadInput for a problem that is not two antipodal modes and two components of equal scales on the modes'
    sphere.
    """
    return _bimodal(lambda: bimodal_stability(derive_problem(problem)))


def _bimodal(derived: Callable[[], Derived]) -> Derived:
    try:
        return derived()
    except BadInput:
        raise
    except ValueError as refusal:
        raise BadInput("problem", str(refusal), "give the bimodal problem, with any R and weights", "") from None
