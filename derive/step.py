"""The values that a derivation is made of: labelled equations, and steps that lead from some equations to others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy as sp

from derive.notation import tex

Value = Any  # sp.Expr | Vector | Descent | OverlapRate; SymPy ships no types


@dataclass(frozen=True)
class Equation:
    """label = value, printed with `left` as the left-hand side.

    symbol: set on a definition, the name by which the equations beside it use the value.
    """

    label: str
    left: str
    value: Value
    symbol: sp.Symbol | None = None

    def latex(self) -> str:
        right = tex(self.value) if isinstance(self.value, sp.Basic) else self.value.latex()
        return f"{self.left} = {right}"


Equations = tuple[Equation, ...]


@dataclass(frozen=True)
class Step:
    """One application of a rule. Equations of the same label on both sides must mean the same.

    in_geometry: whether the two sides agree only for vectors in the declared geometry.
    """

    rule: str
    statement: str
    before: Equations
    after: Equations
    in_geometry: bool = False


def definitions(equations: Equations) -> Equations:
    """The equations that define a symbol."""
    return tuple(e for e in equations if e.symbol is not None)


def rates(equations: Equations) -> Equations:
    """The equations that define none."""
    return tuple(e for e in equations if e.symbol is None)


def map_values(equations: Equations, function: Callable) -> Equations:
    return tuple(Equation(e.label, e.left, function(e.value), e.symbol) for e in equations)
