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
from typing import NoReturn

import sympy as sp

from derive.objects.expectation import Expectation, StandardNormal
from derive.objects.softmax import Softmax
from derive.problem.expression_parser import FUNCTIONS, Parser, Token, parts
from derive.problem.field_checks import BadInput, shown
from derive.problem.formula_limits import sympy_guard

NORMAL = re.compile(r"z_?[0-9]{0,2}")
"""The names of standard normal variables."""
AVERAGE = "E"
MOST_CHARACTERS, MOST_NODES = 20_000, 2_000
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


@dataclass(frozen=True)
class Definition:
    """A named formula: the names of its arguments, and its text."""

    arguments: tuple[str, ...]
    text: str


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
    """

    symbols: Mapping[str, sp.Symbol]
    definitions: Mapping[str, Definition]
    source: str
    named: dict[sp.Symbol, sp.Expr] = field(default_factory=dict)
    applied: dict[sp.Symbol, tuple[str, tuple[sp.Expr, ...]]] = field(default_factory=dict)
    under_way: tuple[str, ...] = ()

    def read(self, text: str, key: str) -> sp.Expr:
        """The formula that a text states. Raises BadInput with the place of a mistake."""
        with sympy_guard(key, self.source):
            value = _Formula(text, self, self.symbols, key).parse()
        stray = sorted(v.name for v in value.free_symbols if isinstance(v, StandardNormal))
        if stray:
            found = f"{', '.join(stray)} stands outside of an average"
            raise BadInput(key, found, "write E[...] around what is averaged over it", self.source)
        return value

    def defined(self, name: str, arguments: tuple[sp.Expr, ...], fail: Callable[[str, str], NoReturn]) -> sp.Expr:
        """The value of a definition: its symbol, or its formula where a normal variable is at large."""
        definition = self.definitions[name]
        if name in self.under_way:
            fail(f"{' -> '.join((*self.under_way, name))} is a circle of definitions", "define one of them without it")
        if len(arguments) != len(definition.arguments):
            count = len(definition.arguments)
            fail(f"{name} with {len(arguments)} arguments", f"give it {count}, as in its definition")
        varying = sorted({v.name for a in arguments for v in a.free_symbols if isinstance(v, StandardNormal)})
        if varying and self.body(name)[1].has(Expectation):
            fail(f"{name} is an average, and its argument varies with {varying[0]}", "write one average over both")
        value = self._formula_of(name, arguments)
        if any(isinstance(v, StandardNormal) for v in value.free_symbols):
            return value
        applied = f"{name}({', '.join(map(self.written, arguments))})" if arguments else name
        symbol = sp.Symbol(applied, real=True)
        self.named.setdefault(symbol, value)
        self.applied.setdefault(symbol, (name, arguments))
        return symbol

    def body(self, name: str) -> tuple[tuple[sp.Symbol, ...], sp.Expr]:
        """The arguments of a definition and its formula in them."""
        arguments = tuple(sp.Symbol(a, real=True) for a in self.definitions[name].arguments)
        with sympy_guard(f"definitions.{name}", self.source):
            return arguments, self._formula_of(name, arguments)

    def _formula_of(self, name: str, arguments: tuple[sp.Expr, ...]) -> sp.Expr:
        definition = self.definitions[name]
        own = dict(zip(definition.arguments, arguments, strict=True))
        inner = replace(self, under_way=(*self.under_way, name))
        return _Formula(definition.text, inner, {**self.symbols, **own}, f"definitions.{name}").parse()

    def written(self, expression: sp.Expr) -> str:
        """An expression in the names of these formulas."""
        return str(expression.xreplace({s: sp.Symbol(name) for name, s in self.symbols.items()}))


class _Formula(Parser):
    most_characters, most_nodes = MOST_CHARACTERS, MOST_NODES
    part = parts("[]")

    def __init__(self, text: str, scope: Scope, symbols: Mapping[str, sp.Expr], key: str) -> None:
        self.scope = scope
        super().__init__(text, symbols, key, scope.source)

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
            arguments = tuple(self.arguments())
            if len(arguments) == 1 and not arguments[0].is_number:
                return self.bounded(EXACT[name](*arguments), token)
            return self.constant(FUNCTIONS[name].value, arguments, token)
        if name in self.names:
            self.fail(f"{token} before a bracket", f"write {name}*( for a product, or define {name}(u)", token)
        return super().call(token)

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
        value = super().constant(function, arguments, token)
        if small and token.text in ("sqrt", "log", "exp"):
            return self.bounded(EXACT[token.text](*arguments), token)
        if small and token.text == "**" and abs(arguments[1]) <= 8:
            return self.bounded(arguments[0] ** arguments[1], token)
        return value

    def failing(self, token: Token) -> Callable[[str, str], NoReturn]:
        return lambda found, remedy: self.fail(found, remedy, token)


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
