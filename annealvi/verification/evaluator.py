"""The right-hand sides of systems in numbers, by routes that no kernel takes. The mutants of a system share work."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import sympy as sp

from derive.objects.expectation import (
    Expectation,
    NotConvergedError,
    StandardNormal,
    without_idle_variables,
)
from derive.objects.softmax import Softmax
from derive.objects.system import OdeSystem
from kernels.averages.lattice_reference import averages_and_errors

DIGITS = 20
AVERAGE_TOLERANCE, AVERAGE_DIGITS = 1e-12, 14
SAMPLED_ERRORS = 60
"""Error allowed in a rate, in standard errors of its quasi-random averages: six for each of some ten averages with
factors of order one."""

Known = Mapping[sp.Symbol, sp.Expr]
Key = tuple[sp.Expr, tuple]
"""An expression and the numbers of its free symbols, in the order of `Evaluator.symbols_of`."""


class Evaluator:
    """Right-hand sides in numbers; an expression is evaluated once for the same numbers of its symbols.

    A system and its mutants at one state therefore cost little more than the expressions in which they differ.

    mpmath integrates averages over one normal variable to 20 digits. A NumPy tensor rule on the derived integrand
    itself integrates averages over two and three variables; its step is halved until the result settles to 1e-12 of
    E|f|, and the averages of a system with the same logits share its nodes. Quasi-random points give averages over more
    variables, and only their error counts: `uncertainty` is the error that it allows in the rates found last.
    """

    def __init__(self) -> None:
        self._symbols: dict[sp.Expr, tuple[sp.Symbol, ...]] = {}
        self._averages_in: dict[sp.Expr, tuple[Expectation, ...]] = {}
        self._numbers: dict[Key, tuple[sp.Expr, float]] = {}
        self._values: dict[Key, tuple[sp.Expr, float]] = {}
        self.uncertainty = 0.0

    def rates(self, system: OdeSystem, numbers: Known) -> np.ndarray:
        """The system's right-hand sides (states,) with all symbols, β included, given by number."""
        known = dict(numbers)
        self.uncertainty = 0.0
        beside = [a for _, e in system.subexpressions for a in self._averages_of(e)]
        for symbol, expression in system.subexpressions:
            known[symbol] = self._number(expression, known, beside)
        values = [complex(self._number(rate, known, beside)) for rate in system.rhs]
        # A mutant's root may be imaginary.
        return np.array([value.real if value.imag == 0 else np.nan for value in values])

    def rates_or_nan(self, system: OdeSystem, numbers: Known) -> np.ndarray:
        """The rates, or NaN if an average has poles on the real axis, since a mutation made a radicand negative."""
        try:
            return self.rates(system, numbers)
        except NotConvergedError:
            return np.full(len(system.states), np.nan)

    def _number(self, expression: sp.Expr, known: Known, beside: Sequence[Expectation]) -> sp.Expr:
        key = self._key(expression, known)
        if key not in self._numbers:
            averages = self._averages_of(expression)
            self._integrate(averages, known, beside)
            found = {a: self._values[self._key(a, known)] for a in averages}
            number = expression.xreplace({a: value for a, (value, _) in found.items()}).xreplace(dict(known))
            self._numbers[key] = number.evalf(DIGITS), max((error for _, error in found.values()), default=0.0)
        number, error = self._numbers[key]
        self.uncertainty = max(self.uncertainty, SAMPLED_ERRORS * error)
        return number

    def _integrate(self, averages: Sequence[Expectation], known: Known, beside: Sequence[Expectation]) -> None:
        """Find the averages at the known numbers; those beside them with the same logits are found in the same pass."""
        for average in averages:
            if self._key(average, known) in self._values:
                continue
            alike = [a for a in beside if _logits(a) == _logits(average) and set(self._symbols_of(a)) <= known.keys()]
            group = [a for a in dict.fromkeys([average, *alike]) if self._key(a, known) not in self._values]
            passes: dict[tuple, dict[Expectation, Expectation]] = {}
            for a in group if _logits(average) else [average]:
                reduced = without_idle_variables(a, AVERAGE_DIGITS, known)
                variables = reduced.variables if isinstance(reduced, Expectation) else ()
                if not variables or (len(variables) == 1 and isinstance(variables[0], StandardNormal)):
                    self._values[self._key(a, known)] = reduced.xreplace(dict(known)).evalf(DIGITS), 0.0
                else:
                    passes.setdefault(variables, {})[a] = reduced
            for variables, members in passes.items():
                symbols = set().union(*(a.free_symbols for a in members.values()))
                numbers = {s: _double(known[s]) for s in symbols}
                for a, (value, error) in zip(members, _integrals([*members.values()], numbers), strict=True):
                    self._values[self._key(a, known)] = sp.Float(value, 17), error if len(variables) > 3 else 0.0

    def _key(self, expression: sp.Expr, known: Known) -> Key:
        # A float's own hash is slow, that of its integers is not.
        return expression, tuple(getattr(known[s], "_mpf_", known[s]) for s in self._symbols_of(expression))

    def _symbols_of(self, expression: sp.Expr) -> tuple[sp.Symbol, ...]:
        if expression not in self._symbols:
            self._symbols[expression] = tuple(sorted(expression.free_symbols, key=lambda s: s.name))
        return self._symbols[expression]

    def _averages_of(self, expression: sp.Expr) -> tuple[Expectation, ...]:
        if expression not in self._averages_in:
            self._averages_in[expression] = tuple(sorted(expression.atoms(Expectation), key=sp.default_sort_key))
        return self._averages_in[expression]


def _integrals(averages: list[Expectation], numbers: Mapping[sp.Symbol, complex]) -> list[tuple[float, float]]:
    """The averages and their errors; one that is not finite leaves the others as they are."""
    found = averages_and_errors(averages, numbers, AVERAGE_TOLERANCE)
    if len(averages) > 1 and any(math.isnan(value) for value, _ in found):
        return [result for a in averages for result in _integrals([a], numbers)]
    return found


@lru_cache(maxsize=4096)
def _logits(average: Expectation) -> frozenset:
    """The logits of the shares in an average; averages with the same logits share their nodes."""
    return frozenset(share.logits for share in average.integrand.atoms(Softmax))


def _double(number: sp.Expr) -> complex:
    """The number in double precision, real where it can be; nan for what is no number."""
    try:
        value = complex(number)
    except TypeError:
        return float("nan")
    return value.real if value.imag == 0 else value
