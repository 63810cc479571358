"""From expectations over vectors to expectations over the fewest jointly Gaussian scalars.

A responsibility sees its sample x ~ N(a, σ² I) only through the linear forms u·x in its relative logits. These are jointly
Gaussian with mean u·a and covariance σ² u·u′, so a Cholesky factor of the forms' Gram matrix writes them in standard normals:
as many as there are linearly independent forms, at most K − 1 (target) or L − 1 (proposal).
"""

from __future__ import annotations

import sympy as sp

from derive.expectation import Expectation, StandardNormal
from derive.gradient_rules import RuleDoesNotApplyError
from derive.mixtures import Responsibility
from derive.vectors import GaussianVector, Inner, Vector


def reduce_to_scalars(average: Expectation) -> sp.Expr:
    """E_x[ρ_j(x)] as an expectation of 1/(1 + Σ exp(relative logits)) over independent standard normals."""
    (x,) = average.variables
    nodes = average.integrand.atoms(Responsibility)
    explicit = average.integrand.xreplace({node: 1 / (1 + sp.Add(*map(sp.exp, node.relative_logits()))) for node in nodes})
    forms = [_linear_form(logit, x) for node in nodes for logit in node.relative_logits()]
    basis = _independent(forms)
    normals = _standard_normals(len(basis))
    gram = sp.Matrix(len(basis), len(basis), lambda i, j: basis[i].dot(basis[j]))
    factor = _cholesky(gram)
    scalars = [
        basis[i].dot(Vector({x.mean: sp.S.One})) + x.scale * sum(factor[i, j] * normals[j] for j in range(i + 1)) for i in range(len(basis))
    ]

    def in_scalars(logit: sp.Expr) -> sp.Expr:
        form = _linear_form(logit, x)
        rest = logit - form.dot(Vector({x: sp.S.One}))
        return sp.expand(rest) + sp.Add(*(c * y for c, y in zip(_coordinates(form, basis), scalars, strict=True)))

    replaced = explicit.replace(lambda e: isinstance(e, sp.exp), lambda e: sp.exp(in_scalars(e.args[0])))
    return Expectation(replaced, *normals)


def _standard_normals(count: int) -> tuple[StandardNormal, ...]:
    return (StandardNormal("z"),) if count == 1 else tuple(StandardNormal(f"z_{n + 1}") for n in range(count))


def _linear_form(logit: sp.Expr, x: GaussianVector) -> Vector:
    """The vector u with logit = u·x + (what does not contain x)."""
    form = Vector()
    for node in sorted((n for n in logit.atoms(Inner) if x in n.args), key=sp.default_sort_key):
        first, second = node.args
        other = second if first == x else first
        if other == x:
            raise RuleDoesNotApplyError("‖x‖² is left in a logit: the components of a mixture have unequal scales")
        form += Vector({other: sp.expand(logit).coeff(node)})
    return form


def _independent(forms: list[Vector]) -> list[Vector]:
    """A basis among the forms, each with a positive leading coefficient, so that u and −u give the same scalar."""
    symbols = sorted({s for form in forms for s, _ in form}, key=sp.default_sort_key)
    basis: list[Vector] = []
    for form in sorted(forms, key=lambda f: [sp.default_sort_key(f.coefficient(s)) for s in symbols]):
        leading = next(form.coefficient(s) for s in symbols if form.coefficient(s) != 0)
        oriented = form * sp.sign(leading)
        rows = [[f.coefficient(s) for s in symbols] for f in [*basis, oriented]]
        if sp.Matrix(rows).rank() == len(rows):
            basis.append(oriented)
    return basis


def _coordinates(form: Vector, basis: list[Vector]) -> list[sp.Expr]:
    """The coefficients of a form in the basis, by least squares that must leave no remainder."""
    symbols = sorted({s for f in [*basis, form] for s, _ in f}, key=sp.default_sort_key)
    columns = sp.Matrix(len(symbols), len(basis), lambda r, c: basis[c].coefficient(symbols[r]))
    wanted = sp.Matrix([form.coefficient(s) for s in symbols])
    solution = (columns.T * columns).LUsolve(columns.T * wanted).applyfunc(sp.simplify)
    if (columns * solution - wanted).applyfunc(sp.simplify) != sp.zeros(len(symbols), 1):
        raise ArithmeticError("a linear form is outside the span of its own basis")
    return list(solution)


def _cholesky(gram: sp.Matrix) -> sp.Matrix:
    """The lower triangular factor of a symbolic Gram matrix, without asking SymPy to prove it positive."""
    size = gram.shape[0]
    factor = sp.zeros(size, size)
    for i in range(size):
        for j in range(i + 1):
            partial = gram[i, j] - sum(factor[i, k] * factor[j, k] for k in range(j))
            factor[i, j] = sp.sqrt(sp.expand(partial)) if i == j else partial / factor[j, j]
    return factor
