"""Formulas in LaTeX: the same mathematics as `annealvi.comparison.reading.formulas`, as papers write it.

Products are written side by side, averages as \\mathbb E_z[…], ⟨…⟩_z or ∫Dz …, stars and indices belong to symbols, and
a function may stand without brackets. What TeX or a reader could understand in two ways is refused: a quotient a/bc, an
index of two digits without braces, \\tanh^{-1}. A symbol's name is its LaTeX in letters: w^\\star_{1} is w_star_1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, count
from typing import TYPE_CHECKING, Any, NoReturn, cast

import sympy as sp

from annealvi.comparison.reading.formulas import NORMAL, RANDOM, Formula, UnreadableFormula
from derive.objects.expectation import ChiSquared, Expectation, StandardNormal
from derive.objects.softmax import Softmax
from derive.problem.expression_parser import FUNCTIONS, Token

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


class LatexFormula(Formula):
    """The parser of a formula that is given as the tokens of its LaTeX."""

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

    def parse(self) -> sp.Expr:
        value = self.sum()
        if self.ahead.kind != "end":
            self.fail(f"found {self.ahead} after a complete formula", "leave it out, or open a bracket", self.ahead)
        return value

    # Products and powers

    def product(self) -> sp.Expr:
        value = self.power()
        while True:
            if sign := self.take_if(*TIMES):
                value = self.bounded(value * self.power(), sign)
            elif sign := self.take_if(*OVER):
                value = self.bounded(value / self.power(), sign)
                if self.at_factor():
                    self.fail("a quotient before a further factor", r"write \frac{a}{b} or brackets", self.ahead)
            elif self.at_factor():
                token = self.ahead
                if token.kind == "number" and self.tokens[self.position - 1].kind == "number":
                    self.fail("two numbers side by side", r"write \cdot between them", token)
                value = self.bounded(value * self.power(), token)
            else:
                return value

    def sum(self) -> sp.Expr:
        """A sum, whose first term may have a sign."""
        sign = self.take_if("-", "+")
        value = self.product()
        if sign and sign.text == "-":
            value = self.bounded(-value, sign)
        while sign := self.take_if("+", "-"):
            term = self.product()
            value = self.bounded(value + term if sign.text == "+" else value - term, sign)
        return value

    def take_if(self, *signs: str) -> Token | None:
        return self.take() if self.ahead.kind != "end" and self.ahead.text in signs else None

    def at_factor(self) -> bool:
        """Whether a further factor of a product stands ahead."""
        return self.ahead.kind != "end" and self.ahead.text not in {*ENDS, *self.closing[-1:]}

    def inside(self, closing: str) -> sp.Expr:
        """The sum up to a closing bracket."""
        self.closing.append(closing)
        value = self.sum()
        self.require(closing)
        self.closing.pop()
        return value

    def power(self) -> sp.Expr:
        with self._deeper():
            base_token = self.ahead
            if self._is_exponential():
                self.take()
                sign = self.take()
                return self.applied(Token("name", "exp", base_token.column), [self.exponent(sign)])
            value = self.atom()
            self._pass_time()
            if self.ahead.text == "^" and base_token.text in FRACTIONS:
                self.fail("a power of a fraction or of its numerator", "put the fraction in brackets", self.ahead)
            if self.ahead.text == "^":
                sign = self.take()
                value = self.raised(value, self.exponent(sign), Token("sign", "**", sign.column))
                self._pass_time()
            if self.ahead.text == "^":
                self.fail("a second exponent", "put the first power in brackets", self.ahead)
            return value

    def _pass_time(self) -> None:
        """Pass over the (t) of a function of time."""
        if [t.text for t in self.tokens[self.position : self.position + 3]] == ["(", "t", ")"]:
            self.position += 0 if self._has_meaning("t") else 3

    @contextmanager
    def _deeper(self) -> Iterator[None]:
        self.nesting += 1
        if self.nesting > 50:
            self.fail("more than 50 levels of nesting", "simplify it", self.ahead)
        yield
        self.nesting -= 1

    def _is_exponential(self) -> bool:
        """Whether the base of the natural logarithm stands ahead with an exponent, as e^x or \\mathrm{e}^x."""
        texts = [t.text for t in self.tokens[self.position : self.position + 5]]
        if texts[:3] == [r"\mathrm", "e", "^"]:
            del self.tokens[self.position]
            return True
        if texts[:4] in ([r"\mathrm", "{", "e", "}"], [r"\operatorname", "{", "e", "}"]) and texts[4:] == ["^"]:
            del self.tokens[self.position : self.position + 2], self.tokens[self.position + 1]
            return True
        return texts[:2] == ["e", "^"] and not self._has_meaning("e")

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
            self.take()
            return self.symbol_value(token.text, token)
        if token.text in (*BRACKETS, *BARS):
            self.fail(f"{token} is all that TeX takes there", "put braces around the whole", token)
        return self.atom()

    # Atoms

    def atom(self) -> sp.Expr:
        token = self.ahead
        text = token.text
        if token.kind == "number":
            return self.number(self.take())
        if text in BRACKETS or text == "{":
            self.take()
            return self.inside(BRACKETS.get(text, "}"))
        if text in BARS:
            self.take()
            return self.applied(Token("name", "abs", token.column), [self.inside(BARS[text])])
        if text in FRACTIONS:
            self.take()
            value = self.group()
            return self.bounded(value / self.group(), token)
        if text == r"\sqrt":
            return self.root(self.take())
        if text == UNIT:
            self.take()
            return sp.S.One
        if text in (r"\int", r"\iint"):
            return self.integral(self.take())
        if text == r"\langle":
            return self.angle_average(self.take())
        if token.kind == "name" and text not in NO_SYMBOLS:
            return self.named_or_called()
        self.fail(f"found {token}", "put a number, a symbol, a function or a bracket there", token)

    def root(self, token: Token) -> sp.Expr:
        degree = sp.Integer(2)
        if self.take_if("["):
            degree = self.inside("]")
        value = self.group()
        if degree == 2:
            return self.applied(Token("name", "sqrt", token.column), [value])
        return self.raised(value, self.bounded(1 / degree, token), Token("sign", "**", token.column))

    def named_or_called(self) -> sp.Expr:
        """A function, an average or a symbol, whichever stands ahead."""
        token = self.ahead
        operator = self._operator_ahead()
        if operator in FUNCTIONS or operator == "softmax":
            self._take_operator()
            return self.function(Token("name", operator, token.column))
        if self._average_ahead(operator):
            self._take_operator()
            return self.average(token)
        name, power = self.symbol()
        if self.ahead.text in BRACKETS and not self._has_meaning(name):
            if name == "sigma":
                return self.function(Token("name", "sigmoid", token.column))
            if name == "Phi":
                arguments = [a / sp.sqrt(2) for a in self.function_arguments(token)]
                error = self.applied(Token("name", "erf", token.column), arguments)
                return self.bounded((1 + error) / 2, token)
        value = self.symbol_value(name, token)
        return value if power is None else self.raised(value, power, Token("sign", "**", token.column))

    def _has_meaning(self, name: str) -> bool:
        return name in self.names or name in self.scope.definitions or name in self.bound

    def _operator_ahead(self) -> str:
        """The name of the function or of the sign of an average that may stand ahead."""
        text = self.ahead.text
        upright = text.removeprefix("\\") in (*UPRIGHT, "mathbb", "mathds")
        name = spelled(self._raw_ahead(1)) if upright else text.removeprefix("\\")
        if self._has_meaning(name) or not (text.startswith("\\") or name == "E"):
            return ""
        return OPERATORS.get(name, name)

    def _take_operator(self) -> None:
        text = self.take().text
        if text.removeprefix("\\") in (*UPRIGHT, "mathbb", "mathds"):
            self.raw()

    def _average_ahead(self, operator: str) -> bool:
        if self.ahead.text == "E":  # a plain letter may be a symbol
            return operator == "E" and self.tokens[self.position + 1].text in ("_", "[", r"\lbrack")
        return operator == "E"

    def symbol_value(self, name: str, token: Token) -> sp.Expr:
        """What a symbol stands for; a definition with arguments is applied to those that follow it."""
        if name in self.bound:
            return self.bounded(self.bound[name], token)
        if name in self.names:
            return self.bounded(self.names[name], token)
        definition = self.scope.definitions.get(name)
        if definition is not None:
            arguments: tuple[sp.Expr, ...] = ()
            if definition.arguments:
                if self.ahead.text in BRACKETS:
                    arguments = tuple(self.function_arguments(token))
                elif all(a in self.bound for a in definition.arguments):
                    arguments = tuple(self.bound[a] for a in definition.arguments)
                else:
                    self.fail(f"{name} without an argument", "write its argument in brackets behind it", token)
            value = self.scope.defined(name, arguments, self.failing(token), self.bound)
            return self.bounded(value, token)
        if NORMAL.fullmatch(name):
            return self.bounded(StandardNormal(name), token)
        known = ", ".join(dict.fromkeys(self.scope.spelled(n) for n in [*self.names, *self.scope.definitions]))
        unknown = written(self.tokens[self.tokens.index(token) : self.position])
        self.fail(f"the symbol {unknown} has no meaning", f"define it, or use {known}", token)

    # Functions

    def function(self, token: Token) -> sp.Expr:
        power = None
        if self.ahead.text == "^":
            sign = self.take()
            power = self.exponent(sign)
            if power == -1:
                self.fail(f"the exponent -1 of {token.text}", r"write a quotient, or the inverse function's name", sign)
        if token.text == "softmax":
            value = self.softmax(token)
        elif self.ahead.text == "_":
            self.fail(f"an index of {token.text}", "leave it out", self.ahead)
        else:
            value = self.applied(token, self.function_arguments(token))
        return value if power is None else self.raised(value, power, Token("sign", "**", token.column))

    def softmax(self, token: Token) -> sp.Expr:
        self.require("_")
        component = self.group()
        logits = self.function_arguments(token)
        if not (component.is_Integer and 1 <= component <= len(logits)):
            self.fail(f"softmax of component {component} among {len(logits)}", "write softmax_j(l_1, l_2, …)", token)
        return self.bounded(Softmax(int(component), *logits), token)

    def function_arguments(self, token: Token) -> list[sp.Expr]:
        """The arguments in brackets, or the factors up to the end of the product."""
        if self.take_if("{"):
            if self.ahead.text in BRACKETS:
                values = self.function_arguments(token)
                if self.take_if("}"):
                    return values
                self.fail("a function with a bracket before further factors", "put all of it in brackets", self.ahead)
            return [self.inside("}")]
        if self.ahead.text in BRACKETS:
            closing = BRACKETS[self.take().text]
            self.closing.append(closing)
            values = [self.sum()]
            while self.take_if(",", ";"):
                values.append(self.sum())
            self.require(closing)
            self.closing.pop()
            return values
        if not self.at_factor():
            self.fail(f"{token.text} without an argument", "write its argument in brackets", self.ahead)
        alone = self.ahead.text in (*BARS, *FRACTIONS)
        value = self.power()
        while self.at_factor():
            if (alone and not value.is_number) or self.ahead.text in (*BRACKETS, *BARS) or self._at_function():
                break
            value = self.bounded(value * self.power(), token)
        if self.at_factor() or self.ahead.text in (*TIMES, *OVER):
            self.fail(f"it is not clear where the argument of {token.text} ends", "put it in brackets", self.ahead)
        return [value]

    def _at_function(self) -> bool:
        text = self.ahead.text.removeprefix("\\")
        return self.ahead.text.startswith("\\") and (
            text in FUNCTIONS or text in OPERATORS or text in ("operatorname", "mathrm", "mathbb", "int", "langle")
        )

    # Symbols

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

    def inner(self, tokens: Sequence[Token]) -> LatexFormula:
        """The parser of a part of this formula."""
        formula = LatexFormula(tuple(tokens), self.scope, self.names, self.key)
        formula.bound = self.bound
        return formula

    # Averages

    def average(self, token: Token) -> sp.Expr:
        """An average \\mathbb E_z[…], its sign read before, of brackets or of the rest of the product."""
        laws = comma_separated(self.raw()) if self.take_if("_") else []
        with self.over(laws) as variables:
            if self.ahead.text in BRACKETS:
                bracket = self.take()
                integrand = self.inside(BRACKETS[bracket.text])
                if self.ahead.text == "^" and bracket.text == "(":
                    self.fail("a power of the average or of its integrand", r"write \mathbb{E}_z[…]", self.ahead)
            else:
                integrand = self.product()
        return self.average_of(integrand, variables, token)

    def average_of(self, integrand: sp.Expr, variables: list[sp.Symbol], token: Token) -> sp.Expr:
        """The average over the variables, or over all normal variables at large where none are named."""
        at_large = {v for v in integrand.free_symbols if isinstance(v, RANDOM)}
        if not variables:
            outside = set(self.bound.values())
            variables = sorted(at_large - outside, key=lambda v: (len(v.name), v.name))
        used = [v for v in variables if v in at_large]
        if not used:
            self.fail(
                "an average of what does not vary",
                r"name its variable, as in \mathbb{E}_z[…], with z a standard normal",
                token,
            )
        return self.bounded(Expectation(integrand, *used), token)

    @contextmanager
    def over(self, laws: list[list[Token]]) -> Iterator[list[sp.Symbol]]:
        """A context in which the variables of an average have a meaning."""
        outside, variables = self.bound, []
        inside = dict(outside)
        of_chi = any(r"\chi" in (t.text for t in law) for law in laws)
        for law in laws:
            name, variable = self.variable(law, inside)
            if of_chi and isinstance(variable, StandardNormal) and not NORMAL.fullmatch(name) and len(law) < 3:
                self.fail("a variable without a law", r"write z for a standard normal, or c \sim \chi^2_n", law[0])
            inside[name] = variable
            variables.append(variable)
        self.bound = inside
        yield variables
        self.bound = outside

    def variable(self, law: list[Token], bound: Mapping[str, sp.Symbol]) -> tuple[str, sp.Symbol]:
        """The name of a variable of an average, and its symbol, by its law."""
        texts = [t.text for t in law]
        cut = texts.index(r"\sim") if r"\sim" in texts else len(texts)
        if cut == 0:
            self.fail("an average without a variable", r"write \mathbb{E}_z[…]", law[0] if law else self.ahead)
        reader = self.inner(law[:cut])
        name, power = reader.symbol() if law[0].kind == "name" else ("", None)
        if not name or reader.ahead.kind != "end" or power is not None:
            self.fail("this is no standard normal variable", r"write \mathbb{E}_z[…] with a letter z", law[0])
        if name in self.names or name in self.scope.definitions:
            self.fail(
                f"{self.scope.spelled(name)} has a meaning already",
                "name the variable of the average otherwise",
                law[0],
            )
        stated = "".join(texts[cut + 1 :])
        if re.fullmatch(r"\\chi\^(2|\{2\})_.*", stated):
            sign = next(n for n, t in enumerate(law) if t.text == "_" and n > cut)
            return name, ChiSquared(name, self.inner(law[sign + 1 :]).group())
        plain = re.sub(r"[{}]", "", stated)
        if plain not in ("", r"\mathcalN(0,1)", "N(0,1)", r"\mathcalN0,1", r"\mathrmN(0,1)"):
            found = "only standard normal and chi-squared variables are averaged over"
            self.fail(found, r"write z \sim \mathcal N(0,1)", law[cut])
        taken = {v.name for v in bound.values()}
        wanted = [name] if NORMAL.fullmatch(name) else ["z"] if "z" not in self.scope.letters else []
        free = next(n for n in chain(wanted, (f"z{k}" for k in count(1))) if n not in taken)
        return name, StandardNormal(free)

    def angle_average(self, token: Token) -> sp.Expr:
        """An average ⟨…⟩_z, whose variables stand behind it."""
        depth, end = 1, self.position
        while depth and self.tokens[end].kind != "end":
            depth += {r"\langle": 1, r"\rangle": -1}.get(self.tokens[end].text, 0)
            end += 1
        if depth:
            self.fail("an open average", r"close it by \rangle", token)
        laws: list[list[Token]] = []
        here, self.position = self.position, end
        if self.take_if("_"):
            laws = comma_separated(self.raw())
        behind, self.position = self.position, here
        with self.over(laws) as variables:
            self.closing.append(r"\rangle")
            integrand = self.sum()
            if self.ahead.text == ",":
                self.fail("an inner product", "write the overlap by its symbol", self.ahead)
            self.require(r"\rangle")
            self.closing.pop()
        self.position = behind
        return self.average_of(integrand, variables, token)

    def integral(self, token: Token) -> sp.Expr:
        """An integral over all real numbers with the measure Dz, or with dz and the density in the integrand."""
        self._limits(token)
        kind, law, measure_behind = self._measure(token)
        with self.over([law]) as variables:
            integrand = self.product()
            if measure_behind and not self.take_if(MEASURE):
                self.fail("a sum before the measure of an integral", "put it in brackets", self.ahead)
        if kind == "d":
            integrand = self.bounded(self.over_normal(integrand, variables[0], token), token)
        return self.average_of(integrand, variables, token)

    def over_normal(self, integrand: sp.Expr, z: sp.Symbol, token: Token) -> sp.Expr:
        """What is to be averaged over a standard normal z for the integral over z of an integrand with a density."""
        factors = sp.Mul.make_args(integrand)
        exponent = sp.Add(*(f.exp for f in factors if isinstance(f, sp.exp) and f.has(z)))
        curvature = -sp.expand(exponent).coeff(z, 2)
        if curvature == 0 or curvature.has(z) or curvature.is_negative:
            self.fail("an integral without a Gaussian density", r"write e^{-z^2/2} dz/\sqrt{2\pi}, or Dz", token)
        width = 1 / sp.sqrt(2 * curvature)
        return (integrand * width).xreplace({z: width * z}) * sp.sqrt(2 * sp.pi) * sp.exp(z**2 / 2)

    def _limits(self, token: Token) -> None:
        for _ in "ab":
            if self.ahead.text in ("_", "^"):
                sign = self.take().text
                limit = "".join(t.text for t in self.raw() if t.text not in "{}")
                whole = {"_": (r"-\infty", r"\mathbbR", "R", r"\mathbfR"), "^": (r"\infty", r"+\infty")}[sign]
                if limit not in whole:
                    self.fail("an integral with finite limits", "write an average over a normal variable", token)

    def _measure(self, token: Token) -> tuple[str, list[Token], bool]:
        """Take the measure of the integral out of the formula: its kind, its variable, and whether it ends it."""
        depth = 0
        for n in range(self.position, len(self.tokens)):
            text = self.tokens[n].text
            depth += (text in BRACKETS or text == "{") - (text in BRACKETS.values() or text == "}")
            if depth < 0:
                break
            width = self._differential(n)
            if width:
                reader = self.inner(self.tokens[n + width : -1])
                if reader.ahead.kind != "name" or reader.ahead.text in NO_SYMBOLS:
                    continue
                reader.symbol()
                end = n + width + reader.position
                law = self.tokens[n + width : end]
                kind = "D" if "D" in {t.text for t in self.tokens[n : n + width]} else "d"
                behind = depth == 0 and n > self._behind_signs()
                self.tokens[n:end] = [LatexToken("name", MEASURE if behind else UNIT, self.tokens[n].column)]
                return kind, law, behind
        self.fail("an integral without a measure", r"write \int Dz …, with Dz = e^{-z^2/2} dz/\sqrt{2\pi}", token)

    def _behind_signs(self) -> int:
        """Where the signs, limits and measures of integrals that stand ahead end."""
        n = self.position
        while (text := self.tokens[n].text) in (r"\int", r"\iint", UNIT, "_", "^"):
            n += 1
            if text in ("_", "^"):
                n += len(self._raw_ahead(n - self.position)) + 2 * (self.tokens[n].text == "{")
        return n

    def _differential(self, n: int) -> int:
        """Of how many tokens the sign of a measure at n consists; zero where there is none."""
        texts = [t.text for t in self.tokens[n : n + 4]]
        if texts[0] in GAUSS:
            return 1
        if texts[0] in (r"\mathcal", r"\mathrm", r"\mathscr", r"\operatorname"):
            if len(texts) > 1 and texts[1] in GAUSS:
                return 2
            if len(texts) > 3 and texts[1] == "{" and texts[2] in GAUSS and texts[3] == "}":
                return 4
        return 0


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
