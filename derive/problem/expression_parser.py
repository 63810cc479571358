"""A user's own formula, read by a grammar of plain mathematics and by nothing else.

    sum     = product {("+" | "-") product}
    product = signed {("*" | "/") signed}
    signed  = ("+" | "-") signed | power
    power   = atom ["**" signed]
    atom    = number | name | function "(" sum {"," sum} ")" | "(" sum ")"

No text ever reaches Python's or SymPy's own parsers. Each value is bounded as it is built, so SymPy never meets a
number too large to handle: a constant under a function or a power becomes a double at once, an exponent is at most 100
or stands on a constant base, and large integers become doubles. Limits on nested sums and on a power's terms bound the
time that SymPy spends on signs and expansions; a count of SymPy's steps stops the rare formula beyond these limits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

import sympy as sp

from derive.problem.field_checks import BadInput, shown
from derive.problem.formula_limits import as_float, depth_of_sum, sums_in_sums, sympy_guard, terms_of
from derive.problem.scaled_form import Exponential, Floor

MOST_CHARACTERS = 1000
MOST_NODES = 200
MOST_NESTING = 50
MOST_SUMS_IN_SUMS = 4
MOST_TERMS = 100_000
LARGEST_EXPONENT = 100
LARGEST_EXACT_INTEGER = 2**53

CONSTANTS = {"pi": sp.pi}
_NOT_REAL = frozenset({sp.nan, sp.zoo, sp.oo, -sp.oo, sp.I})


@dataclass(frozen=True)
class _Function:
    build: Callable[..., sp.Expr]
    value: Callable[..., float]
    fewest: int = 1
    most: int = 1


def _absolute(x: sp.Expr) -> sp.Expr:
    # SymPy may expand without end the Abs of an argument that it cannot prove real, but not the square root.
    return sp.Abs(x) if x.is_extended_real else sp.sqrt(x**2)


def _hyperbolic_secant(x: sp.Expr) -> sp.Expr:
    # SymPy's code printers do not know sech; they write it and its argument with complex exponentials.
    return 1 / sp.cosh(x)


def _sigmoid(x: sp.Expr) -> sp.Expr:
    return 1 / (1 + Exponential(-x))


def _remainder(x: sp.Expr, divisor: sp.Expr) -> sp.Expr:
    return sp.nan if divisor.is_zero else x - divisor * Floor(x / divisor)


FUNCTIONS: dict[str, _Function] = {
    "exp": _Function(Exponential, math.exp),
    "log": _Function(sp.log, math.log),
    "sqrt": _Function(sp.sqrt, math.sqrt),
    "sin": _Function(sp.sin, math.sin),
    "cos": _Function(sp.cos, math.cos),
    "tan": _Function(sp.tan, math.tan),
    "atan": _Function(sp.atan, math.atan),
    "sinh": _Function(sp.sinh, math.sinh),
    "cosh": _Function(sp.cosh, math.cosh),
    "tanh": _Function(sp.tanh, math.tanh),
    "sech": _Function(_hyperbolic_secant, lambda x: 1 / math.cosh(x)),
    "erf": _Function(sp.erf, math.erf),
    "abs": _Function(_absolute, abs),
    "min": _Function(sp.Min, min, 2, 4),
    "max": _Function(sp.Max, max, 2, 4),
    "sigmoid": _Function(_sigmoid, lambda x: 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))),
    "floor": _Function(Floor, lambda x: float(math.floor(x))),
    "mod": _Function(_remainder, lambda x, divisor: x - divisor * math.floor(x / divisor), 2, 2),
}


def parse_expression(
    text: str, symbols: Mapping[str, sp.Symbol], key: str = "expression", source: str = "problem"
) -> sp.Expr:
    """The SymPy expression that `text` states in the given symbols, the functions in `FUNCTIONS` and pi.

    symbols: the symbol for each name that the user may write. key, source: for messages. Raises BadInput with the
    column of the first part that is not plain mathematics or is too large.
    """
    with sympy_guard(key, source):
        return Parser(text, symbols, key, source).parse()


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    column: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else shown(self.text)


_NUMBER = r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
_BLANK = re.compile(r"[ \t\r\n]*")


def parts(signs: str = "") -> re.Pattern[str]:
    """The pattern of a number, a name or a sign. signs: further signs of one character each."""
    return re.compile(_NUMBER + rf"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<sign>\*\*|[-+*/(),{re.escape(signs)}])")


class Parser:
    """A recursive-descent parser for one text.

    A subclass may allow more characters, nodes and signs, and read more kinds of atoms.
    """

    most_characters, most_nodes = MOST_CHARACTERS, MOST_NODES
    part = parts()

    def __init__(self, text: str, symbols: Mapping[str, sp.Symbol], key: str, source: str) -> None:
        self.key, self.source = key, source
        self.names: dict[str, sp.Expr] = {**CONSTANTS, **symbols}
        self.nodes = self.nesting = self.position = 0
        if len(text) > self.most_characters:
            self.fail(f"{len(text)} characters", f"shorten it to at most {self.most_characters}")
        self.tokens = self.tokenise(text)

    def fail(self, found: str, remedy: str, token: Token | None = None) -> NoReturn:
        where = f"column {token.column}: " if token else ""
        raise BadInput(self.key, where + found, remedy, self.source)

    def tokenise(self, text: str) -> list[Token]:
        tokens: list[Token] = []
        start = _BLANK.match(text).end()  # type: ignore[union-attr]
        while start < len(text):
            match = self.part.match(text, start)
            if match is None:
                remedy = (
                    "write ** for powers"
                    if text[start] == "^"
                    else "write numbers, names, + - * / ** ( ) and commas only"
                )
                self.fail(
                    f"{text[start]!a} is not part of plain mathematics", remedy, Token("sign", text[start], start + 1)
                )
            tokens.append(Token(match.lastgroup or "", match.group(), start + 1))
            start = _BLANK.match(text, match.end()).end()  # type: ignore[union-attr]
        tokens.append(Token("end", "", len(text) + 1))
        return tokens

    @property
    def ahead(self) -> Token:
        return self.tokens[self.position]

    def take(self) -> Token:
        token = self.ahead
        self.position += 1
        return token

    def take_if(self, *signs: str) -> Token | None:
        return self.take() if self.ahead.kind == "sign" and self.ahead.text in signs else None

    def require(self, sign: str) -> None:
        if not self.take_if(sign):
            self.fail(f"found {self.ahead}", f"put {sign!r} there, or an operator such as *", self.ahead)

    def parse(self) -> sp.Expr:
        value = self.sum()
        if self.ahead.kind != "end":
            self.fail(
                f"found {self.ahead} after a complete expression", "put an operator such as * before it", self.ahead
            )
        return value

    def sum(self) -> sp.Expr:
        value = self.product()
        while sign := self.take_if("+", "-"):
            term = self.product()
            value = self.bounded(value + term if sign.text == "+" else value - term, sign)
        return value

    def product(self) -> sp.Expr:
        value = self.signed()
        while sign := self.take_if("*", "/"):
            factor = self.signed()
            value = self.bounded(value * factor if sign.text == "*" else value / factor, sign)
        return value

    def signed(self) -> sp.Expr:
        self.nesting += 1
        if self.nesting > MOST_NESTING:
            self.fail(f"more than {MOST_NESTING} levels of nesting", "simplify it", self.ahead)
        if sign := self.take_if("-"):
            value = self.bounded(-self.signed(), sign)
        elif self.take_if("+"):
            value = self.signed()
        else:
            value = self.power()
        self.nesting -= 1
        return value

    def power(self) -> sp.Expr:
        base = self.atom()
        sign = self.take_if("**")
        return base if sign is None else self.raised(base, self.signed(), sign)

    def raised(self, base: sp.Expr, exponent: sp.Expr, sign: Token) -> sp.Expr:
        if base.is_number and exponent.is_number:
            return self.constant(math.pow, (base, exponent), sign)
        if exponent.is_number:
            power = self.double(exponent, sign)
            if abs(power) > LARGEST_EXPONENT:
                self.fail(
                    f"the exponent {power:g}",
                    f"keep exponents within {LARGEST_EXPONENT}, or write exp(exponent*log(base))",
                    sign,
                )
            return self.bounded(base ** (sp.Rational(power) if (2 * power).is_integer() else exponent), sign)
        if base.is_number and self.double(base, sign) > 0:
            # A double base prevents a later substitution from computing an enormous exact power.
            return self.bounded(sp.Float(self.double(base, sign)) ** exponent, sign)
        if base.is_Symbol and base.is_positive:
            return self.bounded(base**exponent, sign)
        self.fail("a variable exponent on a base that is not a positive number", "write exp(exponent*log(base))", sign)

    def atom(self) -> sp.Expr:
        token = self.take()
        if token.kind == "number":
            return self.number(token)
        if token.kind == "name":
            return self.call(token) if self.take_if("(") else self.named(token)
        if token.text == "(":
            value = self.sum()
            self.require(")")
            return value
        self.fail(f"found {token}", "put a number, a name or a bracket there", token)

    def number(self, token: Token) -> sp.Expr:
        return self.bounded(
            sp.Integer(int(token.text)) if token.text.isdigit() else sp.Float(self.finite(float(token.text), token)),
            token,
        )

    def named(self, token: Token) -> sp.Expr:
        if token.text in FUNCTIONS:
            self.fail(f"the function {token.text} without an argument", f"write {token.text}(...)", token)
        if token.text not in self.names:
            self.fail(
                f"the name {token} is unknown",
                f"use {', '.join(self.names)} or a function: {', '.join(FUNCTIONS)}",
                token,
            )
        return self.bounded(self.names[token.text], token)

    def call(self, token: Token) -> sp.Expr:
        if token.text not in FUNCTIONS:
            self.fail(f"{token} is not a known function", f"use * to multiply, or one of {', '.join(FUNCTIONS)}", token)
        return self.applied(token, self.arguments())

    def applied(self, token: Token, arguments: list[sp.Expr]) -> sp.Expr:
        """The value of the function that a token names."""
        function = FUNCTIONS[token.text]
        if len(arguments) > 1:
            self.require_shallow(depth_of_sum(arguments), token)  # SymPy forms their differences
        if not function.fewest <= len(arguments) <= function.most:
            fewest, most = function.fewest, function.most
            wanted = f"{fewest} argument{'s' * (fewest > 1)}" if fewest == most else f"{fewest} to {most} arguments"
            self.fail(f"{token.text} with {len(arguments)} arguments", f"give it {wanted}", token)
        if all(argument.is_number for argument in arguments):
            return self.constant(function.value, tuple(arguments), token)
        return self.bounded(function.build(*arguments), token)

    def arguments(self) -> list[sp.Expr]:
        values = [self.sum()]
        while self.take_if(","):
            values.append(self.sum())
        self.require(")")
        return values

    def constant(self, function: Callable[..., float], arguments: tuple[sp.Expr, ...], token: Token) -> sp.Expr:
        """The double value of a function at constants.

        A whole value becomes an integer, so that t**(2*2) stays a polynomial.
        """
        try:
            value = self.finite(function(*(self.double(x, token) for x in arguments)), token)
        except (ValueError, OverflowError, ZeroDivisionError):
            self.fail(f"{token} gives no finite real number here", "change what it acts on", token)
        exact = value.is_integer() and abs(value) <= LARGEST_EXACT_INTEGER
        return self.bounded(sp.Integer(int(value)) if exact else sp.Float(value), token)

    def double(self, constant: sp.Expr, token: Token) -> float:
        return self.finite(float(constant), token)

    def finite(self, value: float, token: Token) -> float:
        if not math.isfinite(value):
            self.fail(f"{token} gives a number beyond double precision", "keep numbers below 1e308", token)
        return value

    def bounded(self, value: sp.Expr, token: Token) -> sp.Expr:
        """`value` counted as one more node, with large exact numbers turned into doubles.

        Fails where a number or an exponent is out of range.
        """
        self.nodes += 1
        if self.nodes > self.most_nodes:
            self.fail(f"more than {self.most_nodes} numbers, names and operations", "simplify it", token)
        large: dict[sp.Expr, sp.Expr] = {}
        for node in sp.preorder_traversal(value):
            if node in _NOT_REAL:
                self.fail(
                    f"{token} gives no finite real number",
                    "avoid division by zero and roots of negative numbers",
                    token,
                )
            if isinstance(node, sp.Rational) and max(abs(node.p), node.q) > LARGEST_EXACT_INTEGER:
                large[node] = sp.Float(node)
            if isinstance(node, sp.Float | sp.Rational) and abs(node) > 1:
                self.finite(as_float(node), token)
            if isinstance(node, sp.Pow) and node.exp.is_number and abs(as_float(node.exp)) > LARGEST_EXPONENT:
                self.fail(f"an exponent above {LARGEST_EXPONENT}", "write exp(exponent*log(base))", token)
            if isinstance(node, sp.Pow) and terms_of(node) > MOST_TERMS:
                self.fail(
                    f"a power of over {MOST_TERMS} terms when multiplied out", "write exp(exponent*log(base))", token
                )
        self.require_shallow(sums_in_sums(value), token)
        return value.xreplace(large) if large else value

    def require_shallow(self, depth: int, token: Token) -> None:
        if depth > MOST_SUMS_IN_SUMS:
            self.fail(
                f"sums within sums, over {MOST_SUMS_IN_SUMS} levels deep", "multiply it out or simplify it", token
            )
