"""From the objective to the rates of the overlaps: the steps whose equations still contain vectors."""

from __future__ import annotations

import sympy as sp

from derive.expectation import Expectation
from derive.flow import Descent, OverlapRate, close, product_rule, project
from derive.geometry import Overlaps
from derive.gradient_rules import evaluate_gradients, exchange_responsibilities, pathwise, responsibilities_sum_to_one, stein
from derive.mixtures import Responsibility
from derive.notation import symbol_tex
from derive.objective import Setting, expand_over_components
from derive.step import Equation, Equations, Step, map_values
from derive.vectors import Gradient, Vector


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
            "average over components",
            "An average under a mixture is the mixture of the averages under its components.",
            (Equation("objective", left, setting.objective),),
            (Equation("objective", left, expanded),),
        ),
        Step(
            "pathwise gradient",
            "Write x_i = a_i + σ_i z and differentiate under the integral: through the sample (p), and through the integrand's own "
            "dependence on the mean (e); log Z(β) does not depend on the means.",
            whole,
            (*summed, *split),
        ),
        Step(
            "mixture score",
            "The gradient of a mixture's log density is the average of its components' scores under the responsibilities.",
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
            "Σ_j ρ_j = 1 takes the responsibilities out of the multiples of x (equal scales) and out of each component's own mean.",
            collected,
            normalised,
        ),
        Step("Stein's lemma", "E[f(x) x] = a E[f] + σ² E[∇f] for x ~ N(a, σ² I).", normalised, map_values(normalised, stein)),
    )


def _without_score_function(equation: Equation, setting: Setting) -> Equation:
    return Equation(equation.label, equation.left, stein(exchange_responsibilities(equation.value, setting.proposal, setting.samples)))


def flow_steps(setting: Setting, overlaps: Overlaps, gradients: Equations) -> tuple[Step, ...]:
    """Gradients → rates of the overlaps, closed in the overlaps and the named averages."""
    means = setting.proposal.means
    names = dict(overlaps.names)
    descents = tuple(
        Equation(f"velocity_{i}", rf"\dot{{{sp.latex(a)}}}", Descent(g.value, a, setting.manifold))
        for i, (a, g) in enumerate(zip(means, gradients, strict=True), 1)
    )
    velocities = map_values(descents, project)
    moving = tuple((a, v.value) for a, v in zip(means, velocities, strict=True))
    rates = tuple(
        Equation(f"d{name.name}", rf"\dot{{{symbol_tex(name)}}}", OverlapRate(inner, moving))
        for inner, name in overlaps.names
        if any(a in inner.args for a in means)
    )
    chained = map_values(rates, product_rule)
    averages = sorted(set().union(*(e.value.atoms(Expectation) for e in chained)), key=sp.default_sort_key)
    named = {average: _average_name(average, setting) for average in averages}
    closed = map_values(chained, lambda rate: close(rate.xreplace(named), names))
    averaged = tuple(Equation(s.name, symbol_tex(s), average, s) for average, s in named.items())
    on_sphere = setting.manifold == "sphere"
    return (
        Step(
            "projected flow" if on_sphere else "gradient flow",
            "Each mean follows minus its gradient" + (", projected on the tangent space of its sphere." if on_sphere else "."),
            descents,
            velocities,
        ),
        Step("product rule", "d(u·v)/dt = u̇·v + u·v̇.", rates, chained),
        Step(
            "closure",
            "Only inner products of the means and modes are left: name them, and name the averaged responsibilities.",
            chained,
            (*closed, *averaged),
        ),
    )


def _average_name(average: Expectation, setting: Setting) -> sp.Symbol:
    (x,) = average.variables
    responsibility = average.integrand
    if not isinstance(responsibility, Responsibility):
        raise TypeError(f"expected the average of one responsibility, not {responsibility}")
    i, j = setting.samples.index(x) + 1, responsibility.component + 1
    head = "rho_star" if responsibility.mixture == setting.target else "rho"
    return sp.Symbol(f"{head}_{i}{j}", real=True)
