"""The unevaluated Gaussian expectation, a SymPy node.

`Expectation(f, z)` is E[f(z)] for z ~ N(0, 1). One expectation may bind several independent variables, normal or χ².
The integrand may also depend on a `GaussianVector` (see `derive.objects.vectors`); such an expectation has no numerical
value until the reduction has replaced the vector by scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache

import mpmath
import sympy as sp
from sympy.printing.codeprinter import CodePrinter
from sympy.printing.latex import LatexPrinter

from derive.objects.lambdified import Coded
from derive.objects.numeric_averages import NotConvergedError, averages
from derive.objects.softmax import LogSoftmax, Softmax, written_out

__all__ = [
    "ChiSquared",
    "Expectation",
    "NotConvergedError",
    "StandardNormal",
    "evaluate",
    "rewriter",
    "without_idle_variables",
]


class StandardNormal(sp.Symbol):
    """A scalar random variable with law N(0, 1), independent of every other one of a different name."""

    def __new__(cls, name: str = "z") -> StandardNormal:
        return super().__new__(cls, name, real=True)

    def __getnewargs_ex__(self) -> tuple:
        return (self.name,), {}


class ChiSquared(sp.Symbol):
    """A scalar random variable with the χ² law, independent of every other variable of a different name.

    degrees: its number of degrees of freedom, an expression.
    """

    degrees: sp.Expr

    def __new__(cls, name: str, degrees: sp.Expr) -> ChiSquared:
        symbol = sp.Symbol.__xnew__(cls, name, nonnegative=True)
        symbol.degrees = sp.sympify(degrees, strict=True)
        return symbol

    def __getnewargs_ex__(self) -> tuple:
        return (self.name, self.degrees), {}

    def _hashable_content(self) -> tuple:
        return (*super()._hashable_content(), self.degrees)


class Expectation(Coded, sp.Expr):
    """E[integrand] over the bound random variables.

    Constants leave the expectation, and E[1] = 1. Sums stay together, since E[f + g] may be finite where E[f] alone is
    badly conditioned; only a rule of the derivation splits a sum.
    """

    is_commutative = True
    is_real = True

    def __new__(cls, integrand: sp.Expr, *variables: sp.Symbol) -> sp.Expr:
        integrand = sp.sympify(integrand, strict=True)
        if not variables:
            raise ValueError("an expectation needs at least one bound variable")
        bound = set(variables)
        if isinstance(integrand, sp.Mul):
            constant, rest = integrand.as_independent(*bound, as_Add=False)
            if constant != 1:
                return constant * cls(rest, *variables)
        elif not integrand.free_symbols & bound:
            return integrand
        used = [v for v in variables if v in integrand.free_symbols]
        if not used:
            return integrand
        return super().__new__(cls, integrand, *used)

    @property
    def integrand(self) -> sp.Expr:
        return self.args[0]

    @property
    def variables(self) -> tuple[sp.Symbol, ...]:
        return self.args[1:]

    @property
    def bound_symbols(self) -> set[sp.Symbol]:
        return set(self.variables)

    @property
    def free_symbols(self) -> set[sp.Symbol]:
        laws = (v.degrees.free_symbols for v in self.variables if isinstance(v, ChiSquared))
        return self.integrand.free_symbols.union(*laws) - self.bound_symbols

    def _eval_subs(self, old: sp.Expr, new: sp.Expr) -> sp.Expr | None:
        if old in self.bound_symbols:
            return self
        return self._of(lambda e: e.subs(old, new))

    def _xreplace(self, rule: Mapping[sp.Basic, sp.Basic]) -> tuple[sp.Expr, bool]:
        """Replace in the integrand and in the variables' laws; the rule never renames a bound variable."""
        if self in rule:
            return rule[self], True
        result = self._of(lambda e: e.xreplace(rule))
        return result, result is not self

    def _of(self, change: Callable[[sp.Expr], sp.Expr]) -> sp.Expr:
        """The expectation with its integrand and its variables' degrees of freedom changed."""
        variables = [ChiSquared(v.name, change(v.degrees)) if isinstance(v, ChiSquared) else v for v in self.variables]
        renamed = {old: new for old, new in zip(self.variables, variables, strict=True) if old != new}
        integrand = change(self.integrand)
        if integrand == self.integrand and not renamed:
            return self
        return Expectation(integrand.xreplace(renamed) if renamed else integrand, *variables)

    def _eval_derivative(self, symbol: sp.Symbol) -> sp.Expr:
        return Expectation(sp.diff(self.integrand, symbol), *self.variables)

    def _eval_evalf(self, prec: int) -> sp.Expr | None:
        """The number in mpmath at the asked precision; raises NotConvergedError where the rule does not settle."""
        if self.free_symbols or not all(isinstance(v, StandardNormal | ChiSquared) for v in self.variables):
            return None
        (value,) = evaluate([self], int(prec / 3.32) + 1)
        parts = [sp.Float(x, precision=prec) for x in (mpmath.re(value), mpmath.im(value))]
        return parts[0] + sp.I * parts[1] if parts[1] != 0 else parts[0]

    def _latex(self, printer: LatexPrinter) -> str:
        names = ",".join(_law_latex(v, printer) for v in self.variables)
        return rf"\mathbb{{E}}_{{{names}}}\left[{printer.doprint(self.integrand)}\right]"

    def _sympystr(self, printer: sp.printing.str.StrPrinter) -> str:
        laws = (f"{v.name}~chi2({v.degrees})" if isinstance(v, ChiSquared) else v.name for v in self.variables)
        return f"E_{','.join(laws)}[{printer.doprint(self.integrand)}]"

    def _code(self, printer: CodePrinter, name: Callable[[str], str]) -> str:
        names = ", ".join(printer.doprint(v) for v in self.variables)
        degrees = ", ".join(printer.doprint(v.degrees) if isinstance(v, ChiSquared) else "None" for v in self.variables)
        call = printer._module_format("derive.objects.lambdified.gaussian_average")
        return f"{call}(lambda {names}: {printer.doprint(_codeable(self.integrand))}, [{degrees}], {name('arange')})"

    def _mpmathcode(self, printer: CodePrinter) -> str:
        """The call that computes the average at mpmath's precision at the time of the call."""
        normals = [v for v in self.variables if isinstance(v, StandardNormal)]
        laws = [v for v in self.variables if isinstance(v, ChiSquared)]
        names = ", ".join(printer.doprint(v) for v in (*normals, *laws))
        degrees = ", ".join(printer.doprint(v.degrees) for v in laws)
        call = printer._module_format("derive.objects.numeric_averages.of_function")
        return f"{call}(lambda {names}: {printer.doprint(_codeable(self.integrand))}, {len(normals)}, [{degrees}])"


