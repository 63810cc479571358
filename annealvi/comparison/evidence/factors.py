"""Names for factors: which product of powers of symbols a list of numbers is."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import sympy as sp

CLOSE = 1e-8
"""The largest relative difference of numbers that count as equal. Averages have an error of 1e-12, and a factor that is
found by division at most ten thousand times that."""
LARGEST_DENOMINATOR, LARGEST_PRODUCT = 64, 1000
POWERS = tuple(Fraction(n, 2) for n in (2, -2, 4, -4, 1, -1))


class FactorNames:
    """The products c · a^p · b^q, of a number and powers of at most two symbols, by their values at all points.

    bases: the values (n,) of each symbol.
    """

    def __init__(self, bases: Mapping[sp.Symbol, np.ndarray]) -> None:
        self._factors: list[tuple[sp.Expr, np.ndarray]] = []
        size = len(next(iter(bases.values()))) if bases else 1
        self._factors.append((sp.S.One, np.ones(size)))
        for symbol, numbers in bases.items():
            if np.isfinite(numbers).all() and (numbers != 0).all() and np.ptp(numbers) > 1e-6 * np.abs(numbers).max():
                for power in POWERS:
                    if power.denominator == 1 or (numbers > 0).all():
                        self._factors.append((symbol ** sp.Rational(power), numbers ** float(power)))
        # A product is looked up by one number, the sum of its logarithms in directions that leave out constants.
        direction = np.random.default_rng(0).normal(size=size)
        self._direction = direction - direction.mean()
        marks = np.array([self._mark(numbers) for _, numbers in self._factors])
        self._pairs = [(n, m) for n in range(len(marks)) for m in range(n + 1)]
        self._marks = np.array([marks[n] + marks[m] for n, m in self._pairs])
        order = np.argsort(self._marks, kind="stable")
        self._marks, self._pairs = self._marks[order], [self._pairs[k] for k in order]

    def _mark(self, numbers: np.ndarray) -> float:
        return float(self._direction @ np.log(np.abs(numbers)))

    def name(self, values: np.ndarray) -> sp.Expr | None:
        """The plainest product that equals the values (n,), None where there is none."""
        if not values.any():
            return sp.S.Zero
        if not np.isfinite(values).all() or (values == 0).any():
            return None
        if len(self._factors) == 1 or len(values) == 1:
            return self._named(values, sp.S.One, np.ones_like(values))
        mark, room = self._mark(values), 10 * CLOSE * np.abs(self._direction).sum()
        low, high = np.searchsorted(self._marks, (mark - room, mark + room))
        for n, m in sorted(self._pairs[low:high], key=lambda pair: (pair[1] != 0, pair[0] + pair[1])):
            (first, a), (second, b) = self._factors[n], self._factors[m]
            found = self._named(values, first * second, a * b)
            if found is not None:
                return found
        return None

    @staticmethod
    def _named(values: np.ndarray, expression: sp.Expr, numbers: np.ndarray) -> sp.Expr | None:
        ratio = values / numbers
        if np.ptp(ratio) > CLOSE * np.abs(ratio).max():
            return None
        number = named_number(float(np.mean(ratio)))
        return None if number is None else number * expression


def named_factor(values: np.ndarray, bases: Mapping[sp.Symbol, np.ndarray]) -> sp.Expr | None:
    """The product of a number and powers of at most two of the bases that equals the values (n,)."""
    return FactorNames(bases).name(values)


def named_number(value: float) -> sp.Expr | None:
    """A fraction, or the root of one, that equals a number."""
    for power in (1, 2):
        fraction = Fraction(value**power).limit_denominator(LARGEST_DENOMINATOR)
        if abs(fraction.numerator) * fraction.denominator > LARGEST_PRODUCT:
            continue  # near any large number there is some fraction
        if fraction and abs(float(fraction) - value**power) <= CLOSE * abs(value**power) * power:
            exact = sp.Rational(fraction.numerator, fraction.denominator)
            return exact if power == 1 else sp.sign(value) * sp.sqrt(exact)
    return None


def same(first: np.ndarray, second: np.ndarray, size: float, close: float = CLOSE) -> bool:
    """Whether two lists of numbers are equal within rounding; `size` is that of the numbers."""
    return bool(np.isfinite(second).all() and np.abs(first - second).max() <= close * size)
