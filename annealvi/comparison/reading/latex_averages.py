"""Averages in LaTeX: \\mathbb E_z[…], ⟨…⟩_z, ∫Dz …, and integrals over a normal density."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, count

import sympy as sp

from annealvi.comparison.reading.formulas import NORMAL, RANDOM
from annealvi.comparison.reading.latex_symbols import (
    BRACKETS,
    GAUSS,
    MEASURE,
    NO_SYMBOLS,
    UNIT,
    LatexSymbols,
    LatexToken,
    comma_separated,
)
from derive.objects.expectation import ChiSquared, Expectation, StandardNormal
from derive.problem.expression_parser import Token


class LatexAverages(LatexSymbols):
    """The parts of a parser of LaTeX that read averages."""

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
        for _ in range(2):
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
