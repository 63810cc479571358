"""How many digits of somebody's rates and the derived ones agree, in multiple precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import sympy as sp

from annealvi.comparison.evidence.rates import Rates
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
            factor = _number(unit, point)
            for state in system.states:
                away, size = abs(own[state] - ours[state] * factor), abs(factor) * sp.Float(found.size(state), DIGITS)
                if away:
                    least = min(least, int(-sp.log(away / size, 10).evalf()))
        except (NotConvergedError, ArithmeticError, TypeError, ValueError):
            return None
    return least


def _values(named: Named, rates: Mapping[sp.Symbol, sp.Expr], point: dict[sp.Symbol, sp.Expr]) -> dict:
    """The rates at a point, as numbers of `DIGITS` + `SPARE` digits, of which averages have `DIGITS` + 3."""
    known = dict(point)
    for symbol, expression in named:
        known[symbol] = _number(expression, known)
    return {state: _number(rate, known) for state, rate in rates.items()}


def _number(expression: sp.Expr, known: Mapping[sp.Symbol, sp.Expr]) -> sp.Float:
    substituted = expression.xreplace(dict(known))
    averages = {e: sp.Float(evaluate([e], DIGITS + 3)[0], DIGITS + SPARE) for e in substituted.atoms(Expectation)}
    plain = written_out(substituted.xreplace(averages))
    return sp.Float(sp.N(plain, DIGITS + SPARE), DIGITS + SPARE)
