"""Rules for averages E[f(z)] over one normal variable, from which the asymptotic expansions are made.

Two rules are exact: Stein's lemma and the tilt. The others are asymptotic: Taylor's series in a parameter, and the
average of f(a + σz) where the Gaussian is narrow (σ → 0) or wide (σ → ∞) in comparison with f. Each asymptotic rule
gives a finite sum and states the order of its remainder. `Expectation.diff` differentiates an average in a parameter.
"""

from __future__ import annotations

from functools import cache

import sympy as sp

from derive.objects.expectation import Expectation, StandardNormal
from derive.rules.gradient_rules import RuleDoesNotApplyError


def steins_lemma(average: Expectation) -> sp.Expr:
    """E[z f(z)] = E[f'(z)], exact by integration by parts if f is differentiable and f(z) e^{−z²/2} vanishes at ±∞."""
    z = _only_variable(average)
    f = sp.expand(average.integrand / z)
    if f.subs(z, 0).has(sp.zoo, sp.nan, sp.oo):
        raise RuleDoesNotApplyError(f"Stein's lemma needs a factor {z} in the average")
    return Expectation(sp.diff(f, z), z)


def tilt(average: Expectation) -> sp.Expr:
    """E[e^{cz} f(z)] = e^{c²/2} E[f(z + c)], exact by completing the square if c is real and both averages exist."""
    z = _only_variable(average)
    exponentials = [e for e in sp.Mul.make_args(average.integrand) if isinstance(e, sp.exp) and z in e.free_symbols]
    constant, c = _mean_and_slope(sp.Add(*(e.args[0] for e in exponentials)), z)
    f = sp.Mul(*(e for e in sp.Mul.make_args(average.integrand) if e not in exponentials))
    return sp.exp(constant + c**2 / 2) * Expectation(f.xreplace({z: z + c}), z)


def taylor(expression: sp.Expr, parameter: sp.Symbol, order: int) -> sp.Expr:
    """Taylor's polynomial of E f(μ + ε + σz), or of any expression in averages, about ε = 0.

    The parameter is ε, and the remainder is O(ε^order). The rule assumes that `order` derivatives of f in ε are bounded
    near ε = 0 by a function of z whose average exists, so that they may be taken under the integral.
    """
    slopes = [expression]
    for _ in range(order - 1):
        slopes.append(sp.diff(slopes[-1], parameter))
    return sp.Add(*(slope.subs(parameter, 0) * parameter**k / sp.factorial(k) for k, slope in enumerate(slopes)))


def narrow(average: Expectation, terms: int) -> sp.Expr:
    """E f(a + σz) = Σ_{k<terms} σ^{2k} f^{(2k)}(a)/(2^k k!) + O(σ^{2 terms}) as σ → 0.

    The rule assumes that 2 `terms` derivatives of f are bounded on the line. The sum is Taylor's series under the
    average, with E z^{2k} = (2k)!/(2^k k!).
    """
    f, y, mean, slope = _profile(average)
    moments = [slope ** (2 * k) / (2**k * sp.factorial(k)) for k in range(terms)]
    return sp.Add(*(moment * sp.diff(f, y, 2 * k).subs(y, mean) for k, moment in enumerate(moments)))


def wide(average: Expectation, moments: int) -> sp.Expr:
    """E f(a + σz) as σ → ∞ with a/σ bounded; the remainder is O(σ^{−moments−1}).

    f is a polynomial in sech and tanh² that vanishes at both ends, or tanh. The density of y = a + σz is, by the
    generating function e^{cx − x²/2} = Σ He_k(c) x^k/k! at x = y/σ, c = a/σ,

        φ(c)/σ · Σ_k He_k(c) (y/σ)^k/k!,

    so that f, which is narrow in comparison with σ, enters through its moments ∫ y^k f(y) dy (Laplace's method about an
    interior point). The rule splits tanh into its sign, with E sign(a + σz) = erf(c/√2), and tanh − sign, which is
    localised.
    """
    f, y, mean, slope = _profile(average)
    c = mean / slope
    density = sp.exp(-(c**2) / 2) / sp.sqrt(2 * sp.pi)
    far = sp.erf(c / sp.sqrt(2)) if f == sp.tanh(y) else sp.S.Zero
    series = (
        localised_moment(f, y, k) * sp.hermite_prob(k, c) / (sp.factorial(k) * slope ** (k + 1)) for k in range(moments)
    )
    return far + density * sp.Add(*series)


