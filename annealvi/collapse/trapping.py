"""Sets of overlaps that the flow never leaves: a trajectory that enters one is decided before the schedule has ended.

The flow never leaves a closed convex set if, on the boundary, the velocity points inwards or along it (Nagumo).
Consider two components under two opposite modes, with F, g and a_i of `pair_flow`. Let c > 0 be a level and θ the angle
of the component on a face, cos θ = c.

* Separated, {m_1 >= c, m_2 <= −c} and its mirror image. The flow stays inside where F(c) >= 0 >= F(−c), at any β >= 0.
  With m_2 = cos φ <= −c, that is θ + φ >= π, the bracket on the face m_1 = c is m_2 − s c <= sin θ sin(θ + φ) <= 0, so
  repulsion and attraction both point inwards.
* Collapsed, {m_1 >= c, m_2 >= c} or both below −c. On the face m_1 = c the attraction must outweigh the repulsion: β
  a_1 F(c) (1 − c²) >= max g(s) (m_2 − s c) over the overlaps of the face. This gives a least β. The flow stays inside
  from this β on, as long as β does not fall below it.
* Collapsed, by the sum, {m_1 + m_2 >= A} with A > 1, where both overlaps are positive. The repulsions add up to −g(s)
  (1 − s) (m_1 + m_2), with g(s) (1 − s) small for every s. On the face the attraction must outweigh this sum, which
  again gives a least β.

The code checks each inequality with proven bounds of F and g, over cells in which the two are monotone, and with F and
g as far off as the averages of the running kernel may be. The result is proven for the exact flow. For the kernel it
holds as far as the kernel's averages keep to the error that they claim. Where the kernel's g may be negative, a
separated set has a least β too. `beyond_steps` allows for the error of an integration step.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from annealvi.collapse.pair_flow import PairFlow
from annealvi.session.session import Session
from derive.problem.kinds import names_of_kinds
from derive.problem.objective_scope import key_of_another_objective
from kernels.integrate.kernel import Kernel
from kernels.integrate.paths import NO_TRAPS

LEVELS = np.linspace(0.05, 0.95, 19)
"""Levels c of the sets that are tried."""
SUMS = np.linspace(1.02, 1.9, 23)
"""Levels A of the sums that are tried."""
CELLS = 160
"""Number of cells in which F and g are bounded."""
OUTWARDS = 1 + 1e-12
"""Factor that covers the rounding of the few products behind a bound."""


class DecidedSet(NamedTuple):
    """A set that the flow never leaves once β has reached `least_beta`.

    The set is {sign_1 m_1 >= level, sign_2 m_2 >= level}, or {sign_1 (m_1 + m_2) >= level} where `together` is 1. The
    fields are those of a row of the traps of `Kernel.integrate`.
    """

    sign_1: float
    sign_2: float
    level: float
    least_beta: float
    together: float = 0.0


def decided_sets(session: Session, kernel: Kernel) -> np.ndarray:
    """Return the proven sets as rows of `DecidedSet` for `Kernel.integrate`, shape (n, 5).

    There is no row where the argument does not apply. Under a schedule whose β may fall again, only the sets whose
    least β lasts are returned.
    """
    if not is_pair_on_a_line(session):
        return NO_TRAPS
    flow = PairFlow.of(session, kernel)
    least = separating_level(flow)
    apart = [] if least is None else [least, *LEVELS[least < LEVELS]] if flow.spurious > 0 else [least]
    asked = [DecidedSet(sign, -sign, float(level), 0.0) for level in apart for sign in (1.0, -1.0)]
    asked += [DecidedSet(sign, sign, float(level), 0.0) for level in LEVELS for sign in (1.0, -1.0)]
    asked += [DecidedSet(sign, sign, float(total), 0.0, together=1.0) for sign in (1.0, -1.0) for total in SUMS]
    sets = np.array([found._replace(least_beta=least_beta(flow, found)) for found in asked])
    return sets[sets[:, 3] <= lasting_beta(session)]


def beyond_steps(sets: np.ndarray, rtol: float) -> np.ndarray:
    """Shrink the sets (n, 5) by the possible error of an integration step.

    The step has the relative tolerance rtol and the absolute tolerance rtol/100. Its own estimate bounds the root mean
    square of the error over three states, so it bounds one state by √3 · 1.01 rtol, and a sum of two states by √2 times
    as much. If a computed state lies in the shrunk set, the exact flow from the step's beginning lies in the proven
    set, as far as the estimate holds.
    """
    return sets + np.outer(2 + sets[:, 4], [0, 0, rtol, 0, 0])


def lasting_beta(session: Session) -> float:
    """Return the largest β below which β(t) is known never to fall again, once it has reached that β.

    A set whose least β is at most this one stays closed to the end of the schedule. The result is 1 for a kind whose
    record says that its temperature never rises, and for a table that falls. A table that rises gives 1/max T. Of a
    user's expression nothing is known, so it gives 0.
    """
    kind = session.schedule.kind
    if kind == "table":
        temperatures = [*(T for _, T in session.problem.schedule.points), 1.0]
        return 1.0 if all(before >= after for before, after in pairwise(temperatures)) else 1 / max(temperatures)
    never_rises = names_of_kinds(lambda record: record.monotone is True)
    return 1.0 if kind in (*never_rises, "monotone") else 0.0  # "monotone": that of `optimal`, by construction


def is_pair_on_a_line(session: Session) -> bool:
    """Return whether the problem is a pair of similar components under two opposite modes.

    The components have one radius and scale, and learn their means on the sphere under the tempered reverse KL.
    """
    problem = session.problem
    target, proposal = problem.target, problem.proposal
    alike = all(len(set(values)) == 1 for values in (proposal.radii, proposal.scales, target.scales))
    return (
        alike
        and key_of_another_objective(problem) is None
        and session.state_names == ("m_1", "m_2", "s")
        and problem.flow.manifold == "sphere"
        and problem.flow.learn == ("means",)
    )


def separating_level(flow: PairFlow) -> float | None:
    """Return the smallest c, to 1e-9, beyond which F and −F(−·) exceed the kernel's error; None if there is none."""

    def separates(c: float) -> bool:
        return bool(min(_pull(flow, sign, np.array([c]))[0] for sign in (1.0, -1.0)) > 0)

    low, high = 0.0, 1.0 - 1e-9
    if not separates(high):
        return None
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if separates(middle) else (middle, high)
    return high


