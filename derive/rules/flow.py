"""The gradient flow of the means, the rates of the overlaps under it, and the closure of the rates in the overlaps."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.objects.notation import indexed_name, indices_apart
from derive.objects.vectors import Inner, Vector, VectorSymbol
from derive.rules.gradient_rules import RuleDoesNotApplyError

MANIFOLDS = ("sphere", "euclidean")


@dataclass(frozen=True)
class Descent:
    """The velocity of a mean before the projection is carried out: −P∇𝓛 on the sphere, −∇𝓛 in Euclidean space.

    Attributes
    ----------
    gradient : Vector
        ∇𝓛, the gradient of the objective by the mean.
    mean : VectorSymbol
        The mean that moves.
    manifold : {"sphere", "euclidean"}
        The manifold on which it moves.
    """

    gradient: Vector
    mean: VectorSymbol
    manifold: str

    def latex(self) -> str:
        projection = rf"P_{{{sp.latex(self.mean)}}}" if self.manifold == "sphere" else ""
        return rf"-{projection}\left[{self.gradient.latex()}\right]"


@dataclass(frozen=True)
class OverlapRate:
    """d(u·v)/dt before the product rule.

    Attributes
    ----------
    overlap : Inner
        The inner product u·v.
    velocities : tuple of (VectorSymbol, Vector)
        The velocity of each vector that moves; a vector without an entry is constant.
    """

    overlap: Inner
    velocities: tuple[tuple[VectorSymbol, Vector], ...]

    def latex(self) -> str:
        return rf"\frac{{d}}{{dt}}\left({sp.latex(self.overlap)}\right)"


def project(descent: Descent) -> Vector:
    """The velocity with the projection P = I − a aᵀ/‖a‖² carried out; raises ValueError for an unknown manifold."""
    if descent.manifold not in MANIFOLDS:
        raise ValueError(f"manifold must be one of {', '.join(MANIFOLDS)}, not {descent.manifold!r}")
    velocity = -descent.gradient
    if descent.manifold == "sphere":
        mean = Vector({descent.mean: sp.S.One})
        velocity = velocity - velocity.dot(mean) / mean.dot(mean) * mean
    return velocity.map(sp.expand)


def product_rule(rate: OverlapRate) -> sp.Expr:
    """d(u·v)/dt = u̇·v + u·v̇, expanded; the velocities' coefficients are expanded already."""
    u, v = rate.overlap.args
    velocities, still = dict(rate.velocities), Vector()
    return sp.Add(
        *(
            term * Inner(atom, other)
            for moving, other in ((u, v), (v, u))
            for atom, coefficient in velocities.get(moving, still)
            for term in sp.Add.make_args(coefficient)
        )
    )


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
    stray = closed.atoms(VectorSymbol)
    if stray:
        raise RuleDoesNotApplyError(f"the system does not close: {sorted(map(str, stray))} are left")
    return closed
