"""The rules for coordinates in the span, where covariances stand, in index notation.

A component's sample moves with its mean and its covariance as x = X + A z with A Aᵀ = Σ. A change dΣ moves it by
½ dΣ Σ⁻¹ (x − X), since I + ½ dΣ Σ⁻¹ takes the covariance Σ to Σ + dΣ at first order. With s = −Λ(x − X), Λ = Σ⁻¹, so

    ∂_{X_n} E[f] = E[∂_n f],    ∇_Σ E[f] = −¼ E[s ∇fᵀ + ∇f sᵀ],    ∂_{X_n} log N = −s_n,    ∇_Σ log N = ½ (s sᵀ − Λ),

with the symmetric gradient ∇_Σ. Stein's lemma, E[s_n f] = −E[∂_n f], makes E[s ∇fᵀ] symmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter

from derive.objects.indices import COORDINATES, Entry, Sum, fresh, multiplied_out, total
from derive.objects.mixtures import PROPOSAL, Average, IndexedMixture, LogDensity, Responsibility, Sample
from derive.objects.spans import SpanDeviation, SpanLogDensity, SpanScore, SpanSlope
from derive.rules.coordinates import of_log_density, over_averages
from derive.rules.gradient_rules import split


def coordinate(mixture: IndexedMixture, j: sp.Expr, n: sp.Expr) -> Entry:
    """X_jn, a coordinate of a component's mean."""
    return Entry(f"X{mixture.star}", j, n)


def covariance(mixture: IndexedMixture, j: sp.Expr, n: sp.Expr, m: sp.Expr) -> Entry:
    """Σ_jnm, an entry of a component's covariance."""
    return Entry(f"Sigma{mixture.star}", j, n, m)


def precision(mixture: IndexedMixture, j: sp.Expr, n: sp.Expr, m: sp.Expr) -> Entry:
    """Λ_jnm, an entry of the inverse of a component's covariance."""
    return Entry(f"Lambda{mixture.star}", j, n, m)


class SpanMeanSlope(sp.Expr):
    """∂functional/∂X_in, unevaluated; a number of the component and of the coordinate counts from 1."""

    is_commutative = True
    is_real = True

    def __new__(cls, functional: sp.Expr, mixture: Any, i: Any, n: Any) -> SpanMeanSlope:
        return super().__new__(cls, functional, mixture, sp.sympify(i, strict=True), sp.sympify(n, strict=True))

    def _latex(self, printer: LatexPrinter) -> str:
        functional, _, i, n = self.args
        return rf"\partial_{{X_{{{i}{n}}}}}\left[{printer.doprint(functional)}\right]"


class CovarianceSlope(sp.Expr):
    """The entry nm of the symmetric gradient of a functional by Σ_i, unevaluated; all numbers count from 1."""

    is_commutative = True
    is_real = True

    def __new__(cls, functional: sp.Expr, mixture: Any, i: Any, n: Any, m: Any) -> CovarianceSlope:
        numbers = (sp.sympify(a, strict=True) for a in (i, n, m))
        return super().__new__(cls, functional, mixture, *numbers)

    def _latex(self, printer: LatexPrinter) -> str:
        functional, _, i, n, m = self.args
        return rf"\left(\nabla_{{\Sigma_{{{i}}}}}\left[{printer.doprint(functional)}\right]\right)_{{{n}{m}}}"


@dataclass(frozen=True)
class CovarianceRate:
    """The rate of Σ_inm in a metric, before the product of matrices is carried out.

    Attributes
    ----------
    metric : {"log", "bures-wasserstein"}
        −4 Σ G Σ, or −2 (Σ G + G Σ), with the symmetric gradient G.
    component, row, column : Index or int
        The component and the entry; numbers count from 1.
    slopes : sympy.Expr or tuple of tuples of sympy.Expr
        G_inm in index notation, or all entries of the component's G.
    covariance : tuple of tuples of sympy.Expr
        All entries of the component's Σ; empty in index notation.
    """

    metric: str
    component: Any
    row: Any
    column: Any
    slopes: Any
    covariance: tuple[tuple[sp.Expr, ...], ...] = ()

    def latex(self) -> str:
        sigma, slope = rf"\Sigma_{{{self.component}}}", rf"\nabla_{{\Sigma_{{{self.component}}}}}\mathcal{{L}}_\beta"
        log = rf"-4\left({sigma}{slope}{sigma}\right)"
        return rf"{log if self.metric == 'log' else BURES.format(sigma, slope)}_{{{self.row}{self.column}}}"


