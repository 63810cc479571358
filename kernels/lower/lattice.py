"""Averages over several independent scalars, recognised and sorted into groups that take one pass each.

Such an average is the expectation of a polynomial in the variables, in softmax shares ρ_l and in the logarithms of the
shares. The variables are standard normals z_1 … z_r and at most one χ² variable c. The logits are

    ℓ_l = A_l + Σ_n (B_ln z_n + k_ln z_n²) + Σ_{n<m} k_lnm z_n z_m + k'_l c.

All averages of a system with the same logits form a group. The averages of a group are combinations of moments
E[Π z_n^a c^b Π ρ_l^p Π (log ρ_l)^q], which depend on the coefficients of the logits alone. A compiled function of these
moments therefore contains nothing of the system's states, and groups of one pattern share the function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import sympy as sp

from derive.objects.expectation import ChiSquared, Expectation, StandardNormal
from derive.objects.softmax import Softmax
from derive.objects.system import BETA, OdeSystem
from kernels.lower.lowering import hoisted

MOST_TENSOR_VARIABLES = 3
"""With more variables a tensor grid is too large, and quasi-random points replace all axes but one."""


class Moment(NamedTuple):
    """The powers in the moment E[Π x_n^variables[n] · Π ρ_l^shares[l] · Π (log ρ_l)^logs[l]].

    The χ² variable, if there is one, comes last in `variables`.
    """

    variables: tuple[int, ...]
    shares: tuple[int, ...]
    logs: tuple[int, ...]

    @property
    def powers(self) -> int:
        """The sum of all powers; zero for the moment E[1] = 1."""
        return sum(self.variables) + sum(self.shares) + sum(self.logs)


@dataclass(frozen=True)
class Pattern:
    """What decides the compiled function of a group.

    Attributes
    ----------
    normals
        The number of normal variables.
    chi_squared
        Whether there is a χ² variable.
    components
        The number of logits.
    curved
        Whether a logit is quadratic in the normal variables.
    crossed
        Whether a logit contains a product of two normal variables. Such a pattern is curved, too.
    moments
        The moments that the function computes.
    """

    normals: int
    chi_squared: bool
    components: int
    curved: bool
    crossed: bool
    moments: tuple[Moment, ...]

    @property
    def variables(self) -> int:
        """The number of variables."""
        return self.normals + self.chi_squared

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The pairs of normal variables whose products appear in the logits, in the order of their coefficients."""
        return _pairs(self.normals) if self.crossed else ()

    @property
    def sampled(self) -> bool:
        """Whether quasi-random points replace all axes but one."""
        return self.variables > MOST_TENSOR_VARIABLES

    @property
    def logged(self) -> tuple[int, ...]:
        """The components whose log share appears in some moment."""
        return tuple(l for l in range(self.components) if any(m.logs[l] for m in self.moments))


