"""The limit of components close to each other, s → 1 with m_1 − m_2 → 0: their repulsion and their motion.

The squared distance of the means' directions, 2(1 − s), is at least b². So b is of order ε where 1 − s is of order ε².
"""

from __future__ import annotations

import sympy as sp

from derive.asymptotics.equal_weights import PULL, REPULSION, EqualWeights
from derive.asymptotics.large_separation import SEPARATION
from derive.asymptotics.small_overlaps import SMALLNESS
from derive.asymptotics.transverse_growth import DIFFERENCE, MEAN, in_mean_and_difference
from derive.objects.expansion import Expansion
from derive.objects.expectation import Expectation
from derive.rules.expectation_rules import narrow, taylor
from derive.rules.geometry import R

DEFECT = sp.Symbol("delta", positive=True)
"""The δ in 1 − s = ε² δ."""


def near_equal(pair: EqualWeights, terms: int = 3) -> tuple[Expansion, ...]:
    """Expand G in Δ = R²(1 − s), and the leading motion of m, b and 1 − s for b of order ε and 1 − s of order ε².

    `terms` is the number of terms of G.
    """
    s = pair.states[2]
    quantity = pair.repulsion(1 - SEPARATION / R**2)
    close = taylor(_near(quantity, terms), SEPARATION, terms)
    repulsion = Expansion(
        "repulsion of near components", "G(s)", quantity, close, SEPARATION, sp.S.Zero, sp.Integer(terms), "w_1 = w_2"
    )
    similarity = 1 - SMALLNESS**2 * DEFECT
    approach = {DIFFERENCE: SMALLNESS * DIFFERENCE, s: similarity}
    dm, db, ds = (rate.subs(approach) for rate in in_mean_and_difference(pair))
    near = {REPULSION(similarity): close.subs(SEPARATION, R**2 * SMALLNESS**2 * DEFECT)}
    motions = (
        ("dm/dt of near components", r"\dot m", dm, 2),
        ("db/dt of near components", r"\dot b", db, 3),
        ("d(1 - s)/dt of near components", r"-\dot s", -ds, 4),
    )
    hypothesis = "w_1 = w_2; m and beta fixed, b and delta bounded"
    return (
        repulsion,
        *(
            Expansion(
                name,
                left,
                rate,
                _grouped(taylor(rate.xreplace(near), SMALLNESS, n)),
                SMALLNESS,
                sp.S.Zero,
                sp.Integer(n),
                hypothesis,
            )
            for name, left, rate, n in motions
        ),
    )


def _near(repulsion: sp.Expr, terms: int) -> sp.Expr:
    (average,) = repulsion.atoms(Expectation)
    return repulsion.xreplace({average: narrow(average, terms)})


def _grouped(expression: sp.Expr) -> sp.Expr:
    return sp.collect(sp.expand(expression.doit()), (sp.diff(PULL(MEAN), MEAN), PULL(MEAN)), sp.factor_terms)
