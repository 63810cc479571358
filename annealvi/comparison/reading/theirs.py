"""Somebody's equations: read from a TOML or LaTeX file or given in SymPy, in the symbols of a derived system."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import sympy as sp
from sympy.core.function import AppliedUndef

from annealvi.comparison.reading.formulas import Definition, Scope, definition_of
from annealvi.comparison.reading.latex_document import read_document
from annealvi.comparison.reading.variables import Fail, states_of, variable_named
from derive.objects.expectation import Expectation, StandardNormal
from derive.objects.system import BETA, OdeSystem
from derive.problem.field_checks import BadInput, shown

MOST_BYTES = 2**18
CLAIMS_IN_LATEX = frozenset({"beta_c", "T_c", "b_c", "Lambda", "P"})
"""The results that displayed equations may claim: symbols that have this meaning where no rate uses them."""
SECTIONS = ("names", "definitions", "equations", "claims", "ranges")
_RATE = re.compile(r"\s*d\s*([A-Za-z_]\w*)\s*/\s*dt\s*", re.ASCII)


@dataclass(frozen=True)
class OwnDefinition:
    """A definition in somebody's equations.

    Attributes
    ----------
    name : str
        Its name, with its arguments: "h" or "F(u)".
    arguments : tuple of sympy.Symbol
    formula : sympy.Expr
        Its right-hand side in the arguments.
    applications : mapping of sympy.Symbol to tuple of sympy.Expr
        The symbols that stand for it in the equations, with the arguments of each.
    inside : mapping of sympy.Symbol to sympy.Expr
        For a definition that contains variables of averages: the definitions of averages that use it, in which it
        stands as a function of its arguments and of these variables.
    """

    name: str
    arguments: tuple[sp.Symbol, ...]
    formula: sp.Expr
    applications: Mapping[sp.Symbol, tuple[sp.Expr, ...]]
    inside: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)

    @property
    def symbols(self) -> set[sp.Symbol]:
        """The symbols whose definitions it determines."""
        return {*self.applications, *self.inside}

    def applied(self, formula: sp.Expr) -> dict[sp.Symbol, sp.Expr]:
        """The definitions of these symbols where the definition has this formula."""
        found = {
            symbol: formula.xreplace(dict(zip(self.arguments, given, strict=True)))
            for symbol, given in self.applications.items()
        }
        for symbol, written in self.inside.items():
            uses = [e for e in written.atoms(AppliedUndef) if e.func.__name__ == self.name.partition("(")[0]]
            values = {use: formula.xreplace(dict(zip(self.arguments, use.args, strict=False))) for use in uses}
            found[symbol] = written.xreplace(values)
        return found


@dataclass(frozen=True)
class Theirs:
    """Somebody's equations.

    Attributes
    ----------
    source : str
        Where they stand, for messages.
    rates : mapping of sympy.Symbol to sympy.Expr
        The right-hand side of each state that has an equation, or of the variable in its place, in states, parameters,
        `BETA` and the symbols of `subexpressions`.
    subexpressions : tuple of (sympy.Symbol, sympy.Expr)
        Their definitions, in an order in which each uses earlier symbols alone.
    names : mapping of sympy.Symbol to str
        Their name of each symbol that has another one in the derived system.
    definitions : tuple of OwnDefinition
        The definitions behind the subexpressions.
    tex : mapping of str to str
        The LaTeX of names, where the equations are from a LaTeX file.
    left_aside : tuple of str
        Displayed equations that are neither rates nor definitions of new symbols.
    variables : mapping of sympy.Symbol to (str, sympy.Expr)
        For a state in whose place a variable of their own has a rate: its name, and its value in states and parameters.
    claimed : tuple of str
        The results that displayed equations claim, such as T_c.
    """

    source: str
    rates: Mapping[sp.Symbol, sp.Expr]
    subexpressions: tuple[tuple[sp.Symbol, sp.Expr], ...]
    names: Mapping[sp.Symbol, str]
    definitions: tuple[OwnDefinition, ...] = ()
    tex: Mapping[str, str] = field(default_factory=dict)
    left_aside: tuple[str, ...] = ()
    variables: Mapping[sp.Symbol, tuple[str, sp.Expr]] = field(default_factory=dict)
    claimed: tuple[str, ...] = ()

    def used_symbols(self) -> set[sp.Symbol]:
        """All symbols in the equations and in the definitions that they use."""
        used = set().union(*(rate.free_symbols for rate in self.rates.values()))
        for symbol, definition in reversed(self.subexpressions):
            if symbol in used:
                used |= definition.free_symbols
        return used

    def variable(self, state: sp.Symbol) -> sp.Symbol:
        """The variable whose rate has the place of a state's, by its name."""
        name = self.variables[state][0] if state in self.variables else self.names.get(state, state.name)
        return sp.Symbol(name)

    def written(self, expression: sp.Expr) -> str:
        """The text of an expression in their names."""
        return str(expression.xreplace({s: sp.Symbol(name) for s, name in self.names.items()}))


