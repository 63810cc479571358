"""β → 0: the entropy alone drives the components apart, and the overlaps with the target move at order β only.

u_1 and u_2 are the overlaps with the target of the unit vectors along μ_1 + μ_2 and μ_1 − μ_2. Without the target they are conserved, since
for components of equal weight the repulsion acts along μ_1 − μ_2, and s relaxes by an equation of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.equal_weights import EqualWeights
from derive.expansion import Expansion
from derive.notation import tex
from derive.system import BETA

U = sp.symbols("u_1 u_2", real=True)
INITIAL_U = sp.symbols("v_1 v_2", real=True)
INITIAL_S = sp.Symbol("s_0", real=True)
_ALONG = sp.Symbol("sigma", real=True)


@dataclass(frozen=True)
class HighTemperature:
    """conserved: u_1 and u_2 in the states. overlaps: the states m_1 and m_2 in `U` and s. relaxation: ds/dt at β = 0, in s alone.

    drift: d(u_1, u_2)/dt divided by β, exact at every β, in `U` and s. pull: ∂(ds/dt)/∂β, likewise. path: u_1 and u_2 where the similarity
    has fallen from `INITIAL_S` to s, to first order in a constant β.
    """

    s: sp.Symbol
    conserved: tuple[sp.Expr, sp.Expr]
    overlaps: tuple[sp.Expr, sp.Expr]
    relaxation: sp.Expr
    drift: tuple[sp.Expr, sp.Expr]
    pull: sp.Expr
    path: tuple[Expansion, Expansion]

    def latex(self) -> dict[str, str]:
        """Each result by name."""
        rates = {f"drift of u_{i}": rf"\dot u_{i} = \beta\left[{tex(drift)}\right]" for i, drift in enumerate(self.drift, 1)}
        conserved = {f"conserved u_{i}": f"u_{i} = {tex(u)}" for i, u in enumerate(self.conserved, 1)}
        relaxation = {"relaxation of s": rf"\dot s = {tex(self.relaxation)} + \mathcal O(\beta)"}
        return {**conserved, **relaxation, **rates, **{e.name: e.latex() for e in self.path}}


def high_temperature(pair: EqualWeights) -> HighTemperature:
    """Change to (u_1, u_2, s) in the derived rates and split them by powers of β, of which there are only two."""
    m_1, m_2, s = pair.states
    conserved = (m_1 + m_2) / sp.sqrt(2 * (1 + s)), (m_1 - m_2) / sp.sqrt(2 * (1 - s))
    together, apart = U[0] * sp.sqrt(2 * (1 + s)), U[1] * sp.sqrt(2 * (1 - s))
    overlaps = (together + apart) / 2, (together - apart) / 2
    in_u = dict(zip((m_1, m_2), overlaps, strict=True))
    drift = []
    for u in conserved:
        rate = sp.Add(*(sp.diff(u, state) * velocity for state, velocity in zip(pair.states, pair.rates, strict=True)))
        if sp.simplify(rate.subs(BETA, 0)) != 0:
            raise ArithmeticError(f"{u} is not conserved at infinite temperature")
        drift.append(sp.factor_terms(sp.simplify(sp.diff(rate, BETA)).subs(in_u)))
    relaxation = sp.factor(pair.rates[2].subs(BETA, 0))
    pull = sp.diff(pair.rates[2], BETA).subs(in_u)
    path = tuple(_along_relaxation(i, rate, relaxation, s) for i, rate in enumerate(drift))
    return HighTemperature(s, conserved, overlaps, relaxation, (drift[0], drift[1]), pull, (path[0], path[1]))


def _along_relaxation(i: int, drift: sp.Expr, relaxation: sp.Expr, s: sp.Symbol) -> Expansion:
    """du/ds = β drift/(relaxation + O(β)), with u on the right-hand side at its initial value."""
    slope = (drift / relaxation).xreplace({s: _ALONG, **dict(zip(U, INITIAL_U, strict=True))})
    return Expansion(
        f"u_{i + 1} along the relaxation",
        f"u_{i + 1}(s)",
        sp.Function(f"u_{i + 1}")(s),
        INITIAL_U[i] + BETA * sp.Integral(slope, (_ALONG, INITIAL_S, s)),
        BETA,
        sp.S.Zero,
        sp.Integer(2),
        "w_1 = w_2, beta constant, (u_1, u_2, s) starts at (v_1, v_2, s_0), -1 < s <= s_0 < 1 fixed",
    )