def localised_moment(f: sp.Expr, y: sp.Symbol, k: int) -> sp.Expr:
    """∫ y^k f(y) dy over the line, for a polynomial f in sech and tanh² without constant term.

    For f = tanh the function gives ∫ y^k (tanh y − sign y) dy. This is −∫ y^{k+1} sech² y dy/(k + 1) by parts, since
    y^{k+1} vanishes where the sign jumps.
    """
    if f == sp.tanh(y):
        return -sech_moment(2, k + 1) / (k + 1)
    sech = sp.Dummy(positive=True)
    in_sech = sp.expand(f.xreplace({sp.tanh(y): sp.sqrt(1 - sech**2), sp.sech(y): sech}))
    if not in_sech.is_polynomial(sech) or in_sech.subs(sech, 0) != 0 or y in in_sech.free_symbols:
        raise RuleDoesNotApplyError(f"{f} is not a polynomial in sech and tanh^2 that vanishes at both ends")
    return sp.Add(*(coefficient * sech_moment(power, k) for (power,), coefficient in sp.Poly(in_sech, sech).terms()))


@cache
def sech_moment(power: int, k: int) -> sp.Expr:
    """∫ y^k sech^p y dy over the line.

    The moment is the k-th derivative at u = 0 of ∫ e^{uy} sech^p y dy = 2^{p−1} B((p + u)/2, (p − u)/2), which the
    substitution y = artanh(2v − 1) turns into Euler's integral ∫_0^1 v^{(p+u)/2 − 1} (1 − v)^{(p−u)/2 − 1} dv.
    """
    u = sp.Dummy(real=True)
    generating = 2 ** (power - 1) * sp.gamma((power + u) / 2) * sp.gamma((power - u) / 2) / sp.gamma(power)
    return sp.simplify(sp.diff(generating, u, k).subs(u, 0))


def _profile(average: Expectation) -> tuple[sp.Expr, sp.Symbol, sp.Expr, sp.Expr]:
    """The parts (f, y, a, σ) of an average of f(a + σz), where f depends on y through hyperbolic functions alone.

    The sign of σ is made positive, since z and −z have the same law.
    """
    z = _only_variable(average)
    arguments = {node.args[0] for node in average.integrand.atoms(sp.sech, sp.tanh)}
    if len(arguments) != 1:
        raise RuleDoesNotApplyError("the average is not one of sech and tanh of one argument")
    (argument,) = arguments
    y = sp.Dummy("y", real=True)
    f = average.integrand.xreplace({argument: y})
    if z in f.free_symbols:
        raise RuleDoesNotApplyError(f"{z} stands outside the hyperbolic functions")
    mean, slope = _mean_and_slope(argument, z)
    return f, y, mean, -slope if slope.could_extract_minus_sign() else slope


def _mean_and_slope(argument: sp.Expr, z: sp.Symbol) -> tuple[sp.Expr, sp.Expr]:
    expanded = sp.expand(argument)
    mean, slope = expanded.coeff(z, 0), expanded.coeff(z, 1)
    if sp.expand(expanded - mean - slope * z) != 0:
        raise RuleDoesNotApplyError(f"{argument} is not linear in {z}")
    return mean, slope


def _only_variable(average: Expectation) -> StandardNormal:
    if len(average.variables) != 1 or not isinstance(average.variables[0], StandardNormal):
        raise RuleDoesNotApplyError("the rule is for an average over one normal variable")
    return average.variables[0]
