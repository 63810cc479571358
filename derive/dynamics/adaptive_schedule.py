"""AdaAnn's adaptive schedule as a flow of the inverse temperature that is closed in the summary statistics.

AdaAnn raises beta by tau/√Var_q[log p*] at intervals t0 of the flow's time, since the KL divergence between p*^β and
p*^β' is about (β' − β)² Var/2. For small tau the increments become the flow dβ/dt = (tau/t0)/√Var_q[log p*] until
β = 1, and the system becomes autonomous. The steps are, in order:

average over components → one mode and its responsibility → variance within and between components → moments of the
deviation → closure → jointly Gaussian scalars → final variables → flow of the inverse temperature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import sympy as sp

from derive.dynamics.closure import averages_named, closed_form
from derive.dynamics.derivation import Derivation, in_order_of_use
from derive.dynamics.general import GeneralDerivation, over_components
from derive.dynamics.instances import Instance
from derive.dynamics.scalar_steps import in_scalars, tidied
from derive.objects.expectation import ChiSquared, Expectation
from derive.objects.indices import COMPONENTS, Entry, I, Sum, fresh
from derive.objects.mixtures import PROPOSAL, TARGET, Average, LogDensity, Responsibility, Sample
from derive.objects.objective import POINT, MixtureExpectation, Setting
from derive.objects.softmax import Softmax
from derive.objects.states import StateKind, StateVariable
from derive.objects.step import Equation, Equations, Step, definitions, map_values, rates
from derive.objects.system import BETA, OdeSystem
from derive.objects.vectors import Inner
from derive.rules.geometry import Geometry, Overlaps
from derive.rules.gradient_rules import in_deviations, stein
from derive.rules.reduction import Surroundings

INVERSE_TEMPERATURE = sp.Symbol("b", positive=True)
"""The symbol b of the state that gives the inverse temperature, β = min(b, 1)."""

STEP = sp.Symbol("tau", positive=True)
INTERVAL = sp.Symbol("t0", positive=True)
VARIANCE = sp.Symbol("V", positive=True)
VARIANCE_TEX = r"\operatorname{Var}_q[\log p^{\star}]"


def with_adaann(derivation: Derivation) -> Derivation:
    """The derivation followed by the steps of the variance, and the system with INVERSE_TEMPERATURE as its last state.

    STEP and INTERVAL become the system's last two parameters.
    """
    general = general_variance()
    variance = variance_steps(derivation.setting, derivation.geometry, derivation.overlaps)
    final = variance[-1].after
    rate = sp.Piecewise((STEP / (INTERVAL * sp.sqrt(VARIANCE)), INVERSE_TEMPERATURE < 1), (sp.S.Zero, True))
    b, V = INVERSE_TEMPERATURE, Equation(VARIANCE.name, VARIANCE.name, _the(final, VARIANCE.name).value, VARIANCE)
    own = derivation.steps[-1].after
    added = _not_yet_defined(definitions(final), own)
    flow = Step(
        "flow of the inverse temperature",
        "AdaAnn's increments tau/√V at intervals t0 are, for small tau, the flow db/dt = tau/(t0 "
        "√V) until b = 1; β = min(b, 1).",
        final,
        (
            *rates(own),
            Equation(f"d{b.name}", rf"\frac{{d{b.name}}}{{dt}}", rate),
            *definitions(own),
            *added,
            V,
        ),
        in_geometry=True,
    )
    return replace(
        derivation,
        general=replace(
            derivation.general,
            steps=(*derivation.general.steps, *general.steps),
            closed=(*derivation.general.closed, *_not_yet_defined(general.closed, derivation.general.closed)),
        ),
        steps=(*derivation.steps, *variance, flow),
        system=_with_beta_as_state(derivation.system, (*added, V), rate),
    )


@cache
def general_variance() -> GeneralDerivation:
    """From Var_q[log p*] to averages over components, in index notation for any number of modes and components.

    Every step contains the equation with the label `V`.
    """
    log_density = LogDensity(TARGET, POINT)
    x, nu = Sample(PROPOSAL, I), TARGET.mean(TARGET.size)
    distance = Inner(x, x) - 2 * Inner(x, nu) + Inner(nu, nu)
    shifted = distance / (2 * TARGET.scale(TARGET.size) ** 2) + sp.log(Responsibility(TARGET, TARGET.size, x))
    j = fresh(COMPONENTS)
    w, U, V = PROPOSAL.weight(j), Entry("U", j), Entry("V", j)
    mean = Sum(w * U, j).xreplace({j: fresh(COMPONENTS, j)})
    named = (
        Equation("U_i", "U_{i}", Average(shifted, x), Entry("U", I), indices=(I,)),
        Equation("V_i", "V_{i}", Average(sp.expand(shifted**2), x) - Entry("U", I) ** 2, Entry("V", I), indices=(I,)),
    )
    whole = _variance(lambda power: MixtureExpectation(log_density**power, POINT, PROPOSAL))
    parts = _variance(lambda power: over_components(log_density**power))
    apart = _variance(lambda power: _sum_of_averages(sp.expand(shifted**power)))
    split = (Equation(VARIANCE.name, VARIANCE_TEX, Sum(w * (V + (U - mean) ** 2), j)), *named)
    U_i = _moments(named[0].value)
    V_i = sp.expand(_moments(named[1].value.xreplace({Entry("U", I): sp.S.Zero})) - U_i**2)
    moments = (split[0], replace(named[0], value=U_i), replace(named[1], value=V_i))
    closed = map_values(moments, closed_form)
    averages = averages_named(moments)
    steps = (
        Step(
            "average of the log density over components", "An average under q is the mixture of averages.", whole, parts
        ),
        Step(
            "one mode and its responsibility",
            "log p* = log(w*_K N_K) − log ρ*_K with the last mode K; what does not depend on x shifts no variance.",
            parts,
            apart,
        ),
        Step(
            "variance within and between components",
            "A mixture's variance is the average of the components' variances V_i and the "
            "variance of their averages U_i.",
            apart,
            split,
        ),
        Step(
            "moments of the log density",
            "‖x − ν_K‖² is quadratic in a Gaussian vector; Stein's lemma gives its covariance with log "
            "ρ*_K, with two dimensions more "
            "where scales are unequal.",
            split,
            moments,
        ),
        Step("closure of the variance", "Name the inner products and the averages.", moments, (*closed, *averages)),
    )
    return GeneralDerivation(steps, (), (*closed, *averages))


def _variance(moment: Callable[[int], sp.Expr]) -> Equations:
    """The equation V = E[f²] − E[f]², where `moment` gives E[f^power] for a power."""
    return (Equation(VARIANCE.name, VARIANCE_TEX, moment(2) - moment(1) ** 2),)


def _sum_of_averages(f: sp.Expr) -> sp.Expr:
    """Σ_j w_j E_j[f] for a function of the sample of component i."""
    j = fresh(COMPONENTS, f)
    return Sum((PROPOSAL.weight(I) * Average(f, Sample(PROPOSAL, I))).xreplace({I: j}), j)


def _moments(value: sp.Expr) -> sp.Expr:
    return stein(in_deviations(value))


def variance_steps(setting: Setting, geometry: Geometry, overlaps: Overlaps) -> tuple[Step, ...]:
    """From the closed variance at the setting's K and L to averages over independent scalars in the final states.

    Exact in every dimension. Every step contains the equation with the label `V`.
    """
    names, relations = dict(overlaps.names), dict(overlaps.relations)
    in_states = {names[inner]: factor * state for state, inner, factor in overlaps.moving}
    instance = Instance(setting, general_variance())
    before = instance.closed()
    over_vectors = tuple(e for e in before if isinstance(e.value, Expectation))
    closed = tuple(e for e in before if e not in over_vectors)
    surroundings = Surroundings.of(setting, geometry)
    over_scalars = map_values(in_scalars(setting, surroundings, over_vectors), without_idle_chi_squared)
    scalar = (*closed, *over_scalars)
    # An average that the rates name too must take the same form here.
    related = (*closed, *tidied(map_values(over_scalars, lambda value: value.xreplace(relations))))
    final = map_values(related, lambda value: value.xreplace(relations).xreplace(in_states))
    final = (*final[: len(closed)], *tidied(final[len(closed) :]))
    return (
        Step(
            "jointly Gaussian scalars of the variance",
            "As for the rates; a χ² variable that the shares do not see is replaced by its mean.",
            before,
            scalar,
            in_geometry=bool(geometry.images),
        ),
        Step(
            "final variables of the variance",
            "Put in lengths and relations, and write everything in the states.",
            scalar,
            final,
            True,
        ),
    )


def without_idle_chi_squared(expression: sp.Expr) -> sp.Expr:
    """E[f(z) (g(z) + c)] = E[f g] + E[c] E[f], applied to every χ² variable c on which no share depends."""

    def split(node: Expectation) -> sp.Expr:
        seen = set().union(*(share.free_symbols for share in node.integrand.atoms(Softmax)))
        idle = [v for v in node.variables if isinstance(v, ChiSquared) and v not in seen]
        if not idle:
            return node
        (c,) = idle
        others = [v for v in node.variables if v != c]
        constant, slope = (sp.expand(node.integrand).coeff(c, n) for n in (0, 1))
        if sp.expand(node.integrand - constant - slope * c) != 0:
            raise ArithmeticError(f"{node} is not linear in {c}")
        return Expectation(constant, *others) + c.degrees * Expectation(slope, *others)

    return expression.xreplace({node: split(node) for node in expression.atoms(Expectation)})


def _not_yet_defined(new: Equations, own: Equations) -> Equations:
    """The definitions that the system lacks; raises ArithmeticError if one symbol has two meanings."""
    known = {e.symbol: e.value for e in definitions(own)}
    for e in new:
        if e.symbol in known and known[e.symbol] != e.value:
            raise ArithmeticError(f"{e.symbol} has one meaning in the rates and another in the variance")
    return tuple(e for e in new if e.symbol not in known)


def _with_beta_as_state(system: OdeSystem, added: Equations, rate: sp.Expr) -> OdeSystem:
    """The autonomous system in which beta = min(b, 1) and b is the last state."""
    now = {BETA: sp.Min(INVERSE_TEMPERATURE, sp.S.One)}
    named = tuple((s, e.xreplace(now)) for s, e in system.subexpressions) + in_order_of_use(
        tuple((e.symbol, e.value) for e in added)
    )
    right = (*(e.xreplace(now) for e in system.rhs), rate)
    beta = StateVariable(INVERSE_TEMPERATURE, StateKind.INVERSE_TEMPERATURE, (), (sp.S.Zero, sp.S.One))
    used = set().union(*(e.free_symbols for e in (*right, *(v for _, v in named))))
    fresh = used - set(system.states) - {INVERSE_TEMPERATURE} - {s for s, _ in named} - set(system.parameters)
    parameters = (*system.parameters, *sorted(fresh - {STEP, INTERVAL}, key=lambda s: s.name), STEP, INTERVAL)
    return OdeSystem(system.label, (*system.variables, beta), parameters, named, right, system.gram)


def _the(equations: Equations, label: str) -> Equation:
    (found,) = (e for e in equations if e.label == label)
    return found