def known_symbols(system: OdeSystem, values: Mapping[sp.Symbol, float]) -> dict[str, sp.Symbol]:
    """The symbols that equations may contain, by name: states, parameters of the problem, and beta."""
    return {s.name: s for s in (*system.states, *system.parameters, *values, BETA)}


def read_equations(path: str | os.PathLike[str], system: OdeSystem, values: Mapping[sp.Symbol, float]) -> Theirs:
    """The equations of a TOML file, or of a LaTeX file, whose name then ends with .tex.

    Raises BadInput with the place of a mistake.
    """
    source = os.fsdecode(path)
    known = known_symbols(system, values)
    return (_read_latex if source.endswith(".tex") else _equations_of_toml)(source, known, system)


def _equations_of_toml(source: str, known: Mapping[str, sp.Symbol], system: OdeSystem) -> Theirs:
    document = read_toml(source)
    require_sections(document, source)
    names, equations = (_texts(document, section, source) for section in ("names", "equations"))
    if not equations:
        raise BadInput("equations", "there is none", f'write "d{system.states[0]}/dt" = "..."', source)
    scope = scope_of(document, known, source)
    given = []
    for key, text in equations.items():
        fail = _failing(f"equations.{shown(key)}", source)
        match = _RATE.fullmatch(key)
        if match is None:
            fail("this is no rate", f'write "d{scope.spelled(system.states[0].name)}/dt" = "..."')
        given.append((match[1], lambda t=text, k=key: scope.read(t, f"equations.{k}"), fail))
    rates, variables = _rates(scope, given, system)
    if "claims" not in document:  # claims may use what means nothing in equations
        for name in scope.definitions:  # a definition that nothing uses is read as well
            read_definition(scope, name)
    theirs = _theirs(scope, rates, {known[ours]: name for name, ours in names.items()})
    return replace(theirs, variables=variables)


def _read_latex(source: str, known: Mapping[str, sp.Symbol], system: OdeSystem) -> Theirs:
    text = _content(source, "a LaTeX file with displayed equations")
    document = read_document(text, known, source)
    scope = document.scope
    given = [
        (name, lambda t=tokens: scope.read(t, ""), scope.failing(state[0])) for name, state, tokens in document.rates
    ]
    rates, variables = _rates(scope, given, system)
    used = {name for name, _ in scope.applied.values()}
    claimed = tuple(n for n in scope.definitions if n in CLAIMS_IN_LATEX - used and not scope.definitions[n].arguments)
    if not rates and not claimed:
        state = scope.spelled(system.states[0].name)
        raise BadInput("", "no rate of a state is displayed", rf"write \dot{{{state}}} = …", source)
    left_aside = list(document.left_aside)
    for name in scope.definitions:
        if claimed:
            break  # claims may use what means nothing in equations
        try:
            read_definition(scope, name)
        except BadInput as error:  # nothing uses it, or the equations would have failed
            left_aside.append(f"the definition of {scope.spelled(name)} ({error.found})")
    theirs = _theirs(scope, rates, {known[ours]: name for name, ours in document.names.items()})
    return replace(theirs, tex=scope.tex, left_aside=tuple(left_aside), variables=variables, claimed=claimed)


