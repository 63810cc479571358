"""The objective's slopes along the coordinates of a learned parameter, such as softmax logits θ and log scales τ.

A slope is first an unevaluated node, which a rule then differentiates; so is the rate of a parameter, before the chain
rule. For w = softmax(θ), and for x = a_i + σ_i z with σ_i = e^{τ_i},

    ∂w_j/∂θ_i = w_j (δ_ij − w_i),    ∂σ_i/∂τ_i = σ_i,    ∂x/∂σ_i = (x − a_i)/σ_i.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import mpmath
import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from derive.objects.expectation import Expectation
from derive.objects.mixtures import LogDensity, Mixture, Responsibility
from derive.objects.notation import first_index
from derive.objects.parameters import SCALES, WEIGHTS, Parameter
from derive.objects.vectors import GaussianVector, RadialSlope, Vector, VectorSymbol, gradient
from derive.rules.gradient_rules import average, exchange_responsibilities, second_moments

Symbols = Sequence[sp.Symbol]


class Slope(sp.Expr):
    """The unevaluated derivative of a functional by a coordinate of one component; `component` counts from 0.

    A subclass names the parameter and its coordinates. The coordinates are logarithms, σ_i = e^{τ_i}, unless the
    subclass says otherwise.
    """

    is_commutative = True
    is_real = True
    parameter: Parameter
    letter: str  # the coordinates', in plain text; its LaTeX has a backslash before it

    def __new__(cls, functional: sp.Expr, mixture: Mixture, component: int) -> Self:
        return super().__new__(cls, functional, mixture, sp.Integer(component))

    @classmethod
    def symbols(cls, mixture: Mixture) -> Symbols:
        """The parameter's symbols in a mixture."""
        return tuple(getattr(mixture, cls.parameter.name))

    @classmethod
    def along(cls, expression: sp.Expr, symbols: Symbols, component: int) -> sp.Expr:
        """The derivative of an expression in the symbols by one coordinate, σ_i ∂/∂σ_i."""
        return symbols[component] * sp.diff(expression, symbols[component])

    @classmethod
    def rate(cls, symbols: Symbols, component: int, rates: Sequence[sp.Expr]) -> sp.Expr:
        """The rate of one symbol by the chain rule, from the rates of all coordinates: σ_i dτ_i/dt."""
        return symbols[component] * rates[component]

    @classmethod
    def moved(cls, numbers: list[Any], by: list[Any]) -> list[Any]:
        """The parameter's numbers once its coordinates have moved; checks know the coordinates from here alone."""
        return [x * mpmath.exp(y) for x, y in zip(numbers, by, strict=True)]

    @classmethod
    def written(cls, component: int) -> str:
        """LaTeX of the parameter of one component in its coordinates, as it stands behind d/dt."""
        return rf" e^{{\{cls.letter}_{{{component + 1}}}}}"

    @classmethod
    def plain(cls, symbols: Symbols, component: int, rates: Sequence[sp.Expr]) -> str:
        """The rate before the chain rule in plain text."""
        name = cls.parameter.name[:-1]
        return f"{name.title()}Rate({name}={symbols[component]}, component={component}, log_rate={rates[component]})"

    def _latex(self, printer: LatexPrinter) -> str:
        return rf"\partial_{{\{self.letter}_{{{self.args[2] + 1}}}}}\left[{printer.doprint(self.args[0])}\right]"

    def _sympystr(self, printer: StrPrinter) -> str:
        return f"d/d{self.letter}_{self.args[2] + 1}[{printer.doprint(self.args[0])}]"


class LogScaleSlope(Slope):
    """∂functional/∂τ_i where the mixture's scales are e^τ."""

    parameter, letter = SCALES, "tau"


class LogitSlope(Slope):
    """∂functional/∂θ_i where the mixture's weights are softmax(θ)."""

    parameter, letter = WEIGHTS, "theta"

    @classmethod
    def along(cls, expression: sp.Expr, symbols: Symbols, component: int) -> sp.Expr:
        """Σ_j w_j (δ_ij − w_i) ∂/∂w_j."""
        own = symbols[component]
        return sp.expand(
            sp.Add(*(w * (int(j == component) - own) * sp.diff(expression, w) for j, w in enumerate(symbols)))
        )

    @classmethod
    def rate(cls, symbols: Symbols, component: int, rates: Sequence[sp.Expr]) -> sp.Expr:
        """w_i (dθ_i/dt − Σ_j w_j dθ_j/dt)."""
        mean = sp.Add(*(w * rate for w, rate in zip(symbols, rates, strict=True)))
        return symbols[component] * (rates[component] - mean)

    @classmethod
    def moved(cls, numbers: list[Any], by: list[Any]) -> list[Any]:
        exponentials = super().moved(numbers, by)
        return [x / mpmath.fsum(exponentials) for x in exponentials]

    @classmethod
    def written(cls, component: int) -> str:
        return rf"\operatorname{{softmax}}_{{{component + 1}}}(\{cls.letter})"

    @classmethod
    def plain(cls, symbols: Symbols, component: int, rates: Sequence[sp.Expr]) -> str:
        return f"WeightRate(weights={symbols}, component={component}, logit_rates={rates})"


