"""What the moments of a group depend on: numbers that no rotation of its normal variables changes.

The logits of a group, relative to one of them, are A_l + B_l·z + k_l ‖z‖² + k'_l c with z ~ N(0, I). Moments of the
shares alone depend on A_l, k_l, k'_l and the covariances B_l·B_m. These are short: where the slopes B have entries of a
Cholesky factor, the covariances have the inner products that it was made from. Where they are affine in the states, few
of them are independent, and a table in as many coordinates holds a moment at every state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import NamedTuple

import sympy as sp

from derive.objects.system import BETA, OdeSystem
from derive.rules.reduction import CholeskyRoot
from kernels.lower.lattice import Group, definitions_for


@dataclass(frozen=True)
class Invariants:
    """The invariants of a group, relative to one of its logits, in states and parameters.

    Attributes
    ----------
    states
        The states that appear, all of them bounded; every invariant is affine in them.
    offsets, curvatures, chi_slopes
        (C,) A_l, k_l and k'_l. The last two contain no state.
    covariances
        B_l·B_m by (l, m), for l <= m.
    """

    states: tuple[sp.Symbol, ...]
    offsets: tuple[sp.Expr, ...]
    curvatures: tuple[sp.Expr, ...]
    chi_slopes: tuple[sp.Expr, ...]
    covariances: dict[tuple[int, int], sp.Expr]

    @property
    def varying(self) -> tuple[sp.Expr, ...]:
        """The offsets, then the covariances."""
        return (*self.offsets, *self.covariances.values())


@dataclass(frozen=True)
class Pair:
    """The logit of one of two components relative to the other, ℓ = A + B z + k (z² + c), in states and parameters.

    Moments with even powers of z depend on A, |B| and k alone, whatever the states do.

    Attributes
    ----------
    offset, slope, curvature
        A, B and k.
    component
        The index, 0 or 1, of the component whose logit ℓ is.
    """

    offset: sp.Expr
    slope: sp.Expr
    curvature: sp.Expr
    component: int


def invariants_of(group: Group, system: OdeSystem) -> Invariants | None:
    """The invariants of a group.

    None where its moments depend on more than these, or where the invariants are not affine in bounded states.
    """
    isotropic = not group.crossed and all(len(set(row)) <= 1 for row in group.curvatures)
    if any(any(m.variables) for m in group.moments) or not isotropic:
        return None
    moving = set(system.states)

    def expanded(expression: sp.Expr) -> sp.Expr:
        """A sum in which a Cholesky factor's roots have cancelled; what contains no state need not be read."""
        return sp.expand(expression) if expression.free_symbols & moving else expression

    rows = _written_out(group, system)
    offsets, slopes, chi_slopes = rows.offsets, rows.slopes, rows.chi_slopes
    curvatures = tuple(row[0] if row else sp.S.Zero for row in rows.curvatures)
    found = set().union(*(e.free_symbols for e in (*offsets, *(b for row in slopes for b in row))))
    bounded = {v.symbol for v in system.variables if all(end.is_finite for end in v.interval)}
    constant = set().union(*(e.free_symbols for e in (*curvatures, *chi_slopes)))
    if constant & moving or BETA in found or not found & moving <= bounded:
        return None
    reference = _reference(group)
    apart = [[b - b_0 for b, b_0 in zip(row, slopes[reference], strict=True)] for row in slopes]
    relative = tuple(expanded(a - offsets[reference]) for a in offsets)
    covariances = {
        (l, m): expanded(sp.Add(*(a * b for a, b in zip(apart[l], apart[m], strict=True))))
        for l, m in combinations_with_replacement(range(len(offsets)), 2)
    }
    varying = [e for e in (*relative, *covariances.values()) if e.free_symbols & moving]
    slopes_in_states = (sp.diff(e, s) for e in varying for s in e.free_symbols & moving)
    if any(slope.free_symbols & moving for slope in slopes_in_states):
        return None
    return Invariants(
        tuple(s for s in system.states if any(s in e.free_symbols for e in varying)),
        relative,
        tuple(k - curvatures[reference] for k in curvatures),
        tuple(k - chi_slopes[reference] for k in chi_slopes),
        covariances,
    )


def pair_of(group: Group, system: OdeSystem) -> Pair | None:
    """The logit of a group of two components with one normal variable; None for any other group."""
    even = all(m.variables[0] % 2 == 0 for m in group.moments) if len(group.normals) == 1 else False
    if len(group.logits) != 2 or not even:
        return None
    rows, reference = _written_out(group, system), _reference(group)
    component = 1 - reference
    offset, slope, curvature, chi_slope = (
        sp.expand(row[component] - row[reference])
        for row in (rows.offsets, [s for (s,) in rows.slopes], [k for (k,) in rows.curvatures], rows.chi_slopes)
    )
    in_one_variable = group.chi_squared is None or sp.expand(curvature - chi_slope) == 0
    if not in_one_variable or BETA in offset.free_symbols | slope.free_symbols | curvature.free_symbols:
        return None
    return Pair(offset, slope, curvature, component)


def relative_coefficients(group: Group, system: OdeSystem) -> tuple[sp.Expr, ...]:
    """The coefficients of a group's logits relative to one of them, in states and parameters, in the group's order."""
    reference, components, written_out = _reference(group), len(group.offsets), _writer(group, system)
    found: list[sp.Expr] = []
    for rows in group.blocks:
        width = len(rows) // components
        found += [written_out(e) - written_out(rows[reference * width + n % width]) for n, e in enumerate(rows)]
    return tuple(sp.expand(e) for e in found)


class _Rows(NamedTuple):
    """The coefficients of a group's logits in states and parameters; see `Group`."""

    offsets: tuple[sp.Expr, ...]
    slopes: tuple[tuple[sp.Expr, ...], ...]
    curvatures: tuple[tuple[sp.Expr, ...], ...]
    chi_slopes: tuple[sp.Expr, ...]


def _written_out(group: Group, system: OdeSystem) -> _Rows:
    """The coefficients of a group's logits without named subexpressions."""
    written_out = _writer(group, system)
    slopes, curvatures = (
        tuple(tuple(map(written_out, row)) for row in rows) for rows in (group.slopes, group.curvatures)
    )
    return _Rows(tuple(map(written_out, group.offsets)), slopes, curvatures, tuple(map(written_out, group.chi_slopes)))


def _writer(group: Group, system: OdeSystem) -> Callable[[sp.Expr], sp.Expr]:
    """A function that writes a coefficient of a group's logits without named subexpressions."""
    definitions = definitions_for(group.coefficients, system)

    def written_out(expression: sp.Expr) -> sp.Expr:
        for symbol, definition in reversed(definitions):
            expression = expression.xreplace({symbol: definition})
        return expression.replace(lambda e: isinstance(e, CholeskyRoot), lambda e: e.explicit())

    return written_out


def _reference(group: Group) -> int:
    """The component to which the logits are relative."""
    return next((l for l, logit in enumerate(group.logits) if logit == 0), len(group.logits) - 1)
