"""The bimodal system for components of equal weight, in the average pull F(m) of the target and the average repulsion G(s).

F(m) = F_i at m_i = m, and G(s) = 2g at w_1 = w_2 = ½. They are kept as functions without a formula while equations are manipulated; what
they stand for, as derived, is put in where a number or an asymptotic rule needs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.short_repr import short_repr
from derive.system import OdeSystem

PULL = sp.Function("F", real=True)
REPULSION = sp.Function("G", real=True)
HALF_LOG_ODDS = sp.Symbol("h_star", real=True)
"""h* = ½ log(w*_1/w*_2)."""


@dataclass(frozen=True)
class EqualWeights:
    """states: (m_1, m_2, s). rates: theirs, in the states, BETA, `PULL` and `REPULSION`. pull, repulsion: F and G, averages in R and h*."""

    states: tuple[sp.Symbol, ...]
    rates: tuple[sp.Expr, ...]
    pull: sp.Lambda
    repulsion: sp.Lambda

    __repr__ = short_repr

    def written_out(self, expression: sp.Expr) -> sp.Expr:
        """The expression with the averages that F and G stand for."""
        return expression.replace(PULL, self.pull).replace(REPULSION, self.repulsion).doit()


def equal_weights(system: OdeSystem) -> EqualWeights:
    """The derived bimodal system at w_1 = w_2 = ½. Raises ValueError for another system."""
    named = dict(system.subexpressions)
    symbols = {symbol.name: symbol for symbol in (*system.parameters, *named)}
    if [state.name for state in system.states] != ["m_1", "m_2", "s"] or not {"F_1", "F_2", "g", "w_1", "w_2", "h_star"} <= set(symbols):
        raise ValueError("the theory's expansions are of two antipodal modes and two components of equal scales on their sphere")
    m_1, m_2, s = system.states
    halves = {symbols["w_1"]: sp.S.Half, symbols["w_2"]: sp.S.Half}
    pulls = [sp.Lambda(m, named[symbols[name]]) for name, m in (("F_1", m_1), ("F_2", m_2))]
    if pulls[0](m_1) != pulls[1](m_1):
        raise ValueError("the target pulls the two components by different laws")
    exchange = named[symbols["g"]].xreplace({symbols["lambda_q"]: named[symbols["lambda_q"]]}).xreplace(halves)
    in_functions = {symbols["F_1"]: PULL(m_1), symbols["F_2"]: PULL(m_2), symbols["g"]: REPULSION(s) / 2}
    rates = tuple(rate.xreplace(in_functions).xreplace(halves) for rate in system.rhs)
    return EqualWeights(system.states, rates, pulls[0], sp.Lambda(s, 2 * exchange))
