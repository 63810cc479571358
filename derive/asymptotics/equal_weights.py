"""The bimodal system for components of equal weight, in the target's average pull F(m) and the average repulsion G(s).

F(m) is F_i at m_i = m, and G(s) = 2g at w_1 = w_2 = ½. While equations are manipulated, F and G stay functions without
a formula. The derived averages replace them where a number or an asymptotic rule needs them.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.objects.short_repr import short_repr
from derive.objects.system import OdeSystem

PULL = sp.Function("F", real=True)
REPULSION = sp.Function("G", real=True)
HALF_LOG_ODDS = sp.Symbol("h_star", real=True)
"""h* = ½ log(w*_1/w*_2)."""


@dataclass(frozen=True)
class EqualWeights:
    """The bimodal system at w_1 = w_2 = ½.

    Attributes
    ----------
    states : tuple of Symbol
        (m_1, m_2, s).
    rates : tuple of Expr
        The rates of the states, in the states, BETA, `PULL` and `REPULSION`.
    pull, repulsion : Lambda
        F and G as averages in R and h*.
    """

    states: tuple[sp.Symbol, ...]
    rates: tuple[sp.Expr, ...]
    pull: sp.Lambda
    repulsion: sp.Lambda

    __repr__ = short_repr

    def written_out(self, expression: sp.Expr) -> sp.Expr:
        """Return the expression with the averages that F and G stand for."""
        return expression.replace(PULL, self.pull).replace(REPULSION, self.repulsion).doit()


PARAMETERS = {"R", "w_1", "w_2", "w_star_1", "w_star_2", "sigma", "sigma_star"}
"""The parameters of such a system. A radius r besides R would mean that the components are not on the modes' sphere."""


def is_bimodal(system: OdeSystem) -> bool:
    """Return whether the system is that of two antipodal modes and two components on the modes' sphere.

    The components have equal scales, and only means move.
    """
    states, named = [state.name for state in system.states], {symbol.name for symbol, _ in system.subexpressions}
    parameters = {p.name for p in system.parameters}
    return states == ["m_1", "m_2", "s"] and {"F_1", "F_2", "g"} <= named and {"w_1", "w_2"} <= parameters <= PARAMETERS


def equal_weights(system: OdeSystem) -> EqualWeights:
    """Return the derived bimodal system at w_1 = w_2 = ½. Raises ValueError for another system."""
    named = dict(system.subexpressions)
    symbols = {symbol.name: symbol for symbol in (*system.parameters, *named)}
    if not is_bimodal(system):
        raise ValueError(
            "the theory's expansions are of two antipodal modes and two isotropic components of equal scales, whose "
            "means alone move on the modes' sphere"
        )
    m_1, m_2, s = system.states
    halves = {symbols["w_1"]: sp.S.Half, symbols["w_2"]: sp.S.Half}
    pulls = [sp.Lambda(m, named[symbols[name]]) for name, m in (("F_1", m_1), ("F_2", m_2))]
    if pulls[0](m_1) != pulls[1](m_1):
        raise ValueError("the target pulls the two components by different laws")
    exchange = named[symbols["g"]].xreplace({symbols["lambda_q"]: named[symbols["lambda_q"]]}).xreplace(halves)
    in_functions = {symbols["F_1"]: PULL(m_1), symbols["F_2"]: PULL(m_2), symbols["g"]: REPULSION(s) / 2}
    rates = tuple(rate.xreplace(in_functions).xreplace(halves) for rate in system.rhs)
    return EqualWeights(system.states, rates, pulls[0], sp.Lambda(s, 2 * exchange))
