"""The terms of a right-hand side, and its single changes: what a slip of the pen may have been."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import sympy as sp
from sympy.core.function import AppliedUndef

from derive.objects.expectation import Expectation

FACTORS = (sp.Integer(-1), sp.Integer(2), sp.Rational(1, 2))


def terms_as_written(expression: sp.Expr, averages: set[sp.Symbol]) -> list[sp.Expr]:
    """The terms of a sum. A product with a sum that contains averages is multiplied out, polynomials stay factors.

    averages: the symbols that stand for averages.
    """
    if expression.is_Add:
        return [term for part in expression.args for term in terms_as_written(part, averages)]
    if expression.is_Mul:
        for factor in expression.args:
            if factor.is_Add and (factor.has(Expectation) or factor.free_symbols & averages):
                rest = expression / factor
                return [term for part in factor.args for term in terms_as_written(rest * part, averages)]
    return [expression]


def expanded_terms(expression: sp.Expr) -> list[sp.Expr]:
    """The terms of the expression when all products are multiplied out; integrands stay as they are."""
    masks = {average: sp.Dummy(real=True) for average in expression.atoms(Expectation)}
    expanded = sp.expand(expression.xreplace(masks))
    back = {mask: average for average, mask in masks.items()}
    return [term.xreplace(back) for term in sp.Add.make_args(expanded)]


def single_changes(
    expression: sp.Expr, alike: Mapping[sp.Symbol, Sequence[sp.Symbol]], factors: Sequence[sp.Expr]
) -> Iterator[sp.Expr]:
    """Every expression that differs from this one in one term, factor or symbol.

    alike: for each symbol those that may stand in its place. factors: what a term may lack, or have too much.
    """
    for changed in _changes(expression, alike, factors):
        if not changed.has(sp.zoo, sp.nan, sp.oo, sp.I):
            yield changed


def _changes(
    expression: sp.Expr, alike: Mapping[sp.Symbol, Sequence[sp.Symbol]], factors: Sequence[sp.Expr]
) -> Iterator[sp.Expr]:
    yield from _changed_terms(expression, factors)
    if isinstance(expression, sp.Symbol):
        yield from alike.get(expression, ())
    for n, argument in enumerate(expression.args):
        if (isinstance(expression, Expectation) and n > 0) or not isinstance(argument, sp.Expr):
            continue
        if (expression.is_Pow and n == 1) or isinstance(expression, AppliedUndef):
            continue
        for changed in _changes(argument, alike, factors):
            yield expression.func(*expression.args[:n], changed, *expression.args[n + 1 :])


def _changed_terms(expression: sp.Expr, factors: Sequence[sp.Expr]) -> Iterator[sp.Expr]:
    """The expression with one term of it multiplied, divided, dropped or added, or multiplied as a whole."""
    if expression.is_Add:
        for term in expression.args:
            rest = expression - term
            yield rest
            for factor in FACTORS:
                yield rest + factor * term
            for factor in factors:
                yield rest + factor * term
                yield rest + term / factor
        for factor in FACTORS:
            yield factor * expression
        for factor in factors:
            yield expression + factor
            yield expression - factor
    elif not expression.is_number or expression.is_Mul:
        for factor in (*FACTORS, *factors):
            yield factor * expression
        for factor in factors:
            yield expression / factor
            yield expression + factor
            yield expression - factor
