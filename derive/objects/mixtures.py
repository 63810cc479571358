"""Gaussian mixtures: the log density, the responsibilities, and the gradients of both.

The responsibility of component j at x is the posterior probability that x came from component j: ρ_j(x) = w_j N_j(x) /
Σ_l w_l N_l(x). Both gradients follow by differentiating log Σ exp and the softmax of the logits; neither is entered by
hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from derive.objects.indices import COMPONENTS, COORDINATES, MODES, Entry, VectorEntry
from derive.objects.spans import SpanLaw, SpanLogDensity, is_spanned
from derive.objects.vectors import Inner, VectorSymbol

DIMENSION = sp.Symbol("d", positive=True, integer=True)


def dimension_outside(x: Any) -> sp.Expr:
    """The dimension of the space in which the vector part of a point lies: d − r for a point with r coordinates."""
    return DIMENSION - COORDINATES if is_spanned(x) else DIMENSION


class _Components(sp.Basic):
    """What a mixture of given components and one in index notation share: the law of a component."""

    def component(self, j: Any) -> tuple[sp.Expr, Any, sp.Expr]:
        """The weight, the mean and the scale of one component."""
        raise NotImplementedError

    def logit(self, j: Any, x: Any) -> sp.Expr:
        """log(w_j N(x; a_j, σ_j² I)), written in inner products.

        At a point with coordinates in a span, the inner products are those outside the span, and the density within it
        is a node of its own.
        """
        weight, mean, scale = self.component(j)
        squared_distance = Inner(x, x) - 2 * Inner(x, mean) + Inner(mean, mean)
        dimension = dimension_outside(x)
        return (
            sp.log(weight)
            - squared_distance / (2 * scale**2)
            - dimension * sp.log(scale)
            - dimension * sp.log(2 * sp.pi) / 2
            + (SpanLogDensity(self, j, x) if is_spanned(x) else 0)
        )


class Mixture(_Components):
    """The mixture Σ_j weights[j] N(x; means[j], scales[j]² I_d) of given components.

    name: LaTeX of the density. posterior: LaTeX of the responsibilities. span: the laws of the components within the
    span, where covariances stand there; means and scales are then those outside.
    """

    def __new__(
        cls,
        name: sp.Symbol,
        posterior: sp.Symbol,
        weights: sp.Tuple,
        means: sp.Tuple,
        scales: sp.Tuple,
        span: Sequence[SpanLaw] = (),
    ) -> Mixture:
        if not len(weights) == len(means) == len(scales) >= 1:
            raise ValueError("a mixture needs one weight, one mean and one scale per component")
        parts = (sp.Tuple(*part) for part in (weights, means, scales, span))
        return super().__new__(cls, name, posterior, *parts)

    @property
    def weights(self) -> sp.Tuple:
        return self.args[2]

    @property
    def means(self) -> sp.Tuple:
        return self.args[3]

    @property
    def scales(self) -> sp.Tuple:
        return self.args[4]

    @property
    def span(self) -> tuple[SpanLaw, ...]:
        return tuple(self.args[5])

    @property
    def size(self) -> int:
        return len(self.weights)

    def component(self, j: int) -> tuple[sp.Expr, VectorSymbol, sp.Expr]:
        return self.weights[j], self.means[j], self.scales[j]


class IndexedMixture(_Components):
    """The mixture Σ_j w_j N(x; a_j, σ_j² I_d) of a symbolic number of components, in index notation.

    name, posterior: as in `Mixture`. mean: the letter of the means. star: "_star" for the target, else "". size: the
    number of components.
    """

    def __new__(
        cls, name: sp.Symbol, posterior: sp.Symbol, mean: sp.Symbol, star: sp.Symbol, size: sp.Symbol
    ) -> IndexedMixture:
        return super().__new__(cls, name, posterior, mean, star, size)

    @property
    def star(self) -> str:
        return self.args[3].name

    @property
    def size(self) -> sp.Symbol:
        return self.args[4]

    @property
    def free_symbols(self) -> set[sp.Symbol]:
        """The number of components; what else the mixture is made of are names."""
        return {self.size}

    def weight(self, j: sp.Expr) -> Entry:
        return Entry(f"w{self.star}", j)

    def mean(self, j: sp.Expr) -> VectorEntry:
        return VectorEntry(self.args[2], j)

    def scale(self, j: sp.Expr) -> Entry:
        return Entry(f"sigma{self.star}", j)

    def component(self, j: sp.Expr) -> tuple[sp.Expr, VectorEntry, sp.Expr]:
        return self.weight(j), self.mean(j), self.scale(j)

    def _latex(self, printer: LatexPrinter) -> str:
        return self.args[0].name


PROPOSAL = IndexedMixture(sp.Symbol("q"), sp.Symbol(r"\rho"), sp.Symbol("a"), sp.Symbol(""), COMPONENTS)
TARGET = IndexedMixture(sp.Symbol(r"p^{\star}"), sp.Symbol(r"\rho^{\star}"), sp.Symbol("nu"), sp.Symbol("_star"), MODES)


class Sample(sp.Expr):
    """A sample of one component of a mixture in index notation, x_i ~ N(a_i, σ_i² I) in d + `extra` dimensions."""

    is_commutative = True
    print_rank = 3

    def __new__(cls, mixture: IndexedMixture, index: sp.Expr, extra: int = 0, spanned: bool = False) -> Sample:
        index = sp.sympify(index, strict=True)
        return super().__new__(cls, mixture, index, sp.Integer(extra), sp.Integer(spanned))

    @property
    def mixture(self) -> IndexedMixture:
        return self.args[0]

    @property
    def component(self) -> sp.Expr:
        return self.args[1]

    @property
    def extra(self) -> int:
        return int(self.args[2])

    @property
    def spanned(self) -> bool:
        """Whether the sample has coordinates in a span; the vector is then its part outside."""
        return bool(self.args[3])

    @property
    def mean(self) -> VectorEntry:
        return self.mixture.mean(self.component)

    @property
    def scale(self) -> Entry:
        return self.mixture.scale(self.component)

    def lifted(self) -> Sample:
        """A sample with the same law in two dimensions more."""
        return Sample(self.mixture, self.component, self.extra + 2, self.spanned)

    def of_component(self, index: sp.Expr) -> Sample:
        """A sample of another component of the same mixture."""
        return Sample(self.mixture, index, self.extra, self.spanned)

    def plain(self) -> Sample:
        """A sample of the same component without further dimensions."""
        return Sample(self.mixture, self.component, spanned=self.spanned)

    def _latex(self, printer: LatexPrinter) -> str:
        letter = "y" if self.mixture.star else "x"
        return rf"{letter}_{{{self.component}}}" + (r"^{+}" if self.extra else "")

    def _sympystr(self, printer: StrPrinter) -> str:
        letter = "y" if self.mixture.star else "x"
        return f"{letter}_{self.component}" + ("+" if self.extra else "")


class Deviation(sp.Expr):
    """x − a, the deviation of a sample from its mean: a vector atom."""

    is_commutative = True
    print_rank = 3

    def __new__(cls, x: Sample) -> Deviation:
        return super().__new__(cls, x)

    def _latex(self, printer: LatexPrinter) -> str:
        (x,) = self.args
        return rf"({printer.doprint(x)} - {printer.doprint(x.mean)})"

    def _sympystr(self, printer: StrPrinter) -> str:
        (x,) = self.args
        return f"({x} - {x.mean})"


class Average(sp.Expr):
    """E_x[f(x)] over a sample in index notation, for a scalar or a vector f.

    What does not depend on x stands before the average. Sums stay together; only a rule of the derivation splits a sum.
    """

    is_commutative = True
    print_rank = 2

    def __new__(cls, integrand: sp.Expr, x: Sample) -> sp.Expr:
        constant, rest = integrand.as_independent(x, as_Add=False)
        return constant if rest == 1 else constant * super().__new__(cls, rest, x)

    @property
    def integrand(self) -> sp.Expr:
        return self.args[0]

    @property
    def sample(self) -> Sample:
        return self.args[1]

    def _latex(self, printer: LatexPrinter) -> str:
        return rf"\mathbb{{E}}_{{{self.sample.component}}}\left[{printer.doprint(self.integrand)}\right]"

    def _sympystr(self, printer: StrPrinter) -> str:
        return f"E_{self.sample}[{printer.doprint(self.integrand)}]"


class LogDensity(sp.Expr):
    """The logarithm of a mixture's density at x."""

    is_commutative = True
    is_real = True

    def __new__(cls, mixture: Mixture | IndexedMixture, x: Any) -> LogDensity:
        return super().__new__(cls, mixture, x)

    def _latex(self, printer: LatexPrinter) -> str:
        mixture, x = self.args
        return rf"\log {mixture.args[0].name}({printer.doprint(x)})"

    def _sympystr(self, printer: sp.printing.str.StrPrinter) -> str:
        mixture, x = self.args
        return f"log {_plain(mixture.args[0].name)}({x})"


