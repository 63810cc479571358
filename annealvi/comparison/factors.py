"""Names for factors: which product of powers of symbols a list of numbers is."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import sympy as sp

CLOSE = 1e-8
"""The largest relative difference of numbers that count as equal. Averages have an error of 1e-12, and a factor that is
found by division at most ten thousand times that."""
LARGEST_DENOMINATOR = 64
POWERS = tuple(Fraction(n, 2) for n in (2, -2, 4, -4, 1, -1))


def named_factor(values: np.ndarray, bases: Mapping[sp.Symbol, np.ndarray]) -> sp.Expr | None:
    """The product c · a^p · b^q, of a number and powers of at most two of the bases, that equals the values (n,).

    bases: the values (n,) of each symbol. The plainest product comes first; None where there is none.
    """
    if not values.any():
        return sp.S.Zero
    if not np.isfinite(values).all() or (values == 0).any():
        return None
    factors = [(sp.S.One, np.ones_like(values))]
    for symbol, numbers in bases.items():
        if np.isfinite(numbers).all() and (numbers != 0).all() and np.ptp(numbers) > 1e-6 * np.abs(numbers).max():
            for power in POWERS:
                if power.denominator == 1 or (numbers > 0).all():
                    factors.append((symbol ** sp.Rational(power), numbers ** float(power)))
    logs = np.stack([np.log(np.abs(numbers)) for _, numbers in factors])
    wanted = np.log(np.abs(values))
    away = (wanted - wanted.mean()) - (logs - logs.mean(axis=1, keepdims=True))
    for n, m in _pairs(away, logs - logs.mean(axis=1, keepdims=True)):
        expression = factors[n][0] * factors[m][0]
        ratio = values / (factors[n][1] * factors[m][1])
        if np.ptp(ratio) <= CLOSE * np.abs(ratio).max():
            number = named_number(float(np.mean(ratio)))
            if number is not None:
                return number * expression
    return None


def _pairs(away: np.ndarray, centred: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of factors whose product varies as the values do, those with the factor one first."""
    found = []
    for n, row in enumerate(away):
        distance = np.abs(row - centred).max(axis=1)
        found += [(n, int(m)) for m in np.flatnonzero(distance < 10 * CLOSE) if m <= n]
    return sorted(found, key=lambda pair: (pair[1] != 0, pair[0] + pair[1]))


def named_number(value: float) -> sp.Expr | None:
    """A fraction, or the root of one, that equals a number."""
    for power in (1, 2):
        fraction = Fraction(value**power).limit_denominator(LARGEST_DENOMINATOR)
        if fraction and abs(float(fraction) - value**power) <= CLOSE * abs(value**power) * power:
            exact = sp.Rational(fraction.numerator, fraction.denominator)
            return exact if power == 1 else sp.sign(value) * sp.sqrt(exact)
    return None


def same(first: np.ndarray, second: np.ndarray, size: float) -> bool:
    """Whether two lists of numbers are equal within rounding; `size` is that of the numbers."""
    return bool(np.isfinite(second).all() and np.abs(first - second).max() <= CLOSE * size)
