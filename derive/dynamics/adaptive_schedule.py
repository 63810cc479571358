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

import sympy as sp

from derive.dynamics.derivation import Derivation, in_order_of_use
from derive.dynamics.scalar_steps import in_scalars, tidied
from derive.dynamics.vector_steps import average_definitions, average_name
from derive.objects.expectation import ChiSquared, Expectation
from derive.objects.mixtures import DIMENSION, LogDensity, Responsibility
from derive.objects.notation import symbol_tex
from derive.objects.objective import POINT, MixtureExpectation, Setting
from derive.objects.softmax import Softmax
from derive.objects.states import StateKind, StateVariable
from derive.objects.step import Equation, Equations, Step, definitions, map_values, rates
from derive.objects.system import BETA, OdeSystem
from derive.objects.vectors import GaussianVector, Inner, Vector
from derive.rules.flow import close
from derive.rules.geometry import Geometry, Overlaps
from derive.rules.gradient_rules import average, second_moments
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
        steps=(*derivation.steps, *variance, flow),
        system=_with_beta_as_state(derivation.system, (*added, V), rate),
    )


def variance_steps(setting: Setting, geometry: Geometry, overlaps: Overlaps) -> tuple[Step, ...]:
    """From Var_q[log p*] to averages over independent scalars in the final states, exact in every dimension.

    Every step contains the equation with the label `V`.
    """
    names, relations = dict(overlaps.names), dict(overlaps.relations)
    in_states = {names[inner]: factor * state for state, inner, factor in overlaps.moving}
    log_density = LogDensity(setting.target, POINT)
    whole = _variance(lambda power: MixtureExpectation(log_density**power, POINT, setting.proposal))
    parts = _variance(
        lambda power: _over_components(setting, lambda x: Expectation(log_density.xreplace({POINT: x}) ** power, x))
    )
    unit = 1 / (2 * setting.target.scales[-1] ** 2)

    def shifted(x: GaussianVector) -> sp.Expr:
        return unit * _squared_distance(setting, x) + _log_responsibility(setting, x)

    apart = _variance(lambda power: _over_components(setting, lambda x: average(sp.expand(shifted(x) ** power), x)))
    split = _within_and_between(setting)
    moments = tuple(replace(e, value=_in_moments(e, setting)) for e in split)
    averages = sorted(set().union(*(e.value.atoms(Expectation) for e in moments)), key=sp.default_sort_key)
    named = {a: average_name(a, setting) for a in averages}
    if len(set(named.values())) < len(named):
        raise ArithmeticError("two averages share a name")
    closed = map_values(moments, lambda value: close(value.xreplace(named), names))
    over_vectors = average_definitions(named, setting)
    surroundings = Surroundings.of(setting, geometry)
    over_scalars = map_values(in_scalars(setting, surroundings, over_vectors), without_idle_chi_squared)
    scalar = (*closed, *over_scalars)
    # An average that the rates name too must take the same form here.
    related = (*closed, *tidied(map_values(over_scalars, lambda value: value.xreplace(relations))))
    final = map_values(related, lambda value: value.xreplace(relations).xreplace(in_states))
    final = (*final[: len(closed)], *tidied(final[len(closed) :]))
    return (
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
        Step("closure of the variance", "Name the inner products and the averages.", moments, (*closed, *over_vectors)),
        Step(
            "jointly Gaussian scalars of the variance",
            "As for the rates; a χ² variable that the shares do not see is replaced by its mean.",
            (*closed, *over_vectors),
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


def _variance(moment: Callable[[int], sp.Expr]) -> Equations:
    """The equation V = E[f²] − E[f]², where `moment` gives E[f^power] for a power."""
    return (Equation(VARIANCE.name, VARIANCE_TEX, moment(2) - moment(1) ** 2),)


def _over_components(setting: Setting, of_sample: Callable[[GaussianVector], sp.Expr]) -> sp.Expr:
    return sp.Add(*(w * of_sample(x) for w, x in zip(setting.proposal.weights, setting.samples, strict=True)))


def _squared_distance(setting: Setting, x: GaussianVector) -> sp.Expr:
    """‖x − ν_K‖²."""
    nu = setting.target.means[-1]
    return Inner(x, x) - 2 * Inner(x, nu) + Inner(nu, nu)


def _log_responsibility(setting: Setting, x: GaussianVector) -> sp.Expr:
    """log ρ*_K(x), zero for a single mode."""
    return sp.log(Responsibility(setting.target, setting.target.size - 1, x))


def _within_and_between(setting: Setting) -> Equations:
    """The variance of X + H within and between components, where X = ‖x − ν_K‖²/(2 σ*_K²) and H = log ρ*_K.

    The average over component i is U_i = E_i[X + H]. The variance in component i is
    V_i = E_i[X²] − E_i[X]² + 2 Cov_i[X, H] + Var_i[H], where E_i[X²] is kept as one average.
    """
    weights, unit = setting.proposal.weights, 1 / (2 * setting.target.scales[-1] ** 2)
    defined: list[Equation] = []
    for i, x in enumerate(setting.samples, 1):
        distance, H = _squared_distance(setting, x), _log_responsibility(setting, x)
        mean_X, mean_H = unit * average(distance, x), average(H, x)
        covariance = unit * average(sp.expand(distance * H), x) - mean_X * mean_H
        variance = unit**2 * Expectation(distance**2, x) - mean_X**2 + 2 * covariance + average(H**2, x) - mean_H**2
        U, V = _component_average(i), _component_variance(i)
        defined += [Equation(U.name, symbol_tex(U), mean_X + mean_H, U), Equation(V.name, symbol_tex(V), variance, V)]
    mean = sp.Add(*(w * _component_average(i) for i, w in enumerate(weights, 1)))
    total = sp.Add(
        *(w * (_component_variance(i) + (_component_average(i) - mean) ** 2) for i, w in enumerate(weights, 1))
    )
    if len(weights) == 1:
        total = _component_variance(1)
    return (Equation(VARIANCE.name, VARIANCE_TEX, total), *defined)


def _component_average(i: int) -> sp.Symbol:
    return sp.Symbol(f"U_{i}", real=True)


def _component_variance(i: int) -> sp.Symbol:
    return sp.Symbol(f"V_{i}", real=True)


def _in_moments(equation: Equation, setting: Setting) -> sp.Expr:
    """The right-hand side with the Gaussian moments of ‖x − ν_K‖² carried out.

    With x = a + σz and D = ‖a − ν‖, Var‖x − ν‖² = 4σ² D² + 2dσ⁴.
    """
    value = equation.value
    for x in setting.samples:
        distance = _squared_distance(setting, x)
        apart = Vector({x.mean: sp.S.One, setting.target.means[-1]: sp.S.NegativeOne})
        spread = 4 * x.scale**2 * apart.dot(apart) + 2 * DIMENSION * x.scale**4
        value = value.xreplace({Expectation(distance**2, x): spread + average(distance, x) ** 2})
    return sp.expand(second_moments(value)) if value.has(Expectation) else value


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