class Responsibility(sp.Expr):
    """ρ_j(x), the softmax of the mixture's logits at x.

    The components of a `Mixture` count from 0, those of an `IndexedMixture` from 1.
    """

    is_commutative = True
    is_real = True
    is_positive = True

    def __new__(cls, mixture: Mixture | IndexedMixture, j: Any, x: Any) -> sp.Expr:
        if mixture.size == 1:
            return sp.S.One
        return super().__new__(cls, mixture, sp.sympify(j, strict=True), x)

    @property
    def mixture(self) -> Any:
        return self.args[0]

    @property
    def component(self) -> Any:
        return int(self.args[1]) if self.args[1].is_Integer else self.args[1]

    @property
    def point(self) -> Any:
        return self.args[2]

    def _number(self) -> sp.Expr:
        return self.args[1] + int(isinstance(self.mixture, Mixture))

    def _latex(self, printer: LatexPrinter, exp: str | None = None) -> str:
        body = rf"{self.mixture.args[1].name}_{{{self._number()}}}({printer.doprint(self.point)})"
        return body if exp is None else rf"{body}^{{{exp}}}"

    def _sympystr(self, printer: StrPrinter) -> str:
        return f"{_plain(self.mixture.args[1].name)}_{self._number()}({self.point})"


def _plain(tex: str) -> str:
    return tex.replace(r"^{\star}", "*").replace("\\", "")


@cache
def require_softmax_calculus() -> None:
    """Check by differentiating that ∂ log Σ exp/∂ℓ_j = ρ_j and ∂ρ_j/∂ℓ_l = ρ_j (δ_jl − ρ_l).

    For a derivative along one or two logits the exponentials of all other logits are one constant, whatever their
    number. Raises ArithmeticError if an identity does not hold.
    """
    own, other, others = (
        sp.Symbol("logit_j", real=True),
        sp.Symbol("logit_l", real=True),
        sp.Symbol("rest", nonnegative=True),
    )
    partition = sp.exp(own) + sp.exp(other) + others
    share, share_of_other = sp.exp(own) / partition, sp.exp(other) / partition
    if sp.cancel(sp.diff(sp.log(partition), own) - share) != 0:
        raise ArithmeticError("the derivative of log Σ exp is not the softmax")
    if (
        sp.cancel(sp.diff(share, own) - share * (1 - share)) != 0
        or sp.cancel(sp.diff(share, other) + share * share_of_other) != 0
    ):
        raise ArithmeticError("the softmax does not differentiate to ρ_j (δ_jl − ρ_l)")
