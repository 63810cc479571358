"""The objectives: functionals of the proposal's means, weights and scales.

The study's is the reverse KL divergence KL(q ‖ p*^β/Z) between the proposal q and the tempered target. A geometric path
from a reference Gaussian, and the forward KL divergence KL(p* ‖ q), are variations of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import sympy as sp
from sympy.printing.latex import LatexPrinter

from derive.objects.mixtures import DIMENSION, LogDensity, Mixture
from derive.objects.notation import indices_apart
from derive.objects.short_repr import short_repr
from derive.objects.system import BETA
from derive.objects.vectors import GaussianVector, Inner, SpannedPoint, VectorSymbol

POINT = VectorSymbol("x", "x")
SPANNED_POINT = SpannedPoint("x", "x")
"""The point at which densities are taken where covariances stand in a span."""
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
    under_target : sympy.Expr
        The function of `POINT` that the objective averages under p*; zero for the reverse KL divergence.
    metric : str
        The metric in which learned covariances move, "log" or "bures-wasserstein".
    """

    proposal: Mixture
    target: Mixture
    samples: tuple[GaussianVector, ...]
    integrand: sp.Expr
    constant: sp.Expr = LOG_PARTITION
    manifold: str = "sphere"
    learn: tuple[str, ...] = ("means",)
    under_target: sp.Expr = sp.S.Zero
    metric: str = "log"

    __repr__ = short_repr

    @property
    def point(self) -> VectorSymbol:
        """The point of which the integrands are functions."""
        return SPANNED_POINT if self.spanned else POINT

    @property
    def spanned(self) -> bool:
        """Whether the components have covariances in a span."""
        return bool(self.proposal.span)

    @property
    def coordinates(self) -> int:
        """The number r of coordinates in which covariances stand; 0 where all components are isotropic."""
        return self.proposal.span[0].size if self.spanned else 0

    @property
    def target_samples(self) -> tuple[GaussianVector, ...]:
        """One sample y_k ~ N(ν_k, σ*_k² I) per mode of p*."""
        return _samples("y", self.target)

    @property
    def parameters(self) -> tuple[sp.Symbol, ...]:
        """The objective's own parameters, such as the scale of a reference."""
        found: set[sp.Symbol] = set()
        for f in (self.integrand, self.under_target):
            found |= f.xreplace(dict.fromkeys(f.atoms(LogDensity, Inner), sp.S.One)).free_symbols
        return tuple(sorted(found - {BETA, DIMENSION}, key=lambda s: s.name))

    def averaged(self) -> Iterator[tuple[Mixture, GaussianVector]]:
        """The pairs of a mixture and a sample over which the mixture's responsibilities are averaged."""
        pairs = [(mixture, self.samples) for mixture in (self.proposal, self.target)]
        pairs += [(self.proposal, self.target_samples)] if self.under_target != 0 else []
        return ((mixture, x) for mixture, samples in pairs for x in samples)

    @property
    def apart(self) -> bool:
        """Whether the indices in the symbols' names stand apart, as in M_10_2."""
        return indices_apart(self.proposal.size, self.target.size)

    @property
    def objective(self) -> sp.Expr:
        parts = [(self.integrand, self.proposal), (self.under_target, self.target)]
        return sp.Add(*(MixtureExpectation(f, self.point, mixture) for f, mixture in parts if f != 0), self.constant)


def tempered_reverse_kl(
    proposal: Mixture,
    target: Mixture,
    manifold: str = "sphere",
    learn: tuple[str, ...] = ("means",),
    metric: str = "log",
) -> Setting:
    """The setting of the objective KL(q ‖ p*^β/Z(β)) = E_q[log q − β log p*] + log Z(β).

    The flow moves the parameters `learn`, and the means on the `manifold`; see `Setting`.
    """
    point = SPANNED_POINT if proposal.span else POINT
    integrand = LogDensity(proposal, point) - BETA * LogDensity(target, point)
    return Setting(proposal, target, _samples("x", proposal), integrand, manifold=manifold, learn=learn, metric=metric)


def along_geometric_path(setting: Setting, scale: sp.Expr) -> Setting:
    """The setting with the path q0^{1−β} p*^β in place of p*^β, where q0 = N(0, scale² I)."""
    log_reference = -Inner(POINT, POINT) / (2 * scale**2) - DIMENSION * sp.log(2 * sp.pi * scale**2) / 2
    return replace(setting, integrand=setting.integrand - sp.expand((1 - BETA) * log_reference))


def with_forward_kl(setting: Setting, share: sp.Expr) -> Setting:
    """The setting of (1 − share) times its objective plus share · KL(p* ‖ q), which no temperature enters."""
    return replace(
        setting,
        integrand=sp.expand((1 - share) * setting.integrand),
        constant=(1 - share) * setting.constant,
        under_target=share * LogDensity(setting.target, POINT) - share * LogDensity(setting.proposal, POINT),
    )


def _samples(letter: str, mixture: Mixture) -> tuple[GaussianVector, ...]:
    triples = zip(mixture.means, mixture.scales, mixture.span or [None] * mixture.size, strict=True)
    return tuple(
        GaussianVector(f"{letter}_{n}", mean, scale, span=span) for n, (mean, scale, span) in enumerate(triples, 1)
    )
