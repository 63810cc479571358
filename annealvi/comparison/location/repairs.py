"""Where somebody's equation goes wrong: the term, the definition or the two terms whose repair makes it right.

An equation is repaired in one term of its right-hand side where such a repair exists: what the term must be multiplied
by is the ratio of what it should be to what it is, at every point, and this ratio is then given a name. Otherwise a
term of the derived equation may be missing, one of the definitions may be wrong, or several terms. A repair counts if
it makes the equation right at every point.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sympy as sp

from annealvi.comparison.evidence.evaluation import evaluated, evaluated_in_order
from annealvi.comparison.evidence.factors import CLOSE, FactorNames, named_number, same
from annealvi.comparison.evidence.samples import Samples
from annealvi.comparison.location.terms import FACTORS, expanded_terms, single_changes, terms_as_written
from annealvi.comparison.reading.theirs import OwnDefinition, Theirs
from derive.objects.expectation import Expectation
from derive.objects.lambdified import one_rule
from derive.objects.system import BETA, OdeSystem

MOST_REPAIRS = 2
MOST_TERMS = 24
FEW_POINTS = 4
MOST_CHANGES = 1500
"""The most changes of definitions of one kind that are tried."""
COARSE, COARSE_NODES = 1e-2, (128, 128, 64, 24)
"""How close a change must come at few points to be tried at all of them, and the nodes a variable of averages in the
first trial, by their number of variables. Such a rule's error is at most a third of this, at slopes of R = 3."""


@dataclass(frozen=True)
class Repair:
    """A change that makes an equation right.

    Attributes
    ----------
    place : str
        "term", "missing term", "definition", or "terms" for several terms at once.
    name : str
        The definition's name; empty for a term.
    old, new : sympy.Expr
        What stands there, zero for a missing term, and what should stand there.
    coefficient : sympy.Expr or None
        By what the old term is to be multiplied.
    parts : tuple of Repair
        The repairs of the single terms, which together make the equation right.
    """

    place: str
    name: str
    old: sp.Expr
    new: sp.Expr
    coefficient: sp.Expr | None = None
    parts: tuple[Repair, ...] = ()

    @property
    def exchanged(self) -> tuple[sp.Symbol, sp.Symbol] | None:
        """Where the repair exchanges two symbols: the one that stands there, and the one that should."""
        if self.coefficient is None:
            return None
        wanted, present = self.coefficient.as_numer_denom()
        return (present, wanted) if wanted.is_Symbol and present.is_Symbol else None


@dataclass(frozen=True)
class Mended:
    """A repair of a definition, and the wrong equations that it makes right.

    whole: whether these are all wrong equations that use the definition.
    """

    repair: Repair
    states: tuple[sp.Symbol, ...]
    whole: bool


