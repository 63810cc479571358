"""What the moments of a group depend on: numbers that no rotation of its normal variables changes.

The logits of a group, relative to one of them, are A_l + B_l·z + k_l ‖z‖² + k'_l c with z ~ N(0, I). Moments of the
shares alone depend on A_l, k_l, k'_l and the covariances B_l·B_m. These are short: where the slopes B have entries of a
Cholesky factor, the covariances have the inner products that it was made from. Where they are affine in the states, few
of them are independent, and a table in as many coordinates holds a moment at every state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
        The states that appear; every invariant is affine in them.
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

    None where its moments depend on more than these, or where the invariants are not affine in the states.
    """
    if any(any(m.variables) for m in group.moments) or any(len(set(row)) > 1 for row in group.curvatures):
        return None
    definitions = definitions_for(group.coefficients, system)

    def written_out(expression: sp.Expr) -> sp.Expr:
        for symbol, definition in reversed(definitions):
            expression = expression.xreplace({symbol: definition})
        return expression.replace(lambda e: isinstance(e, CholeskyRoot), lambda e: e.explicit())

    reference = next((l for l, logit in enumerate(group.logits) if logit == 0), len(group.offsets) - 1)
    offsets, chi_slopes = (
        tuple(sp.expand(written_out(e - row[reference])) for e in row) for row in (group.offsets, group.chi_slopes)
    )
    curvatures = [row[0] if row else sp.S.Zero for row in group.curvatures]
    slopes = [[written_out(b) for b in row] for row in group.slopes]
    apart = [[b - b_0 for b, b_0 in zip(row, slopes[reference], strict=True)] for row in slopes]
    covariances = {
        (l, m): sp.expand(sp.Add(*(a * b for a, b in zip(apart[l], apart[m], strict=True))))
        for l, m in combinations_with_replacement(range(len(offsets)), 2)
    }
    found = Invariants(
        (), offsets, tuple(written_out(k - curvatures[reference]) for k in curvatures), chi_slopes, covariances
    )
    if any(e.free_symbols & set(system.states) for e in (*found.curvatures, *found.chi_slopes)):
        return None
    if any(BETA in e.free_symbols for e in found.varying):
        return None
    states = tuple(s for s in system.states if any(s in e.free_symbols for e in found.varying))
    slopes_in_states = (sp.diff(e, s) for e in found.varying for s in states)
    if any(slope.free_symbols & set(states) for slope in slopes_in_states):
        return None
    return replace(found, states=states)
