"""Claims read from the tables of a TOML file, or given in Python, with the points at which each is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp

from annealvi.comparison.claims.fixed_points import FixedPointClaim, fixed_point_claim
from annealvi.comparison.claims.ranges import SCHEDULE_NUMBERS, numbers_at, places_of, ranges_of, stated_ranges
from annealvi.comparison.claims.results import RESULTS, claimed_number
from annealvi.comparison.claims.verdicts import Claim
from annealvi.comparison.reading.formulas import Scope
from annealvi.comparison.reading.latex_symbols import written
from annealvi.comparison.reading.theirs import (
    Theirs,
    known_symbols,
    latex_scope,
    read_definition,
    require_sections,
    scope_of,
)
from annealvi.session.session import Session
from derive.objects.expectation import StandardNormal
from derive.objects.system import BETA
from derive.problem.field_checks import shown
from derive.problem.specification import BadInput

LETTERS = frozenset({"P", "Lambda"})
"""Results whose symbol is a letter that documents use for other things as well."""
POINTS, SAMPLED_POINTS = 7, 5
"""Points along each range, and those of a result that takes an ensemble at each point."""


@dataclass
class Reader:
    """Reads claims for one problem.

    Attributes
    ----------
    session : Session
    scope : Scope
        The names that formulas may contain: parameters, the schedule's numbers, d, and definitions.
    stated : mapping
        The stated ranges by symbol.
    state_names : mapping of str to sympy.Symbol
        The states by their names in the claims.
    """

    session: Session
    scope: Scope
    stated: Mapping[sp.Symbol, tuple[float, float]]
    state_names: Mapping[str, sp.Symbol]

    def expression(
        self, value: Any, key: str, more: Mapping[str, sp.Symbol] | None = None
    ) -> tuple[sp.Expr, set[sp.Symbol]]:
        """A formula in the problem's symbols, with all definitions written out, and the symbols that it mentions.

        A symbol that cancels is mentioned as well. more: further symbols that this formula may contain.
        """
        source = self.scope.source
        symbols = {**self.scope.symbols, **(more or {})}
        if isinstance(value, bool) or not isinstance(value, str | int | float | sp.Expr | tuple):
            raise BadInput(key, f"a {type(value).__name__}", "write a formula in quotes, or a number", source)
        if isinstance(value, sp.Expr):
            stray = [s.name for s in value.free_symbols if s.name not in symbols or isinstance(s, StandardNormal)]
            if stray:
                raise BadInput(key, f"{', '.join(sorted(stray))} has no meaning", f"use {', '.join(symbols)}", source)
            named = value.xreplace({s: symbols[s.name] for s in value.free_symbols})
            return named, set(named.free_symbols)
        scope = self.scope.afresh(symbols=symbols)
        expression = scope.read(value if isinstance(value, tuple) else str(value), key)
        mentioned = set(expression.free_symbols)
        for symbol, formula in reversed(scope.named.items()):
            if symbol in mentioned:
                mentioned |= formula.free_symbols
            expression = expression.xreplace({symbol: formula})
        return expression, mentioned & set(symbols.values())

    def claim(self, name: str, value: Any) -> Claim | FixedPointClaim:
        """One claim with its points. Raises BadInput with the place of a mistake."""
        key, source = f"claims.{name if name in RESULTS else shown(name)}", self.scope.source
        if isinstance(value, Mapping):
            return fixed_point_claim(name, value, self, POINTS)
        result = RESULTS.get(name)
        if result is None:
            remedy = f"choose one of {', '.join(RESULTS)}, or write the states of a fixed point as a table"
            raise BadInput(key, "no such result", remedy, source)
        expression, varied = self.expression(value, key)
        if result.alike:
            varied -= set(self.session.derivation.setting.proposal.weights)
        problem = self.session.problem
        count = SAMPLED_POINTS if result.sampled else POINTS
        ranges = ranges_of(varied, self.stated, problem, self.scope, count)
        places = places_of(ranges, problem, source)
        values = tuple(claimed_number(expression, place.numbers, place.words, key, source) for place in places)
        text = written(value) if isinstance(value, tuple) else str(value)
        return Claim(text, expression, result, ranges, places, values)


def claims_of_file(document: Mapping[str, Any], session: Session, source: str) -> tuple[Claim | FixedPointClaim, ...]:
    """The claims of a TOML document; none where it has no table of claims."""
    require_sections(document, source)
    if "claims" not in document:
        if "ranges" in document:
            raise BadInput("ranges", "there is no claim to vary over them", "write [claims]", source)
        return ()
    known = _known(session)
    scope = scope_of(document, known, source)
    for name in scope.definitions:
        read_definition(scope, name)
    return _claims(document["claims"], document.get("ranges", {}), scope, session)


def claims_of_latex(theirs: Theirs, session: Session) -> tuple[tuple[Claim | FixedPointClaim, ...], tuple[str, ...]]:
    """The claims of a LaTeX file, whose ranges are the default ones, and what cannot be read and is left aside.

    A letter such as P may mean something else in a document, so what cannot be read as a claim of it is no mistake.
    """
    scope = latex_scope(theirs.source, _known(session))
    formulas, left_aside = {}, []
    for name in scope.definitions:
        try:
            scope.afresh().body(name)
        except BadInput as wrong:
            if name in theirs.claimed and name not in LETTERS:
                raise
            left_aside.append(f"the definition of {scope.spelled(name)} ({wrong.found})")
        else:
            if name in theirs.claimed:
                formulas[name] = scope.definitions[name].text
    return (_claims(formulas, {}, scope, session) if formulas else ()), tuple(left_aside)


def given_claims(
    claims: Mapping[str, Any], ranges: Mapping[str, Any] | None, session: Session
) -> tuple[Claim | FixedPointClaim, ...]:
    """Claims given in Python: texts, numbers or SymPy expressions, whose symbols count by their names."""
    return _claims(claims, ranges or {}, Scope(_known(session), {}, "claims"), session)


def _known(session: Session) -> dict[str, sp.Symbol]:
    """All names in a file: those of equations, and the schedule's numbers that the problem has."""
    numbers = numbers_at(session.problem)
    schedule = {name: s for name, s in SCHEDULE_NUMBERS.items() if s in numbers}
    return {**known_symbols(session.derivation.system, session.symbolic.values), **schedule}


def _claims(claims: Any, ranges: Any, scope: Scope, session: Session) -> tuple[Claim | FixedPointClaim, ...]:
    if not isinstance(claims, Mapping) or not claims:
        raise BadInput("claims", "there is none", 'write a result and its formula, such as T_c = "R**2"', scope.source)
    states = {name: s for name, s in scope.symbols.items() if s in session.derivation.system.states}
    fixed = {name: s for name, s in scope.symbols.items() if name not in states}
    parameters = {name: s for name, s in fixed.items() if s != BETA}
    stated = stated_ranges(ranges, scope.afresh(symbols=fixed), scope.source)
    reader = Reader(session, scope.afresh(symbols=parameters), stated, states)
    found = tuple(reader.claim(str(name), value) for name, value in claims.items())
    used = {r.symbol for claim in found for r in claim.ranges}
    for symbol in stated:
        if symbol not in used:
            key = f"ranges.{scope.afresh(symbols=fixed).written(symbol)}"
            raise BadInput(key, "no claim varies with it", "leave it out, or write it in a claim", scope.source)
    return found
