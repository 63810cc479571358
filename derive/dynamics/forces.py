"""What drives each overlap: the forces f = −∂𝓛/∂(overlap), of which the velocity of every mean is made.

𝓛 sees the means through their overlaps alone, M_ik = a_i·ν_k and Q_ij = a_i·a_j, so that with the modes written by the
independent ones

    da_i/dt = P_i [ Σ_k f_ik ν_k + Σ_{j≠i} f_ij a_j ],    f_ij = f_ji.

On the sphere, with means learned alone, there are as many forces as states. Unlike the overlaps' rates, they determine
the velocity also where means are linearly dependent, which is where most fixed points lie.
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from derive.dynamics.derivation import Derivation
from derive.dynamics.scalar_steps import scalar_steps
from derive.dynamics.vector_steps import average_definitions, average_name
from derive.objects.expectation import Expectation
from derive.objects.step import Equation, Equations, definitions, rates
from derive.objects.system import OdeSystem
from derive.objects.vectors import Inner, Vector, VectorSymbol
from derive.rules.flow import close


def force_system(derivation: Derivation) -> OdeSystem:
    """The derived system with the force of each state's overlap in the place of its rate.

    A force is the coefficient of ν_k, or of a_j, in da_i/dt before the projection; it is not divided by the state's
    unit. Raises ValueError unless the flow is spherical and learns the means alone.
    """
    setting, overlaps = derivation.setting, derivation.overlaps
    if setting.manifold != "sphere" or tuple(setting.learn) != ("means",):
        raise ValueError("forces are derived for the spherical flow of the means")
    names = dict(overlaps.names)
    velocities = _velocities(derivation)
    images = dict(derivation.geometry.images)
    closed = []
    for _, inner, _ in overlaps.moving:
        means = [a for a in inner.args if a in velocities]
        # Half of both means' shares: equal by the symmetry of f, and kept together so that rules for a pair of averages
        # apply.
        shares = [_coefficient(velocities[a], other, images) / len(means) for a, other in _ends(inner, means)]
        closed.append((names[inner], sp.expand(sp.Add(*shares))))
    averages = sorted(set().union(*(value.atoms(Expectation) for _, value in closed)), key=sp.default_sort_key)
    named = {average: average_name(average, setting) for average in averages}
    # `scalar_steps` rewrites whatever stands under the labels of the overlaps' rates.
    equations = (
        *(Equation(f"d{name.name}", "", close(value.xreplace(named), names)) for name, value in closed),
        *average_definitions(named, setting),
    )
    final = scalar_steps(setting, derivation.geometry, overlaps, equations)[-1].after
    values = {e.label: e.value for e in rates(final)}
    forces = tuple(sp.expand(factor * values[f"d{state.name}"]) for state, _, factor in overlaps.moving)
    return replace(derivation.system, subexpressions=_named(final), rhs=forces)


def _velocities(derivation: Derivation) -> dict[VectorSymbol, Vector]:
    (projected,) = (step for step in derivation.steps if step.rule == "projected flow")
    return {a: e.value for a, e in zip(derivation.setting.proposal.means, projected.after, strict=True)}


def _ends(inner: Inner, means: list[VectorSymbol]) -> list[tuple[VectorSymbol, VectorSymbol]]:
    first, second = inner.args
    return [(a, second if a == first else first) for a in means]


def _coefficient(velocity: Vector, along: VectorSymbol, images: dict[VectorSymbol, Vector]) -> sp.Expr:
    """The coefficient of one independent vector; a mode that is an image of others counts with its share of it."""
    return sp.Add(
        velocity.coefficient(along),
        *(velocity.coefficient(nu) * image.coefficient(along) for nu, image in images.items()),
    )


def _named(equations: Equations) -> tuple[tuple[sp.Symbol, sp.Expr], ...]:
    return tuple((e.symbol, e.value) for e in definitions(equations) if e.symbol is not None)
