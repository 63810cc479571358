"""Rules that turn the gradient of the objective into means and modes with averaged responsibilities as coefficients.

Each rule is a function from a vector to a vector, or from a scalar to a scalar, and holds for any number of components
and modes.
"""

from __future__ import annotations

from collections import defaultdict

import sympy as sp

from derive.objects.expectation import Expectation
from derive.objects.mixtures import DIMENSION, Mixture, Responsibility
from derive.objects.objective import POINT
from derive.objects.vectors import (
    ExpectedVector,
    GaussianVector,
    Gradient,
    Inner,
    SquaredDeviation,
    Vector,
    VectorSymbol,
    gradient,
)


class RuleDoesNotApplyError(ValueError):
    """A rule met an expression outside its hypotheses; the message names the hypothesis."""


def expect(vector: Vector, x: GaussianVector) -> Vector:
    """E_x of a vector by linearity; atoms that do not depend on x leave the expectation."""
    total = Vector()
    for atom, coefficient in vector:
        if x not in atom.free_symbols:
            total += Vector({atom: Expectation(coefficient, x)})
        else:
            constant, factor = coefficient.as_independent(x, as_Add=False)
            total += Vector({ExpectedVector(factor, atom, x): constant})
    return total


def pathwise(objective: sp.Expr, mean: VectorSymbol) -> tuple[Vector, Vector]:
    """The gradient of the objective by a mean, from x_i = a_i + σ_i z and differentiation under the integral.

    Returns two parts: the part through the sample (∇_x of the integrand), and the part through the integrand's own
    dependence on the mean at fixed x.
    """
    through_sample, explicit = Vector(), Vector()
    for term in sp.Add.make_args(objective):
        weight, average = term.as_independent(Expectation, as_Add=False)
        if average == 1:
            continue
        (x,) = average.variables
        if x.mean == mean:
            through_sample += weight * expect(Vector({Gradient(average.integrand, x): sp.S.One}), x)
        explicit += weight * expect(Vector({Gradient(average.integrand, mean): sp.S.One}), x)
    return through_sample, explicit


def evaluate_gradients(vector: Vector) -> Vector:
    """The vector with the gradients of log densities carried out as responsibilities times (mean − x)/σ²."""
    total = Vector()
    for atom, coefficient in vector:
        if isinstance(atom, ExpectedVector) and isinstance(atom.args[1], Gradient):
            factor, inner, x = atom.args
            total += coefficient * expect(factor * gradient(*inner.args), x)
        else:
            total += Vector({atom: coefficient})
    return total


def exchange_responsibilities(vector: Vector, proposal: Mixture, samples: tuple[GaussianVector, ...]) -> Vector:
    """Σ_j w_j E_{x_j}[ρ_i(x_j) f(x_j)] = w_i E_{x_i}[f(x_i)], since ρ_i q = w_i N_i pointwise.

    The rule applies to complete sums over j; other terms stay as they are.
    """
    weight_of = dict(zip(samples, proposal.weights, strict=True))
    kept = Vector()
    groups: dict[tuple, dict[GaussianVector, Vector]] = defaultdict(dict)
    for atom, coefficient in vector:
        for term in sp.Add.make_args(sp.expand(coefficient)):
            outer, factor, x, inner = _as_average(atom, term)
            own = [r for r in factor.atoms(Responsibility) if r.mixture == proposal and r.point == x]
            if x is None or len(own) != 1 or factor.coeff(own[0]) == 0:
                kept += Vector({atom: term})
                continue
            f = (factor / own[0]).xreplace({x: POINT})
            key = (own[0].component, outer / weight_of[x], f, inner.xreplace({x: POINT}))
            groups[key][x] = Vector({atom: term})
    for (component, outer, f, inner), members in groups.items():
        if set(members) == set(samples):
            x = samples[component]
            kept += outer * weight_of[x] * expect(Vector({inner.xreplace({POINT: x}): f.xreplace({POINT: x})}), x)
        else:
            kept += sum(members.values(), Vector())
    return kept


def _as_average(atom: sp.Basic, term: sp.Expr) -> tuple[sp.Expr, sp.Expr, GaussianVector | None, sp.Basic]:
    """The parts (outer, factor, x, inner) of coefficient × atom, read as outer × E_x[factor × inner]."""
    if isinstance(atom, ExpectedVector):
        factor, inner, x = atom.args
        return term, factor, x, inner
    averages = term.atoms(Expectation)
    if len(averages) == 1:
        (average,) = averages
        outer = term / average
        if not outer.has(Expectation) and len(average.variables) == 1:
            return outer, average.integrand, average.variables[0], atom
    return term, sp.S.One, None, atom


def responsibilities_sum_to_one(vector: Vector) -> Vector:
    """The vector after two uses of Σ_j ρ_j(x) = 1.

    In the factors of E_x[· x] the identity removes the last responsibility, which leaves constants if the scales are
    equal. In the coefficient of a component's own mean the identity replaces the average of the component's own
    responsibility by the averages of the others.
    """
    total = Vector()
    for atom, coefficient in vector:
        if isinstance(atom, ExpectedVector):
            factor, inner, x = atom.args
            total += coefficient * expect(Vector({inner: _eliminate_last(factor)}), x)
        else:
            total += Vector(
                {atom: coefficient.xreplace({a: _by_the_others(a) for a in coefficient.atoms(Expectation)})}
            )
    return total.map(sp.expand)


