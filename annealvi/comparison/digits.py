"""How many digits of somebody's rates and the derived ones agree, in multiple precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mpmath
import numpy as np
import sympy as sp

from annealvi.comparison.rates import Rates
from derive.objects.expectation import Expectation, NotConvergedError, evaluate
from derive.objects.softmax import written_out

DIGITS, SPARE = 30, 15
MOST_POINTS = 3

Named = Sequence[tuple[sp.Symbol, sp.Expr]]


def agreeing_digits(found: Rates, unit: sp.Expr) -> int | None:
    """To how many digits, at most 30, all rates agree at a few points in a common unit of time.

    None where an average of either side runs over several variables, which takes too long, or is not accurate enough.
    """
    theirs, system = found.theirs, found.system
    both = [*(e for _, e in (*system.subexpressions, *theirs.subexpressions)), *system.rhs, *theirs.rates.values()]
    if any(len(average.variables) > 1 for e in both for average in e.atoms(Expectation)):
        return None
    _, firsts = np.unique(found.samples.sets, return_index=True)
    least = DIGITS
    for n in firsts[:MOST_POINTS]:
        point = {s: sp.Float(float(v[n]), DIGITS + SPARE) for s, v in found.samples.numbers.items()}
        try:
            ours = _values(system.subexpressions, dict(zip(system.states, system.rhs, strict=True)), point)
            own = _values(theirs.subexpressions, theirs.rates, point)
        except (NotConvergedError, ArithmeticError, TypeError, ValueError):
            return None
        with mpmath.workdps(DIGITS + SPARE):
            factor = _number(unit, point)
            for state in system.states:
                away, size = abs(own[state] - ours[state] * factor), found.size(state) * abs(factor)
                if away:
                    least = min(least, int(-mpmath.log10(away / size)))
    return least


def _values(named: Named, rates: Mapping[sp.Symbol, sp.Expr], point: dict[sp.Symbol, sp.Expr]) -> dict:
    """The rates at a point, as numbers of `DIGITS` + `SPARE` digits, of which averages have `DIGITS` + 3."""
    known = dict(point)
    for symbol, expression in named:
        known[symbol] = sp.Float(_number(expression, known), DIGITS + SPARE)
    return {state: _number(rate, known) for state, rate in rates.items()}


def _number(expression: sp.Expr, known: Mapping[sp.Symbol, sp.Expr]) -> mpmath.mpf:
    def value(average: Expectation) -> sp.Expr:
        (number,) = evaluate([average.xreplace(known)], DIGITS + 3)
        return sp.Float(number, DIGITS + SPARE)

    averages = {average: value(average) for average in expression.atoms(Expectation)}
    plain = written_out(expression.xreplace(averages)).xreplace(dict(known))
    with mpmath.workdps(DIGITS + SPARE):
        return mpmath.mpf(sp.N(plain, DIGITS + SPARE))