@dataclass(frozen=True, repr=False)
class ParameterRate:
    """The rate of a parameter of one component before the chain rule.

    Attributes
    ----------
    slope : type of Slope
        The parameter with its coordinates.
    symbols : tuple of sympy.Symbol
        The parameter of every component.
    component : int
        The component, counted from 0.
    rates : tuple of sympy.Expr
        The coordinates' rates, one for every component.
    """

    slope: type[Slope]
    symbols: tuple[sp.Symbol, ...]
    component: int
    rates: tuple[sp.Expr, ...]

    def __repr__(self) -> str:
        return self.slope.plain(self.symbols, self.component, self.rates)

    def latex(self) -> str:
        return rf"\frac{{d}}{{dt}}{self.slope.written(self.component)}"

    def by_chain_rule(self) -> sp.Expr:
        return self.slope.rate(self.symbols, self.component, self.rates)


def parameter_slope(slope: type[Slope], expanded: sp.Expr, mixture: Mixture, component: int) -> tuple[sp.Expr, sp.Expr]:
    """A slope of Σ_j w_j E_{x_j}[f]: the part through the weights and the samples, and the part through log q in f.

    The samples are x_j = a_j + σ_j z, so their scales move them along x_j − a_j.
    """
    symbols = slope.symbols(mixture)

    def along(expression: sp.Expr) -> sp.Expr:
        return slope.along(expression, symbols, component)

    through, explicit = sp.S.Zero, sp.S.Zero
    for weight, mean in component_averages(expanded):
        (x,) = mean.variables
        stretched = weight * along(x.scale) / x.scale
        through += along(weight) * mean
        if stretched != 0:
            through += stretched * Expectation(RadialSlope(mean.integrand, x), x)
        explicit += weight * _explicit(mean, along, mixture)
    return through, explicit


def radial_scores(expression: sp.Expr) -> sp.Expr:
    """The expression with every (x − a)·∇f carried out as responsibilities times (x − a)·(mean − x)/σ²."""

    def carried_out(node: RadialSlope) -> sp.Expr:
        scalar, x = node.args
        return gradient(scalar, x).dot(Vector({x: sp.S.One, x.mean: sp.S.NegativeOne}))

    def scored(average: Expectation) -> sp.Expr:
        nodes = {node: carried_out(node) for node in average.integrand.atoms(RadialSlope)}
        return Expectation(average.integrand.xreplace(nodes), *average.variables)

    return expression.xreplace({e: scored(e) for e in expression.atoms(Expectation)})


def logs_of_responsibilities(expression: sp.Expr, proposal: Mixture) -> sp.Expr:
    """The expression with log p(x) = log(w_c N_c(x)) − log ρ_c(x) and with E‖x − ν‖² carried out.

    The component c is the sample's own for the proposal, and the last mode for the target.
    """

    def taken_apart(node: Expectation) -> sp.Expr:
        (x,) = node.variables
        apart = {log: _log_of_one_component(log.args[0], x, proposal) for log in node.integrand.atoms(LogDensity)}
        return average(sp.expand(node.integrand.xreplace(apart)), x)

    return second_moments(expression.xreplace({e: taken_apart(e) for e in expression.atoms(Expectation)}))


def _log_of_one_component(mixture: Mixture, x: GaussianVector, proposal: Mixture) -> sp.Expr:
    c = list(mixture.means).index(x.mean) if mixture == proposal else mixture.size - 1
    return mixture.logit(c, x) - sp.log(Responsibility(mixture, c, x))


def component_averages(expanded: sp.Expr) -> list[tuple[sp.Expr, Expectation]]:
    """The pairs (w_j, E_{x_j}[f]) of an average under a mixture, in the order of the components."""
    terms = (term.as_independent(Expectation, as_Add=False) for term in sp.Add.make_args(expanded))
    found = ((weight, mean) for weight, mean in terms if mean != 1)
    return sorted(found, key=lambda pair: int(first_index(pair[1].variables[0].name)))


def _explicit(mean: Expectation, derivative: Callable[[sp.Expr], sp.Expr], mixture: Mixture) -> sp.Expr:
    """E_x of the derivative of log q at a fixed sample. The target's log density does not depend on q's parameters."""
    (x,) = mean.variables
    own = [log for log in mean.integrand.atoms(LogDensity) if log.args[0] == mixture]
    return average(sp.Add(*(mean.integrand.coeff(log) * log.parameter_derivative(derivative) for log in own)), x)


def exchanged(expression: sp.Expr, proposal: Mixture, samples: tuple[GaussianVector, ...]) -> sp.Expr:
    """Σ_j w_j E_{x_j}[ρ_i(x_j) f(x_j)] = w_i E_{x_i}[f(x_i)] for scalars: the vector rule on a unit vector."""
    unit = VectorSymbol("unit")
    return exchange_responsibilities(Vector({unit: expression}), proposal, samples).coefficient(unit)
