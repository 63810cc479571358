"""The coordinates along which the flow descends: means, softmax logits θ and log scales τ, in index notation.

A slope of the objective is first an unevaluated node, which a rule then differentiates; so is the rate of a parameter,
before the chain rule. For w = softmax(θ), and for x = a_i + σ_i z with σ_i = e^{τ_i},

    ∂w_j/∂θ_i = w_j (δ_ij − w_i),    ∂σ_j/∂τ_i = δ_ij σ_j,    ∂x_j/∂σ_j = (x_j − a_j)/σ_j.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import mpmath
import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from derive.objects.indices import Entry, Sum, VectorEntry, fresh, total
from derive.objects.mixtures import PROPOSAL, Average, LogDensity, Mixture, Responsibility
from derive.objects.parameters import SCALES, WEIGHTS, Parameter
from derive.objects.vectors import Gradient, RadialSlope


class Slope(sp.Expr):
    """The unevaluated derivative of a functional by a coordinate of one component; a number `component` counts from 0.

    A subclass names the parameter and its coordinates. The coordinates are logarithms, σ_i = e^{τ_i}, unless the
    subclass says otherwise.
    """

    is_commutative = True
    is_real = True
    parameter: Parameter
    letter: str  # the coordinates', in plain text; its LaTeX has a backslash before it
    jacobian: str  # what depends on the coordinates, in words

    def __new__(cls, functional: sp.Expr, mixture: Any, component: Any) -> Self:
        return super().__new__(cls, functional, mixture, sp.sympify(component, strict=True))

    @classmethod
    def symbols(cls, mixture: Mixture) -> Sequence[sp.Symbol]:
        """The parameter's symbols in a mixture of given components."""
        return tuple(getattr(mixture, cls.parameter.name))

    @classmethod
    def of_entry(cls, entry: Entry, i: sp.Expr) -> sp.Expr:
        """The derivative of the parameter of one component by the coordinate i: δ_ij σ_j."""
        return sp.KroneckerDelta(i, *entry.indices) * entry

    @classmethod
    def along(cls, expression: sp.Expr, i: sp.Expr) -> sp.Expr:
        """The derivative of an expression by the coordinate i, at fixed samples."""
        entries = [e for e in expression.atoms(Entry) if e.family == cls.parameter.letter]
        return sp.Add(*(sp.diff(expression, e) * cls.of_entry(e, i) for e in sorted(entries, key=sp.default_sort_key)))

    @classmethod
    def rate(cls, i: sp.Expr, rate: sp.Expr) -> sp.Expr:
        """The rate of a parameter by the chain rule, from the rate of coordinate i: σ_i dτ_i/dt."""
        return sp.expand(Entry(cls.parameter.letter, i) * rate)

    @classmethod
    def moved(cls, numbers: list[Any], by: list[Any]) -> list[Any]:
        """The parameter's numbers once its coordinates have moved; checks know the coordinates from here alone."""
        return [x * mpmath.exp(y) for x, y in zip(numbers, by, strict=True)]

    @classmethod
    def written(cls, component: object) -> str:
        """LaTeX of the parameter of one component in its coordinates, as it stands behind d/dt."""
        return rf" e^{{\{cls.letter}_{{{component}}}}}"

    def _component(self) -> sp.Expr:
        return self.args[2] + int(isinstance(self.args[1], Mixture))

    def _latex(self, printer: LatexPrinter) -> str:
        return rf"\partial_{{\{self.letter}_{{{self._component()}}}}}\left[{printer.doprint(self.args[0])}\right]"

    def _sympystr(self, printer: StrPrinter) -> str:
        return f"d/d{self.letter}_{self._component()}[{printer.doprint(self.args[0])}]"


class LogScaleSlope(Slope):
    """∂functional/∂τ_i where the mixture's scales are e^τ."""

    parameter, letter, jacobian = SCALES, "tau", "∂x_j/∂τ_i = δ_ij (x_j − a_j)"


class LogitSlope(Slope):
    """∂functional/∂θ_i where the mixture's weights are softmax(θ)."""

    parameter, letter, jacobian = WEIGHTS, "theta", "∂w_j/∂θ_i = w_j (δ_ij − w_i)"

    @classmethod
    def of_entry(cls, entry: Entry, i: sp.Expr) -> sp.Expr:
        """w_j (δ_ij − w_i)."""
        return entry * (sp.KroneckerDelta(i, *entry.indices) - Entry(entry.family, i))

    @classmethod
    def rate(cls, i: sp.Expr, rate: sp.Expr) -> sp.Expr:
        """w_i (dθ_i/dt − Σ_j w_j dθ_j/dt)."""
        j = fresh(PROPOSAL.size, rate)
        mean = Sum(PROPOSAL.weight(j) * rate.xreplace({i: j}), j)
        return PROPOSAL.weight(i) * (rate - mean)

    @classmethod
    def moved(cls, numbers: list[Any], by: list[Any]) -> list[Any]:
        exponentials = super().moved(numbers, by)
        return [x / mpmath.fsum(exponentials) for x in exponentials]

    @classmethod
    def written(cls, component: object) -> str:
        return rf"\operatorname{{softmax}}_{{{component}}}(\{cls.letter})"


