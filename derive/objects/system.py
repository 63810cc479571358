"""The carrier of a closed system of ordinary differential equations.

The derivation makes the carrier, and the kernels, the asymptotics and the figures read it. The carrier declares the
order of states and parameters, and everything downstream keeps that order. Each named subexpression (a Gaussian average
such as F_1 or g) is defined once and used by name in the right-hand sides, so text, LaTeX and kernels show the same
structure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import sympy as sp

from derive.objects.expectation import Expectation
from derive.objects.short_repr import short_repr
from derive.objects.states import StateVariable

TIME = sp.Symbol("t", real=True, nonnegative=True)
BETA = sp.Symbol("beta", positive=True)


@dataclass(frozen=True)
class OdeSystem:
    """A closed system dy/dt = rhs(y, beta(t); parameters).

    `BETA`, the inverse temperature, is neither a state nor a parameter: a schedule supplies it.

    Attributes
    ----------
    label : str
        The problem's name, for messages and file names.
    variables : tuple of StateVariable
        The records of the states y, in order: symbol, kind, components and interval of each.
    parameters : tuple of sympy.Symbol
        The constants, in order.
    subexpressions : tuple of (sympy.Symbol, sympy.Expr)
        The named subexpressions in order. Each may use states, parameters, `BETA` and earlier symbols.
    rhs : tuple of sympy.Expr
        One right-hand side per state, in states, parameters, `BETA` and the symbols of `subexpressions`.
    gram : sympy.ImmutableMatrix
        The Gram matrix of independent modes and means, in states and parameters. The states lie where this matrix is
        positive semidefinite and each state is within its interval.

    Raises
    ------
    ValueError
        Where states and right-hand sides differ in number, a symbol is declared twice, or an expression contains a
        symbol that is not declared before it.
    """

    label: str
    variables: tuple[StateVariable, ...]
    parameters: tuple[sp.Symbol, ...]
    subexpressions: tuple[tuple[sp.Symbol, sp.Expr], ...]
    rhs: tuple[sp.Expr, ...]
    gram: sp.ImmutableMatrix

    SHOWN: ClassVar = ("label", "states", "parameters", "subexpressions", "rhs", "gram")
    __repr__ = short_repr

    @property
    def states(self) -> tuple[sp.Symbol, ...]:
        """The states' symbols, in order."""
        return tuple(variable.symbol for variable in self.variables)

    @property
    def widest_average(self) -> int:
        """The largest number of variables of an average in the system."""
        return max((len(a.variables) for _, e in self.subexpressions for a in e.atoms(Expectation)), default=0)

    def _repr_latex_(self) -> str:
        from derive.objects.notation import dotted, symbol_tex
        from derive.objects.step import Equation, display

        named = [Equation(s.name, symbol_tex(s), value, s) for s, value in self.subexpressions]
        rates = [
            Equation(f"d{s.name}", dotted(symbol_tex(s)), value) for s, value in zip(self.states, self.rhs, strict=True)
        ]
        return display([*named, *rates])

    def __post_init__(self) -> None:
        if len(self.rhs) != len(self.variables):
            raise ValueError("one right-hand side per state is needed")
        known = {*self.states, *self.parameters, BETA}
        if len(known) != len(self.states) + len(self.parameters) + 1:
            raise ValueError("states, parameters and beta must be distinct symbols")
        for symbol, expression in self.subexpressions:
            self._require_known(expression, known, symbol.name)
            known.add(symbol)
        for state, expression in zip(self.states, self.rhs, strict=True):
            self._require_known(expression, known, f"d{state.name}/dt")

    @staticmethod
    def _require_known(expression: sp.Expr, known: set[sp.Symbol], where: str) -> None:
        stray = expression.free_symbols - known
        if stray:
            raise ValueError(f"{where} is not closed: it contains {sorted(map(str, stray))}")

    def expanded_rhs(self) -> tuple[sp.Expr, ...]:
        """The right-hand sides with every named subexpression written out.

        Returns
        -------
        tuple of sympy.Expr
            One expression per state, in states, parameters and `BETA` alone.
        """
        expanded = list(self.rhs)
        for symbol, expression in reversed(self.subexpressions):
            expanded = [e.xreplace({symbol: expression}) for e in expanded]
        return tuple(expanded)
