"""Negative controls: systems that differ from a given system in a single term, each of which a sound check must reject.

A site is an additive expression in which a term can be wrong: a right-hand side, a named subexpression, the integrand
of an expectation, or the argument of a function. At every site each term is flipped, doubled and dropped, and each
symbol in it is exchanged, one occurrence at a time, for a similar symbol. A mutant that is provably the same system as
the original, or as an earlier mutant, is left out. A canonical form gives the proof, never the outcome of the checks
that the mutants are there to test.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import permutations, product

import sympy as sp

from derive.checks.system_numbers import SystemNumbers, same
from derive.objects.expectation import ChiSquared, Expectation, StandardNormal
from derive.objects.softmax import Softmax
from derive.objects.system import OdeSystem
from derive.rules.reduction import AtLargest, CholeskyRoot

SCALED_KINDS = (("sign", "sign flipped", -1), ("factor 2", "factor 2", 2), ("dropped term", "dropped", 0))
"""The changes of a term: (kind, what the label says, factor of the term)."""

Path = tuple[int, ...]
Change = tuple[str, str, sp.Expr]
Partners = dict[sp.Symbol, tuple[tuple[str, sp.Symbol], ...]]


@dataclass(frozen=True)
class Mutant:
    """A system with one thing wrong.

    Attributes
    ----------
    label : str
        The change in words.
    kind : str
        "sign", "factor 2", "dropped term", "swapped index" (m_2 for m_1) or "swapped state" (s for m_1).
    system : OdeSystem
        The wrong system.
    """

    label: str
    kind: str
    system: OdeSystem


@lru_cache(maxsize=4)
def one_term_mutations(system: OdeSystem, most: int | None = None) -> tuple[Mutant, ...]:
    """Return every one-term mutant of the system, in a fixed order.

    Mutants that are provably equivalent to the system or to an earlier mutant are left out. With more than `most`
    candidates, a sample of `most` is taken, always the same one.
    """
    candidates = list(_candidates(system))
    if most is not None and len(candidates) > most:
        chosen = sorted(random.Random(0).sample(range(len(candidates)), most))
        candidates = [candidates[n] for n in chosen]
    kept = [system]
    numbers = SystemNumbers()
    rates = [numbers.rates(system)]
    form = cache(_system_form)
    mutants = []
    for label, kind, candidate in candidates:
        found = numbers.rates(candidate)
        alike = [other for other, known in zip(kept, rates, strict=True) if same(known, found)]
        # The normal form is the only proof. It takes long, and systems with other rates cannot have the same one.
        if not any(form(other) == form(candidate) for other in alike):
            kept.append(candidate)
            rates.append(found)
            mutants.append(Mutant(label, kind, candidate))
    return tuple(mutants)


def equivalent(first: sp.Expr, second: sp.Expr) -> bool:
    """Return whether the two expressions are proven equal as functions.

    False means that the canonical form gives no proof, not that they differ.
    """
    return canonical(first - second) == 0


@cache
def canonical(expression: sp.Expr) -> sp.Expr:
    """Return a normal form of the expression.

    The form is expanded. Each expectation in it is a sum of terms, each of which represents its class under the
    symmetries of the variables' law.
    """
    expectations = sorted(expression.atoms(Expectation), key=sp.default_sort_key)
    return _expanded(expression.xreplace({e: _canonical_expectation(e) for e in expectations}))


@cache
def _canonical_expectation(average: Expectation) -> sp.Expr:
    """Return the normal form of an average over independent scalars.

    Independent standard normal variables may be renamed, permuted and reflected. A term that such a change maps to its
    negative averages to 0.
    """
    if not all(isinstance(v, StandardNormal | ChiSquared) for v in average.variables):
        return average
    total = sp.S.Zero
    rest = [v for v in average.variables if isinstance(v, ChiSquared)]
    for term in sp.Add.make_args(canonical(average.integrand)):
        constant, varying = term.as_independent(*average.variables, as_Add=False)
        used = [v for v in average.variables if v in varying.free_symbols and v not in rest]
        names = [StandardNormal(f"z_{n}") for n in range(1, len(used) + 1)]
        images = {_expanded(varying.xreplace(symmetry)).as_coeff_Mul() for symmetry in _symmetries(used, names)}
        if not any((-sign, body) in images for sign, body in images):
            sign, body = min(images, key=lambda image: sp.default_sort_key(image[1]))
            total += constant * sign * (Expectation(body, *names, *rest) if names or rest else body)
    return total


def _symmetries(variables: list[sp.Symbol], names: list[StandardNormal]) -> Iterator[dict[sp.Symbol, sp.Expr]]:
    for order in permutations(names):
        for signs in product((1, -1), repeat=len(names)):
            yield {v: sign * name for v, sign, name in zip(variables, signs, order, strict=True)}


def _expanded(expression: sp.Expr) -> sp.Expr:
    """Expand at every depth outside expectations. Factors leave radicals, so that √(2R²(1−s)) has one form."""
    opaque = {e: sp.Dummy(real=True) for e in sorted(expression.atoms(Expectation), key=sp.default_sort_key)}
    radicals = {
        e: _factored(e)
        for e in expression.atoms(sp.Pow)
        if e.exp.is_Rational and not e.exp.is_Integer and e.base.is_Add
    }
    expanded = sp.expand(expression.xreplace({**radicals, **opaque}))
    return expanded.xreplace({dummy: e for e, dummy in opaque.items()})


@cache
def _factored(radical: sp.Pow) -> sp.Expr:
    return sp.factor(radical.base) ** radical.exp


def _system_form(system: OdeSystem) -> tuple[sp.Expr, ...]:
    """Return the system's normal form.

    Where every average runs over one variable, named subexpressions are written out. Otherwise the form is taken name
    by name, because the written-out form would be too long.
    """
    named = [e for _, e in system.subexpressions]
    if all(len(a.variables) == 1 for e in named for a in e.atoms(Expectation)):
        return tuple(canonical(e) for e in system.expanded_rhs())
    return tuple(canonical(e) for e in (*named, *system.rhs))


def _candidates(system: OdeSystem) -> Iterator[tuple[str, str, OdeSystem]]:
    constants = (*system.states, *system.parameters)
    named = tuple(symbol for symbol, _ in system.subexpressions)
    partners = _partners((*constants, *named), system.states)
    for n, (state, expression) in enumerate(zip(system.states, system.rhs, strict=True)):
        for label, kind, changed in _changes(expression, partners):
            rhs = (*system.rhs[:n], changed, *system.rhs[n + 1 :])
            yield f"d{state}/dt: {label}", kind, replace(system, rhs=rhs)
    for n, (symbol, expression) in enumerate(system.subexpressions):
        partners = _partners((*constants, *named[:n]), system.states)
        for label, kind, changed in _changes(expression, partners):
            subexpressions = (*system.subexpressions[:n], (symbol, changed), *system.subexpressions[n + 1 :])
            yield f"{symbol}: {label}", kind, replace(system, subexpressions=subexpressions)


def _partners(symbols: tuple[sp.Symbol, ...], states: tuple[sp.Symbol, ...]) -> Partners:
    """Return what each symbol is exchanged for.

    This is the next symbol of its family (m_1, m_2, ...), and for a state also the next state of another family.
    """
    result: Partners = {}
    for symbol in symbols:
        following = [*_after(symbol, symbols)]
        kin = [("swapped index", s) for s in following if _family(s) == _family(symbol)]
        others = (
            [("swapped state", s) for s in _after(symbol, states) if _family(s) != _family(symbol)]
            if symbol in states
            else []
        )
        result[symbol] = (*kin[:1], *others[:1])
    return result


def _after(symbol: sp.Symbol, symbols: tuple[sp.Symbol, ...]) -> tuple[sp.Symbol, ...]:
    """Return the other symbols in cyclic order from this one."""
    place = symbols.index(symbol)
    return symbols[place + 1 :] + symbols[:place]


def _family(symbol: sp.Symbol) -> str:
    return re.sub(r"_\d+$", "_", symbol.name)


def _changes(expression: sp.Expr, partners: Partners) -> Iterator[Change]:
    """Yield every changed expression, with its label and kind.

    The changes apply to the expression expanded at every site.
    """
    expression = sp.expand(expression, log=False, power_base=False, power_exp=False)
    for site, path in _numbered(_sites(expression)):
        additive = _at(expression, path)
        terms = additive.as_ordered_terms() if additive.is_Add else [additive]
        for n, term in enumerate(terms):
            rest = sp.Add(*terms[:n], *terms[n + 1 :])
            where = f"{site}term {n + 1} ({term}): " if additive.is_Add else site and f"{site.rstrip()}: "
            for kind, what, factor in SCALED_KINDS:
                yield where + what, kind, _rebuilt(expression, path, rest + factor * term)
            for name, leaf in _numbered(_occurrences(term)):
                for kind, partner in partners.get(_at(term, leaf), ()):
                    swapped = _rebuilt(term, leaf, partner)
                    yield f"{where}{name}→ {partner}", kind, _rebuilt(expression, path, rest + swapped)


def _sites(expression: sp.Expr) -> list[tuple[str, Path]]:
    """Return the whole expression, then the integrands and function arguments within it, outermost first.

    A logarithm's argument is no site, because a mutant there must stay positive to be a system at all.
    """
    sites: list[tuple[str, Path]] = [("", ())]
    for node, path in _walk(expression):
        if isinstance(node, Expectation):
            sites.append(("integrand", (*path, 0)))
        sites += [(f"{node.func.__name__} argument", (*path, n)) for n in _argument_sites(node)]
    # The sign of a Cholesky factor's root is free, so only the radicand can be wrong.
    return sites[1:] if isinstance(expression, CholeskyRoot) else sites


def _argument_sites(node: sp.Basic) -> tuple[int, ...]:
    """Return which arguments of a function are sites. For a softmax these are the logits that are not simply zero."""
    if isinstance(node, Softmax):
        return tuple(n for n, logit in enumerate(node.args) if n and logit != 0)
    if isinstance(node, CholeskyRoot) or (
        isinstance(node, sp.Function) and len(node.args) == 1 and not isinstance(node, sp.log)
    ):
        return (0,)
    return ()


def _occurrences(term: sp.Expr) -> list[tuple[str, Path]]:
    """Return the symbols of a term that belong to no inner site."""
    return [(node.name, path) for node, path in _walk(term, into_sites=False) if isinstance(node, sp.Symbol)]


def _walk(node: sp.Basic, path: Path = (), into_sites: bool = True) -> Iterator[tuple[sp.Basic, Path]]:
    """Yield every node from the root down, except the variables that an expectation binds."""
    yield node, path
    is_expectation = isinstance(node, Expectation)
    if into_sites or not (is_expectation or _argument_sites(node)):
        first = len(node.args) // 2 if isinstance(node, AtLargest) else 0  # the mean that gives a direction is free
        last = 1 if is_expectation or isinstance(node, CholeskyRoot) else len(node.args)
        for n in range(first, last):
            yield from _walk(node.args[n], (*path, n), into_sites)


def _numbered(places: list[tuple[str, Path]]) -> Iterator[tuple[str, Path]]:
    """Yield names, numbered where several places share one, each followed by a blank."""
    shared, count = Counter(name for name, _ in places), Counter[str]()
    for name, path in places:
        count[name] += 1
        unique = f"{name} {count[name]}" if shared[name] > 1 else name
        yield (f"{unique} " if unique else ""), path


def _at(node: sp.Basic, path: Path) -> sp.Basic:
    for n in path:
        node = node.args[n]
    return node


def _rebuilt(node: sp.Basic, path: Path, replacement: sp.Basic) -> sp.Expr:
    if not path:
        return replacement
    args = list(node.args)
    args[path[0]] = _rebuilt(args[path[0]], path[1:], replacement)
    return node.func(*args)
