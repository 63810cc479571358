"""Abstract vectors of R^d and their inner products.

A `VectorSymbol` stands for a vector whose coordinates are never written. A scalar contains vectors only in `Inner`
products, or in nodes such as a log density. A `Vector` is a linear combination of vector atoms with scalar
coefficients. Nothing in this module depends on the dimension d.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter

from derive.objects.notation import tex
from derive.objects.spans import SpanLaw


class VectorSymbol(sp.Symbol):
    """An abstract vector. Its LaTeX is declared where the symbol is made."""

    tex: str

    def __new__(cls, name: str, tex: str | None = None) -> VectorSymbol:
        symbol = sp.Symbol.__xnew__(cls, name, real=True)
        symbol.tex = tex or name
        return symbol

    def __getnewargs_ex__(self) -> tuple:
        return (self.name, self.tex), {}

    def _latex(self, printer: LatexPrinter) -> str:
        return self.tex


class SpannedPoint(VectorSymbol):
    """A point with coordinates in a span; the vector is its part outside the span."""

    spanned = True


class GaussianVector(VectorSymbol):
    """A random vector with the law N(mean, scale² I) in d + `extra` dimensions.

    The extra coordinates lie outside the space of the means. With a law `span` of coordinates in a span, the vector is
    the part outside the span.
    """

    mean: VectorSymbol
    scale: sp.Expr
    extra: int
    span: Any  # SpanLaw, or None

    def __new__(
        cls,
        name: str,
        mean: VectorSymbol,
        scale: sp.Expr,
        tex: str | None = None,
        extra: int = 0,
        span: SpanLaw | None = None,
    ) -> GaussianVector:
        symbol = super().__new__(cls, name, tex)
        symbol.mean, symbol.scale, symbol.extra = mean, sp.sympify(scale, strict=True), extra
        symbol.span = span
        return symbol

    @property
    def spanned(self) -> bool:
        return self.span is not None

    def lifted(self) -> GaussianVector:
        """A vector with the same law in two dimensions more."""
        name, tex = f"{self.name}_plus", f"{self.tex}^{{+}}"
        return GaussianVector(name, self.mean, self.scale, tex, self.extra + 2, self.span)

    def __getnewargs_ex__(self) -> tuple:
        return (self.name, self.mean, self.scale, self.tex, self.extra, self.span), {}

    def _hashable_content(self) -> tuple:
        span = sp.Tuple() if self.span is None else self.span  # SymPy orders these by comparison, which None has not
        return (*super()._hashable_content(), self.mean, self.scale, self.extra, span)


class SquaredDeviation(sp.Expr):
    """‖x − a‖²/σ² of a Gaussian vector x ~ N(a, σ² I)."""

    is_commutative = True
    is_real = True
    is_nonnegative = True

    def __new__(cls, x: Any) -> SquaredDeviation:
        return super().__new__(cls, x)

    def _latex(self, printer: LatexPrinter, exp: str | None = None) -> str:
        x = self.args[0]
        body = rf"\|{printer.doprint(x)} - {printer.doprint(x.mean)}\|^2"
        if x.scale != 1:
            body = rf"\frac{{{body}}}{{{tex(x.scale**2)}}}"
        return body if exp is None else rf"\left({body}\right)^{{{exp}}}"

    def _sympystr(self, printer: sp.printing.str.StrPrinter) -> str:
        x = self.args[0]
        return f"|{x}-{x.mean}|^2" + ("" if x.scale == 1 else f"/{printer.parenthesize(x.scale, 51)}^2")


class RadialSlope(sp.Expr):
    """(x − a)·∇_x f for x ~ N(a, σ² I), the derivative of f along log σ at fixed noise."""

    is_commutative = True
    is_real = True

    def __new__(cls, scalar: sp.Expr, x: Any) -> RadialSlope:
        return super().__new__(cls, scalar, x)

    def _latex(self, printer: LatexPrinter) -> str:
        scalar, x = self.args
        name = printer.doprint(x)
        return (
            rf"\langle {name} - {printer.doprint(x.mean)}, "
            rf"\nabla_{{{name}}}\left[{printer.doprint(scalar)}\right]\rangle"
        )

    def _sympystr(self, printer: sp.printing.str.StrPrinter) -> str:
        scalar, x = self.args
        return f"<{x}-{x.mean}, grad_{x}({printer.doprint(scalar)})>"


class Inner(sp.Expr):
    """The inner product u·v of two vector atoms, stored in one order because it is symmetric."""

    is_commutative = True
    is_real = True

    def __new__(cls, u: sp.Basic, v: sp.Basic) -> Inner:
        first, second = sorted((u, v), key=sp.default_sort_key)
        return super().__new__(cls, first, second)

    def _latex(self, printer: LatexPrinter, exp: str | None = None) -> str:
        first, second = (printer.doprint(a) for a in self.args)
        body = rf"\|{first}\|^2" if first == second else rf"\langle {first}, {second}\rangle"
        return body if exp is None else rf"{body}^{{{exp}}}" if first != second else rf"\|{first}\|^{{2\cdot {exp}}}"

    def _sympystr(self, printer: sp.printing.str.StrPrinter) -> str:
        first, second = (printer.doprint(a) for a in self.args)
        return f"<{first},{second}>"


class Gradient(sp.Expr):
    """The unevaluated gradient of a scalar with respect to a vector: a vector atom."""

    is_commutative = True

    def __new__(cls, scalar: sp.Expr, v: sp.Basic) -> Gradient:
        return super().__new__(cls, scalar, v)

    def _latex(self, printer: LatexPrinter) -> str:
        scalar, v = self.args
        return rf"\nabla_{{{printer.doprint(v)}}}\left[{printer.doprint(scalar)}\right]"

    def _sympystr(self, printer: sp.printing.str.StrPrinter) -> str:
        scalar, v = (printer.doprint(a) for a in self.args)
        return f"grad_{v}({scalar})"


class ExpectedVector(sp.Basic):
    """E_x[f(x) u] for a scalar f and a vector atom u that depends on the Gaussian vector x: a vector atom."""

    def __new__(cls, factor: sp.Expr, atom: sp.Basic, x: GaussianVector) -> ExpectedVector:
        return super().__new__(cls, factor, atom, x)

    def _latex(self, printer: LatexPrinter) -> str:
        factor, atom, x = self.args
        weight = "" if factor == 1 else printer.parenthesize(factor, 51) + r"\,"
        return rf"\mathbb{{E}}_{{{printer.doprint(x)}}}\left[{weight}{printer.doprint(atom)}\right]"

    def _sympystr(self, printer: sp.printing.str.StrPrinter) -> str:
        factor, atom, x = self.args
        weight = "" if factor == 1 else f"({printer.doprint(factor)})*"
        return f"E_{x.name}[{weight}{printer.doprint(atom)}]"


class Vector:
    """An immutable linear combination of vector atoms with scalar coefficients.

    A vector atom is a `VectorSymbol`, a `Gradient` or an `ExpectedVector`.
    """

    __slots__ = ("_terms",)

    def __init__(self, terms: Mapping[sp.Basic, sp.Expr] | None = None) -> None:
        kept = {atom: sp.sympify(c, strict=True) for atom, c in (terms or {}).items() if c != 0}
        self._terms = dict(sorted(kept.items(), key=lambda item: sp.default_sort_key(item[0])))

    def __iter__(self) -> Iterator[tuple[sp.Basic, sp.Expr]]:
        return iter(self._terms.items())

    def __len__(self) -> int:
        return len(self._terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vector) and self._terms == other._terms

    def __hash__(self) -> int:
        return hash(tuple(self._terms.items()))

    def coefficient(self, atom: sp.Basic) -> sp.Expr:
        return self._terms.get(atom, sp.S.Zero)

    def __add__(self, other: Vector) -> Vector:
        total = dict(self._terms)
        for atom, coefficient in other:
            total[atom] = total.get(atom, sp.S.Zero) + coefficient
        return Vector(total)

    def __mul__(self, scalar: sp.Expr) -> Vector:
        return self.map(lambda c: scalar * c)

    __rmul__ = __mul__

    def __neg__(self) -> Vector:
        return self * sp.S.NegativeOne

    def __sub__(self, other: Vector) -> Vector:
        return self + (-other)

    def map(self, function: Callable[[sp.Expr], sp.Expr]) -> Vector:
        """The vector with `function` applied to each coefficient."""
        return Vector({atom: function(c) for atom, c in self})

    def dot(self, other: Vector) -> sp.Expr:
        """The inner product by bilinearity; both vectors must be combinations of vector symbols."""
        return sp.Add(*(a * b * Inner(u, v) for u, a in self for v, b in other))

    def latex(self) -> str:
        return " ".join(self.latex_terms())

    def latex_terms(self) -> list[str]:
        """LaTeX of each term with its sign."""
        if not self._terms:
            return ["0"]
        pieces: list[str] = []
        for atom, coefficient in self:
            unit = sp.Dummy("unit", commutative=True)
            body = tex(coefficient * unit, {unit: tex(atom)})
            pieces.append(body if body.startswith("-") or not pieces else "+ " + body)
        return pieces

    def __repr__(self) -> str:
        return " + ".join(f"({c})*{a}" if c.is_Add else f"{c}*{a}" for a, c in self) or "0"


def substitute_vectors(scalar: sp.Expr, replacements: Mapping[VectorSymbol, Vector]) -> sp.Expr:
    """Replace vector symbols inside every inner product by vectors, expanding by bilinearity."""

    def replaced(symbol: sp.Basic) -> Vector:
        return replacements.get(symbol, Vector({symbol: sp.S.One}))

    return scalar.replace(lambda e: isinstance(e, Inner), lambda e: replaced(e.args[0]).dot(replaced(e.args[1])))
