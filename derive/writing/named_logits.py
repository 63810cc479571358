"""Softmaxes with named logits, for print only: a reader sees which logits are shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from derive.objects.expectation import ChiSquared, Expectation
from derive.objects.notation import apart_in, indexed_name, read_name, symbol_tex
from derive.objects.softmax import Softmax
from derive.objects.step import Equation


def with_named_logits(equations: Sequence[Equation]) -> tuple[Equation, ...]:
    """Return the equations with the logits of every softmax named.

    The names' definitions stand before the first equation that uses one. y_ij is the logit of component j at a sample
    of component i, and y_star_ik that of mode k, as functions of the average's variables. Two averages whose samples
    differ in dimension share a name if the logits are equal. Otherwise, as where the normal variables fill the space,
    the name in the average of more variables gets a plus.
    """
    values: dict[sp.Symbol, sp.Expr] = {}
    definitions: list[Equation] = []
    shortened = list(equations)
    apart = apart_in(e.label.removeprefix("d") for e in equations)
    for n in sorted(range(len(equations)), key=lambda n: _most_variables(equations[n])):
        shortened[n] = _shortened(equations[n], values, definitions, apart)
    first = next((n for n, (old, new) in enumerate(zip(equations, shortened, strict=True)) if old != new), 0)
    return (*shortened[:first], *sorted(definitions, key=lambda e: e.label), *shortened[first:])


def _most_variables(equation: Equation) -> int:
    averages = equation.value.atoms(Expectation) if isinstance(equation.value, sp.Expr) else ()
    return max((len(average.variables) for average in averages), default=0)


def _shortened(
    equation: Equation, values: dict[sp.Symbol, sp.Expr], definitions: list[Equation], apart: bool
) -> Equation:
    if not _most_variables(equation):
        return equation
    average = read_name(equation.label)
    head, component = (
        ("y_star" if average.star else "y", average.groups[0][0])
        if average and average.groups
        else ("y", equation.label)
    )

    def name(logit: sp.Expr, number: int, variables: Sequence[sp.Symbol]) -> sp.Expr:
        if logit == 0:
            return logit
        chi_squared = {v: sp.Symbol(v.name, nonnegative=True) for v in variables if isinstance(v, ChiSquared)}
        value = logit.xreplace(chi_squared)
        candidates = (
            sp.Symbol(indexed_name(head, (component, number), apart=apart) + lifted, real=True) for lifted in ("", "+")
        )
        symbol = next(c for c in candidates if values.get(c, value) == value)
        if symbol not in values:
            values[symbol] = value
            used = [v for v in variables if logit.has(v)]
            plain = f"{symbol.name}({', '.join(v.name for v in used)})" if used else symbol.name
            left = symbol_tex(symbol) + (f"({','.join(sp.latex(v) for v in used)})" if used else "")
            definitions.append(Equation(plain, left, value, symbol))
        return symbol

    def renamed(average: Expectation) -> sp.Expr:
        shares = {
            share: Softmax(
                share.component, *(name(logit, n, average.variables) for n, logit in enumerate(share.logits, 1))
            )
            for share in sorted(average.integrand.atoms(Softmax), key=sp.default_sort_key)
        }
        return _NamedAverage(average.integrand.xreplace(shares), *average.variables) if shares else average

    averages = {
        average: renamed(average) for average in sorted(equation.value.atoms(Expectation), key=sp.default_sort_key)
    }
    if all(old == new for old, new in averages.items()):
        return equation
    return Equation(equation.label, equation.left, equation.value.xreplace(averages), equation.symbol)


class _NamedAverage(sp.Expr):
    """An expectation whose integrand contains its variables through named functions of them; for print only."""

    is_commutative = True
    is_real = True

    def _latex(self, printer: LatexPrinter) -> str:
        laws = ",".join(_law(v, printer.doprint, r"\sim\chi^2_{", "}") for v in self.args[1:])
        return rf"\mathbb{{E}}_{{{laws}}}\left[{printer.doprint(self.args[0])}\right]"

    def _sympystr(self, printer: StrPrinter) -> str:
        laws = ", ".join(_law(v, printer.doprint, "~chi2(", ")") for v in self.args[1:])
        return f"E_{{{laws}}}[{printer.doprint(self.args[0])}]"


def _law(variable: sp.Symbol, write: Callable[[sp.Expr], str], opening: str, closing: str) -> str:
    return (
        f"{write(variable)}{opening}{write(variable.degrees)}{closing}"
        if isinstance(variable, ChiSquared)
        else write(variable)
    )
