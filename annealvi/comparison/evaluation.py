"""Values of expressions at many points at once, without compiling them: a search evaluates thousands once each."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import lru_cache, reduce
from typing import Any

import numpy as np
import sympy as sp
from scipy.special import erf

from derive.objects.expectation import ChiSquared, Expectation
from derive.objects.lambdified import gaussian_average, share
from derive.objects.softmax import Softmax

Numbers = Mapping[sp.Symbol, Any]

FUNCTIONS: Mapping[type, Callable] = {
    sp.exp: np.exp,
    sp.log: np.log,
    sp.tanh: np.tanh,
    sp.sech: lambda x: 2 * np.exp(-np.abs(x)) / (1 + np.exp(-2 * np.abs(x))),
    sp.cosh: np.cosh,
    sp.sinh: np.sinh,
    sp.sin: np.sin,
    sp.cos: np.cos,
    sp.Abs: np.abs,
    sp.erf: erf,
    sp.Pow: lambda base, power: np.power(base, power),
}


def evaluated(expression: sp.Expr, numbers: Mapping[sp.Symbol, np.ndarray]) -> np.ndarray:
    """The values (n,) of an expression, nan where it is not real.

    numbers: the values (n,) of the symbols. An average is accurate to 1e-12 of its size, or of one. Raises
    NotAveragedError for one that does not settle.
    """
    with np.errstate(all="ignore"):
        value = np.asarray(_value(expression, numbers, {}), float)
    return np.broadcast_to(value, next(iter(numbers.values())).shape)


def _value(e: sp.Expr, numbers: Numbers, known: dict[sp.Expr, Any]) -> Any:
    if e in known:
        return known[e]
    if isinstance(e, sp.Symbol):
        value = numbers[e]
    elif e.is_Number or e.is_NumberSymbol:
        value = float(e)
    elif isinstance(e, sp.Add | sp.Mul):
        combine = operator.add if isinstance(e, sp.Add) else operator.mul
        value = reduce(combine, (_value(a, numbers, known) for a in e.args))
    elif isinstance(e, Expectation):
        value = _average(e, numbers, known)
    elif isinstance(e, Softmax):
        value = share(e.component, [_value(l, numbers, known) for l in e.logits], np.exp, np.maximum)
    elif type(e) in FUNCTIONS:
        value = FUNCTIONS[type(e)](*(_value(a, numbers, known) for a in e.args))
    else:
        symbols, function = _compiled(e)
        value = function(*(_value(s, numbers, known) for s in symbols))
    known[e] = value
    return value


def _average(e: Expectation, numbers: Numbers, known: dict[sp.Expr, Any]) -> Any:
    outside = {s: known[s] for s in e.free_symbols if s in known}

    def integrand(*point: Any) -> Any:
        return _value(e.integrand, {**numbers, **dict(zip(e.variables, point, strict=True))}, dict(outside))

    degrees = [
        float(np.ravel(_value(v.degrees, numbers, known))[0]) if isinstance(v, ChiSquared) else None
        for v in e.variables
    ]
    return gaussian_average(integrand, degrees, np.arange)


@lru_cache(maxsize=1024)
def _compiled(e: sp.Expr) -> tuple[tuple[sp.Symbol, ...], Callable]:
    """A function of the few kinds that are not in FUNCTIONS."""
    symbols = tuple(sorted(e.free_symbols, key=lambda s: s.name))
    dummies = [sp.Dummy() for _ in symbols]  # a symbol such as F(x) is no name in Python
    return symbols, sp.lambdify(dummies, e.xreplace(dict(zip(symbols, dummies, strict=True))), "numpy")