@dataclass(frozen=True)
class Group:
    """All averages of a system with the same logits.

    Attributes
    ----------
    normals, chi_squared
        The variables.
    logits
        (C,) the logits.
    offsets, chi_slopes
        (C,) the coefficients A_l and k'_l.
    slopes, curvatures
        (C, r) the coefficients B_ln and k_ln.
    crossings
        (C, r(r − 1)/2) the coefficients k_lnm, in the order of `Pattern.pairs`.
    averages
        Each average as a combination of moments, whose coefficients do not depend on the variables.
    """

    normals: tuple[StandardNormal, ...]
    chi_squared: ChiSquared | None
    logits: tuple[sp.Expr, ...]
    offsets: tuple[sp.Expr, ...]
    slopes: tuple[tuple[sp.Expr, ...], ...]
    curvatures: tuple[tuple[sp.Expr, ...], ...]
    crossings: tuple[tuple[sp.Expr, ...], ...]
    chi_slopes: tuple[sp.Expr, ...]
    averages: Mapping[Expectation, Mapping[Moment, sp.Expr]]

    @property
    def variables(self) -> tuple[sp.Symbol, ...]:
        """The normal variables, then the χ² variable."""
        return (*self.normals, self.chi_squared) if self.chi_squared is not None else self.normals

    @property
    def curved(self) -> bool:
        """Whether a logit is quadratic in the normal variables."""
        return self.crossed or any(k != 0 for row in self.curvatures for k in row)

    @property
    def crossed(self) -> bool:
        """Whether a logit contains a product of two normal variables."""
        return any(k != 0 for row in self.crossings for k in row)

    @cached_property
    def moments(self) -> frozenset[Moment]:
        """The moments that appear in the averages, without E[1]."""
        return frozenset(m for combination in self.averages.values() for m in combination if m.powers)

    @property
    def blocks(self) -> tuple[tuple[sp.Expr, ...], ...]:
        """The kinds of coefficients that the logits have, each for one component after the other."""
        kinds = [self.offsets, *((tuple(b for row in self.slopes for b in row),) if self.normals else ())]
        kinds += [tuple(k for row in rows for k in row) for rows, there in self._quadratic if there]
        return (*kinds, self.chi_slopes) if self.chi_squared is not None else tuple(kinds)

    @property
    def _quadratic(self) -> tuple[tuple[tuple[tuple[sp.Expr, ...], ...], bool], ...]:
        return (self.curvatures, self.curved), (self.crossings, self.crossed)

    @property
    def coefficients(self) -> tuple[sp.Expr, ...]:
        """The coefficients of the logits in the order in which a compiled function reads them."""
        return tuple(c for kind in self.blocks for c in kind)

    def __str__(self) -> str:
        first, others = str(next(iter(self.averages))), len(self.averages) - 1
        shortened = first if len(first) <= 80 else f"{first[:77]}..."
        return f"{shortened} and {others} more of the same shares" if others else shortened


def is_lattice_average(average: Expectation, system: OdeSystem) -> bool:
    """Whether an average belongs to a group.

    The other averages are those of tanh and sech over one normal variable. Where such an average looks at several
    states, one rule for all of them is a fine one, while the rule of a group adapts to the state.
    """
    if average.has(Softmax) or len(average.variables) != 1 or not isinstance(average.variables[0], StandardNormal):
        return True
    if len(_states_in(average, system)) < 2:
        return False
    in_shares = _in_shares(average.integrand, system)
    return not in_shares.has(sp.tanh, sp.sech) and len(_families(in_shares)) == 1


def _states_in(average: Expectation, system: OdeSystem) -> set[sp.Symbol]:
    symbols = set(average.free_symbols)
    for symbol, definition in reversed(system.subexpressions):
        if symbol in symbols:
            symbols |= definition.free_symbols
    return symbols & set(system.states)


def _in_shares(integrand: sp.Expr, system: OdeSystem) -> sp.Expr:
    """The integrand with tanh x = 1 − 2ρ and sech² x = 4ρ(1 − ρ), where ρ = 1/(1 + e^{2x}) is a share."""

    def share(x: sp.Expr) -> sp.Expr:
        return Softmax(2, sp.expand(2 * written_out(x, system)), sp.S.Zero)

    squared = integrand.replace(
        lambda e: e.is_Pow and isinstance(e.base, sp.sech) and e.exp == 2,
        lambda e: 4 * share(e.base.args[0]) * (1 - share(e.base.args[0])),
    )
    return squared.replace(sp.tanh, lambda x: 1 - 2 * share(x))


def _families(integrand: sp.Expr) -> set[tuple[sp.Expr, ...]]:
    """The sets of logits in an integrand."""
    return {node.logits for node in integrand.atoms(Softmax)}


def averages_of(system: OdeSystem) -> list[Expectation]:
    """Every average of the system that belongs to a group, once, in order of appearance."""
    expressions = (*(e for _, e in system.subexpressions), *system.rhs)
    found = (
        a
        for e in expressions
        for a in sorted(e.atoms(Expectation), key=sp.default_sort_key)
        if is_lattice_average(a, system)
    )
    return list(dict.fromkeys(found))


def written_out(expression: sp.Expr, system: OdeSystem) -> sp.Expr:
    """The expression with every named subexpression that contains no average replaced by its definition."""
    for symbol, definition in reversed(system.subexpressions):
        if not definition.has(Expectation):
            expression = expression.xreplace({symbol: definition})
    return expression


