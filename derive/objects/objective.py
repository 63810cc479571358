"""The objective: the reverse KL divergence KL(q ‖ p*^β/Z) between the proposal q and the tempered target.

The objective is a functional of the proposal's means, weights and scales.
"""

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
    """E_{x~q}[f(x)] for a mixture q, before the average is split over the mixture's components."""

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
    """The derivation's starting point: two mixtures, the objective and the flow.

    Attributes
    ----------
    proposal : Mixture
        The proposal q, whose parameters move.
    target : Mixture
        The target p*.
    samples : tuple of GaussianVector
        One sample x_i ~ N(a_i, σ_i² I) per component of q.
    integrand : sympy.Expr
        The function of `POINT` that the objective averages under q.
    constant : sympy.Expr
        The objective's part that does not depend on q.
    manifold : str
        "sphere" keeps the length of each mean, "euclidean" lets it evolve.
    learn : tuple of str
        What moves: some of "means", "weights" and "scales".
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
        """Whether the indices in the symbols' names stand apart, as in M_10_2."""
        return indices_apart(self.proposal.size, self.target.size)

    @property
    def objective(self) -> sp.Expr:
        return MixtureExpectation(self.integrand, POINT, self.proposal) + self.constant


def tempered_reverse_kl(
    proposal: Mixture, target: Mixture, manifold: str = "sphere", learn: tuple[str, ...] = ("means",)
) -> Setting:
    """The setting of the objective KL(q ‖ p*^β/Z(β)) = E_q[log q − β log p*] + log Z(β).

    The flow moves the parameters `learn`, and the means on the `manifold`; see `Setting`.
    """
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
