"""Formulas of somebody's equations: plain mathematics, averages E[…] over normal variables, and own definitions.

To the grammar of `derive.problem.expression_parser` come

    atom = … | "E" "[" sum "]" | name "(" sum {"," sum} ")"

where an average is over all of the independent standard normals z, z1, z2, … that its sum contains, and a name is that
of a definition. Nothing is evaluated as code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NoReturn

import sympy as sp

from derive.objects.expectation import ChiSquared, Expectation, StandardNormal
from derive.objects.softmax import Softmax
from derive.problem.expression_parser import FUNCTIONS, Parser, Token, parts
from derive.problem.field_checks import BadInput, shown
from derive.problem.formula_limits import sympy_guard

NORMAL = re.compile(r"z_?[0-9]{0,2}")
"""The names of standard normal variables."""
AVERAGE = "E"
MOST_CHARACTERS, MOST_NODES = 20_000, 2_000
WIDEST = 100
"""How much of a line an excerpt shows."""
RANDOM = (StandardNormal, ChiSquared)
LARGEST_EXACT = 1000
"""Functions of rational numbers up to this size stay exact, so that sqrt(2) has all digits."""

EXACT: Mapping[str, Callable[..., sp.Expr]] = {
    "exp": sp.exp,
    "log": sp.log,
    "sqrt": sp.sqrt,
    "sech": sp.sech,
    "sigmoid": lambda x: Softmax(1, x, sp.S.Zero),
}
"""The functions that averages of the derivation contain, as the derivation writes them."""


class UnreadableFormula(BadInput):
    """A formula that cannot be read; `excerpt` shows the place."""

    def __init__(self, key: str, found: str, remedy: str, source: str, excerpt: str) -> None:
        super().__init__(key, found, remedy, source)
        self.excerpt = excerpt


@dataclass(frozen=True)
class Definition:
    """A named formula: the names of its arguments, and its text, or its parts where the grammar is another one."""

    arguments: tuple[str, ...]
    text: str | tuple[Token, ...]


@dataclass
class Scope:
    """What the names in somebody's formulas stand for.

    Attributes
    ----------
    symbols
        The symbol of each name.
    definitions
        The definitions by name.
    source
        The name of the file, for messages.
    named
        What has been read of the definitions: a symbol for each, or for each application of a function, with its
        formula, in an order in which each formula uses earlier symbols alone. A formula that contains a normal variable
        of an average around it has no symbol and is written out there.
    applied
        The definition and the arguments of each symbol in `named`.
    under_way
        The definitions that are being read.
    known
        What each application of a definition has been read as.
    random
        The definitions that contain a variable of an average around them, with the variables of the first such average.
    kept
        The one of them that is not written out but stands as a function of its arguments and variables.
    grammar
        The parser of formulas.
    """

    symbols: Mapping[str, sp.Symbol]
    definitions: Mapping[str, Definition]
    source: str
    named: dict[sp.Symbol, sp.Expr] = field(default_factory=dict)
    applied: dict[sp.Symbol, tuple[str, tuple[sp.Expr, ...]]] = field(default_factory=dict)
    under_way: tuple[str, ...] = ()
    known: dict[tuple, sp.Expr] = field(default_factory=dict)
    random: dict[str, Mapping[str, sp.Symbol]] = field(default_factory=dict)
    kept: str = ""
    grammar: type[Formula] | None = None

    def read(self, text: str | tuple[Token, ...], key: str) -> sp.Expr:
        """The formula that a text states. Raises BadInput with the place of a mistake."""
        with sympy_guard(key, self.source):
            value = self.formula(text, self.symbols, key).parse()
        stray = sorted(v.name for v in value.free_symbols if isinstance(v, StandardNormal))
        if stray:
            found = f"{', '.join(stray)} stands outside of an average"
            raise BadInput(key, found, "write E[...] around what is averaged over it", self.source)
        return value

    def formula(self, text: str | tuple[Token, ...], symbols: Mapping[str, sp.Expr], key: str) -> Formula:
        """The parser of a text in this scope's grammar."""
        return (self.grammar or Formula)(text, self, symbols, key)

    def defined(
        self,
        name: str,
        arguments: tuple[sp.Expr, ...],
        fail: Callable[[str, str], NoReturn],
        bound: Mapping[str, sp.Symbol] = MappingProxyType({}),
    ) -> sp.Expr:
        """The value of a definition: its symbol, or its formula where a random variable is at large.

        bound: the variables of the averages around it, by their names.
        """
        definition = self.definitions[name]
        if name in self.under_way:
            fail(f"{' -> '.join((*self.under_way, name))} is a circle of definitions", "define one of them without it")
        key = (name, arguments, tuple(sorted(bound.items(), key=str)))
        if key in self.known:
            return self.known[key]
        if len(arguments) != len(definition.arguments):
            count = len(definition.arguments)
            fail(f"{name} with {len(arguments)} arguments", f"give it {count}, as in its definition")
        varying = sorted({v.name for a in arguments for v in a.free_symbols if isinstance(v, RANDOM)})
        value = self._formula_of(name, arguments, bound)
        if varying and value.has(Expectation):
            fail(f"{name} is an average, and its argument varies with {varying[0]}", "write one average over both")
        variables = sorted((v for v in value.free_symbols if isinstance(v, RANDOM)), key=str)
        if variables:
            self.random.setdefault(name, dict(bound))
            if name == self.kept:
                value = sp.Function(name, real=True)(*arguments, *variables)
            self.known[key] = value
            return value
        applied = f"{name}({', '.join(map(self.written, arguments))})" if arguments else name
        symbol = sp.Symbol(applied, real=True)
        self.named.setdefault(symbol, value)
        self.applied.setdefault(symbol, (name, arguments))
        self.known[key] = symbol
        return symbol

    def keeping(self, name: str) -> Scope:
        """The same scope before anything is read, in which a random definition is not written out."""
        return self.afresh(kept=name)

    def afresh(self, **changes: Any) -> Scope:
        """The same scope before anything is read, with some attributes changed."""
        return replace(self, **{"named": {}, "applied": {}, "known": {}, "random": {}, **changes})

    def body(self, name: str) -> tuple[tuple[sp.Symbol, ...], sp.Expr]:
        """The arguments of a definition and its formula in them."""
        arguments = tuple(sp.Symbol(a, real=True) for a in self.definitions[name].arguments)
        with sympy_guard(f"definitions.{name}", self.source):
            return arguments, self._formula_of(name, arguments, self.random.get(name, {}))

    def _formula_of(self, name: str, arguments: tuple[sp.Expr, ...], bound: Mapping[str, sp.Symbol]) -> sp.Expr:
        definition = self.definitions[name]
        own = dict(zip(definition.arguments, arguments, strict=True))
        inner = replace(self, under_way=(*self.under_way, name))
        formula = inner.formula(definition.text, {**self.symbols, **own}, f"definitions.{name}")
        formula.bound = {variable: v for variable, v in bound.items() if variable not in own}
        return formula.parse()

    def spelled(self, name: str) -> str:
        """A name as these formulas write it."""
        symbol = self.symbols.get(name)
        return next((own for own, s in self.symbols.items() if s == symbol and own != name), name)

    def written(self, expression: sp.Expr) -> str:
        """An expression in the names of these formulas."""
        return str(expression.xreplace({s: sp.Symbol(name) for name, s in self.symbols.items()}))


