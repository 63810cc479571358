"""Sets of overlaps that the flow never leaves, so that a trajectory in one of them is decided before the schedule has
ended.

A closed convex set is never left if on its boundary the velocity points inwards or along it (Nagumo). For two
components under two opposite modes, with F, g and a_i of `pair_flow`, θ the angle of the component on a face, cos θ =
c, and any level c > 0:

* Separated, {m_1 >= c, m_2 <= −c} and its mirror image. Kept where F(c) >= 0 >= F(−c), at any β >= 0: with m_2 = cos φ
<= −c, that is
  θ + φ >= π, the bracket on the face m_1 = c is m_2 − s c <= sin θ sin(θ + φ) <= 0, so repulsion and attraction both
  point inwards.
* Collapsed, {m_1 >= c, m_2 >= c} or both below −c. On the face m_1 = c the attraction must outweigh the repulsion, β
a_1 F(c) (1 − c²) >=
  max g(s) (m_2 − s c) over the overlaps of the face. That is a least β, from which on the set is kept as long as β does
  not fall below it.
* Collapsed, by the sum, {m_1 + m_2 >= A}, A > 1, where both are positive. Together the repulsions are −g(s) (1 − s)
(m_1 + m_2), with
  g(s) (1 − s) small for every s, and on the face the attraction must outweigh that: a least β too.

Each inequality is checked with bounds of F and g that are proven, over cells in which the two are monotone, and with F
and g as far off as the averages of the kernel that runs may be. So it holds for the exact flow, by proof, and for the
kernel's as far as its averages keep to the error that they claim. Where the kernel's g may be negative, a separated set
has a least β too. What a step of the integrator may be off by is allowed for by `beyond_steps`.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from annealvi.collapse.pair_flow import PairFlow
from annealvi.session.session import Session
from kernels.integrate.kernel import Kernel
from kernels.integrate.paths import NO_TRAPS

LEVELS = np.linspace(0.05, 0.95, 19)
SUMS = np.linspace(1.02, 1.9, 23)
CELLS = 160
OUTWARDS = 1 + 1e-12
"""For the roundings of the few products behind a bound."""


class DecidedSet(NamedTuple):
    """{sign_1 m_1 >= level, sign_2 m_2 >= level}, or {sign_1 (m_1 + m_2) >= level} where together is 1, once β has
    reached its least value.

    The fields are those of a row of `Kernel.integrate`'s traps.
    """

    sign_1: float
    sign_2: float
    level: float
    least_beta: float
    together: float = 0.0


def decided_sets(session: Session, kernel: Kernel) -> np.ndarray:
    """Proven sets as rows of `DecidedSet` for `Kernel.integrate`, (n, 5). None where the argument does not apply.

    Under a schedule whose β may fall again only those whose least β lasts are given.
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
    """The sets (n, 5) drawn in by what a step of tolerance rtol (and rtol/100, absolute) may be off by, as far as its
    own estimate tells.

    The estimate bounds the root mean square over three states, so one state by √3 · 1.01 rtol and a sum of two by √2
    times as much. The exact flow from where the step began is that near to a computed state in such a set, and so in
    the proven one.
    """
    return sets + np.outer(2 + sets[:, 4], [0, 0, rtol, 0, 0])


def lasting_beta(session: Session) -> float:
    """The largest least β that lasts once β(t) has reached it: 1 where β never falls below 1 again, else the smallest β
    that is known of.

    From T0 every kind with a formula goes straight to 1. A table may rise, and of a user's expression nothing is known.
    """
    kind = session.schedule.kind
    if kind == "table":
        temperatures = [*(T for _, T in session.problem.schedule.points), 1.0]
        return 1.0 if all(before >= after for before, after in pairwise(temperatures)) else 1 / max(temperatures)
    straight = ("constant", "exponential", "geometric", "linear", "beta-exponential", "beta-linear", "cosine", "hold")
    return 1.0 if kind in (*straight, "monotone") else 0.0  # "monotone": that of `optimal`, by construction


