"""The derived equations as plain values, for scripts.

They are right-hand sides in SymPy, their limits, their stability, and a compiled function that evaluates them.
"""

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
from derive.problem.objective_scope import require_isotropic, require_tempered_reverse_kl
from derive.problem.specification import BadInput, Problem

Derived = TypeVar("Derived")
RateFunction = Callable[[float | np.ndarray, np.ndarray], np.ndarray]


@checked
def equations(problem: Problem, large_dimension: bool = False) -> dict[sp.Symbol, sp.Expr]:
    """Derive the closed system of ODEs, with every named part written out.

    Parameters
    ----------
    problem : Problem
    large_dimension : bool, optional
        Derive the limit d → ∞ of the terms that unequal scales make depend on the dimension d.

    Returns
    -------
    dict from sympy.Symbol to sympy.Expr
        The rate d(state)/dt of each state, in the states' order. The expressions contain the states, the problem's
        parameters (see `Session.values`), `beta`, and averages over independent N(0, 1) and χ² variables.

    Raises
    ------
    BadInput
        If the derivation does not cover the problem.

    Examples
    --------
    >>> import annealvi
    >>> rates = annealvi.equations(annealvi.load_problem("bimodal"))
    >>> [state.name for state in rates]
    ['m_1', 'm_2', 's']
    """
    system = derive_problem(problem, large_dimension).system
    return dict(zip(system.states, system.expanded_rhs(), strict=True))


@checked
def symbols(problem: Problem, large_dimension: bool = False) -> dict[str, sp.Symbol]:
    """Return the symbols of `equations` by name.

    Parameters
    ----------
    problem : Problem
    large_dimension : bool, optional
        As in `equations`.

    Returns
    -------
    dict from str to sympy.Symbol
        The states, then the parameters, in their order, then `beta`, and the time `t` of schedules.

    Raises
    ------
    BadInput
        If the derivation does not cover the problem.

    Notes
    -----
    These symbols are assumed to be real or positive, so sympy.Symbol("m_1") is a different symbol. With these symbols
    `subs`, `evalf` and `sympy.lambdify` (NumPy, SciPy, math, mpmath) work on the equations, averages included. An
    average over one variable takes milliseconds for an array of any shape, an average over several variables takes
    seconds; `rate_function` is faster.

    Examples
    --------
    >>> import annealvi
    >>> found = annealvi.symbols(annealvi.load_problem("bimodal"))
    >>> found["m_1"].is_real
    True
    """
    system = derive_problem(problem, large_dimension).system
    return {symbol.name: symbol for symbol in (*system.states, *system.parameters, BETA, TIME)}


@checked
def rate_function(
    problem: Problem, device: str = "auto", tolerance: float = 1e-12, large_dimension: bool = False
) -> RateFunction:
    """Compile the right-hand sides with the problem's own parameters.

    Parameters
    ----------
    problem : Problem
    device : {"auto", "cpu", "cuda"}, optional
    tolerance : float, optional
        Absolute error of each average, from 1e-13 to 1e-2.
    large_dimension : bool, optional
        As in `equations`.

    Returns
    -------
    callable
        rates(beta, y) → dy/dt. `beta` is an inverse temperature, or an array (n,) of them. `y` is (n, states) or
        (states,), in the order of `equations`. dy/dt has the shape of y and is per unit of the flow's time.

    Raises
    ------
    BadInput
        If the derivation does not cover the problem or an average cannot be tabulated. The returned function raises
        BadInput for an array that is not a state, and for a negative inverse temperature.

    Examples
    --------
    >>> import annealvi
    >>> rates = annealvi.rate_function(annealvi.load_problem("bimodal"))  # doctest: +SKIP
    >>> rates(0.5, [0.1, -0.1, 0.0]).shape  # doctest: +SKIP
    (3,)
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
    """Derive every limit that the theory knows of the bimodal system at w_1 = w_2.

    The limits are high temperature, distant modes (and with them the critical temperature), small overlaps, near
    components, slow schedules, and the growth exponent of each schedule kind.

    Parameters
    ----------
    problem : Problem
        Two antipodal modes, and two components of equal scales on the sphere of the modes.

    Returns
    -------
    Asymptotics
        `.expansions` are values, each with the order of the terms that are left out and the hypothesis that this rests
        on. `.latex()` has all of them by name.

    Raises
    ------
    BadInput
        For any other problem.

    Examples
    --------
    >>> import annealvi
    >>> limits = annealvi.asymptotics(annealvi.load_problem("bimodal"))  # doctest: +SKIP
    >>> sorted(limits.latex())  # doctest: +SKIP
    """
    require_tempered_reverse_kl(problem, "limits are derived for", "leave it out")
    require_isotropic(problem, "limits are derived for", "leave it out")
    return _bimodal(lambda: limits_of(derive_problem(problem).system))


@checked
def linear_stability(problem: Problem) -> BimodalStability:
    """Linearise the bimodal system at its symmetric states: collapsed, mixed, separated, antipodal.

    Parameters
    ----------
    problem : Problem
        Two antipodal modes, and two components of equal scales on the sphere of the modes.

    Returns
    -------
    BimodalStability
        The linearisations with their spectra; `.latex()` has them by name.

    Raises
    ------
    BadInput
        For any other problem.

    Examples
    --------
    >>> import annealvi
    >>> stability = annealvi.linear_stability(annealvi.load_problem("bimodal"))  # doctest: +SKIP
    >>> sorted(stability.latex())  # doctest: +SKIP
    """
    require_tempered_reverse_kl(problem, "the states are linearised for", "leave it out")
    require_isotropic(problem, "the states are linearised for", "leave it out")
    return _bimodal(lambda: bimodal_stability(derive_problem(problem)))


def _bimodal(derived: Callable[[], Derived]) -> Derived:
    """Return the result of `derived`, whose ValueError for other problems than the bimodal one becomes BadInput."""
    try:
        return derived()
    except BadInput:
        raise
    except ValueError as refusal:
        raise BadInput("problem", str(refusal), "give the bimodal problem, with any R and weights", "") from None