class Formula(Parser):
    """The parser of one formula. A subclass reads formulas in another notation from their parts."""

    most_characters, most_nodes = MOST_CHARACTERS, MOST_NODES
    part = parts("[]")

    def __init__(self, text: str | tuple[Token, ...], scope: Scope, symbols: Mapping[str, sp.Expr], key: str) -> None:
        self.scope, self.text = scope, text
        self.bound: dict[str, sp.Symbol] = {}
        super().__init__(text, symbols, key, scope.source)  # type: ignore[arg-type]

    def fail(self, found: str, remedy: str, token: Token | None = None) -> NoReturn:
        if token is None:
            super().fail(found, remedy)
        found = f"column {token.column}: {found}"
        raise UnreadableFormula(self.key, found, remedy, self.source, excerpt(str(self.text), token.column))

    def named(self, token: Token) -> sp.Expr:
        name = token.text
        if name == AVERAGE and self.take_if("["):
            return self.average(token)
        if name in self.names:
            return super().named(token)
        if name in self.scope.definitions:
            return self.bounded(self.scope.defined(name, (), self.failing(token)), token)
        if NORMAL.fullmatch(name):
            return self.bounded(StandardNormal(name), token)
        known = [*self.names, *self.scope.definitions]
        self.fail(f"the name {token} is unknown", f"define it, or use {', '.join(known)}", token)

    def call(self, token: Token) -> sp.Expr:
        name = token.text
        if name in self.scope.definitions:
            arguments = tuple(self.arguments())
            return self.bounded(self.scope.defined(name, arguments, self.failing(token)), token)
        if name in EXACT:
            return self.applied(token, self.arguments())
        if name in self.names:
            self.fail(f"{token} before a bracket", f"write {name}*( for a product, or define {name}(u)", token)
        return super().call(token)

    def applied(self, token: Token, arguments: list[sp.Expr]) -> sp.Expr:
        if token.text in EXACT and len(arguments) == 1 and not arguments[0].is_number:
            return self.bounded(EXACT[token.text](*arguments), token)
        return super().applied(token, arguments)

    def average(self, token: Token) -> sp.Expr:
        integrand = self.sum()
        self.require("]")
        normals = sorted(
            (v for v in integrand.free_symbols if isinstance(v, StandardNormal)), key=lambda v: (len(v.name), v.name)
        )
        if not normals:
            self.fail("an average of what does not vary", "write z, z1, z2, … for the normal variables", token)
        return self.bounded(Expectation(integrand, *normals), token)

    def number(self, token: Token) -> sp.Expr:
        decimal = sp.Rational(token.text) if len(token.text) < 16 and "e" not in token.text.lower() else None
        return self.bounded(decimal, token) if decimal is not None else super().number(token)

    def constant(self, function: Callable[..., float], arguments: tuple[sp.Expr, ...], token: Token) -> sp.Expr:
        """The value at constants, exact where the constants are small rationals."""
        small = all(isinstance(x, sp.Rational) and max(abs(x.p), x.q) <= LARGEST_EXACT for x in arguments)
        of_pi = len(arguments) == 1 and isinstance(arguments[0] / sp.pi, sp.Rational)
        value = super().constant(function, arguments, token)
        if of_pi and token.text == "sqrt":
            return self.bounded(sp.sqrt(arguments[0]), token)
        if small and token.text in ("sqrt", "log", "exp"):
            return self.bounded(EXACT[token.text](*arguments), token)
        if small and token.text == "**" and abs(arguments[1]) <= 8:
            return self.bounded(arguments[0] ** arguments[1], token)
        return value

    def failing(self, token: Token) -> Callable[[str, str], NoReturn]:
        return lambda found, remedy: self.fail(found, remedy, token)


