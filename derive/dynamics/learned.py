"""What the flow may learn beside the means, one record per parameter: the rules that give its rates.

The derivation, the carrier of the closed system and the code that reads its states go through these records.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sympy as sp

from derive.objects.indices import Entry, I
from derive.objects.mixtures import Mixture
from derive.objects.notation import tex
from derive.objects.states import StateVariable
from derive.objects.step import Equation
from derive.rules.coordinates import LogitSlope, LogScaleSlope, ParameterRate, Slope


@dataclass(frozen=True)
class LearnedParameter:
    """A parameter that the flow moves through an unconstrained coordinate of each component.

    Attributes
    ----------
    slope : type of Slope
        The parameter with its coordinates, and the node of the objective's slopes along them.
    rule, statement : str
        The name and the words of the step that carries out the chain rule.
    """

    slope: type[Slope]
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

    def unevaluated_rate(self, descent: sp.Expr) -> Equation:
        """The rate of component i before the chain rule, as each coordinate descends along its own slope."""
        name = Entry(self.slope.parameter.letter, I)
        return Equation(
            f"d{name.name}", rf"\frac{{d{tex(name)}}}{{dt}}", ParameterRate(self.slope, I, descent), indices=(I,)
        )


LEARNED = (
    LearnedParameter(
        LogitSlope,
        "flow of the weights",
        "w = softmax(θ) and dθ_i/dt = −∂𝓛/∂θ_i give dw_i/dt = w_i (dθ_i/dt − ∑_j w_j dθ_j/dt).",
    ),
    LearnedParameter(
        LogScaleSlope,
        "flow of the scales",
        "σ_i = exp(τ_i) and dτ_i/dt = −∂𝓛/∂τ_i give dσ_i/dt = σ_i dτ_i/dt.",
    ),
)
"""All parameters that the flow may learn beside the means, in the order of their states."""


def parameters_in(learn: Collection[str]) -> tuple[LearnedParameter, ...]:
    """The learned parameters among the names of `flow.learn`; the means are none of them."""
    return tuple(parameter for parameter in LEARNED if parameter.name in learn)
