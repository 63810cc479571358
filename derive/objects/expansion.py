"""An asymptotic expansion as a value: what is expanded, the terms kept, and the order of what they leave out."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.objects.notation import tex
from derive.objects.short_repr import short_repr


@dataclass(frozen=True)
class Expansion:
    """quantity = expression + O(scale · variable^order) as variable → limit.

    name: unique, for messages and file names. left: the quantity's LaTeX. quantity: exact, in averages or as a named
    function of time. limit: 0 or oo. order: rational, negative where limit is oo. scale: what is of the quantity's own
    size, so that an exponentially small one has a relative error. hypothesis: what else is held fixed or assumed.
    """

    name: str
    left: str
    quantity: sp.Expr
    expression: sp.Expr
    variable: sp.Symbol
    limit: sp.Expr
    order: sp.Rational
    hypothesis: str
    scale: sp.Expr = sp.S.One

    __repr__ = short_repr

    def _repr_latex_(self) -> str:
        return f"$${self.latex()}$$"

    def __post_init__(self) -> None:
        if self.limit not in (0, sp.oo) or (self.order > 0) != (self.limit == 0):
            raise ValueError(f"{self.name}: what is left out must vanish at the limit, 0 or oo")

    @property
    def remainder(self) -> sp.Order:
        """What is left out, relative to the scale."""
        return sp.Order(self.variable**self.order, (self.variable, self.limit))

    def latex(self) -> str:
        left_out = rf"\mathcal O\left({tex(self.variable**self.order)}\right)"
        if self.scale != 1:
            left_out = rf"{tex(self.scale)}\,{left_out}"
        return rf"{self.left} = {tex(self.expression)} + {left_out}, \quad {tex(self.variable)} \to {tex(self.limit)}"