@dataclass(frozen=True, repr=False)
class ParameterRate:
    """The rate of a parameter of one component before the chain rule.

    Attributes
    ----------
    slope : type of Slope
        The parameter with its coordinates.
    component : Index or int
        The component; a number counts from 0.
    rates : sympy.Expr or tuple of sympy.Expr
        The rate of that coordinate in index notation, or the rates of all coordinates.
    symbols : tuple of sympy.Symbol
        The parameter of every component; empty in index notation.
    """

    slope: type[Slope]
    component: Any
    rates: Any
    symbols: tuple[sp.Symbol, ...] = ()

    def __repr__(self) -> str:
        return f"d/dt {self.slope.parameter.name[:-1]}({self.slope.letter}, {self._number()}, rate={self.rates})"

    def latex(self) -> str:
        return rf"\frac{{d}}{{dt}}{self.slope.written(self._number())}"

    def _number(self) -> Any:
        return self.component + 1 if self.symbols else self.component

    def by_chain_rule(self) -> sp.Expr:
        return self.slope.rate(self.component, self.rates)


def mean_slope(objective: sp.Expr, mean: VectorEntry) -> tuple[sp.Expr, sp.Expr]:
    """The gradient of the objective by a mean, from x_j = a_j + σ_j z and differentiation under the integral.

    Returns two parts: the part through the sample (∇_x of the integrand), and the part through the integrand's own
    dependence on the mean at fixed x.
    """

    def moves(average: Average) -> sp.Expr:
        x = average.sample
        same = sp.KroneckerDelta(*mean.indices, x.component) if x.mixture == PROPOSAL else 0
        return same * Average(Gradient(average.integrand, x), x)

    through = over_averages(objective, lambda weight, average: weight * moves(average))
    explicit = over_averages(
        objective, lambda weight, average: weight * Average(Gradient(average.integrand, mean), average.sample)
    )
    return through, explicit


def parameter_slope(slope: type[Slope], objective: sp.Expr, i: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """A slope of Σ_j w_j E_{x_j}[f]: the part through the weights and the samples, and the part through log q in f.

    The samples are x_j = a_j + σ_j z, so their scales move them along x_j − a_j.
    """

    def moves(weight: sp.Expr, average: Average) -> sp.Expr:
        x = average.sample
        stretch = slope.along(x.scale, i) / x.scale
        return slope.along(weight, i) * average + weight * stretch * Average(RadialSlope(average.integrand, x), x)

    def inside(weight: sp.Expr, average: Average) -> sp.Expr:
        x, f = average.sample, average.integrand
        logs = sorted(f.atoms(LogDensity), key=sp.default_sort_key)
        parts = (f.coeff(log) * of_log_density(log, lambda e: slope.along(e, i)) for log in logs)
        return weight * Average(sp.Add(*parts), x)

    return over_averages(objective, moves), over_averages(objective, inside)


def of_log_density(log: LogDensity, derivative: Callable[[sp.Expr], sp.Expr]) -> sp.Expr:
    """Σ_j ρ_j ∂logit_j, the derivative by a parameter of the mixture; `derivative` differentiates one logit."""
    mixture, x = log.args
    j = fresh(mixture.size, x)
    return total(Responsibility(mixture, j, x) * derivative(mixture.logit(j, x)), j)


def over_averages(objective: sp.Expr, rule: Callable[[sp.Expr, Average], sp.Expr]) -> sp.Expr:
    """Σ_j of `rule(w_j, E_j[f])` for every sum Σ_j w_j E_j[f] of the objective."""
    return sp.Add(
        *(constant * total(rule(weight, mean), index) for constant, weight, mean, index in _averages_in(objective))
    )


def _averages_in(objective: sp.Expr) -> Iterator[tuple]:
    for term in sp.Add.make_args(objective):
        constant, node = term.as_independent(Sum, as_Add=False)
        if isinstance(node, Sum):
            weight, mean = node.term.as_independent(Average, as_Add=False)
            yield constant, weight, mean, node.index
