"""Numbers that tell systems apart: the rates at one arbitrary point, with a coarse rule in place of every average.

The rule is linear, and it keeps the symmetries of the variables' law: normal variables may be renamed, permuted and
reflected. So systems that these laws prove to be the same have the same numbers, up to rounding. The converse does not
hold.
"""

from __future__ import annotations

import cmath
import itertools
import random
from collections.abc import Mapping

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
    """Rates at one point. Averages that occur in several systems are computed once."""

    def __init__(self) -> None:
        self._symbols: Numbers = {}
        self._averages: dict[tuple, mpmath.mpf] = {}

    def rates(self, system: OdeSystem) -> tuple[complex, ...] | None:
        """The system's rates, or None where one is not a finite number."""
        with mpmath.workdps(DIGITS):
            named: Numbers = {}
            known: Numbers = {}
            try:
                for symbol, value in system.subexpressions:
                    named[symbol] = self._number(value, known, named)
                    known[symbol] = named[symbol]
                found = tuple(complex(self._number(rate, known, named)) for rate in system.rhs)
            except (ArithmeticError, TypeError, ValueError):  # a pole, or a comparison of complex numbers
                return None
            return found if all(map(cmath.isfinite, found)) else None

    def _number(self, node: sp.Basic, known: Numbers, named: Mapping[sp.Symbol, mpmath.mpf]) -> mpmath.mpf:
        if node not in known:
            if isinstance(node, Expectation):
                known[node] = self._average(node, known, named)
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

    def _average(self, average: Expectation, known: Numbers, named: Mapping[sp.Symbol, mpmath.mpf]) -> mpmath.mpf:
        used = tuple((s, n) for s, n in named.items() if s in average.free_symbols)
        if (average, used) not in self._averages:
            nodes = [(NODE, -NODE) if isinstance(v, StandardNormal) else (NODE,) for v in average.variables]
            values = [
                self._number(average.integrand, {**named, **dict(zip(average.variables, place, strict=True))}, named)
                for place in itertools.product(*nodes)
            ]
            self._averages[average, used] = mpmath.fsum(values) / len(values)
        return self._averages[average, used]


def same(first: tuple[complex, ...] | None, second: tuple[complex, ...] | None) -> bool:
    """Whether two systems' numbers allow that the systems are the same, as numbers that are missing do."""
    if first is None or second is None:
        return True
    return all(abs(a - b) <= SAME * (1 + abs(a)) for a, b in zip(first, second, strict=True))
