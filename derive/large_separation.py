"""Modes far apart, R → ∞: averages over a Gaussian that is wide in comparison with the responsibilities' edge, and the critical temperature."""

from __future__ import annotations

import sympy as sp

from derive.equal_weights import HALF_LOG_ODDS, PULL, REPULSION, EqualWeights
from derive.expansion import Expansion
from derive.expectation import Expectation
from derive.expectation_rules import wide
from derive.geometry import R
from derive.transverse_growth import MEAN, symmetric_path

SEPARATION = sp.Symbol("Delta", positive=True)
"""Δ = R²(1 − s), half of the components' squared distance."""

SCALED_OVERLAP = sp.Symbol("x", real=True)
"""x = R m, fixed: the overlaps at which the target's edge is within reach of a sample."""

MOMENTS = 3
"""Of the edge's shape: its odd moments vanish, and the fourth is the first that is left out, by a factor 1/R⁴."""


def large_separation(pair: EqualWeights) -> tuple[Expansion, ...]:
    """G(s) in Δ; G(−1), F'(0) and F(x/R) in R; β_c and T_c; each to its first correction."""
    path = symmetric_path(pair)
    slope = sp.diff(PULL(MEAN), MEAN).subs(MEAN, 0)
    bounded = "w_1 = w_2, h* = O(R)"
    distant = _relative("repulsion of distant components", "G(s)", pair.repulsion(1 - SEPARATION / R**2), SEPARATION, "w_1 = w_2")
    antipodal = _relative("repulsion of the antipodal pair", "G(-1)", pair.repulsion(-1), R, "w_1 = w_2")
    pull = _relative("slope of the pull at the origin", "F'(0)", pair.written_out(slope), R, bounded)
    exact = pair.written_out(path.critical_beta)
    critical = path.critical_beta.xreplace({path.at_pair(REPULSION(path.s)): antipodal.expression, slope: pull.expression})
    return (
        distant,
        antipodal,
        pull,
        _pull_near_the_edge(pair),
        _quotient("critical inverse temperature", r"\beta_c", exact, critical, antipodal.scale / pull.scale, bounded),
        _quotient("critical temperature", "T_c", 1 / exact, 1 / critical, pull.scale / antipodal.scale, bounded),
    )


def _relative(name: str, left: str, quantity: sp.Expr, variable: sp.Symbol, hypothesis: str) -> Expansion:
    """One average times a factor, with its error relative to its leading term."""
    (average,) = quantity.atoms(Expectation)
    leading = quantity.xreplace({average: wide(average, 1)})
    correction = sp.expand(wide(average, MOMENTS) / wide(average, 1))
    # The first moment that is left out is the fourth: σ⁻⁴, with σ² proportional to R² and to Δ.
    order = sp.Integer(-4 if variable == R else -2)
    return Expansion(name, left, quantity, leading * correction, variable, sp.oo, order, hypothesis, leading)


def _pull_near_the_edge(pair: EqualWeights) -> Expansion:
    average = pair.pull(SCALED_OVERLAP / R)
    return Expansion(
        "pull near the edge", "F(x/R)", average, wide(average, MOMENTS), R, sp.oo, sp.Integer(-4), "x = R m_i fixed, h* = O(R)"
    )


def _quotient(name: str, left: str, quantity: sp.Expr, quotient: sp.Expr, scale: sp.Expr, hypothesis: str) -> Expansion:
    """A quotient of two expansions, expanded once more at fixed h*/R."""
    inverse, ratio = sp.symbols("inverse ratio", positive=True, cls=sp.Dummy)
    bracket = sp.simplify(quotient / scale).subs(HALF_LOG_ODDS, ratio * R).subs(R, 1 / inverse)
    series = sp.series(bracket, inverse, 0, 4).removeO().subs(inverse, 1 / R).subs(ratio, HALF_LOG_ODDS / R)
    return Expansion(name, left, quantity, scale * sp.expand(series), R, sp.oo, sp.Integer(-4), hypothesis, scale)
