"""The values that a derivation is made of: labelled equations, and steps that lead from some equations to others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import sympy as sp

from derive.objects.line_breaking import broken, terms_tex
from derive.objects.notation import tex
from derive.objects.short_repr import short_repr
from derive.objects.vectors import Vector

Value = Any  # sp.Expr | Vector | Descent | OverlapRate; SymPy ships no types


class DefinitionKind(Enum):
    """What a definition names."""

    TARGET_SHARE = "a mode's responsibility averaged over a component"
    OTHER_AVERAGE = "another average over a component"
    FACTOR = "entry of a Cholesky factor"


@dataclass(frozen=True)
class Equation:
    """label = value, printed with `left` as the left-hand side.

    symbol: set on a definition, the name by which the equations beside it use the value.
    kind: what a definition names, where a rule asks. It says nothing of what the equation states, so two equations that
    differ in it alone are equal.
    """

    label: str
    left: str
    value: Value
    symbol: sp.Symbol | None = None
    kind: DefinitionKind | None = field(default=None, compare=False, repr=False)

    __repr__ = short_repr

    def _repr_latex_(self) -> str:
        return display([self])

    def latex(self) -> str:
        return f"{self.left} = {' '.join(self.right_terms())}"

    def right_terms(self) -> list[str]:
        """The right-hand side's terms in LaTeX, each with its sign, so that a long equation can be broken between
        them."""
        if isinstance(self.value, Vector):
            return self.value.latex_terms()
        if not isinstance(self.value, sp.Basic):
            return [self.value.latex()]
        terms = [tex(term) for term in self.value.as_ordered_terms()]
        return [term if term.startswith("-") or not n else f"+ {term}" for n, term in enumerate(terms)]


Equations = tuple[Equation, ...]


def display(equations: Sequence[Equation]) -> str:
    """Equations for a notebook, one below the other, each broken between its terms where it is long."""
    lines = [line for e in equations for line in broken(e.left, terms_tex(e))]
    return "$$\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}$$"


@dataclass(frozen=True)
class Step:
    """One application of a rule. Equations of the same label on both sides must mean the same.

    in_geometry: whether the two sides agree only for vectors in the declared geometry. limit: whether they agree only
    as d → ∞.
    """

    rule: str
    statement: str
    before: Equations
    after: Equations
    in_geometry: bool = False
    limit: bool = False

    __repr__ = short_repr

    def _repr_latex_(self) -> str:
        """What the step leads to; its statement is in words."""
        return display(self.after)


def definitions(equations: Equations) -> Equations:
    """The equations that define a symbol."""
    return tuple(e for e in equations if e.symbol is not None)


def rates(equations: Equations) -> Equations:
    """The equations that define none."""
    return tuple(e for e in equations if e.symbol is None)


def map_values(equations: Equations, function: Callable) -> Equations:
    return tuple(replace(e, value=function(e.value)) for e in equations)


def needed(equations: Equations) -> Equations:
    """The rates, and the definitions that they use, directly or through other definitions."""
    wanted = set().union(*(e.value.free_symbols for e in rates(equations)))
    unread = definitions(equations)
    while used := [e for e in unread if e.symbol in wanted]:
        unread = tuple(e for e in unread if e.symbol not in wanted)
        wanted |= set().union(*(e.value.free_symbols for e in used))
    return tuple(e for e in equations if e.symbol is None or e.symbol in wanted)
