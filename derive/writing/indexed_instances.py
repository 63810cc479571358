"""Indexed equations at a derivation's own K and L, where each can be compared with the derived equation."""

from __future__ import annotations

import itertools

import sympy as sp

from derive.dynamics.derivation import Derivation
from derive.objects.mixtures import DIMENSION
from derive.objects.objective import Setting
from derive.objects.vectors import Inner, Vector, VectorSymbol
from derive.rules.flow import close
from derive.writing.indexed_equations import COMPONENTS, MODES, IndexedEquation
from derive.writing.indexed_sums import Entry, IndexedSum, SquaredNorm


def instantiate(indexed: tuple[IndexedEquation, ...], derivation: Derivation) -> dict[str, sp.Expr | Vector]:
    """Write every equation at every value of its free indices, in the derivation's own symbols and by its labels.

    `velocity_i` is a vector; `dM_ik`, `dQ_ij`, `dw_i`, `dsigma_i` and the energies `e_i`, `e_mean` are scalars.
    """
    setting = derivation.setting
    sizes = {COMPONENTS: setting.proposal.size, MODES: setting.target.size}
    names = dict(derivation.overlaps.names)
    values: dict[str, sp.Expr | Vector] = {}
    known: dict[Entry, sp.Expr] = {}
    for equation in indexed:
        for point in itertools.product(*(range(1, sizes[size] + 1) for _, size in equation.free)):
            at = {index: sp.Integer(n) for (index, _), n in zip(equation.free, point, strict=True)}
            at |= {symbol: sp.Integer(size) for symbol, size in sizes.items()}
            left = equation.left.xreplace(at)
            value = _expanded(equation.value.xreplace(at)).xreplace(known)
            if not equation.rate and left.family in _OWN_DEFINITIONS:
                known[left] = value
                continue
            written = _in_symbols(value, setting)
            if left.family == "a":
                values[f"velocity_{point[0]}"] = _velocity(
                    written, setting.proposal.means[point[0] - 1], equation.tangent
                )
            elif left.family != "Q" or point[0] <= point[1]:
                values[("d" if equation.rate else "") + left.named(setting.apart)] = close(written, names)
    return values


_OWN_DEFINITIONS = ("share", "share_star", "u", "u_star", "D")
"""Families that only the indexed equations use."""


def _expanded(expression: sp.Expr) -> sp.Expr:
    return expression.xreplace({node: node.expanded() for node in expression.atoms(IndexedSum)})


def _in_symbols(expression: sp.Expr, setting: Setting) -> sp.Expr:
    """Replace entries by the derivation's symbols, and squared norms by inner products."""
    replaced = expression.xreplace({entry: _symbol(entry, setting) for entry in expression.atoms(Entry)})
    norms = {norm: _combination(norm.args[0]) for norm in replaced.atoms(SquaredNorm)}
    return replaced.xreplace({norm: vector.dot(vector) for norm, vector in norms.items()})


def _symbol(entry: Entry, setting: Setting) -> sp.Expr:
    first = int(entry.indices[0]) if entry.indices else 0
    vectors_of = {"a": setting.proposal.means, "nu": setting.target.means, "w": setting.proposal.weights}
    known = {**vectors_of, "sigma": setting.proposal.scales, "sigma_star": setting.target.scales}
    if entry.family in known:
        return known[entry.family][first - 1]
    mixture = setting.target if entry.family.endswith("_star") else setting.proposal
    if mixture.size == 1:
        certain = {"rho": sp.S.One, "S": DIMENSION, "ell": sp.S.Zero}
        if entry.family.removesuffix("_star") in certain:
            return certain[entry.family.removesuffix("_star")]
    if entry.family in ("Q", "Gamma"):
        entry = Entry(entry.family, *sorted(entry.indices))
    if len(entry.indices) == 3:
        own, *pair = entry.indices
        entry = Entry(entry.family, own, *sorted(pair))
    return sp.Symbol(entry.named(setting.apart), real=True)


def _combination(expression: sp.Expr) -> Vector:
    """Turn a linear expression in vector symbols into a vector."""
    expanded = sp.expand(expression)
    return Vector(
        {symbol: expanded.coeff(symbol) for symbol in sorted(expanded.atoms(VectorSymbol), key=sp.default_sort_key)}
    )


def _velocity(expression: sp.Expr, own: VectorSymbol, tangent: bool) -> Vector:
    vector, mean = _combination(expression), Vector({own: sp.S.One})
    return vector - vector.dot(mean) / Inner(own, own) * mean if tangent else vector
