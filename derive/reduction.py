"""From expectations over vectors to expectations over the fewest independent scalars.

A responsibility sees its sample x = a + σ z, z ~ N(0, I), only through the linear forms in its relative logits, and with unequal scales
also through ‖z‖². The forms are jointly Gaussian, so a Cholesky factor of their Gram matrix writes them in independent standard
normals z_1 … z_r, as many as there are linearly independent forms: at most K − 1 (target) or L − 1 (proposal). What is left of
‖z‖² − z_1² − … − z_r² is an independent χ² variable of d − r degrees of freedom. Both statements are exact in every dimension d ≥ r.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sympy as sp
from sympy.printing.codeprinter import CodePrinter

from derive.expectation import ChiSquared, Expectation, StandardNormal
from derive.lambdified import Coded
from derive.mixtures import DIMENSION, Mixture, Responsibility
from derive.softmax import Softmax
from derive.vectors import GaussianVector, Inner, SquaredDeviation, Vector, VectorSymbol, substitute_vectors


class CholeskyRoot(Coded, sp.Function):
    """√remainder, a diagonal entry of a Cholesky factor; the second argument is the matrix's own diagonal entry.

    In numbers the remainder is kept above rounding's share of that entry and of one, so that dependent vectors, and coincident ones, divide
    by no zero: a root of √share instead of zero moves the averages by its square.
    """

    nargs = 2
    is_real = True

    def explicit(self) -> sp.Expr:
        return sp.sqrt(self.args[0])

    def _eval_evalf(self, prec: int) -> sp.Expr:
        digits = int(prec / 3.32) + 1
        remainder, whole = (argument.evalf(digits) for argument in self.args)
        if remainder.is_Float and whole.is_Float:
            return sp.sqrt(max(remainder, (whole + 1) * sp.Float(10) ** (-(2 * digits) // 3)))
        return self.explicit().evalf(digits)

    def _code(self, printer: CodePrinter, name: Callable[[str], str]) -> str:
        call = printer._module_format("derive.lambdified.cholesky_root")
        return f"{call}({', '.join(map(printer.doprint, self.args))}, {name('sqrt')}, {name('maximum')})"

    def _latex(self, printer, exp: str | None = None) -> str:
        root = rf"\sqrt{{{printer.doprint(self.args[0])}}}"
        return root if exp is None else rf"{{{root}}}^{{{exp}}}"

    def _sympystr(self, printer) -> str:
        return f"sqrt({printer.doprint(self.args[0])})"


@dataclass(frozen=True)
class Surroundings:
    """What the reduction knows beside the average.

    images: vectors that are combinations of others. dimension: d where it is known as a number, else None.
    large_dimension: replace ‖z‖² by its Gaussian limit N(d, 2d), exact as d → ∞, also where scales differ by O(d^{−1/2}).
    """

    images: Mapping[VectorSymbol, Vector]
    dimension: int | None = None
    large_dimension: bool = False


@dataclass(frozen=True)
class Reduced:
    """average: E over scalars. factor: (symbol, value) pairs of the Cholesky factor's entries, in an order in which each uses earlier
    ones; empty for a single form, whose length stands in the logits."""

    average: sp.Expr
    factor: tuple[tuple[sp.Symbol, sp.Expr], ...]


RADIAL = VectorSymbol("radial")
"""Stands for the direction of ‖z‖² − d in the limit d → ∞, where it is Gaussian and independent of every linear form."""


def reduce_to_scalars(average: Expectation, surroundings: Surroundings, prefix: str) -> Reduced:
    """E_x of a polynomial in responsibilities (of one mixture), their logarithm and ‖x − a‖²/σ², over independent scalars.

    prefix: begins the names of the Cholesky factor's entries.
    """
    (x,) = average.variables
    (mixture,) = {rho.mixture for rho in average.integrand.atoms(Responsibility)}
    means = list(mixture.means)
    reference = means.index(x.mean) if x.mean in means else mixture.size - 1
    parts = [_QuadraticForm.of(mixture, c, reference, x, surroundings) for c in range(mixture.size)]
    basis = _independent([p.linear for p in parts])
    lengths = {Inner(RADIAL, RADIAL): 2 * DIMENSION * x.scale**2}
    gram = sp.Matrix(len(basis), len(basis), lambda i, j: _without_radial(basis[i].dot(basis[j]).xreplace(lengths)))
    factor, entries = _cholesky(gram, prefix)
    normals = _standard_normals(len(basis))
    scalars = [x.scale * sp.Add(*(factor[i, j] * normals[j] for j in range(i + 1))) for i in range(len(basis))]
    squared, rest = _squared_length(x, normals, surroundings)
    typical = DIMENSION if surroundings.large_dimension else squared

    def logit(part: _QuadraticForm) -> sp.Expr:
        linear = sp.Add(*(c * y for c, y in zip(_coordinates(part.linear, basis), scalars, strict=True)))
        return part.constant + linear + x.scale**2 * part.curvature * typical

    logits = [logit(part) for part in parts]
    scalar_nodes = {rho: Softmax(rho.component + 1, *logits) for rho in average.integrand.atoms(Responsibility)}
    scalar_nodes |= dict.fromkeys(average.integrand.atoms(SquaredDeviation), squared)
    return Reduced(Expectation(average.integrand.xreplace(scalar_nodes), *normals, *rest), entries)


@dataclass(frozen=True)
class _QuadraticForm:
    """A relative logit at x = a + y: constant + linear·y + curvature ‖y‖²."""

    constant: sp.Expr
    linear: Vector
    curvature: sp.Expr

    @classmethod
    def of(cls, mixture: Mixture, component: int, reference: int, x: GaussianVector, surroundings: Surroundings) -> _QuadraticForm:
        logit = sp.expand(mixture.logit(component, x) - mixture.logit(reference, x))
        curvature = logit.coeff(Inner(x, x))
        linear = 2 * curvature * Vector({x.mean: sp.S.One})
        for node in sorted((n for n in logit.atoms(Inner) if x in n.args and n.args != (x, x)), key=sp.default_sort_key):
            linear += Vector({node.args[1] if node.args[0] == x else node.args[0]: logit.coeff(node)})
        if surroundings.large_dimension:
            linear += Vector({RADIAL: curvature})
        constant = sp.expand(substitute_vectors(logit, {x: Vector({x.mean: sp.S.One})}))
        return cls(constant, _in_independent_vectors(linear, surroundings.images), sp.factor(curvature))


def _in_independent_vectors(form: Vector, images: Mapping[VectorSymbol, Vector]) -> Vector:
    total = Vector()
    for symbol, coefficient in form:
        total += coefficient * images[symbol] if symbol in images else Vector({symbol: coefficient})
    return total.map(sp.cancel)


def _without_radial(inner_products: sp.Expr) -> sp.Expr:
    """RADIAL is orthogonal to every vector."""
    return inner_products.xreplace({node: sp.S.Zero for node in inner_products.atoms(Inner) if RADIAL in node.args})


def _squared_length(
    x: GaussianVector, normals: tuple[StandardNormal, ...], surroundings: Surroundings
) -> tuple[sp.Expr, tuple[ChiSquared, ...]]:
    """‖x − a‖²/σ² in the scalars, and the χ² variable in it unless the normals fill the space."""
    along = sp.Add(*(z**2 for z in normals))
    if surroundings.dimension == len(normals) and not x.extra:
        return along, ()
    rest = ChiSquared("c", DIMENSION - len(normals) + x.extra)
    return along + rest, (rest,)


def _standard_normals(count: int) -> tuple[StandardNormal, ...]:
    return (StandardNormal("z"),) if count == 1 else tuple(StandardNormal(f"z_{n + 1}") for n in range(count))


def _independent(forms: list[Vector]) -> list[Vector]:
    """A basis among the forms; where the leading coefficient is a number it is made positive, so that u and −u give the same scalar."""
    symbols = sorted({s for form in forms for s, _ in form}, key=sp.default_sort_key)
    basis: list[Vector] = []
    for form in sorted(forms, key=lambda f: [sp.default_sort_key(f.coefficient(s)) for s in symbols]):
        leading = next((form.coefficient(s) for s in symbols if form.coefficient(s) != 0), sp.S.Zero)
        if leading == 0:
            continue
        oriented = -form if leading.is_negative else form
        rows = sp.Matrix([[f.coefficient(s) for s in symbols] for f in [*basis, oriented]])
        if rows.rank(iszerofunc=lambda e: sp.cancel(e) == 0) == len(basis) + 1:
            basis.append(oriented)
    return basis


def _coordinates(form: Vector, basis: list[Vector]) -> list[sp.Expr]:
    """The coefficients of a form in the basis; a form outside its span is an error."""
    for n, u in enumerate(basis):
        for sign in (1, -1):
            if not len(form - sign * u):
                return [sp.Integer(sign * (m == n)) for m in range(len(basis))]
    symbols = sorted({s for f in [*basis, form] for s, _ in f}, key=sp.default_sort_key)
    if not len(form):
        return [sp.S.Zero] * len(basis)
    columns = sp.Matrix(len(symbols), len(basis), lambda r, c: basis[c].coefficient(symbols[r]))
    wanted = sp.Matrix([form.coefficient(s) for s in symbols])
    solution = (columns.T * columns).LUsolve(columns.T * wanted).applyfunc(sp.cancel)
    if (columns * solution - wanted).applyfunc(sp.cancel) != sp.zeros(len(symbols), 1):
        raise ArithmeticError("a linear form is outside the span of its own basis")
    return list(solution)


def _cholesky(gram: sp.Matrix, prefix: str) -> tuple[sp.Matrix, tuple[tuple[sp.Symbol, sp.Expr], ...]]:
    """The lower triangular factor of a symbolic Gram matrix, its entries by name, and the names' values.

    The root of a single form is written out. SymPy is not asked to prove the matrix positive.
    """
    size = gram.shape[0]
    if size <= 1:
        return gram.applyfunc(lambda e: sp.sqrt(sp.expand(e))), ()
    factor = sp.zeros(size, size)
    entries = []
    for i in range(size):
        for j in range(i + 1):
            remainder = sp.expand(gram[i, j]) - sp.Add(*(factor[i, k] * factor[j, k] for k in range(j)))
            name = sp.Symbol(f"{prefix}_{i + 1}{j + 1}", real=True)
            entries.append((name, CholeskyRoot(remainder, sp.expand(gram[i, i])) if i == j else remainder / factor[j, j]))
            factor[i, j] = name
    return factor, tuple(entries)
