"""The limit R → ∞ of modes far apart, and the critical temperature.

The averages run over a Gaussian that is wide compared with the edge of the responsibilities.
"""

from __future__ import annotations

import sympy as sp

from derive.asymptotics.equal_weights import HALF_LOG_ODDS, PULL, REPULSION, EqualWeights
from derive.asymptotics.transverse_growth import MEAN, symmetric_path
from derive.objects.expansion import Expansion
from derive.objects.expectation import Expectation
from derive.rules.expectation_rules import wide
from derive.rules.geometry import R

SEPARATION = sp.Symbol("Delta", positive=True)
"""Δ = R²(1 − s), half of the components' squared distance."""

SCALED_OVERLAP = sp.Symbol("x", real=True)
"""x = R m, fixed: the overlaps at which the target's edge is within reach of a sample."""


def large_separation(pair: EqualWeights, corrections: int = 1) -> tuple[Expansion, ...]:
    """Expand G(s) in Δ, and G(−1), F'(0), F(x/R), β_c and T_c in R.

    Each expansion has the given number of corrections, in powers of 1/Δ or 1/R².
    """
    path = symmetric_path(pair)
    slope = sp.diff(PULL(MEAN), MEAN).subs(MEAN, 0)
    bounded = "w_1 = w_2, h* = O(R)"
    in_separation = pair.repulsion(1 - SEPARATION / R**2).replace(sp.exp, lambda exponent: sp.exp(sp.expand(exponent)))
    antipodal = _relative("repulsion of the antipodal pair", "G(-1)", pair.repulsion(-1), R, corrections, "w_1 = w_2")
    pull = _relative("slope of the pull at the origin", "F'(0)", pair.written_out(slope), R, corrections, bounded)
    average = pair.pull(SCALED_OVERLAP / R)
    order = sp.Integer(-2 * (corrections + 1))
    sign, moments = "x = R m_i fixed, h* = O(R)", 2 * corrections + 1
    exact = pair.written_out(path.critical_beta)
    repulsion = path.at_pair(REPULSION(path.s))
    scale = path.critical_beta.xreplace({repulsion: antipodal.scale, slope: pull.scale})
    bracket = _quotient(antipodal.expression / antipodal.scale, pull.expression / pull.scale, -order)
    inverse = _quotient(pull.expression / pull.scale, antipodal.expression / antipodal.scale, -order)
    return (
        _relative("repulsion of distant components", "G(s)", in_separation, SEPARATION, corrections, "w_1 = w_2"),
        antipodal,
        pull,
        Expansion("pull near the edge", "F(x/R)", average, wide(average, moments), R, sp.oo, order, sign),
        Expansion("critical inverse temperature", r"\beta_c", exact, scale * bracket, R, sp.oo, order, bounded, scale),
        Expansion("critical temperature", "T_c", 1 / exact, inverse / scale, R, sp.oo, order, bounded, 1 / scale),
    )


def _relative(
    name: str, left: str, quantity: sp.Expr, variable: sp.Symbol, corrections: int, hypothesis: str
) -> Expansion:
    """Expand a factor times one average, with the error relative to the leading term.

    The odd moments of the averaged function vanish, and σ² is proportional to R² and to Δ.
    """
    (average,) = quantity.atoms(Expectation)
    leading = quantity.xreplace({average: wide(average, 1)})
    bracket = sp.expand(wide(average, 2 * corrections + 1) / wide(average, 1))
    order = sp.Integer((-2 if variable == R else -1) * (corrections + 1))
    return Expansion(name, left, quantity, leading * bracket, variable, sp.oo, order, hypothesis, leading)


def _quotient(numerator: sp.Expr, denominator: sp.Expr, order: sp.Integer) -> sp.Expr:
    """Expand the quotient of two brackets in 1/R at fixed h*/R."""
    inverse, ratio = sp.symbols("inverse ratio", positive=True, cls=sp.Dummy)
    quotient = sp.simplify(numerator / denominator).subs(HALF_LOG_ODDS, ratio * R).subs(R, 1 / inverse)
    return sp.expand(
        sp.series(quotient, inverse, 0, order).removeO().subs(inverse, 1 / R).subs(ratio, HALF_LOG_ODDS / R)
    )
