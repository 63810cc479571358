"""Numeric functions for `sympy.lambdify`, which writes averages, shares and Cholesky roots as calls of these functions.

The functions work in the numbers of the module that lambdify writes for: NumPy, plain Python or mpmath.

An average over N(0, 1) variables is a trapezoidal sum, whose error falls faster than geometrically in the number of
nodes. The same rule serves a χ² variable in its logarithm, whose density is smooth on the whole line.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, reduce
from typing import Any

from sympy.printing.codeprinter import CodePrinter

TOLERANCE = 1e-12
"""The largest difference of two successive rules that is accepted, beside one plus the average. The finer rule's error
is then far below this difference."""
WIDTH = 8.5
"""How many standard deviations the nodes reach on either side, if the integrand does not grow; the tails beyond have
the weight 2e-17."""
Axis = tuple[int, float | None, float]
"""A variable's rule: the number of nodes, the degrees of freedom of a χ² variable, and the reach of the nodes."""
COARSEST = 48
MOST_AT_ONCE = 2048
"""How many nodes a function takes at once: as many as leave its arrays in a processor's cache."""
MOST_NODES, MOST_A_VARIABLE = 4_000_000, 50_000
_one_rule: ContextVar[int] = ContextVar("one_rule", default=0)


class Coded:
    """A SymPy node that lambdify writes as a call.

    A subclass defines `_code`, whose argument `name` gives the name of a function (exp, maximum, …) in the module that
    the code is for.
    """

    def _code(self, printer: CodePrinter, name: Callable[[str], str]) -> str:
        raise NotImplementedError

    def _numpycode(self, printer: CodePrinter) -> str:
        return self._code(printer, lambda function: printer._module_format(f"numpy.{function}"))

    def _pythoncode(self, printer: CodePrinter) -> str:
        plain = {"maximum": "max", "arange": "None"}
        return self._code(printer, lambda function: plain.get(function) or printer._module_format(f"math.{function}"))

    def _mpmathcode(self, printer: CodePrinter) -> str:
        plain = {"maximum": "max", "arange": "None"}
        return self._code(printer, lambda function: plain.get(function) or printer._module_format(f"mpmath.{function}"))


@contextmanager
def one_rule(count: int) -> Iterator[None]:
    """A context in which averages have `count` nodes a variable, whatever their error: for a search's first look."""
    token = _one_rule.set(count)
    try:
        yield
    finally:
        _one_rule.reset(token)


class NotAveragedError(ArithmeticError):
    """An average did not settle with the largest number of nodes.

    found: its values by the last rule. settled: which of them are settled.
    """

    def __init__(self, message: str, found: Any = None, settled: Any = None) -> None:
        super().__init__(message)
        self.found, self.settled = found, settled


def gaussian_average(
    function: Callable[..., Any], degrees: Sequence[Any], arange: Callable[[int], Any] | None = None
) -> Any:
    """E[function(x_1, …)] over independent normal and χ² variables.

    degrees: one entry per variable, None for an N(0, 1) variable and the degrees of freedom for a χ² variable. arange:
    NumPy's `arange` or one like it. With it, `function` takes many nodes of the last two variables at once, as arrays
    of shape (nodes, 1, …), and the function's other arguments may be arrays of any shape. Without it the nodes are
    taken one by one. Raises NotAveragedError.
    """
    known = [None if k is None else float(k) for k in degrees]
    if _one_rule.get():
        return _sum(function, [(_one_rule.get(), k, WIDTH) for k in known], arange)
    for width in (WIDTH, 2 * WIDTH, 4 * WIDTH):
        found, axes = _settled(function, known, width, arange)
        if _largest(_terms_at_the_ends(function, axes) / _allowed(found)) <= 1:
            return found
    raise NotAveragedError(f"an average has more than {TOLERANCE:.0e} of its value beyond {4 * WIDTH:g} deviations")


def _settled(
    function: Callable[..., Any],
    degrees: Sequence[float | None],
    width: float,
    arange: Callable[[int], Any] | None,
) -> tuple[Any, list[Axis]]:
    """The average by the first of ever finer rules that changes it no more, and that rule's axes."""
    count, previous, settled, axes = COARSEST * round(width / WIDTH), None, None, list[Axis]()
    while count ** len(degrees) <= MOST_NODES and count <= MOST_A_VARIABLE:
        axes = [(count, k, width) for k in degrees]
        found = _sum(function, axes, arange)
        if previous is not None:
            away = abs(found - previous) / _allowed(found)
            if _largest(away) <= 1:
                return found, axes
            settled = away <= 1
        previous = found
        count = 2 * count if len(degrees) < 3 else 4 * count // 3
    nodes = math.prod(axis[0] for axis in axes)
    message = f"an average over {len(degrees)} variables did not settle with {nodes:.0e} nodes"
    raise NotAveragedError(f"{message}; use annealvi.rate_function", previous, settled)


def _allowed(found: Any) -> Any:
    """The error of an average that is accepted."""
    return TOLERANCE * (1 + abs(found))


