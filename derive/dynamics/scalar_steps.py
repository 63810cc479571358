"""The last steps, from the closed rates to the final system: their equations contain overlaps and averages only."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import sympy as sp

from derive.objects.expectation import Expectation, StandardNormal, rewriter
from derive.objects.mixtures import Responsibility
from derive.objects.notation import first_index, indexed_name, symbol_tex
from derive.objects.objective import Setting
from derive.objects.softmax import Softmax
from derive.objects.step import DefinitionKind, Equation, Equations, Step, definitions, map_values, needed, rates
from derive.rules.geometry import Geometry, Overlaps
from derive.rules.reduction import CholeskyRoot, FactorNames, Surroundings, reduce_to_scalars
from derive.rules.span_reduction import names_in_law
from derive.rules.two_modes import cameron_martin_to_sech, sigmoid_as_tanh


def scalar_steps(setting: Setting, geometry: Geometry, overlaps: Overlaps, closed: Equations) -> tuple[Step, ...]:
    """From rates with averages over vectors to rates in the final states with averages over independent scalars."""
    names, relations = dict(overlaps.names), dict(overlaps.relations)
    overlap_rates = {f"d{name.name}" for name in names.values()}
    steps: list[Step] = []

    def record(rule: str, statement: str, after: Equations, limit: bool = False) -> None:
        before = steps[-1].after if steps else closed
        steps.append(Step(rule, statement, before, after, in_geometry=bool(steps or geometry.images), limit=limit))

    exact = Surroundings.of(setting, geometry)
    record(
        "jointly Gaussian scalars",
        "A responsibility sees its sample only through the linear forms in its logits, which are jointly "
        "Gaussian, and with unequal scales "
        "through the sample's squared length, of which an independent χ² variable is left.",
        (*rates(closed), *span_definitions(setting), *in_scalars(setting, exact, definitions(closed))),
    )
    if geometry.large_dimension:
        limit = Surroundings.of(setting, geometry, large_dimension=True)
        record(
            "limit of many dimensions",
            "As d → ∞ the squared length becomes Gaussian, N(d, 2d), and the logits jointly Gaussian.",
            (*rates(closed), *in_scalars(setting, limit, definitions(closed))),
            limit=True,
        )
    by_label = {e.label: e for e in steps[-1].after}
    others = tuple(e for e in rates(steps[-1].after) if e.label not in overlap_rates)
    kept = (
        *(by_label[f"d{names[inner].name}"] for _, inner, _ in overlaps.moving),
        *others,
        *definitions(steps[-1].after),
    )
    record(
        "geometry",
        "Put in what is known of the vectors' lengths and relations; dependent overlaps leave the list, "
        "and averages that no rate uses.",
        needed(tidied(_put_in(kept, relations))),
    )
    first_order = [e for e in definitions(steps[-1].after) if _is_sigmoid(e.value)]
    if setting.target.size == 2 and any(e.kind is DefinitionKind.TARGET_SHARE for e in first_order):
        record(
            "two modes: tanh",
            "1/(1 + e^y) = ½ + ½ tanh(−y/2), and E[1] = 1.",
            _target_as_tanh(setting, steps[-1].after),
        )
    # With unequal scales the two fluxes are equal in every dimension, but not after the limit of many dimensions.
    equal = len(set(setting.proposal.scales)) == 1
    if (
        setting.proposal.size == 2
        and equal
        and set(_fluxes(setting)) <= {e.label for e in first_order}
        and "weights" not in setting.learn
    ):
        record(
            "two components: sech",
            "A Cameron–Martin shift leaves an even integrand; the reflection z → −z then shows w_1 "
            "E_1[ρ_2] = w_2 E_2[ρ_1] = g.",
            _proposal_as_sech(setting, steps[-1].after),
        )
    per_state = {f"d{names[inner].name}": (state, factor) for state, inner, factor in overlaps.moving}
    scaled = (
        *(_per_state(e, *per_state[e.label]) if e.label in per_state else e for e in rates(steps[-1].after)),
        *definitions(steps[-1].after),
    )
    in_states = {names[inner]: factor * state for state, inner, factor in overlaps.moving if names[inner] != state}
    final = tidied(_put_in(scaled, in_states), steps[-1].after)
    steps.append(
        Step(
            "final variables",
            "Divide the overlaps by the lengths and write everything in the states.",
            scaled,
            final,
            in_geometry=True,
        )
    )
    return tuple(steps)


def _put_in(equations: Equations, values: Mapping[sp.Symbol, sp.Expr]) -> Equations:
    """The equations with symbols replaced."""
    return map_values(equations, rewriter(lambda e: values.get(e, e))) if values else equations


def in_scalars(setting: Setting, surroundings: Surroundings, defined: Equations) -> Equations:
    """The definitions, with every average reduced to one over independent scalars.

    The definitions of the Cholesky entries that the averages use come first.
    """
    factors: dict[sp.Symbol, sp.Expr] = {}
    reduced: list[Equation] = []
    for equation in defined:
        if not isinstance(equation.value, Expectation):
            reduced.append(equation)
            continue
        result = reduce_to_scalars(equation.value, surroundings, factor_names(equation.value, setting))
        for symbol, value in result.factor:
            if factors.setdefault(symbol, value) != value:
                raise ArithmeticError(f"two Cholesky factors share the name {symbol}")
        reduced.append(replace(equation, value=result.average))
    entries = (Equation(s.name, symbol_tex(s), value, s, DefinitionKind.FACTOR) for s, value in factors.items())
    return (*entries, *reduced)


def factor_names(average: Expectation, setting: Setting) -> FactorNames:
    """The names of the entries of the Cholesky factor in an average over a sample of component i.

    They begin with C_i where the average is of the proposal's responsibilities. For the target's responsibilities they
    begin with C_star where equal scales make the factor the same for every component, and with C_star_i otherwise. For
    the proposal's responsibilities over a sample of mode k they begin with Cat_k.
    """
    (x,) = average.variables
    over_target = x.mean in setting.target.means
    samples = setting.target_samples if over_target else setting.samples
    i = next(n for n, sample in enumerate(samples, 1) if sample.mean == x.mean)
    (mixture,) = {rho.mixture for rho in average.integrand.atoms(Responsibility)}
    if mixture != setting.target:
        return FactorNames("Cat" if over_target else "C", (i,), setting.apart)
    return FactorNames("C_star", () if len(set(mixture.scales)) == 1 else (i,), setting.apart)


def span_definitions(setting: Setting) -> Equations:
    """The definitions of the entries of precisions and of Cholesky factors of the covariances in a span."""
    laws = [law for mixture in (setting.target, setting.proposal) for law in mixture.span]
    found = dict(item for law in laws for item in names_in_law(law))
    return tuple(Equation(s.name, symbol_tex(s), value, s, DefinitionKind.FACTOR) for s, value in found.items())


def _fluxes(setting: Setting) -> tuple[str, str]:
    """The labels of E_1[ρ_2] and E_2[ρ_1]."""
    first, second = (indexed_name("rho", pair, apart=setting.apart) for pair in ((1, 2), (2, 1)))
    return first, second


def _is_sigmoid(value: sp.Expr) -> bool:
    """Whether the value is the average of a share of two components whose logit is linear in one normal variable."""
    if not isinstance(value, Expectation) or not isinstance(value.integrand, Softmax) or len(value.variables) != 1:
        return False
    (z,), logits = value.variables, value.integrand.logits
    return isinstance(z, StandardNormal) and len(logits) == 2 and all(sp.diff(logit, z, 2) == 0 for logit in logits)


def _per_state(rate: Equation, state: sp.Symbol, factor: sp.Expr) -> Equation:
    return Equation(f"d{state.name}", rf"\frac{{d{symbol_tex(state)}}}{{dt}}", rate.value / factor)


def tidied(equations: Equations, known: Equations = ()) -> Equations:
    """The equations with factored radicands, and with the terms of each rate grouped by the averages.

    The values of the `known` equations are tidy already.
    """
    averages = [e.symbol for e in definitions(equations) if e.kind is not DefinitionKind.FACTOR]
    order = {symbol: n for n, symbol in enumerate(averages)}
    tidy_values = {e.value for e in known}
    rooted = rewriter(lambda e: sp.sqrt(_factored(e.base)) if e.is_Pow and e.exp == sp.S.Half else e)

    def tidy(expression: sp.Expr) -> sp.Expr:
        expression = rooted(expression)
        return expression if expression.has(Expectation) else _grouped(_expanded(expression), order)

    def tidied_value(equation: Equation) -> sp.Expr:
        value = equation.value
        if value in tidy_values:
            return value
        # A Cholesky entry is a root, or a quotient by an earlier entry, and holds no average.
        in_parts = equation.kind is DefinitionKind.FACTOR and (value.is_Mul or isinstance(value, CholeskyRoot))
        return value.func(*map(tidy, value.args)) if in_parts else tidy(value)

    return tuple(replace(e, value=tidied_value(e)) for e in equations)


_factored = lru_cache(maxsize=256)(sp.factor)
"""The same few radicands stand in many averages, and in every step."""


def _expanded(expression: sp.Expr) -> sp.Expr:
    """The sum, expanded; most of its terms hold no sum, or are a monomial times a sum of monomials."""
    return sp.Add(*(part for term in sp.Add.make_args(expression) for part in _parts(term)))


def _parts(term: sp.Expr) -> list[sp.Expr]:
    if not term.has(sp.Add):
        return [term]
    factors = sp.Mul.make_args(term)
    sums = [f for f in factors if f.is_Add]
    outside = [f for f in factors if not f.is_Add]
    if len(sums) == 1 and not any(f.has(sp.Add, sp.Function) for f in (*outside, *sums[0].args)):
        return [sp.Mul(*outside, inside) for inside in sums[0].args]
    return [sp.expand(term)]


def _grouped(expanded: sp.Expr, order: Mapping[sp.Symbol, int]) -> sp.Expr:
    """The sum with its terms grouped by the power of the first symbol of the order that they contain.

    This is SymPy's `collect`, in one pass over the terms.
    """
    groups: dict[sp.Expr, list[list[sp.Expr]]] = defaultdict(list)
    for term in sp.Add.make_args(expanded):
        factors = sp.Mul.make_args(term)
        first = min((s for f in factors for s in f.free_symbols if s in order), key=order.__getitem__, default=None)
        power = sp.Mul(*(f for f in factors if first in f.free_symbols))
        groups[power].append([f for f in factors if first not in f.free_symbols])
    return sp.Add(*(power * _common_factors_out(rests) for power, rests in groups.items()))


def _common_factors_out(terms: list[list[sp.Expr]]) -> sp.Expr:
    """The sum of terms, each a list of its factors, as SymPy's `factor_terms` writes it.

    That function is slow, and most sums have nothing in common but whole factors.
    """
    common = [f for f in terms[0] if _is_power(f) and all(f in term for term in terms)]
    total = sp.Add(*(sp.Mul(*(f for f in term if f not in common)) for term in terms))
    if total.has(sp.Add) and not _nothing_in_common(total):
        total = sp.factor_terms(total)
    return sp.Mul(*common, total)


def _nothing_in_common(total: sp.Expr) -> bool:
    """Whether the terms are monomials without a common symbol, number or sign."""
    coefficients, monomials = zip(*(term.as_coeff_Mul() for term in sp.Add.make_args(total)), strict=True)
    return (
        not set.intersection(*(monomial.free_symbols for monomial in monomials))
        and all(c.is_Integer for c in coefficients)
        and max(coefficients) > 0
        and math.gcd(*map(int, coefficients)) == 1
        and all(f == 1 or _is_power(f) for monomial in monomials for f in sp.Mul.make_args(monomial))
    )


def _is_power(factor: sp.Expr) -> bool:
    return factor.as_base_exp()[0].is_Symbol


def _target_as_tanh(setting: Setting, current: Equations) -> Equations:
    """ρ̄*_i1 = (1 + F_i)/2 and ρ̄*_i2 = (1 − F_i)/2, with h* half the log ratio of the target's weights."""
    log_ratio = _LogRatio(sp.Symbol("h_star", real=True), setting.target.weights, halves=2)
    tangents: dict[sp.Symbol, sp.Expr] = {}
    replaced: dict[sp.Symbol, sp.Expr] = {}
    for average in definitions(current):
        if average.kind is not DefinitionKind.TARGET_SHARE or not _is_sigmoid(average.value):
            continue
        i = first_index(average.label)
        F = sp.Symbol(f"F_{i}", real=True)
        half_sum = sigmoid_as_tanh(average.value)
        (tangent,) = half_sum.atoms(Expectation)
        first = tangents.setdefault(F, tangent)
        # SymPy takes the sign out of one of tanh(x) and tanh(−x), unless x has factors that are sums.
        opposite = first != tangent and _sum_of_arguments(first, tangent) == 0
        if first != tangent and not opposite:
            raise ArithmeticError("the averages of two responsibilities are not one average of tanh")
        replaced[average.symbol] = half_sum.xreplace({tangent: -F if opposite else F})
    named = [Equation(F.name, symbol_tex(F), log_ratio.name_in(tangent, sp.tanh), F) for F, tangent in tangents.items()]
    kept = [e for e in definitions(current) if e.symbol not in replaced]
    used = _with_averages(replaced, (*rates(current), *kept))
    own, others = rates(used), definitions(used)
    return tidied((*own, log_ratio.definition(), *named, *others), current)


