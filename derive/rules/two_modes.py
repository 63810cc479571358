"""Simpler forms of averages for a mixture of two components, whose only relative logit is one Gaussian scalar.

There are three rules. A responsibility is ½ + ½ tanh of half the logit. A Cameron–Martin shift removes the overlap from
the logit's mean and leaves an even hyperbolic secant. The reflection z → −z makes w_1 E_1[ρ_2] and w_2 E_2[ρ_1] one
expression.
"""

from __future__ import annotations

import sympy as sp

from derive.objects.expectation import Expectation
from derive.objects.softmax import written_out
from derive.rules.gradient_rules import RuleDoesNotApplyError


def _logistic_argument(average: Expectation) -> tuple[sp.Expr, sp.Symbol]:
    """The y with integrand = 1/(1 + e^y), and the one normal variable that y depends on."""
    if len(average.variables) != 1:
        raise RuleDoesNotApplyError("the two-mode rules need an expectation over one scalar")
    odds = sp.Mul.make_args(1 / written_out(average.integrand) - 1)
    # A square root of an overlap is real in the domain, which SymPy cannot know: it would leave log(exp(..)) standing.
    y = sp.Add(*(f.args[0] if isinstance(f, sp.exp) else sp.expand_log(sp.log(f)) for f in odds))
    return sp.expand(y), average.variables[0]


def sigmoid_as_tanh(average: Expectation) -> sp.Expr:
    """E[1/(1 + e^y)] = ½ + ½ E[tanh(−y/2)]."""
    y, z = _logistic_argument(average)
    return (1 + Expectation(sp.tanh(_in_powers_of(-y / 2, z)), z)) / 2


def cameron_martin_to_sech(average: Expectation) -> sp.Expr:
    """E[1/(1 + e^y)] for y = A + Bz as an average of sech, by the shift that takes z out of the exponential.

    1/(1 + e^y) = ½ e^{−y/2} sech(y/2), and E[f(z)] = E[f(z + c) e^{−cz − c²/2}] for every c. The exponent becomes
    −cz − c²/2 − (A + B(z + c))/2, and c is chosen such that its coefficient of z vanishes.
    """
    y, z = _logistic_argument(average)
    mean, slope = _in_powers_of(y, z).as_independent(z)[0], sp.expand(y).coeff(z)
    A, B, c = sp.symbols("A B c", real=True, cls=sp.Dummy)
    exponent = sp.expand(-c * z - c**2 / 2 - (A + B * (z + c)) / 2)
    _, shift = sp.solve_linear(exponent.coeff(z, 1), symbols=[c])

    def in_overlaps(polynomial: sp.Expr) -> sp.Expr:
        return sp.expand(sp.expand(polynomial).subs(B**2, sp.expand(slope**2)).xreplace({A: mean, B: slope}))

    constant = in_overlaps(exponent.coeff(z, 0).subs(c, shift))
    argument = reflect(in_overlaps((A + B * (z + shift)) / 2), z)
    return sp.exp(constant) * Expectation(sp.sech(argument), z) / 2


def reflect(argument: sp.Expr, z: sp.Symbol) -> sp.Expr:
    """One representative among ±argument(±z), which all give the same average of an even function of the argument."""
    candidates = {
        _in_powers_of(sp.expand(sign * argument.subs(z, flip * z)), z) for sign in (1, -1) for flip in (1, -1)
    }
    return min(candidates, key=lambda e: (str(e).count("-"), sp.default_sort_key(e)))


def _in_powers_of(expression: sp.Expr, z: sp.Symbol) -> sp.Expr:
    """a + b z with both coefficients collected."""
    expanded = sp.expand(expression)
    constant, slope = expanded.coeff(z, 0), expanded.coeff(z, 1)
    if sp.expand(expanded - constant - slope * z) != 0:
        raise RuleDoesNotApplyError("a two-mode logit must be linear in its normal variable")
    return constant + slope * z