def definitions_for(expressions: Iterable[sp.Expr], system: OdeSystem) -> list[tuple[sp.Symbol, sp.Expr]]:
    """The named subexpressions that the expressions contain, directly or through other subexpressions, in order.

    Raises ValueError where such a subexpression is an average: an average within an average has no kernel form.
    """
    needed = set().union(*(e.free_symbols for e in expressions))
    kept = []
    for symbol, definition in reversed(system.subexpressions):
        if symbol in needed:
            if definition.has(Expectation):
                raise ValueError(f"{symbol}, an average, stands inside another average")
            kept.append((symbol, definition))
            needed |= definition.free_symbols
    return kept[::-1]


def groups_of(system: OdeSystem) -> list[Group]:
    """The groups of a system's averages. Raises ValueError for an average that has no kernel form."""
    sorted_out: dict[tuple[sp.Expr, ...], list[Expectation]] = {}
    for average in averages_of(system):
        logits = _logits(average, system)
        sorted_out.setdefault(logits or average.variables, []).append(average)
    groups = [_group(_logits(averages[0], system), averages, system) for averages in sorted_out.values()]
    known = {*system.states, *system.parameters, BETA, *(s for s, _ in system.subexpressions)}
    for group in groups:
        definitions_for(group.coefficients, system)
        stray = set().union(*(e.free_symbols for e in group.coefficients)) - known
        if stray:
            raise ValueError(f"{group}: {sorted(map(str, stray))} are neither states nor parameters")
    return groups


def patterns_of(groups: list[Group]) -> list[Pattern]:
    """One pattern for each group. Groups of the same shape share the union of their moments, and so one function."""
    shapes = [_shape(group) for group in groups]
    unions: dict[tuple, set[Moment]] = {}
    for group, shape in zip(groups, shapes, strict=True):
        unions.setdefault(shape, set()).update(group.moments)
    return [
        Pattern(
            len(g.normals),
            g.chi_squared is not None,
            len(g.offsets),
            g.curved,
            g.crossed,
            tuple(sorted(unions[shape])),
        )
        for g, shape in zip(groups, shapes, strict=True)
    ]


def _shape(group: Group) -> tuple:
    """The properties of a group that decide which groups share a compiled function.

    Logarithms cost several times more than shares, so groups with and without logarithms have different shapes.
    """
    logarithms = any(any(m.logs) for m in group.moments)
    quadratic = group.curved, group.crossed
    return len(group.normals), group.chi_squared is not None, len(group.offsets), *quadratic, logarithms


def _pairs(normals: int) -> tuple[tuple[int, int], ...]:
    return tuple(combinations(range(normals), 2))


def _logits(average: Expectation, system: OdeSystem) -> tuple[sp.Expr, ...]:
    found = _families(_in_shares(average.integrand, system))
    if len(found) > 1:
        raise ValueError(f"{average} contains shares of more than one set of logits")
    return found.pop() if found else ()


def _group(logits: tuple[sp.Expr, ...], averages: list[Expectation], system: OdeSystem) -> Group:
    variables = list(dict.fromkeys(v for a in sorted(averages, key=lambda a: -len(a.variables)) for v in a.variables))
    normals = tuple(v for v in variables if isinstance(v, StandardNormal))
    others = [v for v in variables if not isinstance(v, StandardNormal)]
    if len(others) > 1 or not all(isinstance(v, ChiSquared) for v in others):
        raise ValueError(
            f"{averages[0]}: beside standard normal variables an average may have one chi-squared variable"
        )
    chi_squared = others[0] if others else None
    parts = [_coefficients(logit, normals, chi_squared) for logit in (logits or (sp.S.Zero,))]
    offsets, slopes, curvatures, crossings, chi_slopes = zip(*parts, strict=True)
    bound = (*normals, *others)
    averages_of_moments = {a: _moments(a, logits, bound, system) for a in averages}
    if len(logits) == 2:
        averages_of_moments = _without_complements(averages_of_moments, 1 if logits[1] == 0 else 0, chi_squared)
    return Group(normals, chi_squared, logits, offsets, slopes, curvatures, crossings, chi_slopes, averages_of_moments)


