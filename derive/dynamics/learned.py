"""What the flow may learn beside the means, one record per parameter: its states, and the rules that give their rates.

The derivation, the carrier of the closed system and the code that reads its states go through these records.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import sympy as sp

from derive.dynamics.parameter_steps import scale_steps, weight_steps
from derive.objects.mixtures import Mixture
from derive.objects.notation import symbol_tex
from derive.objects.objective import Setting
from derive.objects.states import StateKind, StateVariable
from derive.objects.step import Equation, Equations, Step, rates
from derive.rules.slopes import ScaleRate, WeightRate

Rate = WeightRate | ScaleRate


@dataclass(frozen=True)
class LearnedParameter:
    """One number per component of the proposal that the flow moves through an unconstrained coordinate.

    Attributes
    ----------
    name : str
        The parameter's name in `flow.learn`.
    kind : StateKind
        What the parameter's states measure.
    interval : tuple of sympy.Expr
        The lowest and the highest value of each state.
    symbols : callable
        The parameter's symbols in a mixture, one per component.
    slope_steps : callable
        The steps from the objective of a setting to its slopes along the coordinates.
    rate : callable
        A component's rate before the chain rule, from the symbols, the component and the coordinates' rates.
    rule, statement : str
        The name and the words of the step that carries out the chain rule.
    """

    name: str
    kind: StateKind
    interval: tuple[sp.Expr, sp.Expr]
    symbols: Callable[[Mixture], Sequence[sp.Symbol]]
    slope_steps: Callable[[Setting], tuple[Step, ...]]
    rate: Callable[[tuple[sp.Symbol, ...], int, tuple[sp.Expr, ...]], Rate]
    rule: str
    statement: str

    def variables(self, proposal: Mixture) -> tuple[StateVariable, ...]:
        """The records of the parameter's states, one per component."""
        return tuple(
            StateVariable(symbol, self.kind, (i,), self.interval) for i, symbol in enumerate(self.symbols(proposal))
        )

    def unevaluated_rates(self, proposal: Mixture, slopes: Equations) -> Equations:
        """The rates before the chain rule. Each coordinate descends along its own slope.

        slopes: the last equations of `slope_steps`, whose rates are one slope per component.
        """
        symbols = tuple(self.symbols(proposal))
        descents = tuple(-slope.value for slope in rates(slopes))
        if len(descents) != len(symbols):
            raise ArithmeticError(f"{len(descents)} slopes for {len(symbols)} {self.name}")
        return tuple(
            Equation(f"d{symbol.name}", rf"\frac{{d{symbol_tex(symbol)}}}{{dt}}", self.rate(symbols, i, descents))
            for i, symbol in enumerate(symbols)
        )


WEIGHTS = LearnedParameter(
    "weights",
    StateKind.WEIGHT,
    (sp.S.Zero, sp.S.One),
    lambda mixture: mixture.weights,
    weight_steps,
    WeightRate,
    "flow of the weights",
    "w = softmax(θ) and dθ_i/dt = −∂𝓛/∂θ_i give dw_i/dt = w_i (dθ_i/dt − Σ_j w_j dθ_j/dt).",
)
SCALES = LearnedParameter(
    "scales",
    StateKind.SCALE,
    (sp.S.Zero, sp.oo),
    lambda mixture: mixture.scales,
    scale_steps,
    lambda scales, i, log_rates: ScaleRate(scales[i], i, log_rates[i]),
    "flow of the scales",
    "σ_i = exp(τ_i) and dτ_i/dt = −∂𝓛/∂τ_i give dσ_i/dt = σ_i dτ_i/dt.",
)

PARAMETERS = (WEIGHTS, SCALES)
"""All parameters that the flow may learn beside the means, in the order of their states."""


def parameters_in(learn: Collection[str]) -> tuple[LearnedParameter, ...]:
    """The learned parameters among the names of `flow.learn`; the means are none of them."""
    return tuple(parameter for parameter in PARAMETERS if parameter.name in learn)
