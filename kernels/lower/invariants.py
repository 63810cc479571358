"""What the moments of a group depend on: numbers that no rotation of its normal variables changes.

The logits of a group, relative to one of them, are A_l + B_l·z + k_l ‖z‖² + k'_l c with z ~ N(0, I). Moments of the
shares alone depend on A_l, k_l, k'_l and the covariances B_l·B_m. These are short: where the slopes B have entries of a
Cholesky factor, the covariances have the inner products that it was made from. Where they are affine in the states, few
of them are independent, and a table in as many coordinates holds a moment at every state.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

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


def invariants_of(group: Group, system: OdeSystem) -> Invariants | None:
    """The invariants of a group.

    None where its moments depend on more than these, or where the invariants are not affine in bounded states.
    """
    if any(any(m.variables) for m in group.moments) or any(len(set(row)) > 1 for row in group.curvatures):
        return None
    definitions = definitions_for(group.coefficients, system)
    moving = set(system.states)

    def written_out(expression: sp.Expr) -> sp.Expr:
        for symbol, definition in reversed(definitions):
            expression = expression.xreplace({symbol: definition})
        return expression.replace(lambda e: isinstance(e, CholeskyRoot), lambda e: e.explicit())

    def expanded(expression: sp.Expr) -> sp.Expr:
        """A sum in which a Cholesky factor's roots have cancelled; what contains no state need not be read."""
        return sp.expand(expression) if expression.free_symbols & moving else expression

    offsets, chi_slopes = (tuple(map(written_out, row)) for row in (group.offsets, group.chi_slopes))
    curvatures = tuple(written_out(row[0]) if row else sp.S.Zero for row in group.curvatures)
    slopes = [tuple(map(written_out, row)) for row in group.slopes]
    found = set().union(*(e.free_symbols for e in (*offsets, *(b for row in slopes for b in row))))
    bounded = {v.symbol for v in system.variables if all(end.is_finite for end in v.interval)}
    constant = set().union(*(e.free_symbols for e in (*curvatures, *chi_slopes)))
    if constant & moving or BETA in found or not found & moving <= bounded:
        return None
    reference = next((l for l, logit in enumerate(group.logits) if logit == 0), len(offsets) - 1)
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
