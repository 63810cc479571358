"""Averages over independent standard normal and χ² variables, to a wanted number of digits.

Nodes and weights are those of mpmath. Real integrands are evaluated and summed in decimals, which take a tenth of the
time, and the others in mpmath's numbers.

An average over one normal variable uses the trapezoidal rule: halving the step squares its error, also where the
integrand has a pole close to the real axis. An average over several variables uses products of Gauss rules, which need
few nodes where the integrand's slopes are gentle; elsewhere they raise NotConvergedError.
"""

from __future__ import annotations

import decimal
import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, ClassVar

import mpmath
import sympy as sp

from derive.objects import decimals

Axis = tuple[tuple[Any, Any], ...]
"""(weight, node) pairs of a rule for one variable."""
ORDERS = range(6, 63, 8)
"""Three orders are the fewest that show how the error falls. So far apart, they leave most nodes to the last one."""
MOST_NODES = 400_000


class NotConvergedError(ArithmeticError):
    """The rule did not settle: the integrand has a pole on or too near the real axis."""

    exit_status: ClassVar[int] = 2
    explained: ClassVar[str] = (
        "an average is too sharp to be computed ({}); bring modes and means within a few hundred scales of each other"
    )


def averages(
    integrands: Sequence[sp.Expr],
    normals: Sequence[sp.Symbol],
    chi_squared: Sequence[tuple[sp.Symbol, sp.Expr]],
    digits: int,
) -> list:
    """The average of each integrand, to `digits` digits of its value, or of E|integrand| where the integrand cancels.

    normals: N(0, 1) variables. chi_squared: (variable, degrees of freedom) pairs. One pass over the nodes serves all
    integrands. Raises NotConvergedError.
    """
    with mpmath.workdps(digits + 10):
        function = function_of((*normals, *(c for c, _ in chi_squared)), tuple(integrands))
        degrees = [mpmath.mpf(sp.Float(k, digits + 10)._to_mpmath(mpmath.mp.prec)) for _, k in chi_squared]
        if len(normals) == 1 and not degrees:
            return trapezoid(function, digits)
        return gauss(function, len(normals), degrees, digits)


class DecimalFunction:
    """A function whose arguments and values are decimals, or duals.

    in_mpmath: makes the same function of mpmath's numbers, whose exponents have no bounds and whose roots and
    logarithms of negative numbers are complex.
    """

    def __init__(self, function: Callable[..., Sequence], in_mpmath: Callable[[], Callable[..., Sequence]]) -> None:
        self.function, self.in_mpmath = function, in_mpmath

    def __call__(self, *point: Any) -> Sequence:
        return self.function(*point)


def function_of(symbols: tuple[sp.Symbol, ...], expressions: tuple[sp.Expr, ...]) -> Callable[..., Sequence]:
    """The expressions as a function of decimals, or of mpmath's numbers where decimals do not suffice."""
    return _function_of(symbols, expressions, mpmath.mp.prec)


@lru_cache(maxsize=256)
def _function_of(
    symbols: tuple[sp.Symbol, ...], expressions: tuple[sp.Expr, ...], precision: int
) -> Callable[..., Sequence]:
    def in_mpmath() -> Callable[..., Sequence]:
        return sp.lambdify(symbols, list(expressions), modules="mpmath", cse=True)

    try:
        real = decimals.is_real(expressions) and decimals.function_of(symbols, expressions)
    except decimal.DecimalException:  # a constant overflows
        real = False
    return DecimalFunction(real, in_mpmath) if real else in_mpmath()


def with_numbers(
    function: Callable[..., Sequence], change: Callable[..., Sequence], numbers: Sequence
) -> Callable[..., Sequence]:
    """The function x ↦ function(*change(numbers, x)), with the numbers and x in the function's own kind of numbers."""

    def over(f: Callable[..., Sequence], values: Sequence) -> Callable[..., Sequence]:
        return lambda *point: f(*change(values, point))

    if not isinstance(function, DecimalFunction):
        return over(function, numbers)
    with decimals.context():
        own = [decimals.decimal_of(x) for x in numbers]
    return DecimalFunction(over(function.function, own), lambda: over(function.in_mpmath(), numbers))


