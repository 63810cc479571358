"""Whether SymPy alone can decide that somebody's rates are the derived ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sympy as sp

from annealvi.comparison.reading.theirs import Theirs
from derive.objects.expectation import Expectation, StandardNormal
from derive.objects.softmax import Softmax, written_out
from derive.objects.system import OdeSystem
from derive.problem.field_checks import BadInput
from derive.problem.formula_limits import sympy_guard

Named = Sequence[tuple[sp.Symbol, sp.Expr]]


def is_identity(system: OdeSystem, theirs: Theirs, unit: sp.Expr) -> bool:
    """Whether all rates are `unit` times the derived ones when both are multiplied out.

    Averages count as equal if their integrands are the same function once logarithms and products are expanded. True is
    a proof, given that the derived equations are right; False says nothing.
    """
    try:
        with sympy_guard("equations", theirs.source):
            marks: dict[sp.Expr, sp.Symbol] = {}
            ours = _rates(system.subexpressions, dict(zip(system.states, system.rhs, strict=True)), marks)
            own = _rates(theirs.subexpressions, theirs.rates, marks)
            return all(sp.expand(own[s] - unit * ours[s]) == 0 for s in system.states)
    except BadInput:  # it takes SymPy too long
        return False


def _rates(
    named: Named, rates: Mapping[sp.Symbol, sp.Expr], marks: dict[sp.Expr, sp.Symbol]
) -> dict[sp.Symbol, sp.Expr]:
    """The rates with definitions written out and one symbol for each average; `marks` has the symbol of each."""

    def marked(average: Expectation) -> sp.Expr:
        plain = _canonical(average)
        if not isinstance(plain, Expectation):
            return plain
        return marks.setdefault(plain, sp.Dummy(real=True))

    values: dict[sp.Symbol, sp.Expr] = {}
    for symbol, expression in named:
        values[symbol] = expression.xreplace(values)
    found = {}
    for state, rate in rates.items():
        whole = rate.xreplace(values)
        whole = whole.xreplace({average: marked(average) for average in whole.atoms(Expectation)})
        found[state] = _expanded(whole)
    return found


def _canonical(average: Expectation) -> sp.Expr:
    """The average with one name for its variables, shares as exponentials, and expanded arguments of functions."""
    normals = [v for v in average.variables if isinstance(v, StandardNormal)]
    names = {v: StandardNormal(f"z{n}") for n, v in enumerate(normals)}
    integrand = average.integrand.xreplace(names)
    if not any(len(share.logits) > 2 for share in integrand.atoms(Softmax)):
        integrand = written_out(integrand)
    return Expectation(_expanded(integrand), *(names.get(v, v) for v in average.variables))


def _expanded(expression: sp.Expr) -> sp.Expr:
    logs = expression.replace(sp.log, lambda x: sp.expand_log(sp.log(x)))
    return sp.expand(sp.powsimp(logs), power_exp=False, log=False)
