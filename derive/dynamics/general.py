"""The derivation for any number K of modes and L of components, in index notation.

The steps lead from the objective to the closed flow of the overlaps, weights and scales. Their number and length depend
on what is learned and not on K and L. The equations of a problem are these with its indices given; see `instances`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import sympy as sp

from derive.dynamics import in_span
from derive.dynamics.closure import averages_named, closed_form
from derive.dynamics.learned import LearnedParameter, parameters_in
from derive.objects.indices import (
    COMPONENTS,
    FIRST,
    MODE,
    OTHER,
    SECOND,
    Entry,
    I,
    Sum,
    equal,
    fresh,
    multiplied_out,
)
from derive.objects.mixtures import PROPOSAL, TARGET, Average, IndexedMixture, LogDensity, Responsibility, Sample
from derive.objects.notation import dotted, tex
from derive.objects.objective import POINT, SPANNED_POINT, MixtureExpectation, Setting
from derive.objects.short_repr import short_repr
from derive.objects.step import Equation, Equations, Step, definitions, display, map_values, rates
from derive.objects.vectors import Gradient, Inner
from derive.problem.specification import COVARIANCES
from derive.rules.coordinates import mean_slope, parameter_slope
from derive.rules.flow import Descent, OverlapRate, product_rule, project
from derive.rules.gradient_rules import (
    RuleDoesNotApplyError,
    collected,
    exchange_responsibilities,
    gathered,
    in_deviations,
    inner,
    logs_of_responsibilities,
    scores,
    split,
    stein,
    sums_to_one,
    without_responsibilities,
)
from derive.rules.spans import covariance_slope, span_mean_slope, span_scores

OBJECTIVE = r"\mathcal{L}_\beta"
MEAN_ENERGY = Entry("e_mean")


@dataclass(frozen=True)
class GeneralDerivation:
    """The derivation of the summary-statistics flow in index notation.

    Attributes
    ----------
    steps : tuple of Step
        The steps from the objective to the closed flow. An equation's free indices are in `Equation.indices`.
    velocities : tuple of Equation
        The velocity of a mean; empty where the means rest.
    closed : tuple of Equation
        The closed equations: the rates, and the definitions that they use.
    """

    steps: tuple[Step, ...]
    velocities: Equations
    closed: Equations

    __repr__ = short_repr

    def _repr_latex_(self) -> str:
        return display(self.closed)


def general_derivation(setting: Setting) -> GeneralDerivation:
    """The general derivation of a setting's objective and flow; the setting's own K and L play no part."""
    objective = setting.objective.xreplace({setting.proposal: PROPOSAL, setting.target: TARGET})
    return apply_general_rules(objective, setting.manifold, tuple(setting.learn), setting.metric)


@lru_cache(maxsize=32)
def apply_general_rules(
    objective: sp.Expr, manifold: str, learn: tuple[str, ...], metric: str = "log"
) -> GeneralDerivation:
    """Apply the rules in order to an objective, which is a sum of averages under the two mixtures and of constants."""
    spanned = objective.has(SPANNED_POINT)
    averages = {node: (node.args[0], node.args[2]) for node in objective.atoms(MixtureExpectation)}
    expanded = objective.xreplace({node: over_components(f, mixture) for node, (f, mixture) in averages.items()})
    integrand = next((f for f, mixture in averages.values() if mixture == PROPOSAL), sp.S.Zero)
    steps = [
        Step(
            "average over components",
            "An average under a mixture is the mixture of the averages under its components.",
            (Equation("objective", OBJECTIVE, objective),),
            (Equation("objective", OBJECTIVE, expanded),),
        )
    ]
    learned = parameters_in(learn)
    with_means = "means" in learn
    wholes, parts, jacobians = [], [], []
    if with_means:
        a = PROPOSAL.mean(I)
        wholes.append(Equation("gradient_i", rf"\nabla_{{{tex(a)}}}{OBJECTIVE}", Gradient(expanded, a), indices=(I,)))
        parts.append(mean_slope(expanded, a))
        jacobians.append("∂x_j/∂a_i = δ_ij")
        if spanned:
            wholes.append(in_span.whole_mean_slope(expanded))
            parts.append(span_mean_slope(expanded, I, FIRST))
    for parameter in learned:
        slope = parameter.slope(expanded, PROPOSAL, I)
        left = rf"\partial_{{\{parameter.slope.letter}_i}}{OBJECTIVE}"
        wholes.append(Equation(f"slope_{parameter.slope.letter}_i", left, slope, indices=(I,)))
        parts.append(parameter_slope(parameter.slope, expanded, I))
        jacobians.append(parameter.slope.jacobian)
    if COVARIANCES in learn:
        wholes.append(in_span.whole_covariance_slope(expanded))
        parts.append(covariance_slope(expanded, I, FIRST, SECOND))
        jacobians.append(in_span.JACOBIAN)
    current = _slope_steps(steps, tuple(wholes), parts, ", ".join(jacobians))
    record = Recorder(steps, current)
    record(
        "deviation from the own mean",
        "x = a_i + (x − a_i) in every average over component i, with u_ij = (a_j − a_i)/σ_j², the slope of logit j "
        "at a_i (u*_ik likewise of mode k).",
        lambda value: value if value.has(LogDensity) else in_deviations(value),
    )
    if spanned:
        in_span.moment_steps(record, integrand)
    if any(parameter.name == "weights" for parameter in learned):
        _energy_steps(record, integrand)
    record(
        "Stein's lemma",
        "E[f (x − a)] = σ² E[∇f] for x ~ N(a, σ² I), with ∇ρ_j = ∑_l ρ_j ρ_l (u_j(x) − u_l(x)). Where scales differ "
        "∇f contains x again; the recursion sums to an average over a sample x^+ with two coordinates more, with x = a "
        "outside the responsibilities.",
        stein,
    )
    if with_means and integrand != 0:
        record.shares()
    return _flow_steps(record, manifold, with_means, learned, metric if spanned else None)


def over_components(integrand: sp.Expr, mixture: IndexedMixture = PROPOSAL) -> sp.Expr:
    """E_q[f] = Σ_j w_j E_{x_j}[f(x_j)], or likewise under the target."""
    j = fresh(mixture.size)
    f, x = at_sample(integrand, mixture, j)
    return Sum(mixture.weight(j) * Average(f, x), j)


def at_sample(integrand: sp.Expr, mixture: IndexedMixture, index: sp.Expr) -> tuple[sp.Expr, Sample]:
    """An integrand at a sample of a component, and the sample."""
    x = Sample(mixture, index, spanned=integrand.has(SPANNED_POINT))
    return integrand.xreplace({POINT: x, SPANNED_POINT: x}), x


def _slope_steps(
    steps: list[Step], wholes: Equations, parts: Sequence[tuple[sp.Expr, sp.Expr]], jacobians: str
) -> Equations:
    """The steps from unevaluated slopes to slopes in averages of single responsibilities, which are returned."""
    names = [whole.label.removeprefix("slope_") for whole in wholes]
    in_a_span = any(whole.label in ("gradient_in", "slope_Sigma_inm") for whole in wholes)
    dimension = "(d − r)" if in_a_span else "d"
    through = tuple(
        Equation(f"through_{n}", rf"p_{{{tex_index(n)}}}", p, indices=whole.indices)
        for whole, n, (p, _) in zip(wholes, names, parts, strict=True)
    )
    explicit = tuple(
        Equation(f"explicit_{n}", rf"e'_{{{tex_index(n)}}}", e, indices=whole.indices)
        for whole, n, (_, e) in zip(wholes, names, parts, strict=True)
    )
    summed = tuple(replace(w, value=p + e) for w, (p, e) in zip(wholes, parts, strict=True))
    scored, scored_explicit = (map_values(side, lambda e: span_scores(scores(e))) for side in (through, explicit))
    exchanged = map_values(scored_explicit, lambda e: exchange_responsibilities(e, PROPOSAL))
    vanished = map_values(exchanged, lambda e: sums_to_one(sums_to_one(without_responsibilities(e))))
    collected = tuple(replace(w, value=p.value + e.value) for w, p, e in zip(wholes, scored, vanished, strict=True))
    steps += [
        Step(
            "pathwise gradient",
            "Write x_j = a_j + σ_j z and differentiate under the integral: through the weights and the samples (p), "
            f"and through log q at a fixed sample (e'), with {jacobians}; log Z(β) does not depend on the proposal.",
            wholes,
            (*summed, *through, *explicit),
        ),
        Step(
            "mixture score",
            "The gradient of a mixture's log density is the average of its components' scores under the "
            "responsibilities.",
            (*through, *explicit),
            (*scored, *scored_explicit),
        ),
        Step(
            "exchange of responsibilities",
            "∑_j w_j E_j[ρ_i f] = w_i E_i[f], since ρ_i q = w_i N_i.",
            (*scored, *scored_explicit),
            (*scored, *exchanged),
        ),
        Step(
            "score-function part vanishes",
            f"E_i[x − a_i] = 0, E_i‖x − a_i‖² = {dimension} σ_i² and ∑_j w_j = 1 leave nothing of the explicit part.",
            (*scored, *exchanged),
            (*scored, *vanished),
        ),
        Step("collect the gradient", "The two parts add up.", (*wholes, *scored, *vanished), collected),
    ]
    return collected


def tex_index(name: str) -> str:
    """The name of a slope as an index in LaTeX."""
    letter, _, index = name.partition("_")
    if letter == "gradient":
        return index
    return rf"\{letter}_{index if len(index) == 1 else f'{{{index}}}'}"


class Recorder:
    """The steps so far, and the equations that the next step rewrites."""

    def __init__(self, steps: list[Step], current: Equations) -> None:
        self.steps, self.current = steps, current

    def __call__(self, rule: str, statement: str, change: Callable[[sp.Expr], sp.Expr]) -> None:
        """Record a step that changes the values of the equations, unless it changes none."""
        after = map_values(self.current, change)
        if after != self.current:
            self.record(rule, statement, after)

    def record(self, rule: str, statement: str, after: Equations) -> None:
        self.steps.append(Step(rule, statement, self.current, after))
        self.current = after

    def value(self, label: str) -> sp.Expr:
        (found,) = (e.value for e in self.current if e.label == label)
        return found

    def shares(self) -> None:
        """Gather the gradient by slopes, and name the coefficients."""
        combination, total = gathered(self.value("gradient_i"))
        named = []
        for term in sp.Add.make_args(combination):
            outer, node = term.as_independent(Sum, as_Add=False)
            u = next(f for f in sp.Mul.make_args(node.term) if isinstance(f, Entry) and f.family.startswith("u"))
            mixture = TARGET if u.family.endswith("_star") else PROPOSAL
            (x,) = {average.sample.plain() for average in node.term.atoms(Average)}
            alone = Average(Responsibility(mixture, node.index, x), x)
            whole = multiplied_out(node.term / u)
            factor = sp.factor(whole.coeff(alone))
            share = collected(multiplied_out((whole / factor).xreplace(_cancelled(factor))))
            if not equal(whole, factor * share):
                raise RuleDoesNotApplyError(f"{factor} is no factor of {whole}")
            symbol = Entry(f"share{mixture.star}", I, node.index)
            total += outer * factor * Sum(u * symbol, node.index)
            named.append(Equation(symbol.name, tex(symbol), share, symbol, indices=(I, node.index)))
        others = tuple(replace(e, value=total) if e.label == "gradient_i" else e for e in self.current)
        self.record(
            "shares",
            "Bound indices renamed, every slope u_ij has one coefficient, the share of component j in the pull on "
            "component i: its average responsibility, corrected where scales differ.",
            (*others, *named),
        )


def _cancelled(factor: sp.Expr) -> dict[sp.Symbol, sp.Expr]:
    """Values for those of the objective's parameters that cancel in a quotient by a factor such as 1 − v."""
    plain = factor.xreplace({e: sp.Dummy() for e in factor.atoms(Entry)})
    parameters = [s for s in plain.free_symbols if not isinstance(s, sp.Dummy)]
    return {s: sp.S.Zero for s in parameters if plain.subs(s, 0) not in (0, plain)}