def _sum_of_arguments(*averages: sp.Expr) -> sp.Expr:
    return sp.expand(sp.Add(*(argument.args[0] for average in averages for argument in average.atoms(sp.tanh))))


def _proposal_as_sech(setting: Setting, current: Equations) -> Equations:
    """ρ̄_12 = g/w_1 and ρ̄_21 = g/w_2, once both fluxes w_i ρ̄_ij have become the same expression."""
    log_ratio = _LogRatio(sp.Symbol("lambda_q", real=True), setting.proposal.weights, halves=1)
    weight_of = dict(zip(_fluxes(setting), setting.proposal.weights, strict=True))
    averages = tuple(e for e in definitions(current) if e.label in weight_of)
    g = sp.Symbol("g", positive=True)
    fluxes = map_values(averages, cameron_martin_to_sech)
    fluxes = tuple(Equation(e.label, e.left, weight_of[e.label] * e.value, e.symbol) for e in fluxes)
    if len(fluxes) != 2 or sp.simplify(fluxes[0].value - fluxes[1].value) != 0:
        raise ArithmeticError("w_1 E_1[ρ_2] and w_2 E_2[ρ_1] did not become one expression")
    flux = Equation("g", "g", log_ratio.name_in(fluxes[0].value, sp.sech), g)
    replaced = {e.symbol: g / weight_of[e.label] for e in averages}
    kept = [e for e in definitions(current) if e.symbol not in replaced]
    return tidied((*_with_averages(replaced, (*rates(current), *kept)), log_ratio.definition(), flux), current)


def _with_averages(replaced: Mapping[sp.Symbol, sp.Expr], equations: Equations) -> Equations:
    """The equations with named averages replaced where they are used; an average itself stays as it is."""
    return map_values(equations, lambda value: value if value.has(Expectation) else value.xreplace(replaced))


class _LogRatio:
    """A symbol for (log w_1 − log w_2)/halves, and its use in the arguments of averages."""

    def __init__(self, symbol: sp.Symbol, weights: sp.Tuple, halves: int) -> None:
        self.symbol, self.weights, self.halves = symbol, weights, halves

    def definition(self) -> Equation:
        first, second = self.weights
        return Equation(
            self.symbol.name, symbol_tex(self.symbol), (sp.log(first) - sp.log(second)) / self.halves, self.symbol
        )

    def name_in(self, average: sp.Expr, function: type[sp.Function]) -> sp.Expr:
        first, second = self.weights
        ratio = {sp.log(first): self.halves * self.symbol + sp.log(second)}

        def named(argument: sp.Expr) -> sp.Expr:
            return sp.expand(sp.expand(sp.expand_log(argument, force=True)).xreplace(ratio))

        return average.replace(lambda e: isinstance(e, function), lambda e: function(named(e.args[0])))