def _coefficients(
    logit: sp.Expr, normals: tuple[StandardNormal, ...], chi_squared: ChiSquared | None
) -> tuple[sp.Expr, tuple[sp.Expr, ...], tuple[sp.Expr, ...], tuple[sp.Expr, ...], sp.Expr]:
    """The coefficients A, B_n, k_n, k_nm and k' of a logit. Raises ValueError for a logit that has other terms."""
    bound = (*normals, *((chi_squared,) if chi_squared is not None else ()))
    constants, text = hoisted(logit, set(bound))
    polynomial = _polynomial(text, bound, logit)
    back = dict(constants)
    found: dict[tuple[int, ...], sp.Expr] = {power: c.xreplace(back) for power, c in polynomial.terms()}

    def take(*factors: int) -> sp.Expr:
        """The coefficient of a product of variables, given by their indices."""
        return found.pop(tuple(factors.count(m) for m in range(len(bound))), sp.S.Zero)

    offset = take()
    slopes = tuple(take(n) for n in range(len(normals)))
    curvatures = tuple(take(n, n) for n in range(len(normals)))
    crossings = tuple(take(n, m) for n, m in _pairs(len(normals)))
    chi_slope = take(len(normals)) if chi_squared is not None else sp.S.Zero
    if any(c != 0 for c in found.values()):
        raise ValueError(f"the logit {logit} is not quadratic in normal variables plus linear in a chi-squared one")
    return offset, slopes, curvatures, crossings, chi_slope


def _moments(
    average: Expectation, logits: tuple[sp.Expr, ...], bound: tuple[sp.Symbol, ...], system: OdeSystem
) -> dict[Moment, sp.Expr]:
    count = max(len(logits), 1)
    shares = sp.symbols(f"share_:{count}", positive=True)
    logs = sp.symbols(f"log_share_:{count}", real=True)
    flat = _in_shares(average.integrand, system).replace(
        lambda e: isinstance(e, sp.log) and isinstance(e.args[0], Softmax), lambda e: logs[e.args[0].component - 1]
    )
    flat = flat.xreplace({node: shares[node.component - 1] for node in flat.atoms(Softmax)})
    generators = (*bound, *shares, *logs)
    constants, text = hoisted(flat, set(generators))
    back = dict(constants)
    found = {}
    for power, coefficient in _polynomial(text, generators, average).terms():
        first = len(bound)
        found[Moment(power[:first], power[first : first + count], power[first + count :])] = coefficient.xreplace(back)
    return found


def _without_complements(
    combinations: dict[Expectation, dict[Moment, sp.Expr]], replaced: int, chi_squared: ChiSquared | None
) -> dict[Expectation, dict[Moment, sp.Expr]]:
    """The combinations of moments of two shares with E[f ρ_j] = E[f] − E[f ρ_k] where both moments appear.

    replaced: j, the index 0 or 1. f is a power of the variables, so that E[f] is a number.
    """
    own, others = ((0, 1), (1, 0)) if replaced else ((1, 0), (0, 1))
    known = {m for combination in combinations.values() for m in combination}
    found = {}
    for average, combination in combinations.items():
        found[average] = dict[Moment, sp.Expr]()
        for moment, coefficient in combination.items():
            other = moment._replace(shares=others)
            if moment.shares != own or any(moment.logs) or other not in known:
                parts = {moment: coefficient}
            else:
                one = moment._replace(variables=(0,) * len(moment.variables), shares=(0, 0))
                parts = {one: coefficient * _mean_of_powers(moment.variables, chi_squared), other: -coefficient}
            for part, c in parts.items():
                found[average][part] = found[average].get(part, sp.S.Zero) + c
    return found


def _mean_of_powers(powers: tuple[int, ...], chi_squared: ChiSquared | None) -> sp.Expr:
    """E[Π z_n^{a_n} c^b], where the χ² variable, if there is one, comes last."""
    normal, chi = (powers, 0) if chi_squared is None else (powers[:-1], powers[-1])
    rising = (chi_squared.degrees + 2 * k for k in range(chi)) if chi_squared is not None else ()
    return sp.Mul(*(sp.S.Zero if a % 2 else sp.factorial2(a - 1) for a in normal), *rising)


def _polynomial(expression: sp.Expr, generators: tuple[sp.Symbol, ...], what: sp.Expr) -> sp.Poly:
    try:
        polynomial = sp.Poly(expression, *generators)
    except sp.PolynomialError:
        polynomial = None
    if polynomial is None or any(set(c.free_symbols) & set(generators) for c in polynomial.coeffs()):
        raise ValueError(
            f"{what} is not a polynomial in its variables and softmax shares, which kernels over several variables need"
        )
    return polynomial