def _rates(
    scope: Scope, given: Sequence[tuple[str, Callable[[], sp.Expr], Fail]], system: OdeSystem
) -> tuple[dict[sp.Symbol, sp.Expr], dict[sp.Symbol, tuple[str, sp.Expr]]]:
    """The rates by state, and the variables of their own that stand in the places of states.

    given: the name of each variable, what reads its rate, and what raises BadInput at its place.
    """
    values = [variable_named(scope, name, system, fail) for name, _, fail in given]
    for n, (_, _, fail) in enumerate(given):
        if values[n] in values[:n]:
            fail("a second equation of one state", "leave one out")
    states = states_of(values, system.states) if values else []
    if states is None:
        given[-1][2](
            "one of these variables follows from the others or is not real", "give rates of independent variables"
        )
    rates = {state: read() for state, (_, read, _) in zip(states, given, strict=True)}
    own = zip(states, given, values, strict=True)
    return rates, {state: (name, value) for state, (name, _, _), value in own if value != state}


def _failing(key: str, source: str) -> Fail:
    def fail(found: str, remedy: str) -> NoReturn:
        raise BadInput(key, found, remedy, source)

    return fail


def read_definition(scope: Scope, name: str) -> None:
    """Read a definition that may not have been used. Raises BadInput with the place of a mistake."""
    if name in scope.random:
        return  # it was read where its variables have a meaning
    if scope.definitions[name].arguments:
        scope.body(name)
    elif name not in {s.name for s in scope.named}:
        scope.read(name, f"definitions.{name}")


def _theirs(scope: Scope, rates: Mapping[sp.Symbol, sp.Expr], names: Mapping[sp.Symbol, str]) -> Theirs:
    """The equations with what was read of their definitions."""
    applied: dict[str, dict[sp.Symbol, tuple[sp.Expr, ...]]] = {}
    for symbol, (name, arguments) in scope.applied.items():
        applied.setdefault(name, {})[symbol] = arguments
    found = [_own_definition(scope, name, symbols) for name, symbols in applied.items()]
    for name in scope.random:
        again = scope.keeping(name)
        inside = {}
        for symbol, (outer, arguments) in scope.applied.items():
            again.defined(outer, arguments, _impossible)
            written = again.named[symbol]
            if any(use.func.__name__ == name for use in written.atoms(AppliedUndef)):
                inside[symbol] = written
        found.append(replace(_own_definition(scope, name, {}), inside=inside))
    return Theirs(scope.source, rates, tuple(scope.named.items()), names, tuple(found))


def _impossible(found: str, remedy: str) -> NoReturn:
    raise AssertionError(f"a formula that was read before cannot be read: {found}; {remedy}")


def _own_definition(scope: Scope, name: str, symbols: Mapping[sp.Symbol, tuple[sp.Expr, ...]]) -> OwnDefinition:
    arguments, formula = scope.body(name)
    shown_name = f"{name}({', '.join(map(str, arguments))})" if arguments else name
    return OwnDefinition(shown_name, arguments, formula, symbols)


def in_order(named: Iterable[tuple[sp.Symbol, sp.Expr]]) -> tuple[tuple[sp.Symbol, sp.Expr], ...]:
    """Definitions in an order in which each uses earlier ones alone. Raises ValueError for a circle."""
    waiting, found = dict(named), dict[sp.Symbol, sp.Expr]()
    while waiting:
        ready = [s for s, e in waiting.items() if not e.free_symbols & set(waiting)]
        if not ready:
            raise ValueError(f"a circle of definitions among {', '.join(map(str, waiting))}")
        found |= {s: waiting.pop(s) for s in ready}
    return tuple(found.items())