def of_function(function: Callable[..., Any], normals: int, degrees: Sequence) -> Any:
    """The average of one mpmath function of independent variables, to the working precision.

    normals: the number of N(0, 1) variables, which come first. degrees: the degrees of freedom of each χ² variable.
    """
    digits = mpmath.mp.dps
    with mpmath.workdps(digits + 10):
        listed = lambda *point: [function(*point)]  # noqa: E731
        (value,) = (
            trapezoid(listed, digits) if normals == 1 and not degrees else gauss(listed, normals, list(degrees), digits)
        )
    return +value


def trapezoid(function: Callable[..., Sequence], digits: int) -> list:
    """E[f(z)] by the trapezoidal rule, for a function f whose value is a list of numbers.

    Halving the step squares the rule's error, measured in the size of the integrand. If two levels agree to half the
    digits of a value no larger than that size, all digits of the finer level hold. The width of the interval follows
    the value too: where an integrand grows towards one tail, a small average has its mass far from the origin.
    """
    nats = (digits + 8) * mpmath.log(10)
    half_width, step, previous, sums = mpmath.sqrt(2 * nats), mpmath.mpf(1) / 2, None, None
    while step > mpmath.mpf(1) / 600:
        count = int(mpmath.ceil(half_width / step))
        values, sizes = sums = weighted_sums(
            function, [_trapezoid_rule(count, step, sums is not None, mpmath.mp.prec)], sums
        )
        sizes = [mpmath.re(size) for size in sizes]
        present = [size for size in sizes if size > 0]
        wanted = mpmath.sqrt(2 * (nats + max(0, -mpmath.log(min(present))))) if present else half_width
        if wanted > half_width + mpmath.mpf(1) / 100:
            half_width, previous, sums = wanted, None, None
            continue
        if previous is not None and all(
            abs(new - old)
            <= max(mpmath.mpf(10) ** (-digits / 2 - 1) * abs(new), mpmath.mpf(10) ** (-digits - 7) * size)
            for new, old, size in zip(values, previous, sizes, strict=True)
        ):
            return values
        previous, step = values, step / 2
        sums = [value / 2 for value in values], [size / 2 for size in sums[1]]
    raise NotConvergedError(f"the trapezoidal rule did not reach {digits} digits")


@lru_cache(maxsize=128)
def _trapezoid_rule(count: int, step: mpmath.mpf, new_only: bool, precision: int) -> Axis:
    """The (weight, node) pairs for N(0, 1) at the nodes j · step, with |j| up to `count`.

    new_only: whether to give only the nodes that the rule with twice the step does not have. Nodes come in pairs ±x, so
    that an odd integrand cancels exactly.
    """
    nodes = (
        sign * j * step for j in range(1 if new_only else 0, count + 1, 2 if new_only else 1) for sign in _SIGNS[j > 0]
    )
    return tuple((mpmath.exp(-x * x / 2) * step / mpmath.sqrt(2 * mpmath.pi), x) for x in nodes)


_SIGNS = ((1,), (1, -1))


def gauss(function: Callable[..., Sequence], normals: int, degrees: Sequence, digits: int) -> list:
    """E[f(z, c)] by products of Gauss–Hermite and generalised Gauss–Laguerre rules of rising order.

    The error falls geometrically with the order. If three successive orders differ by d_1 and then by d_2, the error of
    the last one is about d_2²/d_1.
    """
    history: list[list] = []
    for order in ORDERS:
        if order ** (normals + len(degrees)) > MOST_NODES:
            break
        axes = [hermite(order)] * normals + [laguerre(order, k) for k in degrees]
        values, sizes = weighted_sums(function, axes)
        history.append(values)
        if len(history) >= 3 and all(map(_settled, *history[-3:], sizes, [digits] * len(sizes))):
            return values
    raise NotConvergedError(f"Gauss rules of up to {MOST_NODES} nodes did not reach {digits} digits")