def rewriter(change: Callable[[sp.Expr], sp.Expr]) -> Callable[[sp.Expr], sp.Expr]:
    """The function that applies `change` to every node of an expression, beginning with the innermost nodes.

    The function knows the nodes that it has met, in every expression: the averages over one sample share their logits.
    """

    @cache
    def rewritten(e: sp.Expr) -> sp.Expr:
        if isinstance(e, Expectation):
            return change(e._of(rewritten))
        args = tuple(map(rewritten, e.args))
        return change(e if args == e.args else e.func(*args))

    return rewritten


def _codeable(integrand: sp.Expr) -> sp.Expr:
    """The integrand in functions that every module has and that never overflow."""
    plain = integrand.replace(sp.sech, lambda x: 2 * sp.exp(-abs(x)) / (1 + sp.exp(-2 * abs(x))))
    return plain.replace(
        lambda e: isinstance(e, sp.log) and isinstance(e.args[0], Softmax), lambda e: LogSoftmax(*e.args[0].args)
    )


def _law_latex(variable: sp.Symbol, printer: LatexPrinter) -> str:
    name = printer.doprint(variable)
    return rf"{name}\sim\chi^2_{{{printer.doprint(variable.degrees)}}}" if isinstance(variable, ChiSquared) else name


def evaluate(expectations: Sequence[Expectation], digits: int) -> list:
    """The values of expectations over the same scalar variables, as mpmath numbers of `digits` digits.

    One pass over the nodes serves all expectations.
    """
    variables = tuple(dict.fromkeys(v for e in expectations for v in e.variables))
    normals = [v for v in variables if isinstance(v, StandardNormal)]
    rest = [(v, v.degrees) for v in variables if isinstance(v, ChiSquared)]
    return averages([written_out(e.integrand) for e in expectations], normals, rest, digits)


def without_idle_variables(
    average: Expectation, digits: int, numbers: Mapping[sp.Symbol, sp.Expr] | None = None
) -> sp.Expr:
    """The average without the normal variables whose coefficients in the logits are zero within rounding.

    numbers: the number of each symbol of the average except its variables; by default these are replaced by numbers
    already. Vectors in fewer dimensions than the derivation has linear forms are dependent, so some coefficients vanish
    and only rounding errors stand in their place. Leaving out a coefficient changes the average by its square, since a
    normal variable has mean zero; `digits` digits of the average are kept.
    """
    idle = {v for v in average.variables if isinstance(v, StandardNormal)}
    shares = average.integrand.atoms(Softmax)
    idle -= average.integrand.xreplace({share: sp.Dummy() for share in shares}).free_symbols
    if not shares or not idle:
        return average
    least = sp.Float(10) ** (-(digits + 3) / sp.Integer(2))
    for logit in dict.fromkeys(logit for share in shares for logit in share.logits):
        for present, coefficient in _terms(logit, average.variables):
            if present & idle and abs(coefficient.xreplace(dict(numbers or {})).evalf(2 * digits)) > least:
                idle -= present
    if not idle:
        return average
    zeros = dict.fromkeys(idle, 0)
    return average.xreplace(
        {share: Softmax(share.component, *(logit.subs(zeros) for logit in share.logits)) for share in shares}
    )


@lru_cache(maxsize=1024)
def _terms(logit: sp.Expr, variables: tuple[sp.Symbol, ...]) -> tuple[tuple[frozenset[sp.Symbol], sp.Expr], ...]:
    """The variables in each term of a polynomial in the variables, with the term's coefficient."""
    terms = sp.Poly(logit, *variables).terms()
    return tuple((frozenset(v for v, power in zip(variables, p, strict=True) if power), c) for p, c in terms)
