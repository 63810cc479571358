"""What the flow may learn beside the means, one record per parameter: the rules that give its rates.

The derivation, the carrier of the closed system and the code that reads its states go through these records.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import sympy as sp

from derive.dynamics.parameter_steps import scale_steps, weight_steps
from derive.objects.mixtures import Mixture
from derive.objects.notation import symbol_tex
from derive.objects.objective import Setting
from derive.objects.states import StateVariable
from derive.objects.step import Equation, Equations, Step, rates
from derive.rules.slopes import LogitSlope, LogScaleSlope, ParameterRate, Slope


@dataclass(frozen=True)
class LearnedParameter:
    """A parameter that the flow moves through an unconstrained coordinate of each component.

    Attributes
    ----------
    slope : type of Slope
        The parameter with its coordinates, and the node of the objective's slopes along them.
    slope_steps : callable
        The steps from the objective of a setting to these slopes.
    rule, statement : str
        The name and the words of the step that carries out the chain rule.
    """

    slope: type[Slope]
    slope_steps: Callable[[Setting], tuple[Step, ...]]
    rule: str
    statement: str

    @property
    def name(self) -> str:
        """The parameter's name in `flow.learn`."""
        return self.slope.parameter.name

    def variables(self, proposal: Mixture) -> tuple[StateVariable, ...]:
        """The records of the parameter's states, one per component."""
        parameter = self.slope.parameter
        interval = sp.S.Zero, sp.sympify(parameter.highest, strict=True)
        return tuple(
            StateVariable(symbol, parameter, (i,), interval) for i, symbol in enumerate(self.slope.symbols(proposal))
        )

    def unevaluated_rates(self, proposal: Mixture, slopes: Equations) -> Equations:
        """The rates before the chain rule. Each coordinate descends along its own slope.

        slopes: the last equations of `slope_steps`, whose rates are one slope per component.
        """
        symbols = tuple(self.slope.symbols(proposal))
        descents = tuple(-slope.value for slope in rates(slopes))
        if len(descents) != len(symbols):
            raise ArithmeticError(f"{len(descents)} slopes for {len(symbols)} {self.name}")
        return tuple(
            Equation(
                f"d{symbol.name}",
                rf"\frac{{d{symbol_tex(symbol)}}}{{dt}}",
                ParameterRate(self.slope, symbols, i, descents),
            )
            for i, symbol in enumerate(symbols)
        )


LEARNED = (
    LearnedParameter(
        LogitSlope,
        weight_steps,
        "flow of the weights",
        "w = softmax(θ) and dθ_i/dt = −∂𝓛/∂θ_i give dw_i/dt = w_i (dθ_i/dt − Σ_j w_j dθ_j/dt).",
    ),
    LearnedParameter(
        LogScaleSlope,
        scale_steps,
        "flow of the scales",
        "σ_i = exp(τ_i) and dτ_i/dt = −∂𝓛/∂τ_i give dσ_i/dt = σ_i dτ_i/dt.",
    ),
)
"""All parameters that the flow may learn beside the means, in the order of their states."""


def parameters_in(learn: Collection[str]) -> tuple[LearnedParameter, ...]:
    """The learned parameters among the names of `flow.learn`; the means are none of them."""
    return tuple(parameter for parameter in LEARNED if parameter.name in learn)
