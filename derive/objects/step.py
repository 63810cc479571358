"""The values that a derivation is made of: labelled equations, and steps that lead from some equations to others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import sympy as sp

from derive.objects.indices import Index
from derive.objects.line_breaking import broken, terms_tex
from derive.objects.notation import ordered_terms, tex
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
    """One labelled equation of a derivation: a definition or a rate.

    Attributes
    ----------
    label : str
        The equation's name in its step, such as "dm_1" or "F_1".
    left : str
        LaTeX of the left-hand side.
    value : sympy.Expr, Vector, or a rate that is not carried out
        The right-hand side.
    symbol : sympy.Symbol or None
        The symbol that a definition defines, and that other equations of the same step use. None for a rate.
    kind : DefinitionKind or None
        What a definition names. The kind is no part of what the equation states: equations that differ in their kind
        alone are equal.
    indices : tuple of Index
        The free indices of an equation in index notation, which holds for each of their values. The label and the
        left-hand side end in them.
    """

    label: str
    left: str
    value: Value
    symbol: sp.Symbol | None = None
    kind: DefinitionKind | None = field(default=None, compare=False, repr=False)
    indices: tuple[Index, ...] = ()

    __repr__ = short_repr

    def _repr_latex_(self) -> str:
        return display([self])

    def latex(self) -> str:
        return f"{self.left} = {' '.join(self.right_terms())}"

    def right_terms(self) -> list[str]:
        """LaTeX of the right-hand side's terms, each with its sign; a long equation is broken between them."""
        if isinstance(self.value, Vector):
            return self.value.latex_terms()
        if not isinstance(self.value, sp.Basic):
            return [self.value.latex()]
        terms = [tex(term) for term in ordered_terms(self.value)]
        return [term if term.startswith("-") or not n else f"+ {term}" for n, term in enumerate(terms)]


Equations = tuple[Equation, ...]


def display(equations: Sequence[Equation]) -> str:
    """LaTeX of equations for a notebook, one below the other, with long equations broken between their terms."""
    lines = [line for e in equations for line in broken(e.left, terms_tex(e))]
    return "$$\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}$$"


@dataclass(frozen=True)
class Step:
    """One application of a rule. Two equations with the same label, one before and one after, must mean the same.

    Attributes
    ----------
    rule : str
        The rule's name.
    statement : str
        What the rule says, in one or two sentences.
    before, after : tuple of Equation
        The equations that the rule is applied to, and its result.
    in_geometry : bool
        Whether the two sides agree only for vectors in the declared geometry.
    limit : bool
        Whether the two sides agree only in the limit d → ∞.
    """

    rule: str
    statement: str
    before: Equations
    after: Equations
    in_geometry: bool = False
    limit: bool = False

    __repr__ = short_repr

    def _repr_latex_(self) -> str:
        """The equations after the step."""
        return display(self.after)


def definitions(equations: Equations) -> Equations:
    """The equations that define a symbol."""
    return tuple(e for e in equations if e.symbol is not None)


def rates(equations: Equations) -> Equations:
    """The equations that define no symbol."""
    return tuple(e for e in equations if e.symbol is None)


def map_values(equations: Equations, function: Callable) -> Equations:
    return tuple(replace(e, value=function(e.value)) for e in equations)


def needed(equations: Equations) -> Equations:
    """The rates, and the definitions that the rates use, directly or through other definitions."""
    wanted = set().union(*(e.value.free_symbols for e in rates(equations)))
    unread = definitions(equations)
    while used := [e for e in unread if e.symbol in wanted]:
        unread = tuple(e for e in unread if e.symbol not in wanted)
        wanted |= set().union(*(e.value.free_symbols for e in used))
    return tuple(e for e in equations if e.symbol is None or e.symbol in wanted)
