"""Numbers that tell systems apart: the rates at one arbitrary point, with a coarse rule in place of every average.

The rule is linear, and it keeps the symmetries of the variables' law: normal variables may be renamed, permuted and
reflected. So systems that these laws prove to be the same have the same numbers, up to rounding. The converse does not
hold.
"""

from __future__ import annotations

import cmath
import itertools
import random

import mpmath
import sympy as sp

from derive.checks.coordinate_numbers import constant, operation
from derive.objects.expectation import Expectation, StandardNormal
from derive.objects.softmax import Softmax
from derive.objects.system import OdeSystem
from derive.rules.reduction import AtLargest, CholeskyRoot

DIGITS = 30
SAME = 1e-12
"""The largest relative difference of two numbers that count as the same. It is far above the rounding of equal ones."""
NODE = mpmath.mpf(13) / 10
"""A normal variable takes the values ±NODE, each with the weight 1/2, and a χ² variable the value NODE."""

Numbers = dict[sp.Basic, mpmath.mpf]


class SystemNumbers:
    """Rates at one point. What occurs in several systems with the same numbers is computed once."""

    def __init__(self) -> None:
        self._symbols: Numbers = {}
        self._symbols_in: dict[sp.Expr, frozenset[sp.Basic]] = {}
        self._found: dict[tuple, mpmath.mpf] = {}

    def rates(self, system: OdeSystem) -> tuple[complex, ...] | None:
        """The system's rates, or None where one is not a finite number."""
        with mpmath.workdps(DIGITS):
            named: Numbers = {}
            try:
                for symbol, value in system.subexpressions:
                    named[symbol] = self._once(value, named)
                found = tuple(complex(self._once(rate, named)) for rate in system.rhs)
            except (ArithmeticError, TypeError, ValueError):  # a pole, or a comparison of complex numbers
                return None
            return found if all(map(cmath.isfinite, found)) else None

    def _once(self, expression: sp.Expr, named: Numbers) -> mpmath.mpf:
        """The number of a whole expression or an average, which is known if the named symbols in it are the same."""
        if expression not in self._symbols_in:
            self._symbols_in[expression] = frozenset(expression.free_symbols)
        inside = self._symbols_in[expression]
        key = expression, tuple((s, n) for s, n in named.items() if s in inside)
        if key not in self._found:
            average = isinstance(expression, Expectation)
            self._found[key] = (
                self._average(expression, named) if average else self._number(expression, dict(named), named)
            )
        return self._found[key]

    def _number(self, node: sp.Basic, known: Numbers, named: Numbers) -> mpmath.mpf:
        if node not in known:
            if isinstance(node, Expectation):
                known[node] = self._once(node, named)
            elif isinstance(node, Softmax):
                own, *logits = (self._number(n, known, named) for n in (node.logits[node.component - 1], *node.logits))
                known[node] = 1 / mpmath.fsum(mpmath.exp(logit - own) for logit in logits)
            elif isinstance(node, CholeskyRoot):
                known[node] = mpmath.sqrt(self._number(node.args[0], known, named))
            elif isinstance(node, AtLargest):
                keys = [self._number(key, known, named) for key in node.keys]
                known[node] = self._number(node.values[keys.index(max(keys))], known, named)
            elif node.args:
                numbers = [self._number(argument, known, named) for argument in node.args]
                known[node] = operation(node.func, len(numbers))(*numbers)
            else:
                known[node] = self._of_symbol(node) if node.is_Symbol else constant(node)()
        return known[node]

    def _of_symbol(self, symbol: sp.Symbol) -> mpmath.mpf:
        if symbol not in self._symbols:
            self._symbols[symbol] = mpmath.mpf(random.Random(symbol.name).uniform(0.2, 0.9))
        return self._symbols[symbol]

    def _average(self, average: Expectation, named: Numbers) -> mpmath.mpf:
        nodes = [(NODE, -NODE) if isinstance(v, StandardNormal) else (NODE,) for v in average.variables]
        values = [
            self._number(average.integrand, {**named, **dict(zip(average.variables, place, strict=True))}, named)
            for place in itertools.product(*nodes)
        ]
        return mpmath.fsum(values) / len(values)


def same(first: tuple[complex, ...] | None, second: tuple[complex, ...] | None) -> bool:
    """Whether two systems' numbers allow that the systems are the same, as numbers that are missing do."""
    if first is None or second is None:
        return True
    return all(abs(a - b) <= SAME * (1 + abs(a)) for a, b in zip(first, second, strict=True))
