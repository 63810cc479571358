"""Gaussian mixtures: the log density, the responsibilities, and the gradients of both.

The responsibility of component j at x is the posterior probability that x came from component j: ρ_j(x) = w_j N_j(x) /
Σ_l w_l N_l(x). Both gradients follow by differentiating log Σ exp and the softmax of the logits; neither is entered by
hand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import sympy as sp
from sympy.printing.latex import LatexPrinter

from derive.objects.vectors import Inner, Vector, VectorSymbol, gradient

DIMENSION = sp.Symbol("d", positive=True, integer=True)


class Mixture(sp.Basic):
    """The mixture Σ_j weights[j] N(x; means[j], scales[j]² I_d).

    name: LaTeX of the density. posterior: LaTeX of the responsibilities.
    """

    def __new__(
        cls, name: sp.Symbol, posterior: sp.Symbol, weights: sp.Tuple, means: sp.Tuple, scales: sp.Tuple
    ) -> Mixture:
        if not len(weights) == len(means) == len(scales) >= 1:
            raise ValueError("a mixture needs one weight, one mean and one scale per component")
        return super().__new__(cls, name, posterior, sp.Tuple(*weights), sp.Tuple(*means), sp.Tuple(*scales))

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
    def size(self) -> int:
        return len(self.weights)

    def logit(self, j: int, x: VectorSymbol) -> sp.Expr:
        """log(w_j N(x; a_j, σ_j² I)), written in inner products."""
        weight, mean, scale = self.weights[j], self.means[j], self.scales[j]
        squared_distance = Inner(x, x) - 2 * Inner(x, mean) + Inner(mean, mean)
        return (
            sp.log(weight)
            - squared_distance / (2 * scale**2)
            - DIMENSION * sp.log(scale)
            - DIMENSION * sp.log(2 * sp.pi) / 2
        )


class LogDensity(sp.Expr):
    """The logarithm of a mixture's density at x."""

    is_commutative = True
    is_real = True

    def __new__(cls, mixture: Mixture, x: VectorSymbol) -> LogDensity:
        return super().__new__(cls, mixture, x)

    def vector_gradient(self, v: VectorSymbol) -> Vector:
        """Σ_j ∂log q/∂logit_j ∇_v logit_j, where the partial derivatives are the responsibilities."""
        mixture, x = self.args
        _require_softmax_calculus()
        total = Vector()
        for j in range(mixture.size):
            total += Responsibility(mixture, j, x) * gradient(mixture.logit(j, x), v)
        return total

    def parameter_derivative(self, derivative: Callable[[sp.Expr], sp.Expr]) -> sp.Expr:
        """Σ_j ρ_j ∂logit_j, the derivative by a parameter of the mixture; `derivative` differentiates one logit."""
        mixture, x = self.args
        _require_softmax_calculus()
        return sp.Add(*(Responsibility(mixture, j, x) * derivative(mixture.logit(j, x)) for j in range(mixture.size)))

    def _latex(self, printer: LatexPrinter) -> str:
        mixture, x = self.args
        return rf"\log {mixture.args[0].name}({printer.doprint(x)})"

    def _sympystr(self, printer: sp.printing.str.StrPrinter) -> str:
        mixture, x = self.args
        return f"log {_plain(mixture.args[0].name)}({x})"


class Responsibility(sp.Expr):
    """ρ_j(x), the softmax of the mixture's logits at x."""

    is_commutative = True
    is_real = True
    is_positive = True

    def __new__(cls, mixture: Mixture, j: int, x: VectorSymbol) -> sp.Expr:
        if mixture.size == 1:
            return sp.S.One
        return super().__new__(cls, mixture, sp.Integer(j), x)

    @property
    def mixture(self) -> Mixture:
        return self.args[0]

    @property
    def component(self) -> int:
        return int(self.args[1])

    @property
    def point(self) -> VectorSymbol:
        return self.args[2]

    def relative_logits(self) -> tuple[sp.Expr, ...]:
        """logit_l − logit_j for every l ≠ j; terms that all components share cancel."""
        own = self.mixture.logit(self.component, self.point)
        others = (l for l in range(self.mixture.size) if l != self.component)
        return tuple(sp.expand(self.mixture.logit(l, self.point) - own) for l in others)

    def vector_gradient(self, v: VectorSymbol) -> Vector:
        """Σ_l ∂ρ_j/∂logit_l ∇_v logit_l, where differentiating the softmax gives ρ_j (δ_jl − ρ_l)."""
        mixture, j, x = self.mixture, self.component, self.point
        _require_softmax_calculus()
        total = Vector()
        for l in range(mixture.size):
            kronecker = sp.Integer(int(j == l))
            total += self * (kronecker - Responsibility(mixture, l, x)) * gradient(mixture.logit(l, x), v)
        return total

    def _latex(self, printer: LatexPrinter, exp: str | None = None) -> str:
        body = rf"{self.mixture.args[1].name}_{{{self.component + 1}}}({printer.doprint(self.point)})"
        return body if exp is None else rf"{body}^{{{exp}}}"

    def _sympystr(self, printer: sp.printing.str.StrPrinter) -> str:
        return f"{_plain(self.mixture.args[1].name)}_{self.component + 1}({self.point})"


def _plain(tex: str) -> str:
    return tex.replace(r"^{\star}", "*").replace("\\", "")


@cache
def _require_softmax_calculus() -> None:
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
    if sp.simplify(sp.diff(sp.log(partition), own) - share) != 0:
        raise ArithmeticError("the derivative of log Σ exp is not the softmax")
    if (
        sp.simplify(sp.diff(share, own) - share * (1 - share)) != 0
        or sp.simplify(sp.diff(share, other) + share * share_of_other) != 0
    ):
        raise ArithmeticError("the softmax does not differentiate to ρ_j (δ_jl − ρ_l)")
