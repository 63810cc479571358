"""One schedule as a value: temperature and inverse temperature as expressions in `derive.objects.system.TIME`."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.objects.short_repr import short_repr
from derive.objects.system import TIME
from derive.problem.double_functions import double_function

START_TEMPERATURE = sp.Symbol("T0", positive=True)
TIME_SCALE = sp.Symbol("t0", positive=True)

SETTLED_EXCESS = 1e-3
"""A schedule counts as settled, unless a caller says otherwise, once |T - 1| is at most this for good."""


@dataclass(frozen=True)
class Schedule:
    """One schedule. Its time is the gradient flow's own.

    Attributes
    ----------
    kind : str
        The schedule kind.
    temperature, beta : sympy.Expr
        T and 1/T in TIME and `parameters`. They overflow only where their values do.
    parameters : tuple of sympy.Symbol
        The symbols that a run may set, in order.
    values : tuple of float
        The problem's value of each parameter.
    breakpoints : tuple of sympy.Expr
        The times at which the formula changes, ascending.
    duration : float
        The time from which T is constant; infinity where T only tends to 1.
    latex : str
        The formula of T, or of beta where that formula is the simpler one.
    """

    kind: str
    temperature: sp.Expr
    beta: sp.Expr
    parameters: tuple[sp.Symbol, ...]
    values: tuple[float, ...]
    breakpoints: tuple[sp.Expr, ...]
    duration: float
    latex: str

    __repr__ = short_repr

    def _repr_latex_(self) -> str:
        return f"$${self.latex}$$"

    def temperature_at(self, t: float) -> float:
        """T at time t >= 0 in double precision; infinite where beta is 0."""
        return self._at(self.temperature, t)

    def beta_at(self, t: float) -> float:
        """beta = 1/T at time t >= 0 in double precision."""
        return self._at(self.beta, t)

    def _at(self, expression: sp.Expr, t: float) -> float:
        if not t >= 0:
            raise ValueError(f"a schedule begins at time 0 and has no value at {t}")
        return float(double_function(expression, (TIME, *self.parameters))(float(t), *self.values))