def _terms_at_the_ends(function: Callable[..., Any], axes: Sequence[Axis]) -> Any:
    """The sum of the rule's terms at the ends of the normal variables, with the other variables in their middles."""
    rules = [_rule(*axis) for axis in axes]
    middle = [0.0 if k is None else nodes[len(nodes) // 2] for (_, k, _), (nodes, _) in zip(axes, rules, strict=True)]
    total: Any = 0.0
    for n, ((_, k, _), (nodes, weights)) in enumerate(zip(axes, rules, strict=True)):
        for end in (0, -1) if k is None else ():
            total = total + weights[end] * abs(function(*middle[:n], nodes[end], *middle[n + 1 :]))
    return total


def share(component: int, logits: Sequence[Any], exp: Callable, maximum: Callable) -> Any:
    """The softmax share of a component, counted from 1; no exponential overflows."""
    top = reduce(maximum, logits)
    exponentials = [exp(logit - top) for logit in logits]
    return exponentials[component - 1] / sum(exponentials)


def log_share(component: int, logits: Sequence[Any], exp: Callable, maximum: Callable, log: Callable) -> Any:
    """The logarithm of `share`, finite also where the share is not."""
    top = reduce(maximum, logits)
    return logits[component - 1] - top - log(sum(exp(logit - top) for logit in logits))


def cholesky_root(remainder: Any, whole: Any, sqrt: Callable, maximum: Callable) -> Any:
    """√remainder, where the remainder is kept above the rounding error of the diagonal entry `whole` plus one.

    See `derive.rules.reduction.CholeskyRoot`.
    """
    return sqrt(maximum(remainder, (whole + 1) * 1e-13))


def _sum(function: Callable[..., Any], axes: Sequence[Axis], arange: Callable[[int], Any] | None) -> Any:
    """The sum over all nodes."""
    total: Any = 0.0
    if arange is None:
        for point in itertools.product(*(zip(*_rule(*axis), strict=True) for axis in axes)):
            total = total + math.prod(w for _, w in point) * function(*(x for x, _ in point))
        return total
    outer, inner = axes[:-2], axes[-2:]
    for point in itertools.product(*(zip(*_rule(*axis), strict=True) for axis in outer)):
        place, factor = [x for x, _ in point], math.prod(w for _, w in point)
        total = total + factor * _block(function, place, tuple(inner), arange)
    return total


def _block(
    function: Callable[..., Any],
    place: list[float],
    axes: tuple[Axis, ...],
    arange: Callable[[int], Any],
) -> Any:
    """The sum over all nodes of the last variables, many at a time.

    The axis of the nodes stands before the axes of the function's other arguments.
    """
    chunks = _chunks(axes)
    behind = getattr(function(*place, *(column[0] for column in chunks[0][:-1])), "ndim", 0)
    total: Any = 0.0
    for chunk in chunks:
        index = arange(len(chunk[-1]))
        shape = (len(chunk[-1]), *(1,) * behind)
        *columns, weights = ((0.0 * index + numbers).reshape(shape) for numbers in chunk)
        total = total + (weights * function(*place, *columns)).sum(axis=0)
    return total


@lru_cache(maxsize=16)
def _chunks(axes: tuple[Axis, ...]) -> list[tuple[list[float], ...]]:
    """The nodes of a product of rules, a list a variable, with the weights behind, `MOST_AT_ONCE` at a time."""
    points = list(itertools.product(*(zip(*_rule(*axis), strict=True) for axis in axes)))
    chunks = [points[start : start + MOST_AT_ONCE] for start in range(0, len(points), MOST_AT_ONCE)]
    return [
        (*([x for x, _ in column] for column in zip(*chunk, strict=True)), [math.prod(w for _, w in p) for p in chunk])
        for chunk in chunks
    ]


@lru_cache(maxsize=64)
def _rule(count: int, degrees: float | None, width: float) -> tuple[list[float], list[float]]:
    """Nodes and weights of one variable's rule; the weights sum to one within rounding."""
    if degrees is None:
        step = 2 * width / count
        nodes = [-width + (j + 0.5) * step for j in range(count)]
        weights = [math.exp(-x * x / 2) for x in nodes]
    else:
        k = degrees
        # log c = log k + u: the density of u is smooth on the whole line, and falls off doubly exponentially above and
        # exponentially below.
        low, high = -min(80.0 / k, 700.0) - width * math.sqrt(2 / k), min(width * math.sqrt(2 / k), 4.0) + 40 / (k + 10)
        step = (high - low) / (2 * count)
        logs = [low + (j + 0.5) * step for j in range(2 * count)]
        nodes = [k * math.exp(u) for u in logs]
        weights = [math.exp(k / 2 * (u - math.exp(u) + 1)) for u in logs]
    total = math.fsum(weights)
    return nodes, [w / total for w in weights]


def _largest(values: Any) -> float:
    size = abs(values)
    return float(size.max()) if hasattr(size, "max") else float(size)
