"""Expressions in coordinate symbols as numbers, with averages as sums over nodes.

An average over a sample is a product of Gauss rules, whose order rises until the average settles. The average under the
mixture itself is a lattice sum by the trapezoidal rule. The error of this rule with step h is about e^{−2πδ/h} +
e^{−2π²/h²} for a function that is analytic in a strip of half-width δ. The step follows from δ, which the nearest
complex zero of a mixture density sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import mpmath
import sympy as sp

from derive.objects.expectation import Expectation, evaluate, without_idle_variables
from derive.objects.indices import COORDINATES
from derive.objects.mixtures import DIMENSION
from derive.objects.numeric_averages import function_of, gauss, weighted_sums, with_numbers
from derive.objects.objective import LOG_PARTITION
from derive.objects.softmax import Softmax
from derive.objects.spans import is_spanned
from derive.objects.vectors import GaussianVector, VectorSymbol

DIGITS = 34
"""Digits of a result: four more than the 30 to which steps are compared. Averages get three further digits."""
GUARD = 15
"""Further digits of the arithmetic."""


@dataclass(frozen=True)
class Point:
    """Numbers for every vector and every scalar symbol of a derivation.

    Attributes
    ----------
    dimension : int
        The dimension d of the space in which the derivation is checked.
    vectors : mapping of VectorSymbol to tuple
        The d coordinates of each mode and mean.
    scalars : mapping of sympy.Symbol to mpmath.mpf
        The number of each scalar symbol.
    coordinates : int
        The number r of coordinates in a span, beside the d of the vectors outside it.
    """

    dimension: int
    vectors: Mapping[VectorSymbol, tuple]
    scalars: Mapping[sp.Symbol, mpmath.mpf]
    coordinates: int = 0


class CoordinateNumbers:
    """The numbers of coordinate symbols and parameters at one point, and of expressions in them."""

    def __init__(self, point: Point, averages: dict[sp.Expr, mpmath.mpf]) -> None:
        """Start from the point's numbers. `averages` holds the averages that are known, and takes the new ones."""
        self.point = point
        self.averages = averages
        self.numbers: dict[sp.Symbol, mpmath.mpf] = dict(point.scalars)
        self.numbers[DIMENSION] = mpmath.mpf(point.dimension + point.coordinates)
        self.numbers[COORDINATES] = mpmath.mpf(point.coordinates)
        self.numbers.setdefault(LOG_PARTITION, mpmath.mpf(0))
        for vector, coordinates in point.vectors.items():
            self.numbers.update(zip(self.symbols_of(vector), coordinates, strict=True))

    def symbols_of(self, vector: VectorSymbol) -> tuple[sp.Symbol, ...]:
        return coordinate_symbols(vector, self.point.dimension)

    def span_symbols_of(self, x: VectorSymbol) -> tuple[sp.Symbol, ...]:
        """The symbols of a point's coordinates in the span."""
        return span_symbols(x, self.point.coordinates if is_spanned(x) else 0)

    def numeric(self, expressions: list[sp.Expr]) -> list:
        """Return numbers for expressions in coordinate symbols.

        All averages over one sample share one pass over the nodes.
        """
        nodes = _outermost_averages(expressions)
        new = [node for node in nodes if isinstance(node, Average) and node not in self.averages]
        for x in dict.fromkeys(average.args[1] for average in new):
            group = [a for a in new if a.args[1] == x]
            self.averages.update(zip(group, self._lattice_sums([a.args[0] for a in group], x), strict=True))
        exact = {node: self._exact(node) if isinstance(node, Expectation) else node for node in nodes}
        new = [e for e in exact.values() if e not in self.averages]
        # Where vectors coincide nothing is left to average.
        for constant in (e for e in new if not isinstance(e, Expectation)):
            self.averages[constant] = constant.evalf(DIGITS + GUARD)._to_mpmath(mpmath.mp.prec)
        new = [e for e in new if isinstance(e, Expectation)]
        for key in dict.fromkeys(map(_shared_pass, new)):
            group = [e for e in new if _shared_pass(e) == key]
            self.averages.update(zip(group, evaluate(group, DIGITS + 3), strict=True))
        known = {**self.numbers, **{node: self.averages[e] for node, e in exact.items()}}
        return [_number(e, known) for e in expressions]

    def _exact(self, average: Expectation) -> sp.Expr:
        given = average.xreplace({s: sp.Float(self.numbers[s], DIGITS + GUARD) for s in average.free_symbols})
        return without_idle_variables(given, DIGITS + 3) if isinstance(given, Expectation) else given

    def _lattice_sums(self, integrands: list[sp.Expr], x: VectorSymbol) -> list:
        """Return E over x ~ N(mean, scale² I), or the plain integral over x when x carries no law of its own."""
        outside = (*self.symbols_of(x), *([squared_outside(x)] if squared_outside(x) != 0 else []))
        bound = (*self.span_symbols_of(x), *outside)
        varying, fixed = _parted(tuple(integrands), bound)
        compiled = function_of((*bound, *fixed), varying)
        constants = [_number(e, self.numbers) for e in fixed.values()]
        if not isinstance(x, GaussianVector):
            return self._plain_integrals(with_numbers(compiled, lambda numbers, point: (*point, *numbers), constants))
        (scale,) = self.numeric([x.scale])
        centre = [self.numbers[s] for s in self.symbols_of(x.mean)]
        within, factor = self._law_in_span(x)
        r, size = len(within), len(centre)

        def sample(numbers: Sequence, point: Sequence) -> list:
            span, mean = numbers[:r], numbers[r : r + size]
            rows, (scale, *others) = numbers[r + size : r + size + r * r], numbers[r + size + r * r :]
            inside = list(span)
            for n in range(r):
                for m in range(n + 1):  # by additions alone, which decimals know, too
                    inside[n] = inside[n] + rows[n * r + m] * point[m]
            moved = [m + scale * z for m, z in zip(mean, point[r:], strict=False)]
            return [*inside, *moved, *(scale**2 * squared for squared in point[r + size :]), *others]

        function = with_numbers(compiled, sample, [*within, *centre, *factor, scale, *constants])
        return gauss(function, r + self.point.dimension, [mpmath.mpf(x.extra)] if x.extra else [], DIGITS + 3)

    def _law_in_span(self, x: GaussianVector) -> tuple[list, list]:
        """The mean of a sample in the span, and the rows of a factor of its covariance; complex where they are."""
        if x.span is None:
            return [], []
        mean = self.numeric(list(x.span.mean))
        size = len(mean)
        sigma = self.numeric(list(x.span.covariance))
        factor = mpmath.zeros(size)
        for n in range(size):
            for m in range(n + 1):
                rest = sigma[n * size + m] - mpmath.fsum(factor[n, k] * factor[m, k] for k in range(m))
                factor[n, m] = mpmath.sqrt(rest) if n == m else rest / factor[m, m]
        return mean, list(factor)

    def _plain_integrals(self, function: Callable[..., Sequence]) -> list:
        """Return ∫ f(x) dx by the trapezoidal rule on a lattice, for f that decays like a mixture density.

        The lattice ends where the density of every component has fallen by DIGITS + 6 digits.
        """
        h = self._lattice_step()
        farthest = max(mpmath.norm(v) for v in self.point.vectors.values())
        radius = farthest + max(self._scales()) * mpmath.sqrt(2 * (DIGITS + 6) * mpmath.log(10))
        line = tuple((h, h * n) for n in range(-int(radius / h) - 1, int(radius / h) + 2))
        return weighted_sums(function, [line] * (self.point.dimension + self.point.coordinates), radius=radius)[0]

    def _scales(self) -> list[mpmath.mpf]:
        """The scales, and the roots of the covariances' diagonal entries, which differ little from the eigenvalues'."""
        scalars = self.point.scalars.items()
        variances = [v for s, v in scalars if s.name.startswith("Sigma") and v > mpmath.mpf(1) / 2]
        return [mpmath.mpf(1), *(v for s, v in scalars if s.name.startswith("sigma")), *map(mpmath.sqrt, variances)]

    def _lattice_step(self) -> mpmath.mpf:
        """Return the step h for which both error terms are below 10^−(digits + 3).

        The largest separation of the point's vectors sets the step.
        """
        target = (DIGITS + 3) * mpmath.log(10)
        vectors = list(self.point.vectors.values())
        separation = max(
            mpmath.sqrt(mpmath.fsum((a - b) ** 2 for a, b in zip(u, v, strict=True))) for u in vectors for v in vectors
        )
        scales = self._scales()
        strip = mpmath.pi * min(scales) ** 2 / (max(separation, mpmath.mpf(1) / 10) * max(scales))
        return min(2 * mpmath.pi * strip / target, mpmath.pi * mpmath.sqrt(2 / target) * min(scales) / max(scales))


