"""The derived equations as plain values: right-hand sides in SymPy, and a function that evaluates them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sympy as sp

from annealvi.session import open_session
from derive.problem import Problem
from derive.symbolic_problem import derive_problem

RateFunction = Callable[[float | np.ndarray, np.ndarray], np.ndarray]


def equations(problem: Problem, large_dimension: bool = False) -> dict[sp.Symbol, sp.Expr]:
    """State → its rate d(state)/dt, in the states' order, with every named part written out.

    What is left are the states, the problem's parameters (see `Session.values`), `beta`, and averages over independent N(0, 1) and χ²
    variables. large_dimension: the limit d → ∞ of what unequal scales make depend on d. Raises BadInput for what is not derived.
    """
    system = derive_problem(problem, large_dimension).system
    return dict(zip(system.states, system.expanded_rhs(), strict=True))


def rate_function(problem: Problem, device: str = "auto", tolerance: float = 1e-12, large_dimension: bool = False) -> RateFunction:
    """rates(beta, y) → dy/dt, compiled, with the problem's own parameters.

    beta: an inverse temperature, or (n,) of them. y: (n, states) or (states,), in the order of `equations`; dy/dt has the shape of y, per
    unit of the flow's time. tolerance: absolute error of each average. large_dimension: as in `equations`. Raises BadInput for what is
    not derived or not tabulated.
    """
    kernel = open_session(problem, large_dimension).compile(device, tolerance)

    def rates(beta: float | np.ndarray, y: np.ndarray) -> np.ndarray:
        states = np.asarray(y, float)
        return kernel.rhs_at_beta(beta, states).reshape(states.shape)

    return rates
