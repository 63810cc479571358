"""The geometry of modes and means: dependent modes, fixed lengths, and the overlaps that become states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sympy as sp

from derive.objects.notation import indexed_name, indices_apart
from derive.objects.objective import Setting
from derive.objects.short_repr import short_repr
from derive.objects.states import StateKind, StateVariable
from derive.objects.vectors import Inner, Vector, VectorSymbol, substitute_vectors
from derive.rules.flow import gram_symbols

Names = Mapping[Inner, sp.Symbol]
Relations = Mapping[sp.Symbol, sp.Expr]
Moving = Sequence[tuple[sp.Symbol, Inner, sp.Expr]]

R = sp.Symbol("R", positive=True)
RADIUS = sp.Symbol("r", positive=True)


@dataclass(frozen=True)
class Geometry:
    """What is known of the vectors.

    Attributes
    ----------
    images : tuple of (VectorSymbol, Vector)
        The dependent modes, each as a combination of the other modes (ν_2 = −ν_1, for example).
    lengths : tuple of (VectorSymbol, sympy.Expr)
        The vectors of known, constant length.
    cosines : bool
        Whether the states are overlaps divided by the lengths (m, s) or the overlaps themselves (M, Q).
    dimension : int or None
        The dimension d, where it is known. The number matters only where modes and means may span the whole space.
    large_dimension : bool
        Whether to take the limit d → ∞ for the part of ‖x‖² outside the span of the logits' linear forms.
    """

    images: tuple[tuple[VectorSymbol, Vector], ...] = ()
    lengths: tuple[tuple[VectorSymbol, sp.Expr], ...] = ()
    cosines: bool = False
    dimension: int | None = None
    large_dimension: bool = False

    __repr__ = short_repr


def antipodal(setting: Setting, radii: Sequence[sp.Expr] = (R, R)) -> Geometry:
    """The geometry of two opposite modes at distance R from the origin.

    radii: the lengths of the means on the sphere.
    """
    first, second = setting.target.means
    on_sphere = setting.manifold == "sphere"
    lengths = ((first, R), *zip(setting.proposal.means, radii, strict=True)) if on_sphere else ((first, R),)
    return Geometry(((second, Vector({first: sp.S.NegativeOne})),), lengths, cosines=on_sphere)


def unrelated(
    setting: Setting, radii: Sequence[sp.Expr] | None = None, images: Sequence[tuple[VectorSymbol, Vector]] = ()
) -> Geometry:
    """The geometry of modes in any position: only the Gram matrix Γ of the independent modes is known.

    radii: the lengths of the means on the sphere, r for all means by default. images: the dependent modes, each as a
    combination of independent ones.
    """
    if setting.manifold != "sphere":
        return Geometry(tuple(images))
    return Geometry(
        tuple(images), tuple(zip(setting.proposal.means, radii or [RADIUS] * setting.proposal.size, strict=True))
    )


def in_span(setting: Setting, radii: Sequence[sp.Expr], dimension: int) -> Geometry:
    """The geometry of modes and covariances in a span: outside it every mode is zero.

    radii: the lengths of the means on the sphere. Where the span is the whole space, the means have no part outside.
    """
    outside = [*setting.target.means, *(setting.proposal.means if dimension == setting.coordinates else ())]
    nothing = tuple((v, Vector()) for v in outside)
    lengths = tuple(zip(setting.proposal.means, radii, strict=True)) if setting.manifold == "sphere" else ()
    return Geometry(nothing, lengths, dimension=dimension)


def axes(coordinates: int) -> list[VectorSymbol]:
    """The unit vectors e_1 … e_r of a span, with which the means' coordinates are overlaps."""
    return [VectorSymbol(f"e_{n}", f"e_{{{n}}}") for n in range(1, coordinates + 1)]


