"""Symbols in LaTeX: letters with stars, indices, accents and primes, and the tokens that they are made of.

A symbol's name is its LaTeX in letters: w^\\star_{1} is w_star_1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast

import sympy as sp

from annealvi.comparison.reading.formulas import Formula, UnreadableFormula
from derive.problem.expression_parser import Token

if TYPE_CHECKING:
    from annealvi.comparison.reading.latex_document import LatexScope

BRACKETS = {"(": ")", "[": "]", r"\{": r"\}", r"\lbrace": r"\rbrace", r"\lbrack": r"\rbrack"}
MEASURE, UNIT = r"\measure", r"\unit"
"""What stands in the place of the measure of an integral once it is read: behind the integrand, or in front of it."""
TIMES, OVER = (r"\cdot", r"\times", "*"), ("/", r"\slash")
ENDS = frozenset({*BRACKETS.values(), *TIMES, *OVER, "}", r"\rangle", r"\rvert", "+", "-", ",", ";", "=", MEASURE})
"""What ends a product, or stands between its factors."""
FRACTIONS = (r"\frac", r"\tfrac", r"\dfrac", r"\cfrac", r"\nicefrac", r"\sfrac")
BARS = {"|": "|", r"\vert": r"\vert", r"\lvert": r"\rvert"}
ACCENTS = ("bar", "overline", "hat", "widehat", "tilde", "widetilde", "check", "breve", "underline")
FONTS = {"mathcal": "cal_", "mathscr": "scr_", "mathfrak": "frak_", "mathbf": "bf_", "boldsymbol": "bf_", "bm": "bf_"}
UPRIGHT = ("mathrm", "mathit", "mathsf", "mathnormal", "operatorname", "text", "textrm", "textnormal", "mathop")
OPERATORS = {"ln": "log", "arctan": "atan"}
"""LaTeX's names of functions that have another one here."""
NO_SYMBOLS = {r"\dot", r"\ddot", r"\sum", r"\prod", r"\infty", r"\nabla", r"\partial", r"\sim", r"\to", r"\in", r"\end"}
NO_SYMBOLS |= {r"\mid", r"\approx", r"\dots", r"\ldots", r"\cdots", r"\begin", r"\input", r"\include"}
STARS = frozenset({r"\star", r"\ast", "*"})
GAUSS = ("D", "d")


class LatexToken(Token):
    """A token of LaTeX, which messages show as it is written."""

    def __str__(self) -> str:
        return self.text or "the end"


