"""From the objective to the rates of the overlaps: the steps whose equations still contain vectors."""

from __future__ import annotations

from collections.abc import Sequence

import sympy as sp

from derive.objects.expectation import Expectation
from derive.objects.mixtures import Responsibility
from derive.objects.notation import dotted, indexed_name, symbol_tex
from derive.objects.objective import Setting, expand_over_components
from derive.objects.step import Equation, Equations, Step, definitions, map_values, rates
from derive.objects.vectors import Gradient, SquaredDeviation, Vector
from derive.rules.flow import Descent, OverlapRate, close, product_rule, project
from derive.rules.geometry import Overlaps
from derive.rules.gradient_rules import (
    evaluate_gradients,
    exchange_responsibilities,
    pathwise,
    responsibilities_sum_to_one,
    stein,
)
from derive.rules.slopes import ScaleRate, WeightRate


def objective_step(setting: Setting) -> Step:
    """𝓛_β as a mixture of its components' averages."""
    left = r"\mathcal{L}_\beta"
    return Step(
        "average over components",
        "An average under a mixture is the mixture of the averages under its components.",
        (Equation("objective", left, setting.objective),),
        (Equation("objective", left, expand_over_components(setting)),),
    )


def gradient_steps(setting: Setting) -> tuple[Step, ...]:
    """𝓛_β → ∇_{a_i} 𝓛_β as combinations of means and modes with averaged responsibilities."""
    means = setting.proposal.means
    expanded = expand_over_components(setting)
    left = r"\mathcal{L}_\beta"
    whole = tuple(
        Equation(f"gradient_{i}", rf"\nabla_{{{sp.latex(a)}}}{left}", Vector({Gradient(expanded, a): sp.S.One}))
        for i, a in enumerate(means, 1)
    )
    parts = [pathwise(expanded, a) for a in means]
    split = (
        *(Equation(f"pathwise_{i}", rf"p_{{{i}}}", p) for i, (p, _) in enumerate(parts, 1)),
        *(Equation(f"explicit_{i}", rf"e_{{{i}}}", e) for i, (_, e) in enumerate(parts, 1)),
    )
    summed = tuple(Equation(w.label, w.left, p + e) for w, (p, e) in zip(whole, parts, strict=True))
    scored = map_values(split, evaluate_gradients)
    vanished = tuple(_without_score_function(e, setting) if e.label.startswith("explicit") else e for e in scored)
    pairs = zip(whole, vanished[: len(means)], vanished[len(means) :], strict=True)
    collected = tuple(Equation(w.label, w.left, p.value + e.value) for w, p, e in pairs)
    normalised = map_values(collected, responsibilities_sum_to_one)
    return (
        Step(
            "pathwise gradient",
            "Write x_i = a_i + σ_i z and differentiate under the integral: through the sample (p), and "
            "through the integrand's own "
            "dependence on the mean (e); log Z(β) does not depend on the means.",
            whole,
            (*summed, *split),
        ),
        Step(
            "mixture score",
            "The gradient of a mixture's log density is the average of its components' scores "
            "under the responsibilities.",
            split,
            scored,
        ),
        Step(
            "score-function part vanishes",
            "ρ_i q = w_i N_i turns the explicit part into one component's average, and E[x_i − a_i] = 0.",
            scored,
            vanished,
        ),
        Step("collect the gradient", "The two parts add up to the gradient.", (*whole, *vanished), collected),
        Step(
            "responsibilities sum to one",
            "Σ_j ρ_j = 1 takes the responsibilities out of the multiples of x (equal scales) and out "
            "of each component's own mean.",
            collected,
            normalised,
        ),
        Step("Stein's lemma", _stein_in_words(setting), normalised, map_values(normalised, stein)),
    )


def _stein_in_words(setting: Setting) -> str:
    plain = "E[f(x) x] = a E[f] + σ² E[∇f] for x ~ N(a, σ² I)."
    if len(set(setting.proposal.scales)) == len(set(setting.target.scales)) == 1:
        return plain
    return (
        f"{plain} With unequal scales ∇f contains x again; the recursion sums to an average over a sample "
        f"x^+ with two coordinates more, "
        "with x = a outside the responsibilities."
    )


def _without_score_function(equation: Equation, setting: Setting) -> Equation:
    return Equation(
        equation.label,
        equation.left,
        stein(exchange_responsibilities(equation.value, setting.proposal, setting.samples)),
    )


