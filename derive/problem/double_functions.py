"""Expressions as functions of double precision with the semantics of the kernels.

Overflow gives infinity, and an undefined value is nan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import sympy as sp
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.pycode import PythonCodePrinter

from derive.problem.interpolation import interpolate


@lru_cache(maxsize=256)
def double_function(expression: sp.Expr, arguments: tuple[sp.Symbol, ...]) -> Callable[..., float]:
    """`expression` as a function of floats with the semantics of the kernels.

    Python's own operators would raise on overflow, and would return a complex root of a negative number.
    """
    printer = _DoublePrinter({"fully_qualified_modules": False, "inline": True, "allow_unknown_functions": True})
    names = {f.__name__: f for f in (*DOUBLE_FUNCTIONS.values(), interpolate)}
    return sp.lambdify(arguments, expression, modules=[names, "math"], printer=printer)


class _DoublePrinter(PythonCodePrinter):
    """Prints Python code with the functions of this module and with every literal to the last bit.

    SymPy's own printer writes 15 digits only.
    """

    def _print(self, node: sp.Basic, **settings: object) -> str:
        function = DOUBLE_FUNCTIONS.get(type(node))
        if function is None:
            return super()._print(node, **settings)
        return f"{function.__name__}({', '.join(map(self._print, node.args))})"

    def _print_Float(self, literal: sp.Float) -> str:
        return repr(float(literal))

    def _print_Mul(self, product: sp.Mul) -> str:
        # A product without a division, which may raise an error.
        return "*".join(self.parenthesize(factor, PRECEDENCE["Mul"]) for factor in product.args)


def double_exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def double_sinh(x: float) -> float:
    return (double_exp(x) - double_exp(-x)) / 2 if abs(x) > 1 else math.sinh(x)


def double_cosh(x: float) -> float:
    return (double_exp(x) + double_exp(-x)) / 2


def double_power(base: float, exponent: float) -> float:
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return -math.inf if base < 0 and exponent % 2 == 1 else math.inf
    except ValueError:
        return math.inf if base == 0 else math.nan


def double_log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf if x == 0 else math.nan


def double_sin(x: float) -> float:
    return math.nan if math.isinf(x) else math.sin(x)


def double_cos(x: float) -> float:
    return math.nan if math.isinf(x) else math.cos(x)


def double_tan(x: float) -> float:
    return math.nan if math.isinf(x) else math.tan(x)


def double_max(*values: float) -> float:
    return math.nan if any(map(math.isnan, values)) else max(values)


def double_min(*values: float) -> float:
    return math.nan if any(map(math.isnan, values)) else min(values)


def double_floor(x: float) -> float:
    return float(math.floor(x)) if math.isfinite(x) else x


DOUBLE_FUNCTIONS: dict[type[sp.Basic], Callable[..., float]] = {
    sp.exp: double_exp,
    sp.sinh: double_sinh,
    sp.cosh: double_cosh,
    sp.Pow: double_power,
    sp.log: double_log,
    sp.sin: double_sin,
    sp.cos: double_cos,
    sp.tan: double_tan,
    sp.floor: double_floor,
    sp.Max: double_max,
    sp.Min: double_min,
}