def least_beta(flow: PairFlow, found: DecidedSet) -> float:
    """Return the β from which on the flow never leaves the set; infinite where that is not proven.

    The level is between 0 and 1, or between 1 and 2 for a sum.
    """
    if found.together:
        return _least_of_sum(flow, found.sign_1, found.level)
    level = found.level
    pulls = [_pull(flow, sign, np.array([level]))[0] for sign in (found.sign_1, found.sign_2)]
    against = flow.spurious * np.sqrt(1 - level**2)  # the bracket is at least −sin θ on the face
    if found.sign_1 == found.sign_2:
        against = max(against, _greatest_repulsion(flow, level))
    return _quotient(against, min(flow.pulls) * min(pulls) * (1 - level**2))


def _pull(flow: PairFlow, sign: float, m: np.ndarray) -> np.ndarray:
    """Return a lower bound of sign F(sign m), for the exact F and the kernel's, at m (n,)."""
    low, high = flow.attraction(sign * m)
    return (low if sign > 0 else -high) - flow.error


def _quotient(against: float, pull: float) -> float:
    return np.inf if pull <= 0 else float(against / pull) * OUTWARDS


@lru_cache(maxsize=4)
def _repulsion_in_cells(flow: PairFlow) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of cells of s (n + 1,), and an upper bound of g in each cell (n,)."""
    s = np.linspace(-1, 1, CELLS + 1)
    return s, flow.repulsion(s[1:])[1] + flow.repulsion_error


def _least_of_sum(flow: PairFlow, sign: float, total: float) -> float:
    """Return the least β of a set {sign (m_1 + m_2) >= total}.

    g grows with s, and 1 − s falls. Along a cell of the face, F(m_1) is at least its value at the smallest m_1; the
    same holds for m_2.
    """
    s, g = _repulsion_in_cells(flow)
    m = np.linspace(total - 1, 1, CELLS + 1)  # the cells of m_1; read backwards, those of m_2
    pull = _pull(flow, sign, m[:-1])
    inside = np.stack([1 - m[1:] ** 2, 1 - m[:-1] ** 2])
    one = np.where(pull > 0, inside.min(axis=0), inside.max(axis=0)) * pull
    least = (flow.pulls[0] * one + flow.pulls[1] * one[::-1]).min()
    return _quotient(total * (g * (1 - s[:-1])).max(), least)


def _greatest_repulsion(flow: PairFlow, c: float) -> float:
    """Return an upper bound of g(s) (m − s c) on a face.

    On the face one component has overlap c, and the other has m >= c. g grows with s and the bracket falls with s, so g
    at a cell's upper end times the bracket at its lower end bounds the product. With cos θ = c and cos φ = m the face
    is cos(θ + φ) <= s <= cos(θ − φ). Both limits are widest at the cell's smallest m.
    """
    s, g = _repulsion_in_cells(flow)
    m = np.linspace(c, 1, CELLS // 4 + 1)
    theta, phi, rounding = np.arccos(c), np.arccos(m[:-1]), 1e-7  # rounding of an arc cosine near one
    inside = (s[:-1, None] <= np.cos(theta - phi) + rounding) & (s[1:, None] >= np.cos(theta + phi) - rounding)
    bound = g[:, None] * np.maximum(m[1:] - s[:-1, None] * c, 0)
    return float(bound.max(where=inside, initial=0.0))