def flow_steps(setting: Setting, overlaps: Overlaps, slopes: Equations) -> tuple[Step, ...]:
    """Gradients and slopes → rates of the overlaps, weights and scales, closed in them and the named averages.

    slopes: the gradients of the means, the slopes of softmax logits and log scales, of what is learned, and the
    energies' definitions.
    """
    means = setting.proposal.means
    names = dict(overlaps.names)
    steps: list[Step] = []
    velocities: Equations = ()
    if "means" in setting.learn:
        gradients = [e for e in slopes if e.label.startswith("gradient")]
        descents = tuple(
            Equation(f"velocity_{i}", dotted(sp.latex(a)), Descent(g.value, a, setting.manifold))
            for i, (a, g) in enumerate(zip(means, gradients, strict=True), 1)
        )
        velocities = map_values(descents, project)
        on_sphere = setting.manifold == "sphere"
        steps.append(
            Step(
                "projected flow" if on_sphere else "gradient flow",
                "Each mean follows minus its gradient"
                + (", projected on the tangent space of its sphere." if on_sphere else "."),
                descents,
                velocities,
            )
        )
    moving = tuple((a, v.value) for a, v in zip(means, velocities, strict=False))
    overlap_rates = tuple(
        Equation(f"d{name.name}", dotted(symbol_tex(name)), OverlapRate(inner, moving))
        for inner, name in overlaps.names
        if any(a in inner.args for a in means)
    )
    chained = map_values(overlap_rates, product_rule)
    steps.append(Step("product rule", "d(u·v)/dt = u̇·v + u·v̇.", overlap_rates, chained))
    for learned, rule, statement, parameter_rates in (
        (
            "weights",
            "flow of the weights",
            "w = softmax(θ) and dθ_i/dt = −∂𝓛/∂θ_i give dw_i/dt = w_i (dθ_i/dt − Σ_j w_j dθ_j/dt).",
            _weight_rates,
        ),
        (
            "scales",
            "flow of the scales",
            "σ_i = exp(τ_i) and dτ_i/dt = −∂𝓛/∂τ_i give dσ_i/dt = σ_i dτ_i/dt.",
            _scale_rates,
        ),
    ):
        if learned not in setting.learn:
            continue
        unevaluated = parameter_rates(setting, slopes)
        energies = definitions(slopes) if learned == "weights" else ()
        done = map_values(unevaluated, lambda rate: rate.by_chain_rule())
        steps.append(Step(rule, statement, (*unevaluated, *energies), (*done, *energies)))
        chained = (*chained, *done, *energies)
    averages = sorted(set().union(*(e.value.atoms(Expectation) for e in chained)), key=sp.default_sort_key)
    named = {average: average_name(average, setting) for average in averages}
    closed = map_values(chained, lambda rate: close(rate.xreplace(named), names))
    averaged = tuple(Equation(s.name, symbol_tex(s), average, s) for average, s in named.items())
    steps.append(
        Step(
            "closure",
            "Only inner products of the means and modes are left: name them, and name the averages.",
            chained,
            (*rates(closed), *averaged, *definitions(closed)),
        )
    )
    return tuple(steps)


def _weight_rates(setting: Setting, slopes: Equations) -> Equations:
    logit_rates = tuple(-e.value for e in slopes if e.label.startswith("slope_theta"))
    weights = tuple(setting.proposal.weights)
    return tuple(
        Equation(f"d{w.name}", rf"\frac{{d{symbol_tex(w)}}}{{dt}}", WeightRate(weights, i, logit_rates))
        for i, w in enumerate(weights)
    )


def _scale_rates(setting: Setting, slopes: Equations) -> Equations:
    log_rates = [-e.value for e in slopes if e.label.startswith("slope_tau")]
    scales = setting.proposal.scales
    return tuple(
        Equation(f"d{s.name}", rf"\frac{{d{symbol_tex(s)}}}{{dt}}", ScaleRate(s, i, rate))
        for i, (s, rate) in enumerate(zip(scales, log_rates, strict=True))
    )


def average_name(average: Expectation, setting: Setting) -> sp.Symbol:
    """rho_ij = E_i[ρ_j], rho_i_jl = E_i[ρ_j ρ_l], S_ij = E_i[ρ_j ‖x − a_i‖²/σ_i²], ell_i = E_i[log ρ]; with `star` for
    the target's.

    ellsq_i = E_i[(log ρ)²], ellS_i = E_i[log ρ ‖x − a_i‖²/σ_i²]; rhoup_ij is rho_ij in two dimensions more.
    """
    (x,) = average.variables
    i = next(n for n, sample in enumerate(setting.samples, 1) if sample.mean == x.mean)
    shares = sorted(average.integrand.atoms(Responsibility), key=lambda rho: rho.component)
    star = "_star" if shares[0].mixture == setting.target else ""
    components = [rho.component + 1 for rho in shares]
    plain = sp.Mul(*shares)

    def named(head: str, *groups: Sequence[int]) -> sp.Symbol:
        return sp.Symbol(indexed_name(head + star, *groups, apart=setting.apart), real=True)

    if average.integrand == plain:
        if len(shares) > 1:
            return named("rho", (i,), components)
        return named("rhoup" if x.extra else "rho", (i, *components))
    if average.integrand == plain * SquaredDeviation(x):
        return named("S", (i, *components))
    if average.integrand == sp.log(shares[0]):
        return named("ell", (i,))
    if average.integrand == sp.log(shares[0]) ** 2:
        return named("ellsq", (i,))
    if average.integrand == sp.log(shares[0]) * SquaredDeviation(x):
        return named("ellS", (i,))
    raise TypeError(f"no name for the average of {average.integrand}")
