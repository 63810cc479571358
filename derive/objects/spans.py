"""Coordinates in the span of the target's modes, in which covariances stand.

Where covariances are given or learned, a point of R^d has r coordinates in the span, and a part outside it, which stays
a vector. A component j is there N(X_j, Σ_j) in the coordinates, times N(a_j, σ_j² I) outside. This module has the nodes
that speak of the coordinates of a point x:

    log N(x; X_j, Σ_j),    its score s_jn(x) = ∂_n log N(x; X_j, Σ_j),    (x − X_i)_n,    ∂_n f(x).

Components and coordinates count from 1 in these nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

if TYPE_CHECKING:
    from derive.objects.mixtures import Mixture


class SpanLaw(sp.Basic):
    """The law N(X, Σ) of a component's coordinates in the span, for given components.

    mean: the r coordinates. covariance: the matrix Σ. precision: its inverse, in symbols of its own unless Σ is
    diagonal. log_determinant: log det Σ. factor: the lower triangular A with A Aᵀ = Σ.
    """

    def __new__(
        cls,
        mean: sp.Tuple,
        covariance: sp.ImmutableMatrix,
        precision: sp.ImmutableMatrix,
        log_determinant: sp.Expr,
        factor: sp.ImmutableMatrix,
    ) -> Self:
        return super().__new__(cls, mean, covariance, precision, log_determinant, factor)

    mean = property(lambda self: self.args[0])
    covariance = property(lambda self: self.args[1])
    precision = property(lambda self: self.args[2])
    log_determinant = property(lambda self: self.args[3])
    factor = property(lambda self: self.args[4])

    @property
    def size(self) -> int:
        """The number r of coordinates."""
        return len(self.args[0])


def is_spanned(x: Any) -> bool:
    """Whether a point has coordinates in a span."""
    return getattr(x, "spanned", False)


class SpanNode(sp.Expr):
    """A scalar that depends on a point's coordinates in the span."""

    is_commutative = True
    is_real = True
    print_rank = 1


class SpanLogDensity(SpanNode):
    """log N(x; X_j, Σ_j) of a mixture's component j at a point's coordinates; given components count from 0 here."""

    def __new__(cls, mixture: Any, j: Any, x: Any) -> Self:
        return super().__new__(cls, mixture, sp.sympify(j, strict=True), x)

    def _latex(self, printer: LatexPrinter) -> str:
        mixture, j, x = self.args
        j, star = _number(mixture, j), _star(mixture)
        return rf"\log N({printer.doprint(x)};X{star}_{{{j}}},\Sigma{star}_{{{j}}})"

    def _sympystr(self, printer: StrPrinter) -> str:
        mixture, j, x = self.args
        return f"log N({x}; component {_number(mixture, j)})"


class SpanScore(SpanNode):
    """s_jn(x) = ∂_n log N(x; X_j, Σ_j) = −Σ_o Λ_jno (x − X_j)_o; given components count from 0 here."""

    def __new__(cls, mixture: Any, j: Any, x: Any, n: Any) -> Self:
        return super().__new__(cls, mixture, sp.sympify(j, strict=True), x, sp.sympify(n, strict=True))

    def _latex(self, printer: LatexPrinter) -> str:
        mixture, j, x, n = self.args
        return rf"s{_star(mixture)}_{{{_number(mixture, j)};{n}}}({printer.doprint(x)})"

    def _sympystr(self, printer: StrPrinter) -> str:
        mixture, j, x, n = self.args
        star = "*" if _star(mixture) else ""
        return f"s{star}_{_number(mixture, j)}_{n}({x})"


class SpanDeviation(SpanNode):
    """(x − X_i)_n, the coordinate n of a sample less that of its own mean."""

    def __new__(cls, x: Any, n: Any) -> Self:
        return super().__new__(cls, x, sp.sympify(n, strict=True))

    def _latex(self, printer: LatexPrinter, exp: str | None = None) -> str:
        x, n = self.args
        body = rf"({printer.doprint(x)} - X_{{{_component(x)}}})_{{{n}}}"
        return body if exp is None else rf"{body}^{{{exp}}}"

    def _sympystr(self, printer: StrPrinter) -> str:
        x, n = self.args
        return f"({x} - X_{_component(x)})_{n}"


class SpanSlope(SpanNode):
    """The unevaluated derivative ∂_n f(x) by a coordinate of the point."""

    def __new__(cls, scalar: sp.Expr, x: Any, n: Any) -> Self:
        return super().__new__(cls, scalar, x, sp.sympify(n, strict=True))

    def _latex(self, printer: LatexPrinter) -> str:
        scalar, _, n = self.args
        return rf"\partial_{{{n}}}\left[{printer.doprint(scalar)}\right]"

    def _sympystr(self, printer: StrPrinter) -> str:
        scalar, _, n = self.args
        return f"d_{n}({printer.doprint(scalar)})"


def _component(x: Any) -> Any:
    """The component of a sample, as an index or a number."""
    return x.component if hasattr(x, "component") else x.mean.name.partition("_")[2]


def _number(mixture: Any, j: sp.Expr) -> sp.Expr:
    return j + int(hasattr(mixture, "span"))


def _star(mixture: Mixture) -> str:
    return r"^{\star}" if "star" in mixture.args[1].name else ""
