"""Sets of overlaps that the flow never leaves, so that a trajectory in one of them is decided before the schedule has ended.

Two components of equal radius and scale under equal-scale modes on a line obey

    dm_1/dt = β f(m_1) − g_1(s) (m_2 − s m_1),    dm_2/dt = β f(m_2) w_2/w_1 − g_2(s) (m_1 − s m_2)

with f(m) of the sign of m − m°, because the target's mean posterior mode grows with m, and g_i ≥ 0 growing with s, because the overlap of
two Gaussians shrinks with their distance (data processing). Hence, for any c >= |m°|:

* Separated. On the face m_1 = c of {m_1 >= c, m_2 <= −c}, m_2 − s m_1 <= sin θ cos(θ + φ) with cos θ = c and sin φ = −m_2 >= c, that
  is θ + φ >= π/2: the repulsion points inwards, as the attraction does. Likewise on the other face. No trajectory leaves, at any β >= 0.
* Collapsed. On the face m_1 = c of {m_1 >= c, m_2 >= c} the attraction must outweigh the repulsion, β f(c) >= max g_1(s) (m_2 − s c) over
  the overlaps of the face. That is a least β, from which on no trajectory leaves as long as β does not fall.
* Collapsed, by the sum. The two repulsions are of one strength, w_1 G_1 = w_2 G_2, so that together they are −g(s) (1 − s) (m_1 + m_2),
  with g(s) (1 − s) small for every s. On the face of {m_1 + m_2 >= A}, A > 1, where both are positive, the attraction must outweigh that.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from annealvi.session import Session
from kernels.integrator import NO_TRAPS, Kernel

MONOTONE = ("constant", "exponential", "geometric", "linear", "beta-exponential", "beta-linear", "cosine", "hold", "monotone")
"""Schedules whose β never falls, as "monotone" ones of `optimal` by construction. That of a table or of an expression may."""

_LEVELS = np.linspace(0.05, 0.95, 19)
_SUMS = np.linspace(1.02, 1.9, 23)
_CELLS = 160
_ROUNDING = 1e-6
"""Relative widening of every bound, far above the kernels' own error of 1e-12."""


def decided_sets(session: Session, kernel: Kernel) -> np.ndarray:
    """The sets above as rows (sign_1, sign_2, level, least β, together) for `Kernel.integrate`, (n, 5).

    None where the argument does not apply.
    """
    if not is_pair_on_a_line(session):
        return NO_TRAPS
    separating = _saddle(kernel)
    rows = []
    if separating is not None:
        level = separating * (1 + _ROUNDING) + _ROUNDING
        rows += [(1.0, -1.0, level, 0.0, 0.0), (-1.0, 1.0, level, 0.0, 0.0)]
    if session.schedule.kind in MONOTONE:
        s = np.linspace(-1, 1, _CELLS + 1)
        repulsion = _repulsion(kernel, s)
        for level in _LEVELS:
            against = np.array([_greatest_repulsion(g, s, level) for g in repulsion]) * (1 + _ROUNDING)
            for sign in (1.0, -1.0):
                pull = sign * _attraction(kernel, sign * level)
                if (pull > 0).all() and (against <= pull).all():
                    rows.append((sign, sign, level, float((against / pull).max()), 0.0))
        rows += [(sign, sign, total, least, 1.0) for sign in (1.0, -1.0) for total, least in _sums(kernel, sign, s, repulsion[0])]
    return np.array(rows) if rows else NO_TRAPS


def is_pair_on_a_line(session: Session) -> bool:
    """Whether the problem is two components of one radius and scale that learn their means on the sphere, under two opposite modes."""
    problem = session.problem
    target, proposal = problem.target, problem.proposal
    alike = all(len(set(values)) == 1 for values in (proposal.radii, proposal.scales, target.scales))
    return alike and session.state_names == ("m_1", "m_2", "s") and problem.flow.manifold == "sphere" and problem.flow.learn == ("means",)


def _attraction(kernel: Kernel, m: float) -> np.ndarray:
    """β f(m) of both components at β = 1, (2,). Coincident components do not repel each other."""
    return _attractions(kernel, np.array([m]))[0]


def _repulsion(kernel: Kernel, s: np.ndarray) -> np.ndarray:
    """g_i(s) of both components, (2, n): how fast one without overlap with the target moves at β = 0."""
    s = np.minimum(np.maximum(s, -1 + 1e-9), 1 - 1e-9)
    other = np.sqrt(1 - s**2)
    none = np.zeros_like(s)
    first = kernel.rhs_at_beta(0.0, np.stack([none, other, s], 1))[:, 0]
    second = kernel.rhs_at_beta(0.0, np.stack([other, none, s], 1))[:, 1]
    return np.stack([-first / other, -second / other])


def _sums(kernel: Kernel, sign: float, s: np.ndarray, g: np.ndarray) -> list[tuple[float, float]]:
    """(A, least β) of the sets {sign (m_1 + m_2) >= A}, for A in _SUMS.

    g grows with s and 1 − s falls, so the two ends of a cell bound their product. The attraction along a face is that of the cells' ends
    less what it can change in half a cell, by its largest slope there.
    """
    strongest = float((g[1:] * (1 - s[:-1])).max())
    found = []
    for total in _SUMS:
        first = np.linspace(total - 1, 1, 4 * _CELLS + 1)
        pull = sign * (_attractions(kernel, sign * first)[:, 0] + _attractions(kernel, sign * (total - first))[:, 1])
        least = pull.min() - 2 * np.abs(np.diff(pull)).max()
        if least > 0 and total * strongest <= least:
            found.append((float(total), float(total * strongest / least * (1 + _ROUNDING))))
    return found


def _attractions(kernel: Kernel, m: np.ndarray) -> np.ndarray:
    """β f(m) of both components at β = 1, (n, 2), at overlaps m (n,)."""
    return kernel.rhs_at_beta(1.0, np.stack([m, m, np.ones_like(m)], 1))[:, :2]


def _saddle(kernel: Kernel) -> float | None:
    """|m°|, where the target's attraction changes its sign; None where it never does."""

    def pull(m: float) -> float:
        return float(_attraction(kernel, m)[0])

    edge = 1 - 1e-9
    return abs(brentq(pull, -edge, edge)) if pull(-edge) < 0 < pull(edge) else None


def _greatest_repulsion(g: np.ndarray, s: np.ndarray, c: float) -> float:
    """An upper bound of g(s) (m − s c) over the overlaps s, m >= c of the face where the other component has overlap c.

    g grows with s and the bracket falls with it, so g at a cell's upper end times the bracket at its lower end bounds both. With cos θ = c
    and cos φ = m the face is cos(θ + φ) <= s <= cos(θ − φ), both widest at the cell's smallest m.
    """
    m = np.linspace(c, 1, _CELLS // 4 + 1)
    theta, phi = np.arccos(c), np.arccos(m[:-1])
    inside = (s[:-1, None] <= np.cos(theta - phi)) & (s[1:, None] >= np.cos(theta + phi))
    bound = g[1:, None] * np.maximum(m[1:] - s[:-1, None] * c, 0)
    return float(bound.max(where=inside, initial=0.0))
