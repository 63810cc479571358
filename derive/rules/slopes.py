"""The objective's slopes along the proposal's softmax logits θ and log scales τ.

A slope is first an unevaluated node, which a rule then differentiates. For w = softmax(θ), and for x = a_i + σ_i z with
σ_i = e^{τ_i},

    ∂w_j/∂θ_i = w_j (δ_ij − w_i),    ∂x/∂τ_i = x − a_i.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from derive.objects.expectation import Expectation
from derive.objects.mixtures import LogDensity, Mixture, Responsibility
from derive.objects.notation import first_index
from derive.objects.vectors import GaussianVector, RadialSlope, Vector, VectorSymbol, gradient
from derive.rules.gradient_rules import average, exchange_responsibilities, second_moments


class _Slope(sp.Expr):
    """The unevaluated derivative of a functional by a parameter of one component; `component` counts from 0."""

    is_commutative = True
    is_real = True
    parameter: str  # in plain text; its LaTeX has a backslash before it

    def __new__(cls, functional: sp.Expr, mixture: Mixture, component: int) -> Self:
        return super().__new__(cls, functional, mixture, sp.Integer(component))

    def _latex(self, printer: LatexPrinter) -> str:
        return rf"\partial_{{\{self.parameter}_{{{self.args[2] + 1}}}}}\left[{printer.doprint(self.args[0])}\right]"

    def _sympystr(self, printer: StrPrinter) -> str:
        return f"d/d{self.parameter}_{self.args[2] + 1}[{printer.doprint(self.args[0])}]"


class LogitSlope(_Slope):
    """∂functional/∂θ_i where the mixture's weights are softmax(θ)."""

    parameter = "theta"


class LogScaleSlope(_Slope):
    """∂functional/∂τ_i where the mixture's scales are e^τ."""

    parameter = "tau"


@dataclass(frozen=True)
class WeightRate:
    """dw_i/dt of w = softmax(θ) before the chain rule.

    Attributes
    ----------
    weights : tuple of sympy.Symbol
        The weights w.
    component : int
        i, counted from 0.
    logit_rates : tuple of sympy.Expr
        dθ_j/dt for every component j.
    """

    weights: tuple[sp.Symbol, ...]
    component: int
    logit_rates: tuple[sp.Expr, ...]

    def latex(self) -> str:
        return rf"\frac{{d}}{{dt}}\operatorname{{softmax}}_{{{self.component + 1}}}(\theta)"

    def by_chain_rule(self) -> sp.Expr:
        """The rate w_i (dθ_i/dt − Σ_j w_j dθ_j/dt)."""
        mean = sp.Add(*(w * rate for w, rate in zip(self.weights, self.logit_rates, strict=True)))
        return self.weights[self.component] * (self.logit_rates[self.component] - mean)


@dataclass(frozen=True)
class ScaleRate:
    """dσ_i/dt of σ_i = e^{τ_i} before the chain rule.

    Attributes
    ----------
    scale : sympy.Symbol
        The scale σ_i.
    component : int
        i, counted from 0.
    log_rate : sympy.Expr
        dτ_i/dt.
    """

    scale: sp.Symbol
    component: int
    log_rate: sp.Expr

    def latex(self) -> str:
        return rf"\frac{{d}}{{dt}} e^{{\tau_{{{self.component + 1}}}}}"

    def by_chain_rule(self) -> sp.Expr:
        return self.scale * self.log_rate


def softmax_slope(expanded: sp.Expr, mixture: Mixture, component: int) -> tuple[sp.Expr, sp.Expr]:
    """∂/∂θ_i of Σ_j w_j E_j[f]: the part through the weights of the sum, and the part through log q within f."""
    through_weights, explicit = sp.S.Zero, sp.S.Zero
    for weight, mean in component_averages(expanded):
        through_weights += _along_logit(weight, mixture, component) * mean
        explicit += weight * _explicit(mean, lambda logit: _along_logit(logit, mixture, component), mixture)
    return through_weights, explicit


def scale_slope(expanded: sp.Expr, mixture: Mixture, component: int) -> tuple[sp.Expr, sp.Expr]:
    """∂/∂τ_i of Σ_j w_j E_j[f]: the part through the sample x_i, and the part through log q within f."""
    own = mixture.scales[component]
    through_sample, explicit = sp.S.Zero, sp.S.Zero
    for weight, mean in component_averages(expanded):
        (x,) = mean.variables
        if x.mean == mixture.means[component]:
            through_sample += weight * Expectation(RadialSlope(mean.integrand, x), x)
        explicit += weight * _explicit(mean, lambda logit: own * sp.diff(logit, own), mixture)
    return through_sample, explicit


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


def _along_logit(expression: sp.Expr, mixture: Mixture, component: int) -> sp.Expr:
    """∂/∂θ_i of an expression in the weights: Σ_j w_j (δ_ij − w_i) ∂/∂w_j."""
    own = mixture.weights[component]
    return sp.expand(
        sp.Add(*(w * (int(j == component) - own) * sp.diff(expression, w) for j, w in enumerate(mixture.weights)))
    )


def _explicit(mean: Expectation, derivative: Callable[[sp.Expr], sp.Expr], mixture: Mixture) -> sp.Expr:
    """E_x of the derivative of log q at a fixed sample. The target's log density does not depend on q's parameters."""
    (x,) = mean.variables
    own = [log for log in mean.integrand.atoms(LogDensity) if log.args[0] == mixture]
    return average(sp.Add(*(mean.integrand.coeff(log) * log.parameter_derivative(derivative) for log in own)), x)


def exchanged(expression: sp.Expr, proposal: Mixture, samples: tuple[GaussianVector, ...]) -> sp.Expr:
    """Σ_j w_j E_{x_j}[ρ_i(x_j) f(x_j)] = w_i E_{x_i}[f(x_i)] for scalars: the vector rule on a unit vector."""
    unit = VectorSymbol("unit")
    return exchange_responsibilities(Vector({unit: expression}), proposal, samples).coefficient(unit)