@dataclass(frozen=True)
class Overlaps:
    """The inner products of all modes and means, and those among them that are states.

    Attributes
    ----------
    names : tuple of (Inner, sympy.Symbol)
        Every inner product and its symbol.
    relations : tuple of (sympy.Symbol, sympy.Expr)
        The symbols that the geometry fixes, each as an expression in the other symbols and the lengths.
    moving : tuple of (sympy.Symbol, Inner, sympy.Expr)
        For each state in order: its symbol, its inner product, and the inner product's value per unit of the state.
    variables : tuple of StateVariable
        The records of these states.
    gram : sympy.ImmutableMatrix
        The Gram matrix of the independent modes and the means in the states, divided by the lengths where the states
        are cosines. In a span, that of its axes and the means, with the learned covariances as further blocks.
    covariances : tuple of StateVariable
        The records of the learned covariances' entries.
    """

    names: tuple[tuple[Inner, sp.Symbol], ...]
    relations: tuple[tuple[sp.Symbol, sp.Expr], ...]
    moving: tuple[tuple[sp.Symbol, Inner, sp.Expr], ...]
    variables: tuple[StateVariable, ...]
    gram: sp.ImmutableMatrix
    covariances: tuple[StateVariable, ...] = ()

    __repr__ = short_repr


def overlaps_of(setting: Setting, geometry: Geometry) -> Overlaps:
    """The overlaps of the setting's modes and means, as the geometry relates them."""
    return _overlaps_in_span(setting, geometry) if setting.spanned else _overlaps_of_vectors(setting, geometry)


def _overlaps_in_span(setting: Setting, geometry: Geometry) -> Overlaps:
    """The coordinates X_in = a_i·e_n and the overlaps Q_ij of the whole means."""
    means, directions, laws = tuple(setting.proposal.means), axes(setting.coordinates), setting.proposal.span
    lengths, images = dict(geometry.lengths), dict(geometry.images)
    pairs = [(i, j) for i in range(len(means)) for j in range(i, len(means))]
    products = {Inner(means[i], means[j]): s for (i, j), s in _products(setting, pairs).items()}
    coordinates = {
        Inner(a, e): x for a, law in zip(means, laws, strict=True) for e, x in zip(directions, law.mean, strict=True)
    }
    relations: dict[sp.Symbol, sp.Expr] = {}
    for (i, j), name in zip(pairs, products.values(), strict=True):
        if means[i] in images:
            relations[name] = sp.Add(*(x * y for x, y in zip(laws[i].mean, laws[j].mean, strict=True)))
        elif i == j and means[i] in lengths:
            relations[name] = lengths[means[i]] ** 2
    moving = [
        (name, inner, sp.S.One) for inner, name in (*coordinates.items(), *products.items()) if name not in relations
    ]
    place = {a: i for i, a in enumerate(means)}

    def variable(name: sp.Symbol, inner: Inner) -> StateVariable:
        components = tuple(sorted(place[v] for v in inner.args if v in place))
        if inner in products:
            bound = sp.Mul(*(lengths.get(a, sp.oo) for a in inner.args))
            low = sp.S.Zero if inner.args[0] == inner.args[1] else -bound
            return StateVariable(name, StateKind.MEAN_OVERLAP, (components * 2)[:2], (low, bound))
        bound = lengths.get(means[components[0]], sp.oo)
        return StateVariable(name, StateKind.COORDINATE, components, (-bound, bound))

    entries = tuple(
        StateVariable(law.covariance[n, m], StateKind.COVARIANCE, (i,), (sp.S.Zero if n == m else -sp.oo, sp.oo))
        for i, law in enumerate(laws)
        for n in range(law.size)
        for m in range(n, law.size)
    )
    learned = "covariances" in setting.learn
    X = sp.Matrix([list(law.mean) for law in laws])
    Q = sp.Matrix(len(means), len(means), lambda i, j: products[Inner(means[i], means[j])]).xreplace(relations)
    gram = sp.Matrix(sp.BlockMatrix([[sp.eye(len(directions)), X.T], [X, Q]]))
    if learned:
        gram = sp.diag(gram, *(law.covariance for law in laws))
    return Overlaps(
        (*coordinates.items(), *products.items()),
        tuple(relations.items()),
        tuple(moving),
        tuple(variable(name, inner) for name, inner, _ in moving),
        sp.ImmutableMatrix(gram),
        entries if learned else (),
    )


