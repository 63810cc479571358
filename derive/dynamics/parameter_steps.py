"""The steps for learned weights and scales, from the objective to its slopes along softmax logits and log scales."""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from derive.objects.mixtures import Mixture
from derive.objects.objective import Setting, expand_over_components
from derive.objects.step import Equation, Equations, Step, map_values
from derive.rules.gradient_rules import RuleDoesNotApplyError, second_moments, sum_to_one_in_moments
from derive.rules.slopes import (
    LogitSlope,
    LogScaleSlope,
    Slope,
    component_averages,
    exchanged,
    logs_of_responsibilities,
    parameter_slope,
    radial_scores,
)

Parts = list[tuple[sp.Expr, sp.Expr]]
"""The two parts of each component's slope, as `parameter_slope` returns them."""

MEAN_ENERGY = sp.Symbol("e_mean", real=True)


def energy(component: int) -> sp.Symbol:
    """The symbol e_i of E_i[log q − β log p*], up to a constant that all components share.

    component: i, counted from 1.
    """
    return sp.Symbol(f"e_{component}", real=True)


def weight_steps(setting: Setting) -> tuple[Step, ...]:
    """From 𝓛_β to ∂𝓛_β/∂θ_i = w_i (e_i − Σ_j w_j e_j), with the components' energies e_i written in averages."""
    q = setting.proposal
    whole, parts = _unevaluated(setting, LogitSlope), _parts(setting, LogitSlope)
    through, explicit = _through(whole, parts), _explicit(whole, parts)
    rest = map_values(explicit, lambda part: _without_weights_sum(exchanged(part, q, setting.samples), q))
    collected = _collected(whole, through, rest)
    energies = [logs_of_responsibilities(mean, q) for _, mean in component_averages(expand_over_components(setting))]
    named = tuple(
        Equation(energy(j).name, rf"e_{{{j}}}", _own_part(e, setting, j), energy(j)) for j, e in enumerate(energies, 1)
    )
    mean = Equation(
        MEAN_ENERGY.name, r"\bar e", sp.Add(*(w * e.symbol for w, e in zip(q.weights, named, strict=True))), MEAN_ENERGY
    )
    final = tuple(
        replace(w, value=weight * (e.symbol - MEAN_ENERGY))
        for w, weight, e in zip(whole, q.weights, named, strict=True)
    )
    return (
        Step(
            "slope along a softmax logit",
            "∂w_j/∂θ_i = w_j (δ_ij − w_i), through the sum's weights (p) and through log q inside it (e).",
            whole,
            (*_summed(whole, parts), *through, *explicit),
        ),
        Step(
            "score-function part vanishes for the weights",
            "ρ_i q = w_i N_i turns the explicit part into w_i − w_i Σ_j w_j = 0.",
            (*through, *explicit),
            (*through, *rest),
        ),
        Step(
            "collect the slopes of the weights",
            "The two parts add up to the slope.",
            (*whole, *through, *rest),
            collected,
        ),
        Step(
            "energies of the components",
            "log q = log(w_i N_i) − log ρ_i at a sample of component i, and likewise log p* with its last "
            "mode; what all components share "
            "drops out, since Σ_j w_j (δ_ij − w_i) = 0.",
            collected,
            (*final, *named, mean),
        ),
    )


