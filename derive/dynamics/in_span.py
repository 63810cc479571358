"""The steps of the general derivation for coordinates in the span, where covariances stand.

The mean of component i has the coordinates X_in and a part a_i outside, its covariance the entries Σ_inm. The overlaps
Q_ij are those of whole means. With
f = log q − β log p*, the flow needs the averages

    f_in = E_i[∂_n f],    B_inm = E_i[(x − X_i)_n ∂_m f],

which are sums of moments of single responsibilities.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import sympy as sp

from derive.objects.indices import COORDINATES, FIRST, OTHER, SECOND, Entry, I, Sum, fresh, total
from derive.objects.mixtures import PROPOSAL, Average, Sample
from derive.objects.notation import dotted, tex
from derive.objects.objective import SPANNED_POINT
from derive.objects.spans import SpanDeviation, SpanScore, SpanSlope
from derive.objects.step import Equation, Equations, Step, definitions
from derive.objects.vectors import Inner
from derive.rules.flow import OverlapRate, SpannedDescent
from derive.rules.gradient_rules import inner, slopes_written_out
from derive.rules.spans import (
    CovarianceRate,
    CovarianceSlope,
    SpanMeanSlope,
    carried_out,
    coordinate,
    covariance,
    in_span_deviations,
    precision,
    span_scores,
)

if TYPE_CHECKING:
    from derive.dynamics.general import Recorder

AT_REST: Equations = (Equation("dX_in", dotted(tex(coordinate(PROPOSAL, I, FIRST))), sp.S.Zero, indices=(I, FIRST)),)
"""The rates of the coordinates where the means are not learned."""
JACOBIAN = "dx_j = ½ dΣ_i Σ_i⁻¹ (x_j − X_j) δ_ij"
_X, _SIGMA = coordinate(PROPOSAL, I, FIRST), covariance(PROPOSAL, I, FIRST, SECOND)
_MEAN, _PRODUCT = Entry("f", I, FIRST), Entry("B", I, FIRST, SECOND)
_NORMAL = Entry("mu", I)


def whole_mean_slope(objective: sp.Expr) -> Equation:
    """∂𝓛/∂X_in, unevaluated."""
    slope = SpanMeanSlope(objective, PROPOSAL, I, FIRST)
    return Equation("gradient_in", rf"\partial_{{{tex(_X)}}}\mathcal{{L}}_\beta", slope, indices=_X.indices)


def whole_covariance_slope(objective: sp.Expr) -> Equation:
    """An entry of the symmetric gradient of 𝓛 by Σ_i, unevaluated."""
    slope = CovarianceSlope(objective, PROPOSAL, I, FIRST, SECOND)
    left = r"(\nabla_{\Sigma_{i}}\mathcal{L}_\beta)_{nm}"
    return Equation("slope_Sigma_inm", left, slope, indices=(I, FIRST, SECOND))


def moment_steps(record: Recorder, integrand: sp.Expr) -> None:
    """The slopes in X and Σ by the averages f_in and B_inm, and these in moments of single responsibilities."""
    x = Sample(PROPOSAL, I, spanned=True)
    f = integrand.xreplace({SPANNED_POINT: x})
    slope = {n: span_scores(SpanSlope(f, x, n)) for n in (FIRST, SECOND)}
    weight, labels = PROPOSAL.weight(I), {e.label for e in record.current}

    def with_values(values: dict[str, sp.Expr]) -> Equations:
        return tuple(replace(e, value=values.get(e.label, e.value)) for e in record.current)

    if "slope_Sigma_inm" in labels:
        own = SpanScore(PROPOSAL, I, x, FIRST)
        record.record(
            "Stein's lemma with matrices",
            "E_i[s_in f] = −E_i[∂_n f] for the score s_i of component i's own density, so E_i[s_in ∂_m f] = "
            "−E_i[∂_n ∂_m f] is symmetric.",
            with_values({"slope_Sigma_inm": -weight * Average(own * slope[SECOND], x) / 2}),
        )
    o = fresh(COORDINATES, FIRST, SECOND)
    values, named = {}, []
    if "gradient_in" in labels:
        values["gradient_in"] = weight * _MEAN
        value = in_span_deviations(Average(slope[FIRST], x))
        named.append(Equation("f_in", tex(_MEAN), value, _MEAN, indices=_MEAN.indices))
    if "slope_Sigma_inm" in labels:
        product = Entry("B", I, o, SECOND)
        values["slope_Sigma_inm"] = weight * Sum(precision(PROPOSAL, I, FIRST, o) * product, o) / 2
        value = in_span_deviations(Average(SpanDeviation(x, FIRST) * slope[SECOND], x))
        named.append(Equation("B_inm", tex(_PRODUCT), value, _PRODUCT, indices=_PRODUCT.indices))
    record.record(
        "moments in the span",
        "f_in = E_i[∂_n f] and B_inm = E_i[(x − X_i)_n ∂_m f], with s_jn(x) = −∑_o Λ_jno (x − X_j)_o and x = X_i + "
        "(x − X_i).",
        (*with_values(values), *named),
    )


def velocities(record: Recorder, manifold: str) -> tuple[Equations, Equations]:
    """The velocity outside the span, and the rates of the coordinates with what they use."""
    a, n = PROPOSAL.mean(I), FIRST
    outside, within = record.value("gradient_i"), record.value("gradient_in")
    used = definitions(record.current)
    descents = (
        Equation("velocity_i", dotted(tex(a)), SpannedDescent(outside, within, I, None, manifold), indices=(I,)),
        Equation("dX_in", dotted(tex(_X)), SpannedDescent(outside, within, I, n, manifold), indices=(I, n)),
    )
    normal: Equations = ()
    velocity, rate = -slopes_written_out(outside), -within
    if manifold == "sphere":
        o = fresh(COORDINATES, n)
        along = Sum(within.xreplace({n: o}) * coordinate(PROPOSAL, I, o), o) + inner(-velocity, a)
        squared = Inner(a, a) + Sum(coordinate(PROPOSAL, I, o) ** 2, o)
        normal = (Equation("mu_i", tex(_NORMAL), along / squared, _NORMAL, indices=(I,)),)
        velocity, rate = velocity + _NORMAL * a, rate + _NORMAL * _X
    moved = (replace(descents[0], value=velocity), replace(descents[1], value=rate))
    record.steps.append(
        Step(
            "projected flow" if manifold == "sphere" else "gradient flow",
            "Each mean follows minus its gradient"
            + (", projected on the tangent space of its sphere: μ_i a_i is the normal part." if normal else "."),
            (*descents, *used),
            (*moved, *normal, *used),
        )
    )
    return (moved[0],), (moved[1], *normal)


def overlap_rate(velocity: sp.Expr, of_coordinates: Equations) -> Equation:
    """d(a_i·a_n)/dt of two whole means before the product rule."""
    name, other = Entry("Q", I, OTHER), PROPOSAL.mean(OTHER)
    rate = OverlapRate(Inner(PROPOSAL.mean(I), other), velocity, of_coordinates[0].value)
    return Equation("dQ_in", dotted(tex(name)), rate, indices=(I, OTHER))


def inner_within(of_coordinates: Equations) -> sp.Expr:
    """Σ_o Ẋ_io X_no, what the coordinates add to the inner product of a velocity with a mean."""
    o = fresh(COORDINATES)
    return total(of_coordinates[0].value.xreplace({FIRST: o}) * coordinate(PROPOSAL, OTHER, o), o)


def covariance_rates(record: Recorder, metric: str) -> Equations:
    """The rate of Σ_inm, where covariances are learned."""
    if not any(e.label == "slope_Sigma_inm" for e in record.current):
        return ()
    named = tuple(e for e in definitions(record.current) if e.label == "B_inm")
    rate = CovarianceRate(metric, I, FIRST, SECOND, record.value("slope_Sigma_inm"))
    unevaluated = Equation("dSigma_inm", dotted(tex(_SIGMA)), rate, indices=(I, FIRST, SECOND))
    value = carried_out(rate, lambda n, m: Entry("B", I, n, m))
    done = replace(unevaluated, value=value)
    statement = {
        "log": "dΣ_i/dt = −4 Σ_i G_i Σ_i with the symmetric gradient G_i = ½ w_i Λ_i B_i, and Σ_i Λ_i = 1.",
        "bures-wasserstein": "dΣ_i/dt = −2 (Σ_i G_i + G_i Σ_i) with G_i = ½ w_i Λ_i B_i = ½ w_i B_iᵀ Λ_i.",
    }
    record.steps.append(Step("flow of the covariances", statement[metric], (unevaluated, *named), (done, *named)))
    return (done,)
