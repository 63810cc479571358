"""Whether a fixed point is missing, by the sum of the points' indices.

In enough dimensions, d ≥ r + L, the overlaps form a convex set of Gram matrices, which the flow maps into itself. By
the Lefschetz–Hopf theorem the indices of the fixed points in this set sum to one. The index is 0 for a point that is
unstable across its span, because there the set is a cone that the flow expands from its tip. Otherwise it is
(−1)^(number of unstable directions within the span). A sum other than one shows that a point is missing.

Off spheres and with learned scales the set is not compact. Two facts about 𝓛 = −H(q) − β E_q[log p*] at β > 0 and
constant weights take the place of compactness.

* 𝓛 grows without bound where a mean runs away, or a scale vanishes or grows without bound: −H(q) is at least
  −Σ_i w_i d log σ_i up to a constant, and −β E_q[log p*] grows like Σ_i w_i (d σ_i² + ‖a_i‖²). So the places where 𝓛 is
  at most c form a compact set, which the flow does not leave.
* The fixed points lie in a compact set as well. Means that spread, with their scales where these are learned, change 𝓛
  by the target at a rate that grows like Σ_i w_i ‖a_i‖², and by the entropy at a rate that grows like ‖a_i‖ at most.
  The same holds for growing scales alone, on spheres. Take the narrowest component, and those that are comparably
  narrow and comparably close to it: in the limit in which their scales vanish, they see nothing else, and their
  dilation about this component's mean changes 𝓛 at the rate −d Σ w_i.

Hence, for large c, the places where 𝓛 is at most c are as contractible as all places, and the sum is one again.

Off spheres this holds for the means themselves in any number of dimensions, since they fill R^{Ld}. There a point of
rank ρ stands for all its images under rotations about the modes, which form the manifold of orthonormal ρ-frames in
R^{d−r}. By Morse and Bott it counts with (−1)^(number of unstable directions) times the Euler characteristic of that
manifold. The sum is taken in this way where d < r + L.

With learned weights 𝓛 stays finite where a weight vanishes. Fixed points of fewer components lie at that edge, with the
dead component's mean anywhere, and no sum is known for the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from annealvi.fixed_points.mean_flow import MeanFlow
from derive.objects.parameters import WEIGHTS

if TYPE_CHECKING:
    from annealvi.fixed_points.search import FixedPoint


def index_sum(flow: MeanFlow, found: Iterable[FixedPoint]) -> int | None:
    """Return the sum of the points' indices, which is one if none is missing; None where the theorem does not apply."""
    points = list(found)
    if why_unchecked(flow, points):
        return None
    if has_enough_dimensions(flow):
        return sum(p.spectrum.index for p in points)
    around = flow.dimension - flow.span
    return sum(frames_characteristic(p.rank, around) * (-1) ** p.unstable_directions for p in points)


def why_unchecked(flow: MeanFlow, found: Iterable[FixedPoint]) -> str:
    """Return why the sum of the indices says nothing, or "" where it is one if no point is missing."""
    if WEIGHTS in flow.learned:
        return "learned weights may vanish"
    if flow.on_spheres and not has_enough_dimensions(flow):
        return "too few dimensions"
    if not all(p.spectrum.resolved for p in found):
        return "an eigenvalue whose sign is not resolved"
    return ""


def has_enough_dimensions(flow: MeanFlow) -> bool:
    """Whether the means can be independent of each other and of the modes."""
    return flow.dimension >= flow.span + len(flow.radii)


def frames_characteristic(rank: int, dimension: int) -> int:
    """Return the Euler characteristic of the orthonormal `rank`-frames in R^dimension, a product over spheres."""
    return math.prod(1 + (-1) ** (dimension - n) for n in range(1, rank + 1))