def excerpt(line: str, column: int) -> str:
    """A line of a formula and, below it, a caret at a column, which counts from one."""
    start = max(0, column - 1 - WIDEST // 2)
    shown_part = "".join(c if c.isprintable() else " " for c in line[start : start + WIDEST])
    return f"  {shown_part}\n  {' ' * (column - 1 - start)}^"


def definition_of(key: str, text: str, source: str) -> tuple[str, Definition]:
    """The name and the definition that a key such as "h" or "F(u, v)" states with its text."""
    match = re.fullmatch(r"\s*([A-Za-z_]\w*)\s*(?:\(\s*([A-Za-z_]\w*(?:\s*,\s*[A-Za-z_]\w*)*)\s*\))?\s*", key, re.ASCII)
    if match is None:
        raise BadInput("definitions", f"{shown(key)} is no name", 'write a name or, in quotes, "F(u)"', source)
    name, arguments = match[1], tuple(re.findall(r"\w+", match[2] or ""))
    if name in FUNCTIONS or name == AVERAGE or NORMAL.fullmatch(name):
        raise BadInput(f"definitions.{name}", "the name has a meaning already", "choose another name", source)
    if len(set(arguments)) < len(arguments) or any(NORMAL.fullmatch(a) for a in arguments):
        raise BadInput(
            f"definitions.{name}", "an argument is named twice or like a normal variable", "rename it", source
        )
    return name, Definition(arguments, text)