def scale_steps(setting: Setting) -> tuple[Step, ...]:
    """From 𝓛_β to ∂𝓛_β/∂τ_i as combinations of inner products, whose coefficients are averages."""
    q = setting.proposal
    whole, parts = _unevaluated(setting, LogScaleSlope), _parts(setting, LogScaleSlope)
    through, explicit = _through(whole, parts), _explicit(whole, parts)
    scored_through, scored_explicit = map_values(through, radial_scores), map_values(explicit, radial_scores)
    rest = map_values(scored_explicit, lambda part: sp.expand(second_moments(exchanged(part, q, setting.samples))))
    collected = _collected(whole, scored_through, rest)
    normalised = map_values(collected, sum_to_one_in_moments)
    return (
        Step(
            "slope along a log scale",
            "With x_i = a_i + σ_i z, ∂x_i/∂τ_i = x_i − a_i: through the sample (p) and through "
            "log q inside the average (e).",
            whole,
            (*_summed(whole, parts), *through, *explicit),
        ),
        Step(
            "mixture score along the deviation",
            "The gradient of a log density is the responsibilities' average of the components' scores.",
            (*through, *explicit),
            (*scored_through, *scored_explicit),
        ),
        Step(
            "score-function part vanishes for the scales",
            "ρ_i q = w_i N_i leaves E‖x_i − a_i‖²/σ_i² − d = 0.",
            (*scored_through, *scored_explicit),
            (*scored_through, *rest),
        ),
        Step(
            "collect the slopes of the scales",
            "The two parts add up to the slope.",
            (*whole, *scored_through, *rest),
            collected,
        ),
        Step(
            "responsibilities sum to one in the slopes",
            "Σ_j ρ_j = 1 takes the last responsibility out of what multiplies x.",
            collected,
            normalised,
        ),
        Step(
            "moments of the deviation",
            "x = a + (x − a): Stein's lemma for what is linear in the deviation; what is "
            "quadratic is left as an average.",
            normalised,
            map_values(normalised, second_moments),
        ),
    )


def _unevaluated(setting: Setting, slope: type[Slope]) -> Equations:
    expanded, letter = expand_over_components(setting), slope.letter
    return tuple(
        Equation(
            f"slope_{letter}_{i}",
            rf"\partial_{{\{letter}_{{{i}}}}}\mathcal{{L}}_\beta",
            slope(expanded, setting.proposal, i - 1),
        )
        for i in range(1, setting.proposal.size + 1)
    )


def _parts(setting: Setting, slope: type[Slope]) -> Parts:
    expanded, q = expand_over_components(setting), setting.proposal
    return [parameter_slope(slope, expanded, q, i) for i in range(q.size)]


def _through(whole: Equations, parts: Parts) -> Equations:
    """The parts of the slopes through the average itself: through the weights of the sum, or through the samples."""
    return tuple(
        Equation(f"{w.label}_through", rf"p_{{{i}}}", p)
        for i, (w, (p, _)) in enumerate(zip(whole, parts, strict=True), 1)
    )


def _explicit(whole: Equations, parts: Parts) -> Equations:
    """The parts of the slopes through log q inside the average."""
    return tuple(
        Equation(f"{w.label}_explicit", rf"e'_{{{i}}}", e)
        for i, (w, (_, e)) in enumerate(zip(whole, parts, strict=True), 1)
    )


def _summed(whole: Equations, parts: Parts) -> Equations:
    return tuple(replace(w, value=p + e) for w, (p, e) in zip(whole, parts, strict=True))


def _collected(whole: Equations, through: Equations, explicit: Equations) -> Equations:
    return tuple(replace(w, value=p.value + e.value) for w, p, e in zip(whole, through, explicit, strict=True))


def _without_weights_sum(expression: sp.Expr, mixture: Mixture) -> sp.Expr:
    """Zero, once it is shown that the expression vanishes with Σ_j w_j = 1; raises RuleDoesNotApplyError otherwise."""
    last = mixture.weights[-1]
    if sp.expand(expression.xreplace({last: 1 - sp.Add(*mixture.weights[:-1])})) != 0:
        raise RuleDoesNotApplyError(f"the score-function part {expression} does not vanish with the weights' sum")
    return sp.S.Zero


def _own_part(expression: sp.Expr, setting: Setting, component: int) -> sp.Expr:
    """The terms of one component: those in which its weight, mean, scale or sample occurs."""
    x = setting.samples[component - 1]
    q = setting.proposal
    own = {x.mean, q.weights[component - 1], *(x.scale.free_symbols if len(set(q.scales)) > 1 else ())}
    return sp.Add(*(term for term in sp.Add.make_args(sp.expand(expression)) if term.free_symbols & own or term.has(x)))
