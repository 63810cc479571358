"""The objective: the reverse KL divergence from the proposal to the tempered target, as a functional of the component
means."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp
from sympy.printing.latex import LatexPrinter

from derive.objects.expectation import Expectation
from derive.objects.mixtures import LogDensity, Mixture
from derive.objects.notation import indices_apart
from derive.objects.short_repr import short_repr
from derive.objects.system import BETA
from derive.objects.vectors import GaussianVector, VectorSymbol

POINT = VectorSymbol("x", "x")
LOG_PARTITION = sp.Symbol("log_Z", real=True)


class MixtureExpectation(sp.Expr):
    """E_{x~q}[f(x)] for a mixture q, before it is taken apart into components."""

    is_commutative = True
    is_real = True

    def __new__(cls, integrand: sp.Expr, x: VectorSymbol, mixture: Mixture) -> MixtureExpectation:
        return super().__new__(cls, integrand, x, mixture)

    def _latex(self, printer: LatexPrinter) -> str:
        integrand, x, mixture = self.args
        return (
            rf"\mathbb{{E}}_{{{printer.doprint(x)}\sim "
            rf"{mixture.args[0].name}}}\left[{printer.doprint(integrand)}\right]"
        )


@dataclass(frozen=True)
class Setting:
    """What the derivation starts from.

    proposal: q, whose means move. target: p*. samples: one x_i ~ N(a_i, σ_i² I) per component of q.
    integrand: the function of `POINT` averaged under q. constant: what does not depend on q's parameters.
    manifold: "sphere" or "euclidean". learn: what moves, of "means", "weights" and "scales".
    """

    proposal: Mixture
    target: Mixture
    samples: tuple[GaussianVector, ...]
    integrand: sp.Expr
    constant: sp.Expr = LOG_PARTITION
    manifold: str = "sphere"
    learn: tuple[str, ...] = ("means",)

    __repr__ = short_repr

    @property
    def apart(self) -> bool:
        """Whether the indices in the symbols' names stand apart."""
        return indices_apart(self.proposal.size, self.target.size)

    @property
    def objective(self) -> sp.Expr:
        return MixtureExpectation(self.integrand, POINT, self.proposal) + self.constant


def tempered_reverse_kl(
    proposal: Mixture, target: Mixture, manifold: str = "sphere", learn: tuple[str, ...] = ("means",)
) -> Setting:
    """KL(q ‖ p*^β/Z(β)) = E_q[log q − β log p*] + log Z(β), with the flow's manifold and what it moves."""
    samples = tuple(
        GaussianVector(f"x_{i + 1}", mean, scale)
        for i, (mean, scale) in enumerate(zip(proposal.means, proposal.scales, strict=True))
    )
    integrand = LogDensity(proposal, POINT) - BETA * LogDensity(target, POINT)
    return Setting(proposal, target, samples, integrand, manifold=manifold, learn=learn)


def expand_over_components(setting: Setting) -> sp.Expr:
    """E_q[f] = Σ_i w_i E_{x_i}[f(x_i)]: an average under a mixture is the mixture of averages."""
    averages = (
        weight * Expectation(setting.integrand.xreplace({POINT: x}), x)
        for weight, x in zip(setting.proposal.weights, setting.samples, strict=True)
    )
    return sp.Add(*averages, setting.constant)
