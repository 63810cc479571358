"""The gradient flow of the means, the rates of the overlaps under it, and the closure of the rates in the overlaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy as sp

from derive.objects.indices import I, VectorEntry
from derive.objects.notation import indexed_name, indices_apart, tex
from derive.objects.vectors import Inner, Vector, VectorSymbol
from derive.rules.gradient_rules import RuleDoesNotApplyError, inner, map_atoms, slopes_written_out

MANIFOLDS = ("sphere", "euclidean")


@dataclass(frozen=True)
class Descent:
    """The velocity of a mean before the projection is carried out: −P∇𝓛 on the sphere, −∇𝓛 in Euclidean space.

    Attributes
    ----------
    gradient : sympy.Expr or Vector
        ∇𝓛, the gradient of the objective by the mean, in index notation or for given components.
    mean : VectorEntry or VectorSymbol
        The mean that moves.
    manifold : {"sphere", "euclidean"}
        The manifold on which it moves.
    """

    gradient: Any
    mean: Any
    manifold: str

    def latex(self) -> str:
        projection = rf"P_{{{tex(self.mean)}}}" if self.manifold == "sphere" else ""
        written = self.gradient.latex() if isinstance(self.gradient, Vector) else tex(self.gradient)
        return rf"-{projection}\left[{written}\right]"


@dataclass(frozen=True)
class SpannedDescent:
    """The velocity of a mean with coordinates in a span, before the projection is carried out.

    Attributes
    ----------
    outside : sympy.Expr or Vector
        ∇𝓛 outside the span.
    within : sympy.Expr or tuple of sympy.Expr
        ∂𝓛/∂X_in in index notation, or for all coordinates of given components.
    component : Index or int
        The component; a number counts from 1.
    coordinate : Index, int or None
        The coordinate whose velocity is meant, or None for the part outside the span.
    manifold : {"sphere", "euclidean"}
        The manifold on which the mean moves.
    mean : VectorSymbol or None
        The mean's part outside, for given components.
    position : tuple of sympy.Expr
        The mean's coordinates in the span, for given components.
    """

    outside: Any
    within: Any
    component: Any
    coordinate: Any
    manifold: str
    mean: Any = None
    position: tuple[sp.Expr, ...] = ()

    def latex(self) -> str:
        index = r"\perp" if self.coordinate is None else self.coordinate
        projection = rf"P_{{a_{{{self.component}}}}}" if self.manifold == "sphere" else ""
        slope = rf"{projection}\nabla_{{a_{{{self.component}}}}}\mathcal{{L}}_\beta"
        return rf"-\left({slope}\right)_{{{index}}}"


@dataclass(frozen=True)
class OverlapRate:
    """d(u·v)/dt before the product rule.

    Attributes
    ----------
    overlap : Inner
        The inner product u·v.
    velocity : sympy.Expr or tuple of (VectorSymbol, Vector)
        The velocity of the mean a_i in index notation, or that of each vector that moves for given components.
    within : sympy.Expr, tuple or None
        Where means have coordinates in a span, the overlap is that of the whole means, and this is dX_in/dt in index
        notation; for given components, the coordinates of the two means with their velocities, ((u, u̇), (v, v̇)).
    """

    overlap: Inner
    velocity: Any
    within: Any = None

    def latex(self) -> str:
        return rf"\frac{{d}}{{dt}}\left({tex(self.overlap)}\right)"


def project(descent: Descent) -> sp.Expr:
    """The velocity with the projection P = I − a aᵀ/‖a‖² carried out; raises ValueError for an unknown manifold."""
    if descent.manifold not in MANIFOLDS:
        raise ValueError(f"manifold must be one of {', '.join(MANIFOLDS)}, not {descent.manifold!r}")
    velocity, mean = -slopes_written_out(descent.gradient), descent.mean
    if descent.manifold == "sphere":
        return map_atoms(velocity, lambda v: v - Inner(v, mean) / Inner(mean, mean) * mean)
    return velocity


def product_rule(rate: OverlapRate) -> sp.Expr:
    """d(a_i·v)/dt = ȧ_i·v + a_i·v̇, where v moves if it is a mean too."""
    mean, other = rate.overlap.args if rate.overlap.args[0].indices == (I,) else reversed(rate.overlap.args)
    total = inner(rate.velocity, other) if rate.velocity != 0 else sp.S.Zero
    if rate.velocity != 0 and other.family == mean.family:
        total += inner(rate.velocity.xreplace({I: other.indices[0]}), mean)
    return total


def gram_symbols(target: tuple[VectorSymbol, ...], proposal: tuple[VectorSymbol, ...]) -> dict[Inner, sp.Symbol]:
    """The overlaps' names: M_ik = a_i·ν_k, Q_ij = a_i·a_j, Γ_kl = ν_k·ν_l."""
    names: dict[Inner, sp.Symbol] = {}
    apart = indices_apart(len(target), len(proposal))

    def named(head: str, i: int, j: int) -> sp.Symbol:
        return sp.Symbol(indexed_name(head, (i, j), apart=apart), real=True)

    for i, a in enumerate(proposal, 1):
        for k, nu in enumerate(target, 1):
            names[Inner(a, nu)] = named("M", i, k)
        for j in range(i, len(proposal) + 1):
            names[Inner(a, proposal[j - 1])] = named("Q", i, j)
    for k, nu in enumerate(target, 1):
        for l in range(k, len(target) + 1):
            names[Inner(nu, target[l - 1])] = named("Gamma", k, l)
    return names


def close(expression: sp.Expr, names: dict[Inner, sp.Symbol]) -> sp.Expr:
    """The expression with every inner product replaced by its overlap's symbol.

    Raises RuleDoesNotApplyError if a vector is left.
    """
    closed = expression.xreplace(names)
    stray = closed.atoms(VectorSymbol, VectorEntry)
    if stray:
        raise RuleDoesNotApplyError(f"the system does not close: {sorted(map(str, stray))} are left")
    return closed