@lru_cache(maxsize=256)
def _parted(
    expressions: tuple[sp.Expr, ...], bound: tuple[sp.Symbol, ...]
) -> tuple[tuple[sp.Expr, ...], dict[sp.Symbol, sp.Expr]]:
    """The expressions with a symbol for each largest part without bound symbols, and these parts by symbol."""
    names: dict[sp.Expr, sp.Symbol] = {}

    @cache
    def varies(e: sp.Basic) -> bool:
        return e in bound or any(map(varies, e.args))

    def named(e: sp.Expr) -> sp.Expr:
        return e if e.is_Integer else names.setdefault(e, sp.Dummy(f"fixed_{len(names)}"))

    @cache
    def rebuilt(e: sp.Expr) -> sp.Expr:
        if not varies(e):
            return named(e)
        if not e.args:
            return e
        if isinstance(e, sp.Add | sp.Mul):
            fixed = e.func(*(part for part in e.args if not varies(part)))
            return e.func(named(fixed), *(rebuilt(part) for part in e.args if varies(part)))
        if isinstance(e, sp.Pow) and not varies(e.exp):
            return rebuilt(e.base) ** e.exp
        return e.func(*map(rebuilt, e.args))

    found = tuple(map(rebuilt, expressions))
    return found, {symbol: e for e, symbol in names.items()}


