"""The first steps, from the objective to the rates of the overlaps: their equations still contain vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sympy as sp

from derive.dynamics.learned import parameters_in
from derive.objects.expectation import Expectation
from derive.objects.mixtures import Responsibility
from derive.objects.notation import dotted, indexed_name, symbol_tex
from derive.objects.objective import Setting, expand_over_components
from derive.objects.step import DefinitionKind, Equation, Equations, Step, definitions, map_values, rates
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


def objective_step(setting: Setting) -> Step:
    """The step that splits 𝓛_β into the averages over the proposal's components."""
    left = r"\mathcal{L}_\beta"
    return Step(
        "average over components",
        "An average under a mixture is the mixture of the averages under its components.",
        (Equation("objective", left, setting.objective),),
        (Equation("objective", left, expand_over_components(setting)),),
    )


def gradient_steps(setting: Setting) -> tuple[Step, ...]:
    """From 𝓛_β to ∇_{a_i} 𝓛_β, combinations of means and modes whose coefficients are averaged responsibilities."""
    means = setting.proposal.means
    expanded = expand_over_components(setting)
    left = r"\mathcal{L}_\beta"
    whole = tuple(
        Equation(f"gradient_{i}", rf"\nabla_{{{sp.latex(a)}}}{left}", Vector({Gradient(expanded, a): sp.S.One}))
        for i, a in enumerate(means, 1)
    )
    parts = [pathwise(expanded, a) for a in means]
    through = tuple(Equation(f"pathwise_{i}", rf"p_{{{i}}}", p) for i, (p, _) in enumerate(parts, 1))
    explicit = tuple(Equation(f"explicit_{i}", rf"e_{{{i}}}", e) for i, (_, e) in enumerate(parts, 1))
    summed = tuple(Equation(w.label, w.left, p + e) for w, (p, e) in zip(whole, parts, strict=True))
    through_scored, explicit_scored = map_values(through, evaluate_gradients), map_values(explicit, evaluate_gradients)
    scored = (*through_scored, *explicit_scored)
    vanished_parts = map_values(explicit_scored, lambda part: _without_score_function(part, setting))
    vanished = (*through_scored, *vanished_parts)
    pairs = zip(whole, through_scored, vanished_parts, strict=True)
    collected = tuple(Equation(w.label, w.left, p.value + e.value) for w, p, e in pairs)
    normalised = map_values(collected, responsibilities_sum_to_one)
    return (
        Step(
            "pathwise gradient",
            "Write x_i = a_i + σ_i z and differentiate under the integral: through the sample (p), and "
            "through the integrand's own "
            "dependence on the mean (e); log Z(β) does not depend on the means.",
            whole,
            (*summed, *through, *explicit),
        ),
        Step(
            "mixture score",
            "The gradient of a mixture's log density is the average of its components' scores "
            "under the responsibilities.",
            (*through, *explicit),
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


def _without_score_function(part: Vector, setting: Setting) -> Vector:
    return stein(exchange_responsibilities(part, setting.proposal, setting.samples))


def flow_steps(setting: Setting, overlaps: Overlaps, slopes: Mapping[str, Equations]) -> tuple[Step, ...]:
    """From gradients and slopes to the rates of overlaps, weights and scales, closed in these and in named averages.

    slopes: for each name in `setting.learn`, the gradients of the means or the slopes along the parameter's
    coordinates, with the definitions that the slopes use.
    """
    means = setting.proposal.means
    names = dict(overlaps.names)
    steps: list[Step] = []
    velocities: Equations = ()
    if "means" in setting.learn:
        descents = tuple(
            Equation(f"velocity_{i}", dotted(sp.latex(a)), Descent(g.value, a, setting.manifold))
            for i, (a, g) in enumerate(zip(means, slopes["means"], strict=True), 1)
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
    for parameter in parameters_in(setting.learn):
        unevaluated = parameter.unevaluated_rates(setting.proposal, slopes[parameter.name])
        used = definitions(slopes[parameter.name])
        done = map_values(unevaluated, lambda rate: rate.by_chain_rule())
        steps.append(Step(parameter.rule, parameter.statement, (*unevaluated, *used), (*done, *used)))
        chained = (*chained, *done, *used)
    averages = sorted(set().union(*(e.value.atoms(Expectation) for e in chained)), key=sp.default_sort_key)
    named = {average: average_name(average, setting) for average in averages}
    closed = map_values(chained, lambda rate: close(rate, {**named, **names}))
    steps.append(
        Step(
            "closure",
            "Only inner products of the means and modes are left: name them, and name the averages.",
            chained,
            (*rates(closed), *average_definitions(named, setting), *definitions(closed)),
        )
    )
    return tuple(steps)


def average_definitions(named: Mapping[Expectation, sp.Symbol], setting: Setting) -> Equations:
    """The definitions of the named averages, each with its kind."""

    def kind(average: Expectation) -> DefinitionKind:
        (x,), share = average.variables, average.integrand
        alone = isinstance(share, Responsibility) and not x.extra
        of_target = alone and share.mixture == setting.target
        return DefinitionKind.TARGET_SHARE if of_target else DefinitionKind.OTHER_AVERAGE

    return tuple(Equation(s.name, symbol_tex(s), average, s, kind(average)) for average, s in named.items())


def average_name(average: Expectation, setting: Setting) -> sp.Symbol:
    """The symbol of an average over component i; the head ends in `_star` for the target's responsibilities.

    The names of averages of the proposal's responsibilities are

        rho_ij = E_i[ρ_j],    rho_i_jl = E_i[ρ_j ρ_l],    S_ij = E_i[ρ_j ‖x − a_i‖²/σ_i²],
        ell_i = E_i[log ρ],    ellsq_i = E_i[(log ρ)²],    ellS_i = E_i[log ρ ‖x − a_i‖²/σ_i²],

    and rhoup_ij is rho_ij for a sample in two dimensions more. Raises TypeError for any other average.
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
