"""The linearisation around b = m_1 − m_2 = 0: how fast two components of equal weight part while they move together.

The manifold b = 0 is invariant. On the manifold m = (m_1 + m_2)/2 and s obey a closed system of their own. A small b
grows at the transverse rate λ.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.asymptotics.equal_weights import PULL, REPULSION, EqualWeights
from derive.objects.notation import tex
from derive.objects.short_repr import short_repr
from derive.objects.system import BETA

MEAN = sp.Symbol("m", real=True)
"""m = (m_1 + m_2)/2, the overlap of both components on b = 0."""

DIFFERENCE = sp.Symbol("b", real=True)
"""b = m_1 − m_2."""


@dataclass(frozen=True)
class SymmetricPath:
    """Rates around b = 0, in `MEAN`, s, BETA, and the functions F and G.

    Attributes
    ----------
    s : Symbol
        The similarity of the components.
    velocity : tuple of Expr
        (dm/dt, ds/dt) on b = 0.
    transverse : Expr
        λ, the growth rate of b.
    longitudinal : Expr
        ∂(dm/dt)/∂m, the growth rate of m_1 + m_2.
    critical_beta : Expr
        The β at which `longitudinal` changes sign at the antipodal pair m = 0, s = −1. At colder temperatures the
        target tears the pair apart.
    """

    s: sp.Symbol
    velocity: tuple[sp.Expr, sp.Expr]
    transverse: sp.Expr
    longitudinal: sp.Expr
    critical_beta: sp.Expr

    __repr__ = short_repr

    def at_pair(self, rate: sp.Expr) -> sp.Expr:
        """Return a rate at the antipodal pair between the modes, m = 0 and s = −1."""
        return rate.subs({MEAN: 0, self.s: -1})

    def latex(self) -> dict[str, str]:
        """Return each result by name."""
        return {
            "overlap on the symmetric path": rf"\dot m = {tex(self.velocity[0])}",
            "similarity on the symmetric path": rf"\dot s = {tex(self.velocity[1])}",
            "transverse growth": rf"\lambda = {tex(self.transverse)}",
            "longitudinal growth": rf"\lambda_\parallel = {tex(self.longitudinal)}",
            "onset of tearing": rf"\beta_c = {tex(self.critical_beta)}",
        }


def symmetric_path(pair: EqualWeights) -> SymmetricPath:
    """Substitute m_1 = m + b/2 and m_2 = m − b/2 into the derived rates, and differentiate at b = 0."""
    s = pair.states[2]
    dm, db, ds = in_mean_and_difference(pair)
    if _on_path(db) != 0 or any(_on_path(sp.diff(rate, DIFFERENCE)) != 0 for rate in (dm, ds)):
        raise ArithmeticError("b = 0 is not an invariant manifold of the derived rates")
    velocity = _collected(_on_path(dm), s), _collected(_on_path(ds), s)
    transverse = _collected(_on_path(sp.diff(db, DIFFERENCE)), s)
    longitudinal = _collected(sp.expand(sp.diff(velocity[0], MEAN)), s)
    (critical,) = sp.solve(longitudinal.subs({MEAN: 0, s: -1}), BETA)
    return SymmetricPath(s, velocity, transverse, longitudinal, critical)


def in_mean_and_difference(pair: EqualWeights) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """Return (dm/dt, db/dt, ds/dt) in m, b and s."""
    m_1, m_2, _ = pair.states
    apart = {m_1: MEAN + DIFFERENCE / 2, m_2: MEAN - DIFFERENCE / 2}
    first, second, similarity = (rate.subs(apart) for rate in pair.rates)
    return (first + second) / 2, first - second, similarity


def _on_path(expression: sp.Expr) -> sp.Expr:
    return sp.expand(expression.subs(DIFFERENCE, 0).doit())


def _collected(rate: sp.Expr, s: sp.Symbol) -> sp.Expr:
    """Collect by F'(m), F(m) and G(s), each with its coefficient."""
    return sp.collect(rate, (sp.diff(PULL(MEAN), MEAN), PULL(MEAN), REPULSION(s)), sp.factor_terms)