@cache
def operation(function: type[sp.Expr], count: int) -> Callable[..., mpmath.mpf]:
    """Return mpmath's form of one SymPy operation on `count` numbers."""
    if function in (sp.Add, sp.Mul):
        reduce = mpmath.fsum if function is sp.Add else mpmath.fprod
        return lambda *numbers: reduce(numbers)
    arguments = sp.symbols(f"x:{count}")
    return sp.lambdify(arguments, function(*arguments), modules="mpmath")


@cache
def constant(expression: sp.Expr) -> Callable[[], mpmath.mpf]:
    """Return the function whose value is a number of SymPy in mpmath's precision at the time of the call."""
    compiled = sp.lambdify((), expression, modules="mpmath")
    return lambda: mpmath.mpmathify(compiled())


def _number(expression: sp.Expr, known: dict[sp.Expr, mpmath.mpf]) -> mpmath.mpf:
    """Return an expression's number.

    `known` holds the numbers of symbols and averages, and takes those of all nodes.
    """
    if expression not in known:
        if expression.args:
            arguments = [_number(argument, known) for argument in expression.args]
            known[expression] = operation(expression.func, len(arguments))(*arguments)
        else:
            known[expression] = constant(expression)()
    return known[expression]


def _outermost_averages(expressions: Iterable[sp.Basic]) -> list[sp.Expr]:
    """Return the averages that lie in no other average, in the order in which they occur."""
    found: dict[sp.Basic, None] = {}
    visited: set[sp.Basic] = set()
    left = [*expressions]
    while left:
        node = left.pop()
        if isinstance(node, Average | Expectation):
            found[node] = None
        elif node.args and node not in visited:
            visited.add(node)
            left.extend(node.args)
    return list(found)


@cache
def coordinate_symbols(vector: VectorSymbol, dimension: int) -> tuple[sp.Symbol, ...]:
    """Return the symbols of a vector's coordinates. Their names are names in Python, too."""
    return tuple(sp.Symbol(f"{vector.name}_at_{c}", real=True) for c in range(dimension))


@cache
def span_symbols(vector: VectorSymbol, coordinates: int) -> tuple[sp.Symbol, ...]:
    """Return the symbols of a point's coordinates in the span."""
    return tuple(sp.Symbol(f"{vector.name}_in_span_{c}", real=True) for c in range(coordinates))


def squared_outside(x: VectorSymbol) -> sp.Expr:
    """Return the squared length of a lifted sample's coordinates outside the space of the means."""
    return sp.Symbol(f"{x.name}_outside", real=True) if isinstance(x, GaussianVector) and x.extra else sp.S.Zero


def _shared_pass(average: Expectation) -> tuple:
    """Return what averages must have in common to share one pass over the nodes: variables and logits."""
    return average.variables, frozenset(node.logits for node in average.integrand.atoms(Softmax))


class Average(sp.Expr):
    """The integral over x of an integrand already written in coordinates."""

    is_commutative = True

    def __new__(cls, integrand: sp.Expr, x: VectorSymbol) -> Average:
        return super().__new__(cls, integrand, x)
