"""An asymptotic expansion as a value: the quantity, the terms that are kept, and the order of the remainder."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.objects.notation import tex
from derive.objects.short_repr import short_repr


@dataclass(frozen=True)
class Expansion:
    """quantity = expression + O(scale · variable^order) as variable → limit.

    Attributes
    ----------
    name : str
        A unique name, for messages and file names.
    left : str
        LaTeX of the quantity.
    quantity : sympy.Expr
        The exact quantity, in averages or as a named function of time.
    expression : sympy.Expr
        The terms that are kept.
    variable : sympy.Symbol
        The small or large variable.
    limit : sympy.Expr
        Where the variable goes: 0 or oo.
    order : sympy.Rational
        The remainder's power of the variable, negative where the limit is oo.
    hypothesis : str
        What else is held fixed or assumed.
    scale : sympy.Expr
        An expression of the quantity's own size. It makes the remainder a relative error where the quantity is
        exponentially small.

    Raises
    ------
    ValueError
        Where the limit is neither 0 nor oo, or the remainder does not vanish there.
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
        """The remainder relative to the scale."""
        return sp.Order(self.variable**self.order, (self.variable, self.limit))

    def latex(self) -> str:
        left_out = rf"\mathcal O\left({tex(self.variable**self.order)}\right)"
        if self.scale != 1:
            left_out = rf"{tex(self.scale)}\,{left_out}"
        return rf"{self.left} = {tex(self.expression)} + {left_out}, \quad {tex(self.variable)} \to {tex(self.limit)}"
