"""The limit of small overlaps with the target, as at the start in many dimensions.

The rates are expanded to second order in the overlaps, for any similarity s.
"""

from __future__ import annotations

import sympy as sp

from derive.asymptotics.equal_weights import PULL, REPULSION, EqualWeights
from derive.asymptotics.transverse_growth import MEAN
from derive.objects.expansion import Expansion
from derive.rules.expectation_rules import taylor

SMALLNESS = sp.Symbol("epsilon", positive=True)
"""The scale ε of the overlaps in (ε m_1, ε m_2, s); ε = 1 gives back the states."""


def small_overlaps(pair: EqualWeights, order: int = 3) -> tuple[Expansion, ...]:
    """Expand dm_1/dt, dm_2/dt and ds/dt around m_1 = m_2 = 0; the remainder is of degree `order` in the overlaps."""
    m_1, m_2, s = pair.states
    small = {m_1: SMALLNESS * m_1, m_2: SMALLNESS * m_2}
    slopes = [sp.diff(PULL(MEAN), MEAN, k).subs(MEAN, 0) for k in range(order)]

    def pull(m: sp.Expr) -> sp.Expr:
        return sp.Add(*(slope * m**k / sp.factorial(k) for k, slope in enumerate(slopes)))

    expansions = []
    for state, rate in zip(pair.states, pair.rates, strict=True):
        quantity = rate.subs(small)
        polynomial = sp.expand(taylor(quantity.replace(PULL, pull), SMALLNESS, order))
        expression = sp.collect(polynomial, (*slopes, REPULSION(s)), sp.factor_terms)
        name, left = f"d{state.name}/dt at small overlaps", rf"\dot {state.name}"
        hypothesis = "w_1 = w_2; s and beta fixed"
        expansions.append(
            Expansion(name, left, quantity, expression, SMALLNESS, sp.S.Zero, sp.Integer(order), hypothesis)
        )
    return tuple(expansions)
