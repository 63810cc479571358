"""Formulas in LaTeX: the same mathematics as `annealvi.comparison.reading.formulas`, as papers write it.

Products are written side by side, and a function may stand without brackets. What TeX or a reader could understand in
two ways is refused: a quotient a/bc, an index of two digits without braces, \\tanh^{-1}.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sympy as sp

from annealvi.comparison.reading.formulas import NORMAL
from annealvi.comparison.reading.latex_averages import LatexAverages
from annealvi.comparison.reading.latex_symbols import (
    BARS,
    BRACKETS,
    ENDS,
    FRACTIONS,
    NO_SYMBOLS,
    OPERATORS,
    OVER,
    TIMES,
    UNIT,
    UPRIGHT,
    spelled,
    written,
)
from derive.objects.expectation import StandardNormal
from derive.objects.softmax import Softmax
from derive.problem.expression_parser import FUNCTIONS, Token


class LatexFormula(LatexAverages):
    """The parser of a formula that is given as the tokens of its LaTeX."""

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

    def at_factor(self) -> bool:
        """Whether a further factor of a product stands ahead."""
        return self.ahead.kind != "end" and self.ahead.text not in {*ENDS, *self.closing[-1:]}

    def power(self) -> sp.Expr:
        with self._deeper():
            base_token = self.ahead
            if self._take_exponential():
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

    def _take_exponential(self) -> bool:
        """Take the base of the natural logarithm if it stands ahead with an exponent, as e^x or \\mathrm{e}^x."""
        for form in (["e"], [r"\mathrm", "e"], [r"\mathrm", "{", "e", "}"], [r"\operatorname", "{", "e", "}"]):
            end = self.position + len(form)
            ahead = [t.text for t in self.tokens[self.position : end + 1]]
            if ahead == [*form, "^"] and (len(form) > 1 or not self._has_meaning("e")):
                self.position = end
                return True
        return False

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

    def named(self, token: Token) -> sp.Expr:
        return self.symbol_value(token.text, token)

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