@dataclass(frozen=True)
class Search:
    """The search for repairs.

    ours, theirs: the two systems. samples: the points. wanted: (n,) for each state what their right-hand side should
    be, in their unit of time. wrong: the states whose equations differ.
    """

    ours: OdeSystem
    theirs: Theirs
    samples: Samples
    wanted: Mapping[sp.Symbol, np.ndarray]
    wrong: tuple[sp.Symbol, ...]

    @cached_property
    def values(self) -> dict[sp.Symbol, np.ndarray]:
        """The values of all symbols of both systems; those of their definitions have their names."""
        return self.samples.values(self.theirs.subexpressions)

    @cached_property
    def derived_terms(self) -> dict[sp.Symbol, list[tuple[sp.Expr, np.ndarray]]]:
        """The terms of each derived rate with their values."""
        named = derived_definitions(self.ours, self.theirs)
        averages = {s for s, e in named if e.has(Expectation)}
        names = {old: new for (old, _), (new, _) in zip(self.ours.subexpressions, named, strict=True)}
        known = {**self._derived_values, **{new: self._derived_values[old] for old, new in names.items()}}
        found = {}
        for state, rhs in zip(self.ours.states, self.ours.rhs, strict=True):
            rate = rhs.xreplace(names)
            terms = dict.fromkeys([*terms_as_written(rate, averages), *expanded_terms(rate)])
            found[state] = [(term, evaluated(term, known)) for term in terms]
        return found

    def repairs(self) -> dict[sp.Symbol, tuple[Repair, ...]]:
        """At most MOST_REPAIRS repairs of each wrong equation, the plainest first.

        A definition's repair that makes several equations right at once comes before those of single terms.
        """
        found = {state: [(1, repair) for repair in self._of_terms(state)] for state in self.wrong}
        partial: list[Mended] = []
        plain = (self._plain_slips, self._slips_outside_averages, self._derived_formulas)
        for ways in (plain, (), (self._slips,)):
            states = self._unrepaired(found)
            if not ways:
                for state in states:
                    found[state] += [(1, repair) for repair in self._of_several_terms(state)]
                continue
            if ways is plain and not states and len(self.wrong) > 1:
                states = list(self.wrong)  # one definition may explain them better than a term of each
            for mended in self._of_definitions(states, ways):
                if not mended.whole:
                    partial.append(mended)
                    continue
                for state in mended.states:
                    found[state].append((len(mended.states), mended.repair))
        for mended in partial:  # told of an equation that nothing else repairs
            for state in set(mended.states) & set(self._unrepaired(found)):
                found[state].append((len(mended.states), mended.repair))
        plainest = {state: sorted(pairs, key=lambda pair: -pair[0]) for state, pairs in found.items()}
        return {state: tuple(repair for _, repair in pairs[:MOST_REPAIRS]) for state, pairs in plainest.items()}

    def _unrepaired(self, found: Mapping[sp.Symbol, list]) -> list[sp.Symbol]:
        return [state for state in self.wrong if not found[state]]

    def _of_terms(self, state: sp.Symbol) -> Iterator[Repair]:
        rate, wanted = self.theirs.rates[state], self.wanted[state]
        present = evaluated(rate, self.values)
        lacking, size, sign_is_wrong = wanted - present, np.abs(wanted).max(), False
        for term in dict.fromkeys(term for terms in splittings(self.theirs, rate) for term in terms):
            value = evaluated(term, self.values)
            with np.errstate(all="ignore"):
                ratio = (lacking + value) / value
            if np.abs(lacking + value).max() <= CLOSE * size:
                ratio = np.zeros_like(value)
            factor = self._names.name(ratio)
            if factor is not None:
                sign_is_wrong = sign_is_wrong or factor == -1
                yield Repair("term", "", term, factor * term, factor)
        if sign_is_wrong:  # then twice the same term is missing, which says less
            return
        for term, value in self.derived_terms[state]:
            with np.errstate(all="ignore"):
                ratio = lacking / value
            if np.isfinite(ratio).all() and np.ptp(ratio) <= CLOSE * np.abs(ratio).max():
                factor = named_number(float(ratio.mean())) if ratio.any() else None
                if factor is not None:
                    yield Repair("missing term", "", sp.S.Zero, factor * term, factor)

    def _of_several_terms(self, state: sp.Symbol) -> Iterator[Repair]:
        """Changes of several terms: all wrong numbers by least squares, else two terms with any named factors."""
        rate, wanted = self.theirs.rates[state], self.wanted[state]
        size = np.abs(wanted).max()
        for terms in splittings(self.theirs, rate):
            values = np.stack([evaluated(term, self.values) for term in terms], axis=1)
            if not np.isfinite(values).all():
                return
            fitted, _, rank, _ = np.linalg.lstsq(values, wanted, rcond=CLOSE)
            numbers = [named_number(c) if abs(c) > CLOSE else sp.S.Zero for c in fitted]
            if (
                rank == len(terms) <= self.samples.size // 2
                and same(wanted, values @ fitted, size)
                and None not in numbers
            ):
                wrong = [(term, c) for term, c in zip(terms, numbers, strict=True) if c != 1]
                yield _together([Repair("term", "", term, c * term, c) for term, c in wrong])
                return
        for terms in splittings(self.theirs, rate):
            if len(terms) <= MOST_TERMS:
                yield from self._of_two_terms(terms, wanted, size)

    def _of_two_terms(self, terms: Sequence[sp.Expr], wanted: np.ndarray, size: float) -> Iterator[Repair]:
        values = [evaluated(term, self.values) for term in terms]
        lacking = wanted - sum(values)
        for n, term in enumerate(terms):
            for factor, ratio in self._likely_factors(term):
                left = lacking - (ratio - 1) * values[n]
                for other in range(len(terms)):
                    if other == n:
                        continue
                    needed = left + values[other]
                    if np.abs(needed).max() <= CLOSE * size:
                        needed = np.zeros_like(needed)
                    with np.errstate(all="ignore"):
                        second = self._names.name(needed / values[other])
                    if second is not None:
                        parts = [(term, factor), (terms[other], second)]
                        yield _together([Repair("term", "", t, f * t, f) for t, f in parts])
                        return

    def _likely_factors(self, term: sp.Expr) -> Iterator[tuple[sp.Expr, np.ndarray]]:
        """What a term may have to be multiplied by: numbers, a symbol, or the exchange of one of its symbols."""
        ones = np.ones(self.samples.size)
        for number in (*FACTORS, sp.S.Zero):
            yield number, float(number) * ones
        for symbol in (BETA, *self.ours.parameters):
            for power in (1, -1, 2, -2):
                yield symbol**power, self.values[symbol] ** float(power)
        for symbol in sorted(term.free_symbols, key=str):
            for other in self._alike.get(symbol, ()):
                yield other / symbol, self.values[other] / self.values[symbol]

    @cached_property
    def _names(self) -> FactorNames:
        return FactorNames({s: v for s, v in self.values.items() if s in self._plausible})

    @cached_property
    def _plausible(self) -> set[sp.Symbol]:
        """The symbols that may be a factor: those of their equations and definitions, and states and parameters."""
        defined = {s for s, _ in self.theirs.subexpressions}
        return {*self.values} & {BETA, *self.ours.states, *self.ours.parameters, *defined}

    def _of_definitions(self, states: list[sp.Symbol], ways: Sequence[Callable]) -> Iterator[Mended]:
        """The repairs of a definition with the equations that each makes right.

        A change is tried at few points with a coarse rule for averages, and counts if it is right at all points.
        """
        complete = not states
        for way in ways:
            if complete:
                return
            tried = 0
            for definition in self.theirs.definitions:
                using = [s for s in states if self._depends(self.theirs.rates[s], definition.symbols)]
                for formula in dict.fromkeys(way(definition, using[0])) if using else ():
                    tried += 1
                    if tried > MOST_CHANGES:
                        break
                    changed = definition.applied(formula)
                    with one_rule(COARSE_NODES[min(self.ours.widest_average, 3)]):
                        if formula == definition.formula or not self._right(using[:1], changed, self._few, COARSE):
                            continue
                    mended = [s for s in using if self._right([s], changed)]
                    if not mended or not self._right(self._unaffected(changed), changed):
                        continue
                    repair = Repair("definition", definition.name, definition.formula, formula)
                    yield Mended(repair, tuple(mended), len(mended) == len(using))
                    complete = complete or len(mended) == len(states)
                    if len(mended) == len(using):
                        break

    def _plain_slips(self, definition: OwnDefinition, _: sp.Symbol) -> Iterator[sp.Expr]:
        """The commonest slips: signs, factors of two, terms too many, and exchanged symbols."""
        return single_changes(definition.formula, self._alike, ())

    def _slips_outside_averages(self, definition: OwnDefinition, _: sp.Symbol) -> Iterator[sp.Expr]:
        return self._slips(definition, _) if not definition.formula.has(Expectation) else iter(())

    def _slips(self, definition: OwnDefinition, _: sp.Symbol) -> Iterator[sp.Expr]:
        """All slips, among them terms and factors that are missing."""
        return single_changes(definition.formula, self._alike, self._factors)

    def _derived_formulas(self, definition: OwnDefinition, state: sp.Symbol) -> Iterator[sp.Expr]:
        """The derived definitions that a definition would have to be, or whose terms it lacks, by one equation.

        The equation must be linear in the definition, which then follows from the equation at every point.
        """
        parameters = FactorNames({s: self.samples.numbers[s] for s in self.ours.parameters})
        for symbol, arguments in definition.applications.items():
            at = [self._rate_where(state, symbol, number) for number in (0.0, 1.0, 2.0)]
            slope = at[1] - at[0]
            if not (slope != 0).all() or not same(at[2] - at[1], slope, np.abs(slope).max()):
                continue
            needed = (self.wanted[state] - at[0]) / slope
            back = {a: own for a, own in zip(arguments, definition.arguments, strict=True) if a.is_Symbol}
            for written, value in self._derived_definitions:
                with np.errstate(all="ignore"):
                    factor = parameters.name(needed / value)
                if factor is not None and factor != 0:
                    yield from ((factor * derived).xreplace(back) for derived in written)
            for written, value in self._derived_parts:
                with np.errstate(all="ignore"):
                    ratio = (needed - self.values[symbol]) / value
                if np.isfinite(ratio).all() and np.ptp(ratio) <= CLOSE * np.abs(ratio).max():
                    number = named_number(float(ratio.mean())) if ratio.any() else None
                    if number is not None:
                        yield from (definition.formula + (number * term).xreplace(back) for term in written)

    def _rate_where(self, state: sp.Symbol, symbol: sp.Symbol, number: float) -> np.ndarray:
        """The rate (n,) of a state where a symbol has the same value at every point."""
        known = {**self.values, symbol: np.full(self.samples.size, number)}
        stale = {symbol}
        for name, definition in self.theirs.subexpressions:
            if name != symbol and definition.free_symbols & stale:
                stale.add(name)
                known[name] = evaluated(definition, known)
        return evaluated(self.theirs.rates[state], known)

    @cached_property
    def _derived_definitions(self) -> list[tuple[tuple[sp.Expr, ...], np.ndarray]]:
        """The derived definitions with their values, in their symbols where these have the same values and in full."""
        return [(self._written(e), self._derived_values[s]) for s, e in self.ours.subexpressions]

    @cached_property
    def _derived_parts(self) -> list[tuple[tuple[sp.Expr, ...], np.ndarray]]:
        """The terms of derived definitions, likewise."""
        sums = [e for _, e in self.ours.subexpressions if e.is_Add]
        terms = dict.fromkeys(term for e in sums for term in sp.Add.make_args(e))
        return [(self._written(term), evaluated(term, self._derived_values)) for term in terms]

    @cached_property
    def _derived_values(self) -> dict[sp.Symbol, np.ndarray]:
        return self.samples.values(self.ours.subexpressions)

    def _written(self, expression: sp.Expr) -> tuple[sp.Expr, ...]:
        shortly, fully = self._names_of_derived
        return tuple(dict.fromkeys((expression.xreplace(shortly), expression.xreplace(fully))))

    @cached_property
    def _names_of_derived(self) -> tuple[dict[sp.Symbol, sp.Expr], dict[sp.Symbol, sp.Expr]]:
        """What each derived definition is called: by their symbol of the same values, and written out in full."""
        shortly, fully = dict[sp.Symbol, sp.Expr](), dict[sp.Symbol, sp.Expr]()
        own = [(s, self.values[s]) for s, _ in self.theirs.subexpressions]
        for symbol, definition in self.ours.subexpressions:
            value = self._derived_values[symbol]
            twins = (s for s, v in own if same(value, v, np.abs(value).max()))
            fully[symbol] = definition.xreplace(fully)
            shortly[symbol] = next(twins, definition.xreplace(shortly))
        return shortly, fully

    def _unaffected(self, changed: Mapping[sp.Symbol, sp.Expr]) -> list[sp.Symbol]:
        """The states whose equations are right and contain the changed definitions."""
        return [s for s, rate in self.theirs.rates.items() if s not in self.wrong and self._depends(rate, set(changed))]

    @cached_property
    def _few(self) -> np.ndarray:
        return np.linspace(0, self.samples.size - 1, FEW_POINTS).astype(int)

    def _depends(self, expression: sp.Expr, symbols: set[sp.Symbol]) -> bool:
        inside = set(expression.free_symbols)
        for name, definition in reversed(self.theirs.subexpressions):
            if name in inside:
                inside |= definition.free_symbols
        return bool(inside & symbols)

    def _right(
        self,
        states: list[sp.Symbol],
        changed: Mapping[sp.Symbol, sp.Expr],
        points: np.ndarray | slice = slice(None),
        close: float = CLOSE,
    ) -> bool:
        """Whether the equations of some states are right where some symbols have other definitions."""
        known = {s: v[points] for s, v in self.values.items()}
        stale: dict[sp.Symbol, sp.Expr] = {}
        try:
            for name, definition in self.theirs.subexpressions:
                present = changed.get(name, definition)
                if name in changed or present.free_symbols & set(stale):
                    stale[name] = present
                    del known[name]
            known = evaluated_in_order(tuple(stale.items()), known)
            return all(
                same(
                    self.wanted[s][points], evaluated(self.theirs.rates[s], known), np.abs(self.wanted[s]).max(), close
                )
                for s in states
            )
        except (ArithmeticError, TypeError, ValueError, KeyError):  # KeyError: a change that makes a circle
            return False

    @cached_property
    def _alike(self) -> dict[sp.Symbol, list[sp.Symbol]]:
        """The symbols that a slip of the pen may exchange: states, and parameters or definitions of one letter."""
        groups: dict[str, list[sp.Symbol]] = {}
        for s in (*self.ours.states, *self.ours.parameters):
            groups.setdefault("state" if s in self.ours.states else s.name.rstrip("0123456789"), []).append(s)
        for s, _ in self.theirs.subexpressions:
            groups.setdefault("definition " + re.sub(r"(\(.*\)|(_?\d+)+)$", "", s.name), []).append(s)
        return {s: [other for other in group if other != s] for group in groups.values() for s in group}

    @cached_property
    def _factors(self) -> list[sp.Expr]:
        """What a term of a definition may lack: a parameter, or a definition without an argument."""
        lengths = [s for s in self.ours.parameters if s.name in ("R", "r")]
        plain = [s for s, e in self.theirs.subexpressions if "(" not in s.name and not e.has(Expectation)]
        weights = [s for s in (*self.ours.parameters, *self.ours.states) if s.name.startswith("w_")]
        logarithms = [sp.log(s) for s in weights]
        return [*self.ours.parameters, *(s**2 for s in lengths), *logarithms, *plain]


def splittings(theirs: Theirs, rate: sp.Expr) -> tuple[list[sp.Expr], ...]:
    """The terms of a right-hand side: as written, with products distributed over averages, and multiplied out."""
    averages = {s for s, e in theirs.subexpressions if e.has(Expectation)}
    return list(sp.Add.make_args(rate)), terms_as_written(rate, averages), expanded_terms(rate)


def _together(parts: Sequence[Repair]) -> Repair:
    old, new = (sp.Add(*(getattr(part, side) for part in parts)) for side in ("old", "new"))
    return Repair("terms", "", old, new, None, tuple(parts))


def derived_definitions(ours: OdeSystem, theirs: Theirs) -> tuple[tuple[sp.Symbol, sp.Expr], ...]:
    """The named subexpressions of the derived system, under other names where theirs are the same."""
    taken = {s.name for s, _ in theirs.subexpressions} | {d.name.partition("(")[0] for d in theirs.definitions}
    taken |= set(theirs.names.values())
    names = {s: sp.Symbol(f"derived_{s.name}", real=True) for s, _ in ours.subexpressions if s.name in taken}
    return tuple((names.get(s, s), e.xreplace(names)) for s, e in ours.subexpressions)