def _energy_steps(record: Recorder, integrand: sp.Expr) -> None:
    """∂𝓛/∂θ_i = w_i (e_i − Σ_j w_j e_j) with the components' energies e_i in averages; what is under p* stays."""
    if integrand == 0:
        return
    j = fresh(COMPONENTS)
    f, x = at_sample(integrand, PROPOSAL, I)
    whole = Entry("E", I)
    energy = Entry("e", I)
    centred = PROPOSAL.weight(I) * (Average(f, x) - Sum(PROPOSAL.weight(j) * Average(f, x).xreplace({I: j}), j))
    rest = split(record.value("slope_theta_i") - multiplied_out(centred))
    slope = rest + PROPOSAL.weight(I) * (whole - Sum(PROPOSAL.weight(j) * Entry("E", j), j))
    taken_apart = stein(in_deviations(logs_of_responsibilities(Average(f, x))))
    named = Equation("E_i", "E_{i}", taken_apart, whole, indices=(I,))
    others = tuple(replace(e, value=slope) if e.label == "slope_theta_i" else e for e in record.current)
    record.record(
        "energies of the components",
        "The averages E_i of log q − β log p* over the components, with log q = log(w_i N_i) − log ρ_i at a sample of "
        "component i, and log p* = log(w*_K N_K) − log ρ*_K with the last mode.",
        (*others, named),
    )
    own = sp.Add(*(term for term in sp.Add.make_args(multiplied_out(record.value("E_i"))) if I in term.free_symbols))
    mean = Equation("e_mean", r"\bar e", Sum(PROPOSAL.weight(j) * Entry("e", j), j), MEAN_ENERGY)
    kept = tuple(
        replace(e, value=rest + PROPOSAL.weight(I) * (energy - MEAN_ENERGY)) if e.label == "slope_theta_i" else e
        for e in record.current
        if e.label != "E_i"
    )
    record.record(
        "energies up to a constant",
        "What all components share drops out, since ∑_j w_j (δ_ij − w_i) = 0.",
        (*kept, Equation("e_i", "e_{i}", own, energy, indices=(I,)), mean),
    )