def _settled(first: Any, second: Any, third: Any, size: Any, digits: int) -> bool:
    """Whether three successive values have settled.

    The real part and, for a complex step, the imaginary part must each have settled by itself.
    """
    for part in (mpmath.re, mpmath.im):
        floor = mpmath.mpf(10) ** (-digits - 2) * part(size)
        early, late = abs(part(second - first)), abs(part(third - second))
        if late > floor and not (late < early and late * late / early <= floor):
            return False
    return True


def weighted_sums(
    function: Callable[..., Sequence],
    axes: Sequence[Axis],
    before: tuple[list, list] | None = None,
    radius: mpmath.mpf | None = None,
) -> tuple[list, list]:
    """Σ weight f, and Σ weight |f| of the real and imaginary parts, over the products of the axes' nodes.

    before: sums over other nodes, to which these sums are added. radius: leave out the nodes beyond it.
    """
    sums = _decimal_sums(function, axes, radius) if isinstance(function, DecimalFunction) else None
    if sums is None:
        plain = function.in_mpmath() if isinstance(function, DecimalFunction) else function
        sums = _sums_of(plain, axes, radius)
    if before is None:
        return sums
    values, sizes = ([x + y for x, y in zip(*parts, strict=True)] for parts in zip(before, sums, strict=True))
    return values, sizes


def _decimal_sums(
    function: DecimalFunction, axes: Sequence[Axis], radius: mpmath.mpf | None
) -> tuple[list, list] | None:
    """The sums in decimals, converted to mpmath's numbers; None where a decimal overflows or is not real."""
    try:
        with decimals.context():
            own = [_in_decimals(axis, mpmath.mp.prec) for axis in axes]
            sums = _sums_of(function, own, None if radius is None else decimals.decimal_of(radius))
        return [decimals.mpmath_of(x) for x in sums[0]], [decimals.mpmath_of(x) for x in sums[1]]
    except (decimal.DecimalException, ValueError):
        return None


def _sums_of(function: Callable[..., Sequence], axes: Sequence[Axis], radius: Any) -> tuple[list, list]:
    values: list = []
    sizes: list = []
    for pairs in itertools.product(*axes):
        if radius is not None and sum(x * x for _, x in pairs) > radius * radius:
            continue
        weight = math.prod(w for w, _ in pairs)
        found = function(*(x for _, x in pairs))
        if not values:
            values, sizes = [0] * len(found), [0] * len(found)
        for n, f in enumerate(found):
            values[n] += weight * f
            sizes[n] += weight * (mpmath.mpc(abs(f.real), abs(f.imag)) if isinstance(f, mpmath.mpc) else abs(f))
    return values, sizes


@lru_cache(maxsize=128)
def _in_decimals(axis: Axis, precision: int) -> tuple[tuple, ...]:
    return tuple((decimals.decimal_of(w), decimals.decimal_of(x)) for w, x in axis)


def hermite(order: int) -> tuple[tuple, ...]:
    """(weight, node) pairs of the Gauss rule for N(0, 1), in the working precision."""
    return _hermite(order, mpmath.mp.prec)


def laguerre(order: int, degrees: Any) -> tuple[tuple, ...]:
    """(weight, node) pairs of the Gauss rule for χ² with `degrees` degrees of freedom, in the working precision."""
    return _laguerre(order, degrees, mpmath.mp.prec)


@cache
def _hermite(order: int, precision: int) -> tuple[tuple, ...]:
    nodes, weights = mpmath.mp.gauss_quadrature(order, "hermite")  # for e^{−x²}
    return tuple((w / mpmath.sqrt(mpmath.pi), mpmath.sqrt(2) * x) for w, x in zip(weights, nodes, strict=True))


@cache
def _laguerre(order: int, degrees: Any, precision: int) -> tuple[tuple, ...]:
    if degrees == 0:
        return ((mpmath.mpf(1), mpmath.mpf(0)),)
    shape = degrees / 2
    nodes, weights = mpmath.mp.gauss_quadrature(order, "glaguerre", alpha=shape - 1)  # for x^{ν/2 − 1} e^{−x}
    return tuple((w / mpmath.gamma(shape), 2 * x) for w, x in zip(weights, nodes, strict=True))