def _products(setting: Setting, pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], sp.Symbol]:
    return {(i, j): sp.Symbol(indexed_name("Q", (i + 1, j + 1), apart=setting.apart), real=True) for i, j in pairs}


def _overlaps_of_vectors(setting: Setting, geometry: Geometry) -> Overlaps:
    modes, means = tuple(setting.target.means), tuple(setting.proposal.means)
    names = gram_symbols(modes, means)
    images, lengths = dict(geometry.images), dict(geometry.lengths)
    relations = {}
    for inner, name in names.items():
        image = (
            substitute_vectors(inner, images)
            .xreplace({Inner(v, v): length**2 for v, length in lengths.items()})
            .xreplace(names)
        )
        if image != name:
            relations[name] = image
    independent = [nu for nu in modes if nu not in images]
    apart = indices_apart(len(modes), len(means))

    def named(head: str, *indices: int) -> sp.Symbol:
        return sp.Symbol(indexed_name(head, indices, apart=apart), real=True)

    moving = []
    for i, a in enumerate(means, 1):
        for k, nu in enumerate(independent, 1):
            tail: tuple[int, ...] = (i,) if len(independent) == 1 else (i, k)
            factor = lengths[a] * lengths[nu] if geometry.cosines else sp.S.One
            moving.append((named("m", *tail) if geometry.cosines else names[Inner(a, nu)], Inner(a, nu), factor))
    for i, a in enumerate(means, 1):
        for j in range(i, len(means) + 1):
            inner = Inner(a, means[j - 1])
            if names[inner] in relations:
                continue
            tail = () if len(means) == 2 else (i, j)
            factor = lengths[a] * lengths[means[j - 1]] if geometry.cosines else sp.S.One
            moving.append((named("s", *tail) if geometry.cosines else names[inner], inner, factor))
    return Overlaps(
        tuple(names.items()),
        tuple(relations.items()),
        tuple(moving),
        _variables(means, geometry, names, relations, moving),
        _gram([*independent, *means], geometry, names, relations, moving),
    )


def _variables(
    means: tuple[VectorSymbol, ...], geometry: Geometry, names: Names, relations: Relations, moving: Moving
) -> tuple[StateVariable, ...]:
    """The records of the overlaps that move.

    Two vectors of known lengths bound their overlap by the product of the lengths.
    """
    moves = {names[inner] for _, inner, _ in moving}

    def interval(inner: Inner) -> tuple[sp.Expr, sp.Expr]:
        if geometry.cosines:
            return -sp.S.One, sp.S.One
        squares = [sp.sqrt(relations.get(names[Inner(v, v)], names[Inner(v, v)])) for v in inner.args]
        if any(s.free_symbols & moves for s in squares):
            return (sp.S.Zero if inner.args[0] == inner.args[1] else -sp.oo), sp.oo
        return -squares[0] * squares[1], squares[0] * squares[1]

    def variable(state: sp.Symbol, inner: Inner) -> StateVariable:
        components = tuple(sorted(means.index(a) for a in inner.args if a in means))
        kind = StateKind.MEAN_OVERLAP if len(components) == 2 else StateKind.MODE_OVERLAP
        return StateVariable(state, kind, components, interval(inner))

    return tuple(variable(state, inner) for state, inner, _ in moving)


def _gram(
    vectors: Sequence[VectorSymbol], geometry: Geometry, names: Names, relations: Relations, moving: Moving
) -> sp.ImmutableMatrix:
    """The Gram matrix of the vectors in the states, divided by the lengths where the states are cosines."""
    lengths = dict(geometry.lengths)
    in_states = {names[inner]: factor * state for state, inner, factor in moving}

    def entry(i: int, j: int) -> sp.Expr:
        name = names[Inner(vectors[i], vectors[j])]
        value = relations.get(name, name).xreplace(in_states)
        return value / (lengths[vectors[i]] * lengths[vectors[j]]) if geometry.cosines else value

    return sp.ImmutableMatrix(len(vectors), len(vectors), entry)
