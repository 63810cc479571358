"""Measures the order of an error, as the slope of log |error| over log of the parameter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mpmath
import sympy as sp

DIGITS = 25
MARGIN = 0.03
"""The tolerance for a slope between two parameters x and x/2. The second term of the error is smaller than its first
term by a factor c x, and changes the slope by about c x/2. With x below 1e-2 (or x² below 1e-2, where the powers rise
by two) the tolerance allows c up to 6."""


def average(f: Callable, mean, width, reach: int = 13) -> mpmath.mpf:
    """E f(mean + width z), by Gauss–Legendre panels in z that are finer where f has its edge at 0."""
    z = {mpmath.mpf(n) for n in range(-reach, reach + 1)}
    edges = {(y - mean) / width for y in range(-150, 151, 5)}
    inside = sorted(z | {e for e in edges if abs(e) < reach})
    return mpmath.quad(lambda x: f(mean + width * x) * mpmath.npdf(x), inside, maxdegree=5)


def edge_average(f: Callable, mean, width) -> mpmath.mpf:
    """E f(mean + width z) for an f that, times the density, decays away from 0 at least like e^{−|y|/2}."""
    panels = [mpmath.mpf(y) for y in range(-150, 151, 5)]
    return mpmath.quad(lambda y: f(y) * mpmath.npdf((y - mean) / width) / width, panels, maxdegree=5)


def slope(errors: Sequence, parameters: Sequence) -> float:
    """The slope between the last two parameters."""
    return float(
        mpmath.log(abs(errors[-1] / errors[-2])) / mpmath.log(abs(mpmath.mpf(parameters[-1]) / parameters[-2]))
    )


def has_order(errors: Sequence, parameters: Sequence, order: sp.Rational) -> bool:
    return all(abs(slope(errors[: n + 2], parameters[: n + 2]) - float(order)) < MARGIN for n in range(len(errors) - 1))


def number(expression: sp.Expr, digits: int = DIGITS) -> mpmath.mpf:
    value = expression.evalf(digits)
    assert value.is_Float or value.is_Rational, f"{expression} is no number"
    return mpmath.mpf(sp.Float(value, digits)._mpf_)