def is_pair_on_a_line(session: Session) -> bool:
    """Whether the problem is two components of one radius and scale that learn their means on the sphere, under two
    opposite modes."""
    problem = session.problem
    target, proposal = problem.target, problem.proposal
    alike = all(len(set(values)) == 1 for values in (proposal.radii, proposal.scales, target.scales))
    return (
        alike
        and session.state_names == ("m_1", "m_2", "s")
        and problem.flow.manifold == "sphere"
        and problem.flow.learn == ("means",)
    )


def separating_level(flow: PairFlow) -> float | None:
    """The smallest c, to 1e-9, beyond which both F and −F(−·) are above the kernel's error; None where they never
    are."""

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
    """From which β on the set is never left; infinite where that is not proven. 0 < level < 1, or 1 < level < 2 of a
    sum."""
    if found.together:
        return _least_of_sum(flow, found.sign_1, found.level)
    level = found.level
    pulls = [_pull(flow, sign, np.array([level]))[0] for sign in (found.sign_1, found.sign_2)]
    against = flow.spurious * np.sqrt(1 - level**2)  # the bracket is nowhere on the face below −sin θ
    if found.sign_1 == found.sign_2:
        against = max(against, _greatest_repulsion(flow, level))
    return _quotient(against, min(flow.pulls) * min(pulls) * (1 - level**2))


def _pull(flow: PairFlow, sign: float, m: np.ndarray) -> np.ndarray:
    """A lower bound of sign F(sign m), for the exact F and the kernel's, at m (n,)."""
    low, high = flow.attraction(sign * m)
    return (low if sign > 0 else -high) - flow.error


def _quotient(against: float, pull: float) -> float:
    return np.inf if pull <= 0 else float(against / pull) * OUTWARDS


@lru_cache(maxsize=4)
def _repulsion_in_cells(flow: PairFlow) -> tuple[np.ndarray, np.ndarray]:
    """The ends of cells of s (n + 1,), and an upper bound of g in each (n,)."""
    s = np.linspace(-1, 1, CELLS + 1)
    return s, flow.repulsion(s[1:])[1] + flow.repulsion_error


def _least_of_sum(flow: PairFlow, sign: float, total: float) -> float:
    """g grows with s and 1 − s falls. Along a cell of the face F(m_1) is at least what it is at the smallest m_1, and
    so for m_2."""
    s, g = _repulsion_in_cells(flow)
    m = np.linspace(total - 1, 1, CELLS + 1)  # of m_1, and backwards the same of m_2
    pull = _pull(flow, sign, m[:-1])
    inside = np.stack([1 - m[1:] ** 2, 1 - m[:-1] ** 2])
    one = np.where(pull > 0, inside.min(axis=0), inside.max(axis=0)) * pull
    least = (flow.pulls[0] * one + flow.pulls[1] * one[::-1]).min()
    return _quotient(total * (g * (1 - s[:-1])).max(), least)


def _greatest_repulsion(flow: PairFlow, c: float) -> float:
    """An upper bound of g(s) (m − s c) over the overlaps s, m >= c of the face where the other component has overlap c.

    g grows with s and the bracket falls with it, so g at a cell's upper end times the bracket at its lower end bounds
    both. With cos θ = c and cos φ = m the face is cos(θ + φ) <= s <= cos(θ − φ), both widest at the cell's smallest m.
    """
    s, g = _repulsion_in_cells(flow)
    m = np.linspace(c, 1, CELLS // 4 + 1)
    theta, phi, rounding = np.arccos(c), np.arccos(m[:-1]), 1e-7  # of an arc cosine near one
    inside = (s[:-1, None] <= np.cos(theta - phi) + rounding) & (s[1:, None] >= np.cos(theta + phi) - rounding)
    bound = g[:, None] * np.maximum(m[1:] - s[:-1, None] * c, 0)
    return float(bound.max(where=inside, initial=0.0))
