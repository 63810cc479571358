"""Reads exported equations from their LaTeX alone, as a person would, and evaluates them without SymPy or kernels.

The module understands sums, products by juxtaposition, fractions, roots, powers, the functions below and those that the
reader is given, integrals between limits, and averages over independent normal and χ² variables. It evaluates integrals
and averages by quadrature. The key of a symbol is its LaTeX without spaces.

In index notation it also understands sums over bound indices, definitions that hold for each value of their indices,
inner products and lengths of vectors, and averages over a sample of one component, with the responsibilities as
functions.
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
ACCENTS = {r"\bar", r"\overline", r"\dot", r"\hat"}
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
        self.sizes: dict[str, int] = {}

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


@dataclass(frozen=True)
class MixtureNumbers:
    """A mixture in numbers: weights (n,), means (n, d), scales (n,)."""

    weights: np.ndarray
    means: np.ndarray
    scales: np.ndarray

    def log_share(self, j: int, x: np.ndarray) -> np.ndarray:
        """log ρ_j, where ρ_j is in proportion to w_j exp(−‖x − a_j‖²/2σ_j²)/σ_j^d, with zeros behind a_j."""
        d = self.means.shape[1]
        means = np.pad(self.means, ((0, 0), (0, x.shape[-1] - d)))
        squares = ((x[..., None, :] - means) ** 2).sum(-1)
        terms = np.log(self.weights) - squares / (2 * self.scales**2) - d * np.log(self.scales)
        return terms[..., j - 1] - np.logaddexp.reduce(terms, axis=-1)

    def sample(self, i: int, lifted: bool) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights for a sample of component i; of two coordinates more the length alone is a coordinate."""
        d = self.means.shape[1]
        line = np.arange(-GRID_REACH, GRID_REACH + GRID_STEP / 2, GRID_STEP)
        t, w = roots_genlaguerre(CHI_NODES // 2, 0) if lifted else (np.zeros(1), np.ones(1))
        z = np.stack(np.meshgrid(*[line] * d, np.sqrt(2 * t), indexing="ij"), -1).reshape(-1, d + 1)
        weight = (np.exp(-(z[:, :d] ** 2).sum(-1) / 2).reshape(-1, len(w)) * w).ravel()
        x = np.pad(self.means[i - 1], (0, 1)) + self.scales[i - 1] * z
        return x[:, : d + lifted], weight / weight.sum()


GRID_STEP, GRID_REACH = 0.4, 8.0


class IndexReader(Reader):
    """Evaluates equations in index notation at given mixtures.

    definitions: as in `Reader`; indices that are letters in a name are free. values: name with numbers as indices →
    number or vector.
    """

    def __init__(
        self, definitions: dict[str, str], values: dict, proposal: MixtureNumbers, target: MixtureNumbers
    ) -> None:
        super().__init__({}, values)
        self.proposal, self.target = proposal, target
        self.sizes = {"L": len(proposal.weights), "K": len(target.weights)}
        self.general = {_shape(name): (name, right) for name, right in definitions.items()}

    def look_up(self, name: str, variables: dict):
        if name in self.values:
            return self.values[name]
        if name in variables:
            return variables[name]
        if name not in self.known:
            left, right = self.general[_shape(name)]
            bound = dict(zip(_subscript(left), map(int, _subscript(name)), strict=True))
            self.known[name] = self.evaluate(right, bound)
        return self.known[name]


def _subscript(name: str) -> str:
    return name.rpartition("_")[2].replace(";", "") if "_" in name else ""


def _shape(name: str) -> str:
    head, mark, indices = name.rpartition("_")
    return head + mark + re.sub(r"\w", "#", indices) if mark else name


class _Parser:
    def __init__(self, tokens: list[str], reader: Reader, variables: dict) -> None:
        self.tokens, self.at, self.reader, self.variables = tokens, 0, reader, variables
        self.in_norm = False

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
        while self.peek() not in ("", "+", "-", "}", ")", "]", ",", r"\rangle") and not (
            self.in_norm and self.peek() == r"\|"
        ):
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
        if token == r"\sum":
            return self.sum_over_index()
        if token == r"\langle":
            return self.inner_product()
        if token == r"\|":
            return self.length()
        name, power = self.symbol_and_power()
        if name in self.reader.functions:
            return self.applied(self.reader.functions[name])
        if re.fullmatch(r"\\rho(\^\\star)?_\d", name) and self.peek() == "(":
            return self.responsibility(name)
        return self.reader.look_up(name, self.variables) ** power

    def sum_over_index(self):
        """A sum over one index, which reaches to the next sign outside brackets."""
        self.take()
        self.take("_")
        index = self.raw().partition("=")[0]
        self.take("^")
        size = self.reader.sizes[self.raw()]
        begun, total = self.at, 0.0
        for n in range(1, size + 1):
            inner = _Parser(self.tokens, self.reader, {**self.variables, index: n})
            inner.at, inner.in_norm = begun, self.in_norm
            total = total + inner.product()
            self.at = inner.at
        return total

    def inner_product(self):
        self.take()
        one = self.sum()
        self.take(",")
        other = self.sum()
        self.take(r"\rangle")
        return (one * other).sum(-1)

    def length(self):
        self.take()
        self.in_norm = True
        vector = self.sum()
        self.in_norm = False
        self.take(r"\|")
        return np.sqrt((vector**2).sum(-1))

    def responsibility(self, name: str):
        self.take("(")
        point = self.variables[self.symbol()]
        self.take(")")
        mixture = self.reader.target if r"\star" in name else self.reader.proposal
        return np.exp(mixture.log_share(int(_subscript(name)), point))

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
        name, power = self.symbol_and_power()
        if power != 1:
            raise ValueError(f"{name} has an exponent")
        return name

    def symbol_and_power(self) -> tuple[str, int]:
        """A symbol, with numbers for its bound indices, and the exponent that stands beside a star."""
        name, power = self.take(), 1
        if name in ACCENTS:
            name += self.raw()
        while self.peek() in ("_", "^") or self.peek().startswith("'"):
            if self.peek().startswith("'"):
                name += self.take()
                continue
            ahead = "".join(self.tokens[self.at + 1 : self.at + 3])
            if self.peek() == "^" and r"\star" not in ahead and ahead not in ("+", "{+"):
                break  # a power
            mark, raised = self.take(), self.raw()
            if mark == "_":
                raised = "".join(str(self.number(letter)) for letter in raised)
            elif starred := re.fullmatch(r"\\star(\d+)", raised):
                raised, power = r"\star", int(starred[1])
            name += f"{mark}{{{raised}}}"
        return _joined(name), power

    def number(self, letter: str) -> str | int:
        """The number of a bound index, or of the last component or mode; any other character itself."""
        bound = self.variables.get(letter)
        return bound if isinstance(bound, int) else self.reader.sizes.get(letter, letter)

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
        if isinstance(self.variables.get(self.tokens[self.at + (self.peek() == "{")]), int):
            return self.average_over_component()
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

    def average_over_component(self):
        """E_i[…] over x_i, or over x_i^+ in two coordinates more if that occurs."""
        index = self.raw()
        i = self.variables[index]
        end = self.tokens.index("]", self.at)
        lifted = f"x_{{{index}}}^" in "".join(self.tokens[self.at : end])
        x, weight = self.reader.proposal.sample(i, lifted)
        inner = _Parser(self.tokens, self.reader, {**self.variables, f"x_{i}" + "^+" * lifted: x})
        inner.at = self.at
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