def given_equations(equations: Mapping[Any, Any], system: OdeSystem, values: Mapping[sp.Symbol, float]) -> Theirs:
    """Equations given in SymPy: the right-hand side of each state, by symbol or name.

    Symbols count by their names, so that those of another session or with other assumptions are the same.
    """
    source, known = "equations", known_symbols(system, values)
    rates = {}
    for key, value in equations.items():
        state = known.get(str(key))
        if state not in system.states:
            states = ", ".join(map(str, system.states))
            raise BadInput(shown(str(key)), "this is no state", f"the states are {states}", source)
        if not isinstance(value, sp.Expr | int | float):
            raise BadInput(str(key), f"a {type(value).__name__}", "give a SymPy expression", source)
        expression = value if isinstance(value, sp.Expr) else sp.Number(value)
        unknown = expression.atoms(AppliedUndef, sp.Derivative, sp.Integral, sp.Subs)
        if unknown or expression.has(sp.I):
            what = shown(str(min(unknown, key=str))) if unknown else "the imaginary unit"
            raise BadInput(str(key), f"{what} has no value", "write it out in real functions", source)
        stray = [s for s in expression.free_symbols if s.name not in known or isinstance(s, StandardNormal)]
        if stray:
            names = ", ".join(sorted(s.name for s in stray))
            raise BadInput(
                str(key), f"{names} has no meaning", f"use {', '.join(known)}, and Expectation for averages", source
            )
        rates[state] = expression.xreplace({s: known[s.name] for s in expression.free_symbols})
    averages = sorted(set().union(*(r.atoms(Expectation) for r in rates.values())), key=sp.default_sort_key)
    symbols = {average: sp.Symbol(f"average_{n}", real=True) for n, average in enumerate(averages, 1)}
    found = tuple(OwnDefinition(s.name, (), average, {s: ()}) for average, s in symbols.items())
    named = tuple((s, average) for average, s in symbols.items())
    return Theirs(source, {s: rate.xreplace(symbols) for s, rate in rates.items()}, named, {}, found)


def require_sections(document: Mapping[str, Any], source: str) -> None:
    """Raise BadInput for an unknown section of a file."""
    stray = [key for key in document if key not in SECTIONS]
    if stray:
        raise BadInput(shown(stray[0]), "no such section", f"the sections are {', '.join(SECTIONS)}", source)


def scope_of(document: Mapping[str, Any], known: Mapping[str, sp.Symbol], source: str) -> Scope:
    """What names stand for in the formulas of a file. known: the symbols that formulas may contain, by name."""
    names, definitions = (_texts(document, section, source) for section in ("names", "definitions"))
    symbols = _symbols(names, known, source)
    return Scope(symbols, _definitions(definitions, symbols, source), source)


def read_toml(source: str) -> dict[str, Any]:
    """The tables of a TOML file. Raises BadInput where it cannot be read."""
    try:
        return tomllib.loads(_content(source, "a TOML file of equations"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput("", f"no TOML ({error})", "put texts and keys such as F(u) in quotes", source) from None


def latex_scope(source: str, known: Mapping[str, sp.Symbol]) -> Scope:
    """What names stand for in the displays of a LaTeX file. known: the symbols that they may contain, by name."""
    return read_document(_content(source, "a LaTeX file with displayed equations"), known, source).scope


def _content(source: str, wanted: str) -> str:
    """The text of a file of equations."""
    try:
        with Path(source).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
        raise BadInput("", f"cannot be read ({reason})", f"give {wanted}", source) from None
    if len(content) > MOST_BYTES:
        raise BadInput("", f"larger than {MOST_BYTES} bytes", f"give {wanted}", source)
    return text


def _texts(document: Mapping[str, Any], section: str, source: str) -> dict[str, str]:
    table = document.get(section, {})
    if not isinstance(table, dict):
        raise BadInput(section, "no table", f"write [{section}]", source)
    for key, text in table.items():
        if not isinstance(text, str | int | float) or isinstance(text, bool):
            raise BadInput(f"{section}.{shown(key)}", "no text", "write a formula in quotes", source)
    return {key: str(text) for key, text in table.items()}


def _symbols(names: Mapping[str, str], known: Mapping[str, sp.Symbol], source: str) -> dict[str, sp.Symbol]:
    symbols = dict(known)
    for name, ours in names.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise BadInput(f"names.{shown(name)}", "no name", "use letters, digits and _", source)
        if ours not in known:
            raise BadInput(
                f"names.{name}", f"{shown(ours)} has no meaning here", f"write one of {', '.join(known)}", source
            )
        symbols[name] = known[ours]
    return symbols


def _definitions(texts: Mapping[str, str], symbols: Mapping[str, sp.Symbol], source: str) -> dict[str, Definition]:
    definitions: dict[str, Definition] = {}
    for key, text in texts.items():
        name, definition = definition_of(key, text, source)
        if name in symbols or name in definitions:
            found = "the name has a meaning already" if name in symbols else "a second definition"
            raise BadInput(f"definitions.{name}", found, "choose another name", source)
        definitions[name] = definition
    return definitions