BURES = r"-2\left({0}{1} + {1}{0}\right)"


def span_mean_slope(objective: sp.Expr, i: sp.Expr, n: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """The slope of the objective by X_in: the part through the sample, and that through log q at a fixed sample."""
    return _slope(objective, i, lambda f, x: SpanSlope(f, x, n), lambda score: -score(n))


def covariance_slope(objective: sp.Expr, i: sp.Expr, n: sp.Expr, m: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """The symmetric gradient of the objective by Σ_i: the parts through the sample and through log q."""

    def through(f: sp.Expr, x: Sample) -> sp.Expr:
        own = (SpanScore(PROPOSAL, x.component, x, index) for index in (n, m))
        slopes = (SpanSlope(f, x, index) for index in (m, n))
        return -sp.Add(*(s * slope for s, slope in zip(own, slopes, strict=True))) / 4

    return _slope(objective, i, through, lambda score: (score(n) * score(m) - precision(PROPOSAL, i, n, m)) / 2)


def _slope(
    objective: sp.Expr,
    i: sp.Expr,
    through: Callable[[sp.Expr, Sample], sp.Expr],
    of_log_normal: Callable[[Callable[[sp.Expr], sp.Expr]], sp.Expr],
) -> tuple[sp.Expr, sp.Expr]:
    """The parts of a slope: `through` is f's along the sample, and `of_log_normal` that of log N from its scores."""

    def moves(weight: sp.Expr, average: Average) -> sp.Expr:
        x = average.sample
        same = sp.KroneckerDelta(i, x.component) if x.mixture == PROPOSAL else sp.S.Zero
        return same * weight * Average(through(average.integrand, x), x)

    def inside(weight: sp.Expr, average: Average) -> sp.Expr:
        x, f = average.sample, average.integrand

        def of_logit(logit: sp.Expr) -> sp.Expr:
            (node,) = logit.atoms(SpanLogDensity)
            mixture, j, _ = node.args
            if mixture != PROPOSAL:
                return sp.S.Zero
            return sp.KroneckerDelta(i, j) * of_log_normal(lambda n: SpanScore(mixture, j, x, n))

        logs = sorted(f.atoms(LogDensity), key=sp.default_sort_key)
        return weight * Average(sp.Add(*(f.coeff(log) * of_log_density(log, of_logit) for log in logs)), x)

    return over_averages(objective, moves), over_averages(objective, inside)


def span_scores(expression: sp.Expr) -> sp.Expr:
    """The expression with every ∂_n of a log density carried out: ∂_n log q = Σ_j ρ_j s_jn."""

    def of_log(log: LogDensity, n: sp.Expr) -> sp.Expr:
        mixture, x = log.args
        j = fresh(mixture.size, x, n)
        return Sum(Responsibility(mixture, j, x) * SpanScore(mixture, j, x, n), j)

    def carried_out(node: SpanSlope) -> sp.Expr:
        scalar, _, n = node.args
        logs = sorted(scalar.atoms(LogDensity), key=sp.default_sort_key)
        return sp.Add(*(scalar.coeff(log) * of_log(log, n) for log in logs))

    return expression.replace(lambda e: isinstance(e, SpanSlope), carried_out)


def in_span_deviations(expression: sp.Expr) -> sp.Expr:
    """The expression with s_jn(x) = −Σ_o Λ_jno ((x − X_i)_o + X_io − X_jo) in every average over component i."""

    def in_deviation(node: SpanScore) -> sp.Expr:
        mixture, j, x, n = node.args
        o = fresh(COORDINATES, node)
        apart = coordinate(x.mixture, x.component, o) - coordinate(mixture, j, o)
        away = SpanDeviation(x, o) + (0 if (x.mixture, x.component) == (mixture, j) else apart)
        return -total(precision(mixture, j, n, o) * away, o)

    return split(expression.replace(lambda e: isinstance(e, SpanScore), in_deviation))


def carried_out(rate: CovarianceRate, product: Callable[[sp.Expr, sp.Expr], Entry]) -> sp.Expr:
    """The rate of Σ_inm with G = ½ w_i Λ B, product(n, m) = B_inm = E_i[(x − X_i)_n ∂_m f], where ΣΛ = I."""
    i, n, m = rate.component, rate.row, rate.column
    weight = PROPOSAL.weight(i)
    if rate.metric == "log":
        o = fresh(COORDINATES, n, m)
        return -2 * weight * Sum(product(n, o) * covariance(PROPOSAL, i, o, m), o)
    return multiplied_out(-weight * (product(n, m) + product(m, n)))