class LatexSymbols(Formula):
    """The parts of a parser of LaTeX that read symbols, groups and brackets."""

    scope: LatexScope

    def tokenise(self, text: Any) -> list[Token]:
        self.closing: list[str] = []
        tokens = cast(Sequence[Token], text)
        last = tokens[-1] if tokens else LatexToken("end", "", 1)
        return [*tokens, LatexToken("end", "", last.column + len(last.text))]

    def fail(self, found: str, remedy: str, token: Token | None = None) -> NoReturn:
        if token is None:
            token = self.ahead if hasattr(self, "tokens") else self.text[0]  # type: ignore[assignment]
        assert isinstance(token, Token)
        line, column, excerpt = self.scope.place(token.column)
        found = f"line {line}, column {column}: {found}"
        raise UnreadableFormula("", found, remedy, self.source, excerpt)

    def require(self, sign: str) -> None:
        if not self.take_if(sign):
            self.fail(f"found {self.ahead}", f"put {sign} there", self.ahead)

    def take_if(self, *signs: str) -> Token | None:
        return self.take() if self.ahead.kind != "end" and self.ahead.text in signs else None

    def inside(self, closing: str) -> sp.Expr:
        """The sum up to a closing bracket."""
        self.closing.append(closing)
        value = self.sum()
        self.require(closing)
        self.closing.pop()
        return value

    def exponent(self, sign: Token) -> sp.Expr:
        if self.ahead.kind == "number" and len(self.ahead.text) > 1:
            self.fail(f"{self.ahead} is a power of one digit in TeX", f"write ^{{{self.ahead.text}}}", self.ahead)
        inside = [t.text for t in self._raw_ahead(0)]
        if inside[:1] == ["("] and len(inside) == 3:
            self.fail("an index in the place of an exponent", "write indices below, exponents without ( )", self.ahead)
        return self.group()

    def group(self) -> sp.Expr:
        """The value of a group in braces, or of one token as TeX takes it."""
        if self.take_if("{"):
            return self.inside("}")
        token = self.ahead
        if token.kind == "number" and len(token.text) > 1:
            self.tokens[self.position : self.position + 1] = [
                Token("number", digit, token.column + n) for n, digit in enumerate(token.text)
            ]
        if token.kind == "name" and not token.text.startswith("\\"):
            return self.named(self.take())
        if token.text in (*BRACKETS, *BARS):
            self.fail(f"{token} is all that TeX takes there", "put braces around the whole", token)
        return self.atom()

    def _has_meaning(self, name: str) -> bool:
        return name in self.names or name in self.scope.definitions or name in self.bound

    def symbol(self) -> tuple[str, sp.Expr | None]:
        """The name of the symbol ahead, with its stars and indices, and an exponent that stands beside a star."""
        token = self.take()
        name, star, indices, behind, power = self.head(token), "", "", "", None
        while self.ahead.text in ("^", "_") or self.ahead.text.startswith("'"):
            if self.ahead.text.startswith("'"):
                behind += "_prime" * len(self.take().text)
            elif self.ahead.text == "_":
                sign = self.take()
                starred, index = self.index(sign)
                star, indices = "_star" if starred else star, indices + f"_{index}" * bool(index)
            else:
                raised = self._raw_ahead(1)
                marked = raised and raised[0].text in {*STARS, "+", r"\prime", r"\dagger"}
                behind_it = self.position + len(raised) + 1 + 2 * (self.tokens[self.position + 1].text == "{")
                if not marked and power is not None:
                    self.fail("a second exponent", "put the first power in brackets", self.ahead)
                if not marked and [t.text for t in self.tokens[behind_it:][:1]] != ["_"]:
                    break
                sign = self.take()
                if not marked:  # as in w^2_1
                    power = self.inner([*self.tokens[self.position : behind_it]]).exponent(sign)
                    self.position = behind_it
                    continue
                inside = self.raw()
                for n, part in enumerate(inside):
                    if part.text in STARS:
                        star = "_star"
                    elif part.text in ("+", r"\prime", r"\dagger"):
                        behind += {"+": "_plus", r"\prime": "_prime", r"\dagger": "_dagger"}[part.text]
                    else:
                        power = self.inner(inside[n:]).parse()
                        break
        return name + star + indices + behind, power

    def head(self, token: Token) -> str:
        """The letters of a symbol without its stars and indices."""
        text = token.text.removeprefix("\\")
        if not token.text.startswith("\\"):
            if token.kind != "name":
                self.fail(f"found {token}", "put a symbol there", token)
            return text
        if text in ACCENTS:
            return f"{'bar' if text == 'overline' else text.removeprefix('wide')}_{spelled(self.raw())}"
        if text in FONTS:
            return FONTS[text] + spelled(self.raw())
        if text == "mathbb":
            return "bb_" + spelled(self.raw())
        if text in UPRIGHT:
            name = spelled(self.raw())
            if name == "d":
                self.fail("the sign of a differential", "write d for a symbol", token)
            return name
        if not text.isalpha() or token.text in NO_SYMBOLS:
            self.fail(f"found {token}", "put a symbol there", token)
        return text

    def index(self, sign: Token) -> tuple[bool, str]:
        """Whether an index has a star, and its name."""
        if self.ahead.kind == "number" and len(self.ahead.text) > 1:
            found = f"{self.ahead} is an index of one digit in TeX"
            self.fail(found, f"write _{{{self.ahead.text}}}", self.ahead)
        inside = self.raw()
        stray = [t for t in inside if t.kind == "sign" and t.text not in {*STARS, *"+-,;_{}"}]
        if stray:
            self.fail(f"{stray[0]} in an index", "use letters, digits and commas in names", stray[0])
        starred = any(t.text in STARS for t in inside)
        return starred, spelled([t for t in inside if t.text not in STARS])

    def raw(self) -> list[Token]:
        """The tokens of a group in braces, or one token, with a font or without."""
        if self.ahead.text.removeprefix("\\") in UPRIGHT:
            self.take()
        inside = self._raw_ahead(0)
        if self.ahead.kind == "end":
            self.fail("found the end", "put a symbol or a group in braces there", self.ahead)
        self.position += len(inside) + 2 * (self.ahead.text == "{")
        return inside

    def _raw_ahead(self, n: int) -> list[Token]:
        """The tokens of the group that begins n tokens ahead."""
        start = self.position + n
        if self.tokens[min(start, len(self.tokens) - 1)].text != "{":
            return self.tokens[start : start + 1]
        depth = 0
        for end in range(start, len(self.tokens)):
            depth += {"{": 1, "}": -1}.get(self.tokens[end].text, 0)
            if depth == 0:
                return self.tokens[start + 1 : end]
        self.fail("an open brace", "close it", self.tokens[start])

    def inner(self, tokens: Sequence[Token]) -> Self:
        """The parser of a part of this formula."""
        formula = type(self)(tuple(tokens), self.scope, self.names, self.key)
        formula.bound = self.bound
        return formula


def spelled(tokens: Sequence[Token]) -> str:
    """The name that tokens of LaTeX make: their letters and digits, with _ where a comma or an index stands."""
    fonts = {rf"\{font}" for font in (*UPRIGHT, *FONTS)}
    signs = {"+": "plus", "-": "minus", ",": "_", ";": "_", "_": "_"}
    parts = [signs.get(t.text, re.sub(r"\W", "", t.text)) for t in tokens if t.text not in fonts]
    return re.sub(r"__+", "_", "".join(parts)).strip("_")


def written(tokens: Sequence[Token]) -> str:
    """Tokens as LaTeX."""
    joined = "".join(f"{t.text} " if t.text.startswith("\\") else t.text for t in tokens)
    return re.sub(r"(\\[A-Za-z]+) (?![A-Za-z])", r"\1", joined).strip()


def comma_separated(tokens: Sequence[Token]) -> list[list[Token]]:
    """The parts of a list between its commas."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.text in BRACKETS or token.text == "{") - (token.text in BRACKETS.values() or token.text == "}")
        if token.text in (",", ";") and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]