def _by_the_others(average: Expectation) -> sp.Expr:
    """E_i[ρ_i] as 1 − Σ_{j≠i} E_i[ρ_j]; any other average stays as it is."""
    rho = average.integrand
    if not isinstance(rho, Responsibility) or rho.mixture.means[rho.component] != rho.point.mean:
        return average
    others = (Responsibility(rho.mixture, j, rho.point) for j in range(rho.mixture.size) if j != rho.component)
    return 1 - sp.Add(*(Expectation(other, *average.variables) for other in others))


def _eliminate_last(factor: sp.Expr) -> sp.Expr:
    replacements = {}
    for node in factor.atoms(Responsibility):
        if node.component == node.mixture.size - 1:
            others = (Responsibility(node.mixture, j, node.point) for j in range(node.component))
            replacements[node] = 1 - sp.Add(*others)
    return sp.expand(factor.xreplace(replacements))


def stein(vector: Vector) -> Vector:
    """The vector with E_x[f(x) x] = a E_x[f] + σ² E_{x⁺}[∇f with x − a = 0 outside f]; see `lifted_gradient`."""
    total = Vector()
    for atom, coefficient in vector:
        if not isinstance(atom, ExpectedVector):
            total += Vector({atom: coefficient})
            continue
        factor, inner, x = atom.args
        if inner != x:
            raise RuleDoesNotApplyError(f"Stein's lemma needs E[f x], not E[f {inner}]")
        total += coefficient * (Vector({x.mean: average(factor, x)}) + x.scale**2 * lifted_gradient(factor, x))
    return total.map(sp.expand)


def lifted_gradient(factor: sp.Expr, x: GaussianVector) -> Vector:
    """E_x[f(x) (x − a)]/σ² by Stein's lemma.

    f is a product of responsibilities or the logarithm of one responsibility. With equal scales the result is E_x[∇f],
    in which the multiples of x cancel. With unequal scales f depends on x = a + σz through linear forms B_l·z and
    through s = ‖z‖². Stein's lemma then gives E[f z] = Σ_l E[∂_l f] B_l + 2 E[∂_s f z], whose last term has the form of
    the left-hand side. Repeated use gives E[f z] = Σ_l E[(1 − 2∂_s)^{−1} ∂_l f] B_l. Since (1 − 2∂_s)^{−1} g(s) is the
    average of g(s + c) over c ~ χ²_2, the result is one average in two dimensions more: E_{x⁺}[∇f], without the
    multiples of x − a in ∇f.
    """
    slope = gradient(factor, x).map(_in_pairs)
    if factor.has(sp.log):
        slope = slope.map(_eliminate_last)  # a logarithm's slope is linear in the shares
    sample = x if slope.coefficient(x) == 0 else x.lifted()
    total = Vector()
    for atom, coefficient in slope:
        total += Vector({x.mean if atom == x else atom: coefficient})
    return total.map(lambda coefficient: average(sp.expand(coefficient).xreplace({x: sample}), sample))


def average(expression: sp.Expr, x: GaussianVector) -> sp.Expr:
    """E_x of the expression by linearity, with one average for each product of responsibilities."""
    return sp.Add(*(Expectation(term, x) for term in sp.Add.make_args(sp.expand(expression))))


def _in_pairs(expression: sp.Expr) -> sp.Expr:
    """The expression with squares of responsibilities as products of two: ρ_j² = ρ_j − Σ_{l≠j} ρ_j ρ_l."""

    def square(power: sp.Pow) -> sp.Expr:
        rho = power.base
        return rho - sp.Add(
            *(rho * Responsibility(rho.mixture, l, rho.point) for l in range(rho.mixture.size) if l != rho.component)
        )

    expanded = sp.expand(expression)
    return sp.expand(expanded.replace(lambda e: e.is_Pow and isinstance(e.base, Responsibility) and e.exp == 2, square))


def second_moments(expression: sp.Expr) -> sp.Expr:
    """The expression with E_x[f x·u] and E_x[f ‖x‖²] carried out.

    f is a product of responsibilities or the logarithm of one responsibility. The rule writes x = a + (x − a) and
    applies Stein's lemma to the terms linear in x − a.
    """
    return expression.xreplace({node: _moments(node) for node in expression.atoms(Expectation)})


def sum_to_one_in_moments(expression: sp.Expr) -> sp.Expr:
    """The expression with Σ_j ρ_j = 1 used in averages of responsibilities times inner products with x.

    The identity removes the last responsibility of each mixture.
    """

    def eliminated(node: Expectation) -> sp.Expr:
        return average(_eliminate_last(sp.expand(node.integrand)), *node.variables)

    return expression.xreplace({node: eliminated(node) for node in expression.atoms(Expectation)})


def _moments(node: Expectation) -> sp.Expr:
    (x,) = node.variables
    total = sp.S.Zero
    for term in sp.Add.make_args(sp.expand(node.integrand)):
        inners = [e for e in sp.Mul.make_args(term) if isinstance(e, Inner) and x in e.args]
        if not inners:
            total += Expectation(term, x)
            continue
        (inner,) = inners
        constant, factor = (term / inner).as_independent(x, as_Add=False)
        deviation = x.scale**2 * lifted_gradient(factor, x) if factor != 1 else Vector()
        others = [u for u in inner.args if u != x] or [x.mean]
        along = deviation.dot(Vector({others[0]: sp.S.One}))
        if inner.args == (x, x):
            squared = Expectation(factor * SquaredDeviation(x), x) if factor != 1 else DIMENSION
            total += constant * (Inner(x.mean, x.mean) * average(factor, x) + 2 * along + x.scale**2 * squared)
        else:
            total += constant * (Inner(x.mean, others[0]) * average(factor, x) + along)
    return sp.expand(total)
