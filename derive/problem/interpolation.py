"""A function of time that is linear between given points, as one node with the points as its data.

A `Piecewise` with a branch for each interval would not do. SymPy would rewrite its branches, such as exp(a + b t) as
exp(a) exp(b t), whose factors overflow. A kernel would compile the branches one by one and try them one after another.
The code that is printed from an `Interpolated` searches a row of times instead.

The value between two points with the levels l_a and l_b is l_a + (l_b − l_a) f with 0 <= f <= 1. So the value lies
between the two levels but for rounding, even where the points are so close that a slope would overflow.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import mpmath
import sympy as sp
from sympy.printing.printer import Printer


class Numbers(sp.Atom):
    """A row of doubles that SymPy treats as one atom, so thousands of numbers cost SymPy no more than one."""

    __slots__ = ("given",)

    def __new__(cls, given: Sequence[float]) -> Numbers:
        row = super().__new__(cls)
        row.given = tuple(map(float, given))
        return row

    def __getnewargs__(self) -> tuple[tuple[float, ...]]:
        return (self.given,)

    def _hashable_content(self) -> tuple[float, ...]:
        return self.given

    @property
    def doubles(self) -> tuple[float, ...]:
        """The row's values, each rounded once."""
        return self.given

    def exact(self, n: int) -> mpmath.mpf:
        """Value n to mpmath's working precision."""
        return mpmath.mpf(self.given[n])

    def _sympystr(self, printer: Printer) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.given))})"

    _sympyrepr = _sympystr


class Logarithms(Numbers):
    """The logarithms of given positive numbers."""

    __slots__ = ()

    @property
    def doubles(self) -> tuple[float, ...]:
        return tuple(map(math.log, self.given))

    def exact(self, n: int) -> mpmath.mpf:
        return mpmath.log(self.given[n])


class Interpolated(sp.Expr):
    """The value at `time`, linear between the points (times[n], levels[n]), and the last level from the last time on.

    time: an expression that is never before times[0]. times: ascending, as Numbers or a Tuple of symbols. Two equal
    times are a jump, with the value from the right at that time. levels: one for each time, as Numbers or a Tuple.
    """

    is_commutative = True
    is_extended_real = True

    def __new__(cls, time: sp.Expr, times: Numbers | sp.Tuple, levels: Numbers | sp.Tuple) -> Interpolated:
        return super().__new__(cls, sp.sympify(time, strict=True), times, levels)

    def _eval_evalf(self, prec: int) -> sp.Expr:
        time, times, levels = self.args
        at = time.evalf(prec_to_digits(prec))
        if not (at.is_Float or at.is_Integer or at.is_Rational) or not isinstance(levels, Numbers):
            return self.func(at, times, levels)
        with mpmath.workprec(prec + 10):
            t, exact = at._to_mpmath(prec + 10), times.exact
            n = bisect_right(times.given, t) - 1
            if n + 1 >= len(times.given):
                return sp.Float._new(levels.exact(-1)._mpf_, prec)
            fraction = (t - exact(n)) / (exact(n + 1) - exact(n))
            low, high = levels.exact(n), levels.exact(n + 1)
            return sp.Float._new((low + (high - low) * fraction)._mpf_, prec)

    def _eval_derivative(self, symbol: sp.Symbol) -> sp.Expr:
        """The slope: constant between neighbouring points and zero after the last. The levels must be numbers."""
        time, times, levels = self.args
        if not isinstance(levels, Numbers):
            raise NotImplementedError("the slope of an interpolation between symbols is not derived")
        rows = list(zip(times.doubles, levels.doubles, strict=True))
        parts = [(a, b, (high - low) / (b - a)) for (a, low), (b, high) in pairwise(rows) if b > a]
        edges = [edge for a, b, _ in parts for edge in (a, b)] + [rows[-1][0]]
        slopes = [slope for *_, slope in parts for _ in range(2)] + [0.0]
        return self.func(time, Numbers(edges), Numbers(slopes)) * time.diff(symbol)

    def _latex(self, printer: Printer) -> str:
        time, times, levels = self.args
        return rf"\operatorname{{lin}}\left({printer._print(time)};\ {_few_points(times, levels, printer)}\right)"

    def _sympystr(self, printer: Printer) -> str:
        return f"Interpolated({', '.join(printer._print(a) for a in self.args)})"

    def _pythoncode(self, printer: Printer) -> str:
        time, times, levels = self.args
        return f"interpolate({printer._print(time)}, {times.doubles!r}, {levels.doubles!r})"

    def _numpycode(self, printer: Any) -> str:
        """Code in terms of NumPy alone, so that any `lambdify` has all that it needs.

        The printer of jax.numpy has the same rules, so it gives code in terms of jax.numpy.
        """
        names = ("asarray", "searchsorted", "where")
        array, search, where = (printer._module_format(f"{printer._module}.{name}") for name in names)
        time, times, levels = self.args
        # A library may take the difference of two times for zero, as XLA does below the smallest normal number. Then
        # the two times count as one.
        fraction = f"(lambda w: {where}(w > 0, (t - x[i]) / {where}(w > 0, w, 1), 0))(x[j] - x[i])"
        between = f"(lambda i, j: y[i] + (y[j] - y[i]) * {fraction})"
        value = f"(lambda i: {between}(i, i + (i < len(x) - 1)))({search}(x, t, side='right') - 1)"
        rows = f"{array}({times.doubles!r}), {array}({levels.doubles!r})"
        return f"(lambda t, x, y: {value})({array}({printer._print(time)}), {rows})"

    _jaxcode = _numpycode


def prec_to_digits(bits: int) -> int:
    """The number of decimal digits that hold a number of bits."""
    return math.ceil(bits * math.log10(2)) + 1


def interpolate(time: float, times: Sequence[float], levels: Sequence[float]) -> float:
    """The value of an `Interpolated` in double precision; nan where the time is nan."""
    if math.isnan(time):
        return time
    n = bisect_right(times, time) - 1
    if n + 1 >= len(times):
        return levels[-1]
    fraction = (time - times[n]) / (times[n + 1] - times[n])
    return levels[n] + (levels[n + 1] - levels[n]) * fraction


def points_in_latex(points: Sequence[tuple[str, str]]) -> str:
    """The points as (t_0, l_0), …: all points if there are at most eight, else the first six and the last."""
    shown = [rf"({t}, {level})" for t, level in points]
    return r",\ ".join(shown if len(shown) <= 8 else [*shown[:6], r"\ldots", shown[-1]])


def _few_points(times: sp.Basic, levels: sp.Basic, printer: Printer) -> str:
    def texts(row: sp.Basic) -> list[str]:
        if isinstance(row, Logarithms):
            return [rf"\log {printer._print(sp.Float(x))}" for x in row.given]
        return (
            [printer._print(sp.Float(x)) for x in row.given]
            if isinstance(row, Numbers)
            else [printer._print(x) for x in row]
        )

    return points_in_latex(list(zip(texts(times), texts(levels), strict=True)))
