"""What an abstract expression means, in numbers: the independent check of every derivation step.

Vectors become lists of coordinates in a small dimension d, expectations become sums over nodes in R^d, densities become
sums of exponentials, gradients become complex-step or coordinate derivatives. No rule of the derivation is used, only
the definitions of the nodes (a component's log density, an average), so a step is checked by giving its two sides their
meaning and comparing them to 30 digits.

Averages over a sample are products of Gauss rules whose order rises until they settle. The average under the mixture
itself is a lattice sum, the trapezoidal rule: its error is about e^{−2πδ/h} + e^{−2π²/h²} for a function analytic in a
strip of half-width δ, and the step h follows from δ, which the nearest complex zero of a mixture density sets.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import mpmath
import sympy as sp

from derive.objects.expectation import ChiSquared, Expectation, StandardNormal, evaluate, without_idle_variables
from derive.objects.mixtures import DIMENSION, LogDensity, Responsibility
from derive.objects.numeric_averages import gauss
from derive.objects.objective import LOG_PARTITION, MixtureExpectation
from derive.objects.softmax import Softmax
from derive.objects.step import Value
from derive.objects.vectors import (
    ExpectedVector,
    GaussianVector,
    Gradient,
    Inner,
    RadialSlope,
    SquaredDeviation,
    Vector,
    VectorSymbol,
)
from derive.rules.flow import Descent, OverlapRate
from derive.rules.reduction import AtLargest, CholeskyRoot
from derive.rules.slopes import LogitSlope, LogScaleSlope, ScaleRate, WeightRate

DIGITS = 34
"""Of the averages: four more than the 30 to which steps are compared."""
GUARD = 15


@dataclass(frozen=True)
class Point:
    """Numbers for every vector (tuples of `dimension` coordinates) and every scalar symbol."""

    dimension: int
    vectors: Mapping[VectorSymbol, tuple]
    scalars: Mapping[sp.Symbol, mpmath.mpf]


class Meaning:
    """Gives expressions their numbers at one point; what occurs again, as after one step and before the next, is not
    computed again."""

    def __init__(self, point: Point) -> None:
        self.point = point
        self._averages: dict[sp.Expr, mpmath.mpf] = {}
        self._values: dict[tuple, tuple] = {}

    def evaluate(self, value: Value, definitions: Mapping[sp.Symbol, Value] | None = None) -> tuple:
        """The value's coordinates (one for a scalar, d for a vector), to about 30 digits.

        definitions: what named symbols in the value stand for; they are evaluated at the same point first.
        """
        key = value, tuple((definitions or {}).items())
        if key not in self._values:
            with mpmath.workdps(DIGITS + GUARD):
                evaluation = _Evaluation(self.point, definitions or {}, self._averages)
                self._values[key] = tuple(evaluation.coordinates_of(value))
        return self._values[key]


class _Evaluation:
    def __init__(
        self, point: Point, definitions: Mapping[sp.Symbol, Value], averages: dict[sp.Expr, mpmath.mpf]
    ) -> None:
        self.point = point
        self.definitions = definitions
        self.averages = averages
        self.numbers: dict[sp.Symbol, mpmath.mpf] = dict(point.scalars)
        self.numbers[DIMENSION] = mpmath.mpf(point.dimension)
        self.numbers.setdefault(LOG_PARTITION, mpmath.mpf(0))
        for vector, coordinates in point.vectors.items():
            self.numbers.update(zip(self.symbols_of(vector), coordinates, strict=True))

    def symbols_of(self, vector: VectorSymbol) -> tuple[sp.Symbol, ...]:
        return tuple(sp.Symbol(f"{vector.name}[{c}]", real=True) for c in range(self.point.dimension))

    def coordinates_of(self, value: Value) -> list:
        if isinstance(value, Descent):
            return self._descent(value)
        if isinstance(value, OverlapRate):
            return [self._overlap_rate(value)]
        if isinstance(value, WeightRate):
            return [self._weight_rate(value)]
        if isinstance(value, ScaleRate):
            return [self._scale_rate(value)]
        if not isinstance(value, Vector):
            return self._numeric([self.scalar(value)])
        outer = [(a, c) for a, c in value if isinstance(a, Gradient)]
        inner = Vector({a: c for a, c in value if not isinstance(a, Gradient)})
        total = self._numeric(self._vector_coordinates(inner))
        for atom, coefficient in outer:
            (factor,) = self._numeric([self.scalar(coefficient)])
            total = [t + factor * g for t, g in zip(total, self._functional_gradient(*atom.args), strict=True)]
        return total

    def _descent(self, value: Descent) -> list:
        slope = self.coordinates_of(value.gradient)
        if value.manifold == "euclidean":
            return [-g for g in slope]
        mean = self.point.vectors[value.mean]
        radial = mpmath.fdot(mean, slope) / mpmath.fdot(mean, mean)
        return [radial * a - g for a, g in zip(mean, slope, strict=True)]

    def _overlap_rate(self, value: OverlapRate) -> mpmath.mpf:
        """The derivative of u(t)·v(t) by a complex step along the two velocities."""
        step = mpmath.mpc(0, _tiny_step())
        velocities = dict(value.velocities)

        def moved(vector: VectorSymbol) -> list:
            position = self.point.vectors[vector]
            if vector not in velocities:
                return list(position)
            return [x + step * v for x, v in zip(position, self.coordinates_of(velocities[vector]), strict=True)]

        u, v = value.overlap.args
        return mpmath.fsum(a * b for a, b in zip(moved(u), moved(v), strict=True)).imag / step.imag

    def _weight_rate(self, value: WeightRate) -> mpmath.mpf:
        """The derivative of softmax(θ + t dθ/dt) by a complex step in t."""
        step = _tiny_step()
        weights = self._numeric(list(value.weights))
        rates = self._numeric([self.scalar(rate) for rate in value.logit_rates])
        moved = [w * mpmath.exp(mpmath.mpc(0, step) * rate) for w, rate in zip(weights, rates, strict=True)]
        return (moved[value.component] / mpmath.fsum(moved)).imag / step

    def _scale_rate(self, value: ScaleRate) -> mpmath.mpf:
        step = _tiny_step()
        (scale,), (rate,) = self._numeric([value.scale]), self._numeric([self.scalar(value.log_rate)])
        return (scale * mpmath.exp(mpmath.mpc(0, step) * rate)).imag / step

    def _parameter_slope(self, slope: LogitSlope | LogScaleSlope) -> mpmath.mpf:
        """The functional's derivative along one softmax logit or log scale of the mixture, by a complex step."""
        functional, mixture, component = slope.args
        step = _tiny_step()
        moved = _Evaluation(self.point, self.definitions, {})
        if isinstance(slope, LogScaleSlope):
            scale = mixture.scales[int(component)]
            moved.numbers[scale] = moved.numbers[scale] * mpmath.exp(mpmath.mpc(0, step))
        else:
            own = self.numbers[mixture.weights[int(component)]]
            for j, weight in enumerate(mixture.weights):
                moved.numbers[weight] = moved.numbers[weight] * mpmath.mpc(1, step * (int(j == int(component)) - own))
        return moved._numeric([moved.scalar(functional)])[0].imag / step

    def _functional_gradient(self, functional: sp.Expr, mean: VectorSymbol) -> list:
        """Complex-step derivative of a whole functional in the coordinates of one mean, laws of the samples
        included."""
        step = _tiny_step()
        slope = []
        for symbol in self.symbols_of(mean):
            moved = _Evaluation(self.point, self.definitions, {})
            moved.numbers[symbol] = moved.numbers[symbol] + mpmath.mpc(0, step)
            slope.append(moved._numeric([moved.scalar(functional)])[0].imag / step)
        return slope

    def scalar(self, expression: sp.Expr) -> sp.Expr:
        """An expression in coordinate symbols, averages still inside it."""
        if isinstance(expression, Inner):
            u, v = (self.symbols_of(a) for a in expression.args)
            outside = _outside(expression.args[0]) if expression.args[0] == expression.args[1] else sp.S.Zero
            return sp.Add(*(a * b for a, b in zip(u, v, strict=True)), outside)
        if isinstance(expression, SquaredDeviation):
            (x,) = expression.args
            pairs = zip(self.symbols_of(x), self.symbols_of(x.mean), strict=True)
            return sp.Add(*((a - b) ** 2 for a, b in pairs), _outside(x)) / x.scale**2
        if isinstance(expression, RadialSlope):
            function, x = self.scalar(expression.args[0]), expression.args[1]
            pairs = zip(self.symbols_of(x), self.symbols_of(x.mean), strict=True)
            return sp.Add(*((a - b) * sp.diff(function, a) for a, b in pairs))
        if isinstance(expression, LogitSlope | LogScaleSlope):
            number = sp.Dummy("slope")
            self.numbers[number] = self._parameter_slope(expression)
            return number
        if isinstance(expression, CholeskyRoot):
            remainder, whole = self._numeric([self.scalar(argument) for argument in expression.args])
            root = sp.Dummy(
                "root"
            )  # vectors in few dimensions are dependent, and rounding may take the remainder below zero
            self.numbers[root] = mpmath.sqrt(max(remainder, whole * mpmath.mpf(10) ** (3 - DIGITS - GUARD)))
            return root
        if isinstance(expression, AtLargest):
            keys = self._numeric([self.scalar(key) for key in expression.keys])
            return self.scalar(expression.values[max(range(len(keys)), key=lambda n: (keys[n], -n))])
        if isinstance(expression, LogDensity):
            mixture, x = expression.args
            return sp.log(sp.Add(*(sp.exp(self.scalar(mixture.logit(j, x))) for j in range(mixture.size))))
        if isinstance(expression, Responsibility):
            weights = [
                sp.exp(self.scalar(expression.mixture.logit(j, expression.point)))
                for j in range(expression.mixture.size)
            ]
            return weights[expression.component] / sp.Add(*weights)
        if isinstance(expression, Expectation):
            if all(isinstance(v, StandardNormal | ChiSquared) for v in expression.variables):
                for symbol in expression.free_symbols & set(self.definitions):
                    self.scalar(symbol)
                return expression
            (x,) = expression.variables
            return _Average(self.scalar(expression.integrand), x)
        if isinstance(expression, MixtureExpectation):
            integrand, x, mixture = expression.args
            density = sp.Add(*(sp.exp(self.scalar(mixture.logit(j, x))) for j in range(mixture.size)))
            return _Average(density * self.scalar(integrand), x)
        if expression in self.definitions:
            (number,) = self.coordinates_of(self.definitions[expression])
            self.numbers[expression] = number
            return expression
        return expression.func(*map(self.scalar, expression.args)) if expression.args else expression

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
            return [_Average(self.scalar(factor) * c, x) for c in self._atom_coordinates(inner)]
        raise TypeError(f"no coordinates for {type(atom).__name__}")

    def _numeric(self, expressions: list[sp.Expr]) -> list:
        """Numbers for expressions in coordinate symbols; all averages over one sample share one pass over the
        lattice."""
        averages = sorted(set().union(*(e.atoms(_Average) for e in expressions)), key=sp.default_sort_key)
        known: dict[sp.Expr, sp.Symbol] = {}
        numbers = dict(self.numbers)
        new = [a for a in averages if a not in self.averages]
        for x in dict.fromkeys(a.args[1] for a in new):
            group = [a for a in new if a.args[1] == x]
            self.averages.update(zip(group, self._lattice_sums([a.args[0] for a in group], x), strict=True))
        for average in averages:
            known[average] = sp.Dummy("average")
            numbers[known[average]] = self.averages[average]
        plain = [e.xreplace(known) for e in expressions]
        nodes = sorted(set().union(*(e.atoms(Expectation) for e in plain)), key=sp.default_sort_key)
        exact = {node: self._exact(node, numbers) for node in nodes}
        for constant in (
            e for e in exact.values() if not isinstance(e, Expectation)
        ):  # coincident vectors leave nothing to average
            self.averages[constant] = constant.evalf(DIGITS + GUARD)._to_mpmath(mpmath.mp.prec)
        new = [e for e in exact.values() if e not in self.averages]
        for key in dict.fromkeys(map(_shared_pass, new)):
            group = [e for e in new if _shared_pass(e) == key]
            self.averages.update(zip(group, evaluate(group, DIGITS + 3), strict=True))
        for node in nodes:
            known[node] = sp.Dummy("average")
            numbers[known[node]] = self.averages[exact[node]]
        plain = [e.xreplace(known) for e in plain]
        symbols = sorted(set().union(*(e.free_symbols for e in plain)), key=sp.default_sort_key)
        function = sp.lambdify(symbols, plain, modules="mpmath", cse=True, dummify=True)
        return [mpmath.mpmathify(v) for v in function(*(numbers[s] for s in symbols))]

    def _exact(self, average: Expectation, numbers: Mapping[sp.Symbol, mpmath.mpf]) -> sp.Expr:
        given = average.xreplace({s: sp.Float(numbers[s], DIGITS + GUARD) for s in average.free_symbols})
        return without_idle_variables(given, DIGITS + 3) if isinstance(given, Expectation) else given

    def _lattice_sums(self, integrands: list[sp.Expr], x: VectorSymbol) -> list:
        """E over x ~ N(mean, scale² I), or the plain integral over x when x carries no law of its own."""
        bound = [*self.symbols_of(x), *([_outside(x)] if _outside(x) != 0 else [])]
        free = sorted(set().union(*(i.free_symbols for i in integrands)) - set(bound), key=sp.default_sort_key)
        compiled = _compiled((*bound, *free), tuple(integrands))
        constants = [self.numbers[s] for s in free]
        if not isinstance(x, GaussianVector):
            return self._plain_integrals(lambda *point: compiled(*point, *constants))
        (scale,) = self._numeric([x.scale])
        centre = [self.numbers[s] for s in self.symbols_of(x.mean)]

        def function(*point):
            sample = [m + scale * z for m, z in zip(centre, point, strict=False)]
            return compiled(*sample, *(scale**2 * squared for squared in point[len(centre) :]), *constants)

        return gauss(function, self.point.dimension, [mpmath.mpf(x.extra)] if x.extra else [], DIGITS + 3)

    def _plain_integrals(self, function) -> list:
        """∫ f(x) dx by the trapezoidal rule on a lattice, for f that decays like a mixture density of the point."""
        h = self._lattice_step()
        reach = mpmath.sqrt(2 * (DIGITS + 6) * mpmath.log(10)) + 2
        line = [h * n for n in range(-int(reach / h) - 1, int(reach / h) + 2)]
        totals: list = []
        for point in itertools.product(line, repeat=self.point.dimension):
            found = function(*point)
            totals = [t + f for t, f in zip(totals, found, strict=True)] if totals else list(found)
        return [h**self.point.dimension * t for t in totals]

    def _lattice_step(self) -> mpmath.mpf:
        """The h for which both error terms are below 10^−(digits + 3), from the largest separation of the point's
        vectors."""
        target = (DIGITS + 3) * mpmath.log(10)
        vectors = list(self.point.vectors.values())
        separation = max(
            mpmath.sqrt(mpmath.fsum((a - b) ** 2 for a, b in zip(u, v, strict=True))) for u in vectors for v in vectors
        )
        scales = [mpmath.mpf(1), *(v for s, v in self.point.scalars.items() if s.name.startswith("sigma"))]
        strip = mpmath.pi * min(scales) ** 2 / (max(separation, mpmath.mpf(1) / 10) * max(scales))
        return min(2 * mpmath.pi * strip / target, mpmath.pi * mpmath.sqrt(2 / target) * min(scales) / max(scales))


@lru_cache(maxsize=256)
def _compiled(symbols: tuple[sp.Symbol, ...], expressions: tuple[sp.Expr, ...]) -> Callable[..., list]:
    """Kept, since a complex step in each coordinate and each point give the same expressions other numbers."""
    return sp.lambdify(symbols, list(expressions), modules="mpmath", cse=True, dummify=True)


def _tiny_step() -> mpmath.mpf:
    return mpmath.mpf(10) ** (-2 * (DIGITS + GUARD))


def _outside(x: VectorSymbol) -> sp.Expr:
    """The squared length of a lifted sample's coordinates outside the space of the means."""
    return sp.Symbol(f"{x.name}[outside]", real=True) if isinstance(x, GaussianVector) and x.extra else sp.S.Zero


def _shared_pass(average: Expectation) -> tuple:
    """What averages have in common that one pass over the nodes can evaluate: variables and logits."""
    return average.variables, frozenset(node.logits for node in average.integrand.atoms(Softmax))


class _Average(sp.Expr):
    """The integral over x of an integrand already written in coordinates."""

    is_commutative = True

    def __new__(cls, integrand: sp.Expr, x: VectorSymbol) -> _Average:
        return super().__new__(cls, integrand, x)
