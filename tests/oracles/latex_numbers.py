"""Reads exported equations from their LaTeX alone, as a person would, and evaluates them without SymPy or kernels.

The module understands sums, products by juxtaposition, fractions, roots, powers, the functions below and those that the
reader is given, integrals between limits, and averages over independent normal and χ² variables. It evaluates integrals
and averages by quadrature. The key of a symbol is its LaTeX without spaces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import leggauss
from scipy.special import erf, roots_genlaguerre

TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|[a-zA-Z]|\d+|'+|\S")
IGNORED = {r"\left", r"\right", r"\Bigl", r"\Bigr", r"\,", r"\ ", r"\quad", "&", r"\limits"}
FUNCTIONS = {
    r"\tanh": np.tanh,
    r"\log": np.log,
    r"\cosh": np.cosh,
    r"\sin": np.sin,
    r"\cos": np.cos,
    "erf": erf,
    "atan": np.arctan,
    "sech": lambda x: 1 / np.cosh(x),
}
ACCENTS = {r"\bar", r"\overline", r"\dot"}
NORMAL_STEP, NORMAL_REACH, CHI_NODES, LEGENDRE_NODES = 0.1, 9.0, 80, 60


def equations_in(latex: str) -> dict[str, tuple[str, str]]:
    """The equations of one `align` environment: name of the left-hand side → (its arguments, right-hand side)."""
    body = re.search(r"\\begin\{align\}(.*)\\end\{align\}", latex, re.DOTALL)[1]
    body = re.sub(r"\\label\{[^}]*\}|\\nonumber|\\\\", " ", body)
    left, _, right = body.partition("&=")
    match = re.fullmatch(r"\s*\\frac\{d(.*)\}\{dt\}\s*", left)
    if match:
        return {"d" + _joined(match[1]): ("", right)}
    name, _, arguments = left.strip().partition("(")
    return {_joined(name): (arguments, right)}


@dataclass(frozen=True)
class Formula:
    """One formula.

    left: the left-hand side without spaces. right: the right-hand side's LaTeX, for a matrix the LaTeX of its cells row
    by row. left_out: scale and argument of a remainder O(...).
    """

    left: str
    right: tuple[str, ...]
    left_out: tuple[str, str] | None


def formulas_in(latex: str) -> list[Formula]:
    """Every formula of one `align` environment, without the limits, such as R → ∞, that stand beside the formulas."""
    body = re.search(r"\\begin\{align\}(.*)\\end\{align\}", latex, re.DOTALL)[1]
    matrices: list[str] = []

    def put_aside(match: re.Match) -> str:
        matrices.append(match[1])
        return f"@{len(matrices) - 1}"

    body = re.sub(r"\\left\[\\begin\{matrix\}(.*?)\\end\{matrix\}\\right\]", put_aside, body, flags=re.DOTALL)
    body = re.sub(r"\\label\{[^}]*\}|\\nonumber", " ", body).replace(r"&\quad", " ")
    lines = [line for line in body.split(r"\\") if line.strip()]
    joined = "".join(rf",\quad {line}" if "&=" in line and n else line for n, line in enumerate(lines)).replace(
        "&=", "="
    )
    parts = [part for part in re.split(r",\s*\\quad", joined) if r"\to" not in part]
    formulas = []
    for part in parts:
        left, _, right = part.partition("=")
        right, left_out = _without_remainder(right)
        aside = re.fullmatch(r"\s*@(\d+)\s*", right)
        cells = tuple(re.split(r"\\\\|&", matrices[int(aside[1])])) if aside else (right,)
        formulas.append(Formula(re.sub(r"\s", "", left), cells, left_out))
    return formulas


def _without_remainder(right: str) -> tuple[str, tuple[str, str] | None]:
    """The right-hand side without its last term O(...), and the factor and the argument of this term."""
    before, order, argument = right.partition(r"\mathcal O")
    if not order:
        return right, None
    depth, cut = 0, -1
    for n, character in enumerate(before):
        depth += (character in "{([") - (character in "})]")
        if depth == 0 and character == "+":
            cut = n
    scale = before[cut + 1 :].replace(r"\,", "").strip() or "1"
    return before[:cut], (scale, re.sub(r"^\\left|\\right(?=\)\s*$)", "", argument.strip()))


def _joined(symbol: str) -> str:
    """The key of a symbol: its LaTeX without spaces and without braces around single characters."""
    return re.sub(r"\{(\\?\w+)\}", r"\1", re.sub(r"\s", "", symbol)).replace("{", "").replace("}", "")


class Reader:
    """Evaluates right-hand sides.

    definitions: name → right-hand side. values: name → number. functions: name → function; primes in the name mean
    derivatives.
    """

    def __init__(self, definitions: dict[str, str], values: dict[str, float], functions: dict | None = None) -> None:
        self.definitions, self.values, self.functions, self.known = definitions, values, functions or {}, {}

    def value(self, name: str):
        """The number of a definition that contains no variable of an average."""
        if name not in self.known:
            self.known[name] = self.evaluate(self.definitions[name], {})
        return self.known[name]

    def evaluate(self, latex: str, variables: dict):
        tokens = [t for t in TOKEN.findall(latex) if t not in IGNORED]
        return _Parser(tokens, self, variables).whole()

    def look_up(self, name: str, variables: dict):
        if name in variables:
            return variables[name]
        if name in self.values:
            return self.values[name]
        if name in self.definitions:
            if variables:  # its definition may use a variable of an enclosing average
                return self.evaluate(self.definitions[name], variables)
            return self.value(name)
        raise KeyError(f"{name} is not defined")


class _Parser:
    def __init__(self, tokens: list[str], reader: Reader, variables: dict) -> None:
        self.tokens, self.at, self.reader, self.variables = tokens, 0, reader, variables

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str | None = None) -> str:
        token = self.peek()
        if wanted is not None and token != wanted:
            raise ValueError(
                f"{wanted!r} expected, {token!r} found after {''.join(self.tokens[max(0, self.at - 12) : self.at])}"
            )
        self.at += 1
        return token

    def whole(self):
        value = self.sum()
        if self.peek():
            raise ValueError(f"left over: {self.tokens[self.at :]}")
        return value

    def sum(self):
        sign = -1 if self.peek() == "-" and self.take() else 1
        value = sign * self.product()
        while self.peek() in ("+", "-"):
            sign = -1 if self.take() == "-" else 1
            value = value + sign * self.product()
        return value

    def product(self):
        value = self.power()
        while self.peek() not in ("", "+", "-", "}", ")", "]", ","):
            value = value * self.power()
        return value

    def power(self):
        value = self.base()
        if self.peek() == "^":
            self.take()
            value = value ** self.group()
        return value

    def group(self):
        """The value of a group in braces or of a single token."""
        if self.peek() == "{":
            return self.within("{", "}")
        token = self.take()
        return int(token) if token.isdigit() else self.reader.look_up(token, self.variables)

    def within(self, opening: str, closing: str):
        self.take(opening)
        value = self.sum()
        self.take(closing)
        return value

    def argument(self):
        """The argument of a function, in parentheses, with or without braces around them."""
        return self.within("{", "}") if self.peek() == "{" else self.within("(", ")")

    def base(self):
        token = self.peek()
        if token in ("(", "[", "{"):
            return self.within(token, {"(": ")", "[": "]", "{": "}"}[token])
        if token.isdigit():
            return float(self.take())
        if token in FUNCTIONS:
            self.take()
            return self.applied(FUNCTIONS[token])
        if token == "e" and self.tokens[self.at + 1 : self.at + 2] == ["^"]:
            self.take()
            self.take()
            return np.exp(self.group())
        if token == r"\pi":
            self.take()
            return np.pi
        if token == r"\frac":
            self.take()
            return self.group() / self.group()
        if token == r"\sqrt":
            self.take()
            return np.sqrt(self.group())
        if token == r"\operatorname":
            return self.named()
        if token == r"\mathbb":
            return self.average()
        if token == r"\int":
            return self.integral()
        name = self.symbol()
        if name in self.reader.functions:
            return self.applied(self.reader.functions[name])
        return self.reader.look_up(name, self.variables)

    def applied(self, function):
        raised = None
        if self.peek() == "^":
            self.take()
            raised = self.group()
        value = function(self.argument())
        return value if raised is None else value**raised

    def raw(self) -> str:
        """The characters of a group in braces or of a single token."""
        if self.peek() != "{":
            return self.take()
        self.take("{")
        depth, taken = 1, []
        while True:
            token = self.take()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return "".join(taken)
            taken.append(token)

    def symbol(self) -> str:
        name = self.take()
        if name in ACCENTS:
            name += self.raw()
        while self.peek() in ("_", "^") or self.peek().startswith("'"):
            if self.peek().startswith("'"):
                name += self.take()
                continue
            ahead = "".join(self.tokens[self.at + 1 : self.at + 3])
            if self.peek() == "^" and r"\star" not in ahead:
                break  # a power
            name += self.take() + self.raw()
        return _joined(name)

    def named(self):
        self.take()
        name = self.raw()
        if name != "softmax":
            return self.applied(FUNCTIONS[name])
        self.take("_")
        chosen = int(self.raw())
        self.take("(")
        logits = [self.sum()]
        while self.peek() == ",":
            self.take()
            logits.append(self.sum())
        self.take(")")
        return np.exp(logits[chosen - 1] - np.logaddexp.reduce(np.stack(np.broadcast_arrays(*logits))))

    def average(self):
        self.take()
        if self.raw() != "E":
            raise ValueError("an average was expected")
        self.take("_")
        laws = [law.split(r"\sim\chi^2_") for law in self.raw().split(",")]
        begun = self.at
        nodes, weights = zip(*(self.rule(law[1] if len(law) > 1 else None) for law in laws), strict=True)
        grid = np.meshgrid(*nodes, indexing="ij")
        weight = np.prod(np.meshgrid(*weights, indexing="ij"), axis=0)
        inner = _Parser(
            self.tokens,
            self.reader,
            {**self.variables, **{_joined(n): g for (n, *_), g in zip(laws, grid, strict=True)}},
        )
        inner.at = begun
        value = inner.within("[", "]")
        self.at = inner.at
        return float((value * weight).sum())

    def integral(self):
        """An integral between limits over the variable that follows the d at the end of the integrand."""
        self.take()
        ends = {}
        for _ in "ab":
            mark = self.take()
            ends[mark] = self.group()
        end = next(
            n for n in range(self.at, len(self.tokens)) if self.tokens[n] == "d" and self.tokens[n + 1].startswith("\\")
        )
        nodes, weights = leggauss(LEGENDRE_NODES)
        half = (ends["^"] - ends["_"]) / 2
        inner = _Parser(
            self.tokens[self.at : end],
            self.reader,
            {**self.variables, self.tokens[end + 1]: ends["_"] + half * (nodes + 1)},
        )
        self.at = end + 2
        return float((inner.whole() * weights).sum() * half)

    def rule(self, degrees: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights for N(0, 1), or for χ² with the given degrees of freedom."""
        if degrees is None:
            z = np.arange(-NORMAL_REACH, NORMAL_REACH + NORMAL_STEP / 2, NORMAL_STEP)
            density = np.exp(-(z**2) / 2)
            return z, density / density.sum()
        k = self.reader.evaluate(degrees.strip("{}"), {})
        x, w = roots_genlaguerre(CHI_NODES, k / 2 - 1)
        return 2 * x, w / w.sum()
