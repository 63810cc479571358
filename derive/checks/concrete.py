"""The meaning of an abstract expression in numbers: the independent check of every derivation step.

Vectors become lists of coordinates in a small dimension d, expectations become sums over nodes in R^d, densities become
sums of exponentials, and gradients become complex-step or coordinate derivatives. The code uses no rule of the
derivation, only the definitions of the nodes (a component's log density, an average). A step is checked by evaluating
both of its sides in this way and comparing them to 30 digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import mpmath
import sympy as sp

from derive.checks.coordinate_numbers import (
    DIGITS,
    GUARD,
    Average,
    CoordinateNumbers,
    Point,
    coordinate_symbols,
    span_symbols,
    squared_outside,
)
from derive.objects.expectation import ChiSquared, Expectation, StandardNormal
from derive.objects.mixtures import LogDensity, Mixture, Responsibility
from derive.objects.objective import MixtureExpectation
from derive.objects.spans import SpanDeviation, SpanLaw, SpanLogDensity, SpanScore, SpanSlope
from derive.objects.step import Value
from derive.objects.vectors import (
    ExpectedVector,
    Gradient,
    Inner,
    RadialSlope,
    SquaredDeviation,
    Vector,
    VectorSymbol,
)
from derive.rules.coordinates import ParameterRate, Slope
from derive.rules.flow import Descent, OverlapRate, SpannedDescent
from derive.rules.reduction import AtLargest, CholeskyRoot
from derive.rules.spans import CovarianceRate, CovarianceSlope, SpanMeanSlope


class Meaning:
    """The numbers of expressions at one point.

    A value or an average that occurs again is not computed again: the side after one step is the side before the next.
    """

    def __init__(self, point: Point) -> None:
        self.point = point
        self._averages: dict[sp.Expr, mpmath.mpf] = {}
        self._values: dict[tuple, tuple] = {}

    def evaluate(self, value: Value, definitions: Mapping[sp.Symbol, Value] | None = None) -> tuple:
        """Return the value's coordinates (one for a scalar, d for a vector), to about 30 digits.

        `definitions` tells what named symbols in the value stand for; they are evaluated at the same point first.
        """
        key = value, tuple((definitions or {}).items())
        if key not in self._values:
            with mpmath.workdps(DIGITS + GUARD):
                evaluation = _Evaluation(self.point, definitions or {}, self._averages)
                self._values[key] = tuple(evaluation.coordinates_of(value))
        return self._values[key]


class _Evaluation(CoordinateNumbers):
    """One evaluation at a point, with the numbers that are known so far."""

    def __init__(
        self, point: Point, definitions: Mapping[sp.Symbol, Value], averages: dict[sp.Expr, mpmath.mpf]
    ) -> None:
        super().__init__(point, averages)
        self.definitions = definitions
        self.defined: set[sp.Symbol] = set()

    def coordinates_of(self, value: Value) -> list:
        if isinstance(value, Descent):
            return self._descent(value)
        if isinstance(value, OverlapRate):
            return [self._overlap_rate(value)]
        if isinstance(value, ParameterRate):
            return [self._parameter_rate(value)]
        if isinstance(value, SpannedDescent):
            return self._spanned_descent(value)
        if isinstance(value, CovarianceRate):
            return [self._covariance_rate(value)]
        if not isinstance(value, Vector):
            return self.numeric([self.scalar(value)])
        outer = [(a, c) for a, c in value if isinstance(a, Gradient)]
        inner = Vector({a: c for a, c in value if not isinstance(a, Gradient)})
        total = self.numeric(self._vector_coordinates(inner))
        for atom, coefficient in outer:
            (factor,) = self.numeric([self.scalar(coefficient)])
            total = [t + factor * g for t, g in zip(total, self._functional_gradient(*atom.args), strict=True)]
        return total

    def _descent(self, value: Descent) -> list:
        slope = self.coordinates_of(value.gradient)
        if value.manifold == "euclidean":
            return [-g for g in slope]
        mean = self.point.vectors[value.mean]
        radial = mpmath.fdot(mean, slope) / mpmath.fdot(mean, mean)
        return [radial * a - g for a, g in zip(mean, slope, strict=True)]

    def _spanned_descent(self, value: SpannedDescent) -> list:
        """−∇𝓛 of the whole mean, less its part along the mean on the sphere; the coordinate or the part outside."""
        slope = [*self.numeric([self.scalar(s) for s in value.within]), *self.coordinates_of(value.outside)]
        mean = [*self.numeric([self.scalar(x) for x in value.position]), *self.point.vectors[value.mean]]
        along = mpmath.fdot(mean, slope) / mpmath.fdot(mean, mean) if value.manifold == "sphere" else mpmath.mpf(0)
        velocity = [along * x - g for x, g in zip(mean, slope, strict=True)]
        r = len(value.position)
        return velocity[r:] if value.coordinate is None else [velocity[value.coordinate - 1]]

    def _covariance_rate(self, value: CovarianceRate) -> mpmath.mpf:
        size = len(value.covariance)
        flat = [entry for rows in (value.slopes, value.covariance) for row in rows for entry in row]
        numbers = self.numeric([self.scalar(entry) for entry in flat])
        slope, sigma = (mpmath.matrix(size, size) for _ in range(2))
        for n in range(size):
            for m in range(size):
                slope[n, m], sigma[n, m] = numbers[n * size + m], numbers[size * size + n * size + m]
        products = sigma * slope, slope * sigma
        rate = -4 * products[0] * sigma if value.metric == "log" else -2 * (products[0] + products[1])
        return rate[value.row - 1, value.column - 1]

    def _slope_in_span(self, functional: sp.Expr, moved: Mapping[sp.Symbol, int]) -> mpmath.mpf:
        """Differentiate a functional along some scalar symbols at once, by a complex step."""
        step = _tiny_step()
        other = _Evaluation(self.point, self.definitions, {})
        for symbol, times in moved.items():
            other.numbers[symbol] += mpmath.mpc(0, times * step)
        return other.numeric([other.scalar(functional)])[0].imag / step

    def _overlap_rate(self, value: OverlapRate) -> mpmath.mpf:
        """Differentiate u(t)·v(t) by a complex step along the two velocities."""
        step = mpmath.mpc(0, _tiny_step())
        velocities = dict(value.velocity)

        def moved(vector: VectorSymbol) -> list:
            position = self.point.vectors[vector]
            if vector not in velocities:
                return list(position)
            return [x + step * v for x, v in zip(position, self.coordinates_of(velocities[vector]), strict=True)]

        def moved_within(pair: tuple) -> list:
            position, rates = (self.numeric([self.scalar(x) for x in part]) for part in pair)
            return [x + step * v for x, v in zip(position, rates, strict=True)]

        ends = [moved(u) for u in value.overlap.args]
        if value.within is not None:
            ends = [[*within, *end] for within, end in zip(map(moved_within, value.within), ends, strict=True)]
        return mpmath.fsum(a * b for a, b in zip(*ends, strict=True)).imag / step.imag

    def _parameter_rate(self, value: ParameterRate) -> mpmath.mpf:
        """Differentiate the parameter, such as softmax(θ + t dθ/dt), by a complex step in t."""
        step = _tiny_step()
        rates = self.numeric([self.scalar(rate) for rate in value.rates])
        by = [mpmath.mpc(0, step) * rate for rate in rates]
        moved = value.slope.moved(self.numeric(list(value.symbols)), by)
        return moved[value.component].imag / step

    def _parameter_slope(self, slope: Slope) -> mpmath.mpf:
        """Differentiate the functional along one coordinate of a parameter of the mixture, by a complex step."""
        functional, mixture, component = slope.args
        step, symbols = _tiny_step(), slope.symbols(mixture)
        by = [mpmath.mpc(0, step * int(j == component)) for j in range(len(symbols))]
        moved = _Evaluation(self.point, self.definitions, {})
        numbers = slope.moved([self.numbers[symbol] for symbol in symbols], by)
        moved.numbers.update(zip(symbols, numbers, strict=True))
        return moved.numeric([moved.scalar(functional)])[0].imag / step

    def _functional_gradient(self, functional: sp.Expr, mean: VectorSymbol) -> list:
        """Differentiate a whole functional, the laws of its samples included, in the coordinates of one mean."""
        step = _tiny_step()
        slope = []
        for symbol in self.symbols_of(mean):
            moved = _Evaluation(self.point, self.definitions, {})
            moved.numbers[symbol] = moved.numbers[symbol] + mpmath.mpc(0, step)
            slope.append(moved.numeric([moved.scalar(functional)])[0].imag / step)
        return slope

    def scalar(self, expression: sp.Expr) -> sp.Expr:
        """Return an expression in coordinate symbols, with averages still inside it."""
        if isinstance(expression, Inner):
            return _inner_product(expression, self.point.dimension)
        if isinstance(expression, SquaredDeviation):
            (x,) = expression.args
            pairs = zip(self.symbols_of(x), self.symbols_of(x.mean), strict=True)
            return sp.Add(*((a - b) ** 2 for a, b in pairs), squared_outside(x)) / x.scale**2
        if isinstance(expression, RadialSlope):
            function, x = self.scalar(expression.args[0]), expression.args[1]
            pairs = zip(self.symbols_of(x), self.symbols_of(x.mean), strict=True)
            return sp.Add(*((a - b) * sp.diff(function, a) for a, b in pairs))
        if isinstance(expression, Slope):
            return self._known(self._parameter_slope(expression))
        if isinstance(expression, SpanMeanSlope):
            functional, mixture, i, n = expression.args
            return self._known(self._slope_in_span(functional, {mixture.span[int(i) - 1].mean[int(n) - 1]: 1}))
        if isinstance(expression, CovarianceSlope):
            functional, mixture, i, n, m = expression.args
            entry = mixture.span[int(i) - 1].covariance[int(n) - 1, int(m) - 1]
            # One symbol stands for two entries off the diagonal; the symmetric gradient has half its derivative.
            return self._known(self._slope_in_span(functional, {entry: 1}) / (1 if n == m else 2))
        if isinstance(expression, SpanLogDensity):
            mixture, j, x = expression.args
            return span_log_density(mixture.span[int(j)], self.span_symbols_of(x))
        if isinstance(expression, SpanScore):
            mixture, j, x, n = expression.args
            symbols = self.span_symbols_of(x)
            return sp.diff(span_log_density(mixture.span[int(j)], symbols), symbols[int(n) - 1])
        if isinstance(expression, SpanDeviation):
            x, n = expression.args
            return self.span_symbols_of(x)[int(n) - 1] - x.span.mean[int(n) - 1]
        if isinstance(expression, SpanSlope):
            function, x, n = expression.args
            return sp.diff(self.scalar(function), self.span_symbols_of(x)[int(n) - 1])
        if isinstance(expression, CholeskyRoot):
            remainder, whole = self.numeric([self.scalar(argument) for argument in expression.args])
            root = sp.Dummy("root")
            # Vectors in few dimensions are dependent, and rounding may take the remainder below zero.
            self.numbers[root] = mpmath.sqrt(max(remainder, whole * mpmath.mpf(10) ** (3 - DIGITS - GUARD)))
            return root
        if isinstance(expression, AtLargest):
            keys = self.numeric([self.scalar(key) for key in expression.keys])
            return self.scalar(expression.values[max(range(len(keys)), key=lambda n: (keys[n], -n))])
        if isinstance(expression, LogDensity):
            mixture, x = expression.args
            return sp.log(sp.Add(*_weighted_densities(mixture, x, self.point.dimension)))
        if isinstance(expression, Responsibility):
            weights = _weighted_densities(expression.mixture, expression.point, self.point.dimension)
            return weights[expression.component] / sp.Add(*weights)
        if isinstance(expression, Expectation):
            if all(isinstance(v, StandardNormal | ChiSquared) for v in expression.variables):
                for symbol in expression.free_symbols & set(self.definitions):
                    self.scalar(symbol)
                return expression
            (x,) = expression.variables
            return Average(self.scalar(expression.integrand), x)
        if isinstance(expression, MixtureExpectation):
            integrand, x, mixture = expression.args
            density = sp.Add(*_weighted_densities(mixture, x, self.point.dimension))
            return Average(density * self.scalar(integrand), x)
        if expression in self.definitions:
            if expression not in self.defined:
                (self.numbers[expression],) = self.coordinates_of(self.definitions[expression])
                self.defined.add(expression)
            return expression
        arguments = [self.scalar(argument) for argument in expression.args]
        unchanged = all(new is old for new, old in zip(arguments, expression.args, strict=True))
        return expression if unchanged else expression.func(*arguments)

    def _known(self, number: mpmath.mpf) -> sp.Expr:
        """A symbol with this number."""
        symbol = sp.Dummy("slope")
        self.numbers[symbol] = number
        return symbol

    def _vector_coordinates(self, vector: Vector) -> list[sp.Expr]:
        total: list[sp.Expr] = [sp.S.Zero] * self.point.dimension
        for atom, coefficient in vector:
            outer = self.scalar(coefficient)
            total = [t + outer * a for t, a in zip(total, self._atom_coordinates(atom), strict=True)]
        return total

    def _atom_coordinates(self, atom: sp.Basic) -> Sequence[sp.Expr]:
        if isinstance(atom, VectorSymbol):
            return self.symbols_of(atom)
        if isinstance(atom, Gradient):
            function = self.scalar(atom.args[0])
            return [sp.diff(function, symbol) for symbol in self.symbols_of(atom.args[1])]
        if isinstance(atom, ExpectedVector):
            factor, inner, x = atom.args
            return [Average(self.scalar(factor) * c, x) for c in self._atom_coordinates(inner)]
        raise TypeError(f"no coordinates for {type(atom).__name__}")


def _inner_product(node: Inner, dimension: int) -> sp.Expr:
    u, v = node.args
    products = (a * b for a, b in zip(coordinate_symbols(u, dimension), coordinate_symbols(v, dimension), strict=True))
    return sp.Add(*products, squared_outside(u) if u == v else sp.S.Zero)


@lru_cache(maxsize=256)
def _weighted_densities(mixture: Mixture, x: VectorSymbol, dimension: int) -> tuple[sp.Expr, ...]:
    """Return w_j N_j(x) of each component in coordinate symbols."""
    logits = [mixture.logit(j, x) for j in range(mixture.size)]
    in_coordinates = {node: _inner_product(node, dimension) for logit in logits for node in logit.atoms(Inner)}
    if mixture.span:
        place = span_symbols(x, mixture.span[0].size)
        in_coordinates |= {
            SpanLogDensity(mixture, j, x): span_log_density(law, place) for j, law in enumerate(mixture.span)
        }
    return tuple(sp.exp(logit.xreplace(in_coordinates)) for logit in logits)


def span_log_density(law: SpanLaw, place: Sequence[sp.Expr]) -> sp.Expr:
    """Return log N(place; X, Σ), written out in the entries of Σ."""
    away = sp.Matrix([x - m for x, m in zip(place, law.mean, strict=True)])
    determinant = law.covariance.det()
    form = (away.T * law.covariance.adjugate() * away)[0] / determinant
    return -form / 2 - sp.log(determinant) / 2 - law.size * sp.log(2 * sp.pi) / 2


def _tiny_step() -> mpmath.mpf:
    return mpmath.mpf(10) ** (-2 * (DIGITS + GUARD))
