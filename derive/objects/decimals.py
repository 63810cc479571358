"""Expressions as functions of real numbers to many digits, in the arithmetic of `decimal`.

That arithmetic is written in C and takes a tenth of the time of mpmath's. Nodes and weights of rules, which mpmath
computes, are converted once. A number may have a slope: a `Dual` is what a complex number with an infinitesimal
imaginary part is, so that a complex step gives the same derivative. Anything else is left to mpmath.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import mpmath
import sympy as sp
from sympy.printing.pycode import PythonCodePrinter

from derive.objects.softmax import Softmax, written_out

GUARD = 3
"""Digits beyond those of mpmath's working precision."""
SAME = 20
"""Precisions are multiples of this many digits."""
PARTS = 1024
"""How many values between two powers of e are in the table of exponentials."""


def context() -> Any:
    """The context in which decimals have as many digits as mpmath's numbers now, and a few more.

    The number is a multiple of SAME, so that few tables of exponentials serve all precisions.
    """
    return decimal.localcontext(_context(-(-(mpmath.mp.dps + GUARD) // SAME) * SAME))


def _context(digits: int) -> decimal.Context:
    return decimal.Context(digits, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)


def is_real(expressions: Sequence[sp.Expr]) -> bool:
    """Whether the expressions are made of what `function_of` can write: sums, products, real powers, exp and log."""
    return not any(
        node is sp.I
        or (isinstance(node, sp.Function) and not isinstance(node, (sp.exp, sp.log, sp.tanh, sp.sech, Softmax)))
        for e in expressions
        for node in sp.preorder_traversal(e)
    )


def function_of(symbols: Sequence[sp.Symbol], expressions: Sequence[sp.Expr]) -> Callable[..., list]:
    """The expressions as a function of decimals or duals, for mpmath's working precision; see `is_real`."""
    printer = _Printer()
    functions = {"exp": exponential, "log": logarithm, "root": root, "tanh": tanh, "sech": sech}
    found = sp.lambdify(symbols, list(map(written_out, expressions)), [functions], printer=printer, cse=True)
    with context():
        values = {
            name: decimal_of(c.evalf(mpmath.mp.dps + GUARD)._to_mpmath(mpmath.mp.prec))
            for name, c in printer.constants.items()
        }
    found.__globals__.update(values)
    return found


class _Printer(PythonCodePrinter):
    """Writes constants as names, whose decimals are known when the precision is."""

    def __init__(self) -> None:
        super().__init__({"fully_qualified_modules": False, "inline": True, "allow_unknown_functions": True})
        self.constants: dict[str, sp.Expr] = {}

    def _constant(self, number: sp.Expr) -> str:
        return next((name for name, c in self.constants.items() if c is number), None) or self._new(number)

    def _new(self, number: sp.Expr) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = number
        return name

    _print_Rational = _print_Half = _print_Float = _constant  # noqa: N815
    _print_Pi = _print_Exp1 = _constant  # noqa: N815

    def _print_Pow(self, expr: sp.Pow, **_: Any) -> str:
        base, exponent = expr.as_base_exp()
        if base is sp.E:
            return f"exp({self._print(exponent)})"
        if exponent.is_Integer:
            return f"({self._print(base)})**({exponent})"
        if (2 * exponent).is_Integer:
            return f"root({self._print(base)})**({2 * exponent})"
        return f"exp(({self._print(exponent)})*log({self._print(base)}))"

    def _print_exp(self, expr: sp.exp) -> str:
        return f"exp({self._print(expr.args[0])})"

    def _print_log(self, expr: sp.log) -> str:
        return f"log({self._print(expr.args[0])})"

    def _print_tanh(self, expr: sp.tanh) -> str:
        return f"tanh({self._print(expr.args[0])})"

    def _print_sech(self, expr: sp.sech) -> str:
        return f"sech({self._print(expr.args[0])})"


class Dual:
    """A number with its slope in one direction."""

    __slots__ = ("slope", "value")

    def __init__(self, value: Decimal, slope: Decimal) -> None:
        self.value, self.slope = value, slope

    def __add__(self, other: Any) -> Dual:
        if isinstance(other, Dual):
            return Dual(self.value + other.value, self.slope + other.slope)
        return Dual(self.value + other, self.slope)

    __radd__ = __add__

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.slope)

    def __sub__(self, other: Any) -> Dual:
        return self + (-other)

    def __rsub__(self, other: Any) -> Dual:
        return -self + other

    def __mul__(self, other: Any) -> Dual:
        if isinstance(other, Dual):
            return Dual(self.value * other.value, self.value * other.slope + self.slope * other.value)
        return Dual(self.value * other, self.slope * other)

    __rmul__ = __mul__

    def __pow__(self, exponent: int) -> Dual:
        lower = self.value ** (exponent - 1)
        return Dual(lower * self.value, exponent * lower * self.slope)

    def __truediv__(self, other: Any) -> Dual:
        if isinstance(other, Dual):
            quotient = self.value / other.value
            return Dual(quotient, (self.slope - quotient * other.slope) / other.value)
        return Dual(self.value / other, self.slope / other)

    def __rtruediv__(self, other: Any) -> Dual:
        quotient = other / self.value
        return Dual(quotient, -quotient * self.slope / self.value)

    def __abs__(self) -> Dual:
        """The sizes of the value and of the slope."""
        return Dual(abs(self.value), abs(self.slope))


def exponential(x: Any) -> Any:
    """exp(x) = exp(whole) exp(part / PARTS) exp(small): two tables, and a series in integers."""
    if isinstance(x, Dual):
        value = exponential(x.value)
        return Dual(value, value * x.slope)
    precision = decimal.getcontext().prec
    one, bits = _one(precision)
    scaled = int(x * one)
    n, small = divmod(scaled, one // PARTS)
    whole, part = divmod(n, PARTS)
    total = term = one
    k = 1
    while term:
        term = (term * small >> bits) // k
        total += term
        k += 1
    return total * _of_part(part, precision) * _of_whole(whole, precision)


@lru_cache(maxsize=16)
def _one(precision: int) -> tuple[int, int]:
    """One in binary places enough for the precision, and their number."""
    bits = math.ceil((precision + 6) * math.log2(10))
    return 1 << bits, bits


@lru_cache(maxsize=10_000)
def _of_part(part: int, precision: int) -> Decimal:
    """exp(part / PARTS) / one."""
    return (Decimal(part) / PARTS).exp(_context(precision + 6)) / _one(precision)[0]


@lru_cache(maxsize=10_000)
def _of_whole(whole: int, precision: int) -> Decimal:
    """exp(whole)."""
    return Decimal(whole).exp(_context(precision + 6))


def logarithm(x: Any) -> Any:
    """log(x) by one step from the logarithm in double precision."""
    if isinstance(x, Dual):
        return Dual(logarithm(x.value), x.slope / x.value)
    x = Decimal(x)
    places = x.adjusted()
    near = Decimal(math.log(float(x.scaleb(-places))) + places * math.log(10))
    error = x * exponential(-near) - 1  # below some 1e-13
    return near + _log_of_one_and(error)


def _log_of_one_and(error: Decimal) -> Decimal:
    total, power, k = error, error, 1
    least = abs(error).scaleb(-decimal.getcontext().prec)
    while abs(power) > least:
        power *= -error
        k += 1
        total += power / k
    return total


def root(x: Any) -> Any:
    if isinstance(x, Dual):
        value = x.value.sqrt()
        return Dual(value, x.slope / (2 * value))
    return Decimal(x).sqrt()


def tanh(x: Any) -> Any:
    """tanh(x), an odd function to the last digit."""
    negative, size = _parted(x)
    decay = exponential(-2 * size)
    found = (1 - decay) / (1 + decay)
    return -found if negative else found


def sech(x: Any) -> Any:
    """1 / cosh(x), an even function to the last digit."""
    decay = exponential(-_parted(x)[1])
    return 2 * decay / (1 + decay * decay)


def _parted(x: Any) -> tuple[bool, Any]:
    """Whether a number is negative, and its modulus."""
    negative = (x.value if isinstance(x, Dual) else x) < 0
    return negative, -x if negative else x


def decimal_of(number: Any) -> Any:
    """mpmath's real number as a decimal, and a complex one as a dual whose slope is the imaginary part."""
    if isinstance(number, mpmath.mpc):
        return Dual(decimal_of(number.real), decimal_of(number.imag))
    sign, mantissa, exponent, _ = mpmath.mpmathify(number)._mpf_
    if not mantissa and exponent:
        raise ArithmeticError(f"{number} is no finite number")
    size = Decimal(int(mantissa)) * Decimal(2) ** exponent
    return -size if sign else +size


def mpmath_of(number: Any) -> Any:
    """The inverse of `decimal_of`, in mpmath's working precision. Raises ValueError for no finite number."""
    if isinstance(number, Dual):
        return mpmath.mpc(mpmath_of(number.value), mpmath_of(number.slope))
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError(f"{number} is no finite number")
    mantissa = int("".join(map(str, digits)))
    value = mpmath.mpf(mantissa) * mpmath.mpf(10) ** exponent
    return -value if number.is_signed() else value
