"""The forces f = −∂𝓛/∂(overlap), of which the velocity of every mean is made.

𝓛 depends on the means through their overlaps M_ik = a_i·ν_k and Q_ij = a_i·a_j alone. With dependent modes written as
combinations of independent ones, therefore,

    da_i/dt = P_i [ Σ_k f_ik ν_k + Σ_{j≠i} f_ij a_j ],    f_ij = f_ji.

The Euclidean flow has no P_i, and the sum has a term for j = i, with f_ii the coefficient of a_i. Where covariances
stand in a span, its axes e_n take the place of the modes. So there are as many forces as overlaps that move. At fixed
points the means are usually linearly dependent. There the forces still determine the velocity of every mean, whereas
the overlaps' rates do not.
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from derive.dynamics.derivation import Derivation, in_order_of_use
from derive.dynamics.instances import Instance
from derive.dynamics.scalar_steps import scalar_steps
from derive.objects.expectation import Expectation
from derive.objects.indices import Entry
from derive.objects.objective import Setting
from derive.objects.step import Equation, Equations, definitions, rates
from derive.objects.system import OdeSystem
from derive.objects.vectors import Inner, Vector, VectorSymbol


def force_system(derivation: Derivation) -> OdeSystem:
    """The derived system with the force on each state's overlap in place of the state's rate.

    Raises ValueError unless the flow is spherical and learns the means alone; see `descent_system` for other flows.
    """
    setting = derivation.setting
    if setting.manifold != "sphere" or tuple(setting.learn) != ("means",):
        raise ValueError("forces are derived for the spherical flow of the means")
    return descent_system(derivation)


def descent_system(derivation: Derivation) -> OdeSystem:
    """The derived system with forces in place of the overlaps' rates; learned weights and scales keep their rates.

    A force is the coefficient of ν_k, or of a_j, in da_i/dt before the projection; the force is not divided by the
    state's unit. Raises ValueError where the means rest.
    """
    setting, overlaps = derivation.setting, derivation.overlaps
    if "means" not in setting.learn:
        raise ValueError("means that rest have no forces")
    names, images = dict(overlaps.names), dict(derivation.geometry.images)
    instance = Instance(setting, derivation.general)
    velocities = {a: e.value for a, e in zip(setting.proposal.means, instance.velocities(), strict=True)}
    rates_of = {e.label: e.value for e in instance.closed()}
    closed = []
    for _, inner, _ in overlaps.moving:
        if names[inner] in (coordinate := _coordinates(setting)):
            i, axis = coordinate[names[inner]]
            closed.append(Equation(f"d{names[inner].name}", "", _along_axis(setting, velocities, rates_of, i, axis)))
            continue
        means = [a for a in inner.args if a in velocities]
        # The force is the average of the coefficients in both means' velocities, which are equal by the symmetry of f.
        # Both coefficients are kept so that the rules for a pair of averages apply.
        shares = [_coefficient(velocities[a], other, images) / len(means) for a, other in _ends(inner, means)]
        if setting.spanned and len(set(inner.args)) == 1:
            shares = [_own(setting, velocities, means[0])]
        # The forces take the labels of the overlaps' rates, under which `scalar_steps` rewrites the values.
        closed.append(Equation(f"d{names[inner].name}", "", sp.expand(sp.Add(*shares))))
    further = len(setting.learn) > 1 or setting.spanned
    learned = _of_learned_parameters(instance.closed(), derivation) if further else ()
    equations = (*closed, *learned, *instance.definitions((*closed, *learned)))
    final = scalar_steps(setting, derivation.geometry, overlaps, equations)[-1].after
    values = {e.label: e.value for e in rates(final)}
    forces = [sp.expand(factor * values[f"d{state.name}"]) for state, _, factor in overlaps.moving]
    others = [values[f"d{state.name}"] for state in derivation.system.states[len(forces) :]]
    return replace(derivation.system, subexpressions=in_order_of_use(_named(final)), rhs=(*forces, *others))


def _of_learned_parameters(closed: Equations, derivation: Derivation) -> Equations:
    """The rates of the learned weights and scales, and the definitions other than averages that the rates use."""
    labels = {f"d{state.name}" for state in derivation.system.states[len(derivation.overlaps.moving) :]}
    named = (e for e in definitions(closed) if not isinstance(e.value, Expectation))
    return (*(e for e in rates(closed) if e.label in labels), *named)


def _coordinates(setting: Setting) -> dict[sp.Symbol, tuple[int, int]]:
    """The component and the axis of every coordinate in a span, counted from 0."""
    laws = enumerate(setting.proposal.span)
    return {x: (i, n) for i, law in laws for n, x in enumerate(law.mean)}


def _along_axis(
    setting: Setting, velocities: dict[VectorSymbol, Vector], rates_of: dict[str, sp.Expr], i: int, axis: int
) -> sp.Expr:
    """The coefficient of the axis e_n in ȧ_i before the projection, as a combination of axes and whole means.

    Outside the span ȧ_i = Σ_j κ_ij a_j^⊥ with a_j^⊥ = a_j − Σ_n X_jn e_n, so each κ_ij takes κ_ij X_jn off the rate.
    """
    means, laws = setting.proposal.means, setting.proposal.span
    own = laws[i].mean[axis]
    within = rates_of[f"d{own.name}"].xreplace({_normal(setting, i): sp.S.Zero})
    outside = (
        (_own(setting, velocities, a) if j == i else velocities[means[i]].coefficient(a)) * laws[j].mean[axis]
        for j, a in enumerate(means)
    )
    return sp.expand(within - sp.Add(*outside))


def _own(setting: Setting, velocities: dict[VectorSymbol, Vector], a: VectorSymbol) -> sp.Expr:
    """κ_ii, the coefficient of a mean's own part outside the span, without the normal part μ_i of the projection."""
    i = list(setting.proposal.means).index(a)
    return velocities[a].coefficient(a).xreplace({_normal(setting, i): sp.S.Zero})


def _normal(setting: Setting, i: int) -> sp.Symbol:
    return sp.Symbol(Entry("mu", sp.Integer(i + 1)).named(setting.apart), real=True)


def _ends(inner: Inner, means: list[VectorSymbol]) -> list[tuple[VectorSymbol, VectorSymbol]]:
    first, second = inner.args
    return [(a, second if a == first else first) for a in means]


def _coefficient(velocity: Vector, along: VectorSymbol, images: dict[VectorSymbol, Vector]) -> sp.Expr:
    """The coefficient of one independent vector; a dependent mode contributes by its own coefficient of that vector."""
    return sp.Add(
        velocity.coefficient(along),
        *(velocity.coefficient(nu) * image.coefficient(along) for nu, image in images.items()),
    )


def _named(equations: Equations) -> tuple[tuple[sp.Symbol, sp.Expr], ...]:
    return tuple((e.symbol, e.value) for e in definitions(equations) if e.symbol is not None)
