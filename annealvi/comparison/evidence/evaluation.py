"""Values of expressions at many points at once, without compiling them: a search evaluates thousands once each."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, reduce
from typing import Any

import numpy as np
import sympy as sp
from scipy.special import erf

from derive.objects.expectation import ChiSquared, Expectation
from derive.objects.lambdified import NotAveragedError, gaussian_average
from derive.objects.softmax import Softmax

Numbers = Mapping[sp.Symbol, Any]
LEAST_SETTLED = 0.3
"""The least share of points at which an average settles that is no mistake in its formula."""

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
        value = np.asarray(_value(expression, numbers, {}))
        if np.iscomplexobj(value):
            value = np.where(value.imag == 0, value.real, np.nan)
    return np.broadcast_to(value.astype(float), next(iter(numbers.values())).shape)


def evaluated_in_order(
    subexpressions: Sequence[tuple[sp.Symbol, sp.Expr]], numbers: Mapping[sp.Symbol, np.ndarray]
) -> dict[sp.Symbol, np.ndarray]:
    """The numbers with the values (n,) of named subexpressions, each of which uses earlier ones alone.

    Averages over the same variables are computed side by side, since their integrands have most parts in common. Raises
    KeyError for a subexpression that uses a later one.
    """
    known, size = dict(numbers), next(iter(numbers.values())).shape
    waiting = list(subexpressions)
    while waiting:
        symbol, expression = waiting[0]
        together = [(symbol, expression)]
        if isinstance(expression, Expectation):
            together = [
                (s, e)
                for s, e in waiting
                if isinstance(e, Expectation) and e.variables == expression.variables and e.free_symbols <= set(known)
            ]
            if not together:
                raise KeyError(symbol)
            with np.errstate(all="ignore"):
                values = _averages([e for _, e in together], known, {})
            known |= {s: np.broadcast_to(v, size) for (s, _), v in zip(together, values, strict=True)}
        else:
            known[symbol] = evaluated(expression, known)
        done = {s for s, _ in together}
        waiting = [(s, e) for s, e in waiting if s not in done]
    return known


def _value(e: sp.Expr, numbers: Numbers, known: dict[Any, Any]) -> Any:
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
        (value,) = _averages([e], numbers, known)
    elif isinstance(e, Softmax):
        if e.logits not in known:
            known[e.logits] = _shares([_value(l, numbers, known) for l in e.logits])
        value = known[e.logits][e.component - 1]
    elif type(e) in FUNCTIONS:
        value = FUNCTIONS[type(e)](*(_value(a, numbers, known) for a in e.args))
    else:
        symbols, function = _compiled(e)
        value = function(*(_value(s, numbers, known) for s in symbols))
    known[e] = value
    return value


def _shares(logits: list[Any]) -> list[Any]:
    """The shares of all components; no exponential overflows."""
    top = reduce(np.maximum, logits)
    exponentials = [np.exp(logit - top) for logit in logits]
    total = sum(exponentials)
    return [e / total for e in exponentials]


def _averages(averages: Sequence[Expectation], numbers: Numbers, known: dict[Any, Any]) -> np.ndarray:
    """The values of averages over the same variables, nan where an integrand is not real or the average not settled."""
    variables = averages[0].variables
    outside = {s: known[s] for e in averages for s in e.free_symbols if s in known}
    unreal: Any = False

    def integrands(*point: Any) -> Any:
        nonlocal unreal
        inside, shared = {**numbers, **dict(zip(variables, point, strict=True))}, dict(outside)
        values = [np.atleast_2d(_value(e.integrand, inside, shared)) for e in averages]
        stacked = np.concatenate(np.broadcast_arrays(*values), axis=-2)
        missing = np.isnan(stacked)
        if missing.any():
            unreal = unreal | missing.reshape(-1, *missing.shape[-2:]).any(axis=0)
        return stacked if unreal is False else np.where(unreal, 0.0, stacked)

    degrees = [_degrees(_value(v.degrees, numbers, known)) if isinstance(v, ChiSquared) else None for v in variables]
    try:
        found = np.asarray(gaussian_average(integrands, degrees, np.arange))
    except NotAveragedError as error:
        if error.settled is None or np.mean(error.settled, axis=-1).min() < LEAST_SETTLED:
            raise
        found = np.where(error.settled, error.found, np.nan)
    return np.where(unreal, np.nan, found)


def _degrees(values: Any) -> float:
    """The degrees of freedom of a variable, which are the same at all points."""
    if np.ptp(values) > 0:
        raise NotAveragedError("the degrees of freedom of a variable differ between states")
    return float(np.ravel(values)[0])


@lru_cache(maxsize=1024)
def _compiled(e: sp.Expr) -> tuple[tuple[sp.Symbol, ...], Callable]:
    """A function of the few kinds that are not in FUNCTIONS."""
    symbols = tuple(sorted(e.free_symbols, key=lambda s: s.name))
    dummies = [sp.Dummy() for _ in symbols]  # a symbol such as F(x) is no name in Python
    return symbols, sp.lambdify(dummies, e.xreplace(dict(zip(symbols, dummies, strict=True))), "numpy")