def _flow_steps(
    record: Recorder, manifold: str, with_means: bool, learned: tuple[LearnedParameter, ...], metric: str | None
) -> GeneralDerivation:
    """From slopes to the closed rates of overlaps, weights, scales and, in a span, coordinates and covariances.

    metric: that of covariances; None where there is no span.
    """
    used = definitions(record.current)
    a = PROPOSAL.mean(I)
    overlaps = {Entry("M", I, MODE): TARGET.mean(MODE), Entry("Q", I, OTHER): PROPOSAL.mean(OTHER)}
    velocities: Equations = ()
    of_coordinates: Equations = ()
    if metric is not None:
        del overlaps[Entry("M", I, MODE)]
        velocities, of_coordinates = in_span.velocities(record, manifold) if with_means else ((), in_span.AT_REST)
    elif with_means:
        descent = Equation("velocity_i", dotted(tex(a)), Descent(record.value("gradient_i"), a, manifold), indices=(I,))
        on_sphere = manifold == "sphere"
        velocities = (replace(descent, value=project(descent.value)),)
        record.steps.append(
            Step(
                "projected flow" if on_sphere else "gradient flow",
                "Each mean follows minus its gradient"
                + (", projected on the tangent space of its sphere." if on_sphere else "."),
                (descent, *used),
                (*velocities, *used),
            )
        )
    shares = tuple(e for e in used if e.label.startswith("share") or e.label == "f_in")
    velocity = velocities[0].value if velocities else sp.S.Zero
    unevaluated = tuple(
        Equation(f"d{name.name}", dotted(tex(name)), OverlapRate(Inner(a, b), velocity), indices=name.indices)
        for name, b in overlaps.items()
    )
    if of_coordinates:
        unevaluated = (in_span.overlap_rate(velocity, of_coordinates),)
    pull = Entry("D", I, OTHER)
    carried: Equations = tuple(replace(e, value=product_rule(e.value)) for e in unevaluated)
    if with_means:
        along = inner(velocity, PROPOSAL.mean(OTHER))
        if metric is not None:
            along += in_span.inner_within(of_coordinates)
        of_means = Equation("D_in", tex(pull), along, pull, indices=(I, OTHER))
        carried = (*carried[:-1], replace(carried[-1], value=pull + Entry("D", OTHER, I)), of_means)
    named = (*shares, *definitions(of_coordinates))
    record.steps.append(Step("product rule", "d(u·v)/dt = u̇·v + u·v̇.", (*unevaluated, *named), (*carried, *named)))
    for parameter in learned:
        rate = parameter.unevaluated_rate(-record.value(f"slope_{parameter.slope.letter}_i"))
        done = replace(rate, value=rate.value.by_chain_rule())
        own = tuple(e for e in used if e.label in ("e_i", "e_mean"))
        record.steps.append(Step(parameter.rule, parameter.statement, (rate, *own), (done, *own)))
        carried = (*carried, done)
    if metric is not None:
        carried = (*of_coordinates, *carried, *in_span.covariance_rates(record, metric))
    chained = (*carried, *used)
    closed = map_values(chained, lambda value: closed_form(value, metric is not None))
    averages = averages_named(chained)
    record.steps.append(
        Step(
            "closure",
            "Only inner products of the means and modes are left: name them, and name the averages.",
            chained,
            (*rates(closed), *definitions(closed), *averages),
        )
    )
    return GeneralDerivation(tuple(record.steps), velocities, record.steps[-1].after)
