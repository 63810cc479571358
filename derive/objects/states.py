"""The records of a system's states: what each state is, whose it is, and where it lives.

A record is made where its state is made. Whoever needs to know whether a state is an overlap or a component's parameter
asks the record, not the state's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import sympy as sp

from derive.objects.parameters import Parameter
from derive.objects.short_repr import short_repr


class StateKind(Enum):
    """What a state measures that is no parameter of a component.

    An overlap may be an inner product (M, Q) or, divided by the lengths, a cosine (m, s).
    """

    MODE_OVERLAP = "overlap of a mean and a mode"
    MEAN_OVERLAP = "overlap of two means"
    COORDINATE = "coordinate of a mean in the span"
    COVARIANCE = "entry of a covariance"
    INVERSE_TEMPERATURE = "inverse temperature"


@dataclass(frozen=True)
class StateVariable:
    """One state of a system of ordinary differential equations.

    Attributes
    ----------
    symbol : sympy.Symbol
        The state's symbol in the equations.
    kind : StateKind or Parameter
        What the state measures; for a component's parameter, the parameter's record.
    components : tuple of int
        The components of the proposal that the state belongs to, counted from 0: two for the overlap of two means (the
        same one twice for a squared length), none for the inverse temperature, else one.
    interval : tuple of sympy.Expr
        The lowest and the highest value, in the system's parameters; (-oo, oo) where nothing bounds the state.
    """

    symbol: sp.Symbol
    kind: StateKind | Parameter
    components: tuple[int, ...]
    interval: tuple[sp.Expr, sp.Expr]

    __repr__ = short_repr
