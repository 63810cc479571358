"""The growth exponent Λ: how far b = m_1 − m_2 grows while the pair of components still moves together.

For alike components b = 0 is invariant. Near it db/dt = λ(t) b, with λ along the path from m_1 = m_2 = s = 0, and Λ =
max_t ∫_0^t λ: to leading order b_c = C e^{−Λ} with C of order one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annealvi.collapse.trapping import is_pair_on_a_line
from annealvi.session.session import Session
from derive.problem.specification import BadInput
from kernels.integrate.kernel import Kernel

CELLS = 4000
SMALL = 1e-5
"""The b at which db/dt / b is measured: db/dt is odd in b, so λ is off by about b² = 1e-10, and by 1e-11 of
rounding."""

BALANCED = 1e-11
"""An attraction at m = 0 that is no more than the averages' error: the path would leave by rounding alone."""


def transverse_growth(kernel: Kernel, traps: np.ndarray, t_end: float) -> float:
    """Λ by the midpoint rule; infinite at w* = ½, where the path waits between the modes.

    The schedule's breakpoints are among the cells' ends, so the error is of the order of 1/CELLS². The path
    is followed for twice the time that it takes to be decided: from there on λ < 0, as near any mode.
    """
    start = np.zeros((1, 3))
    if abs(kernel.rhs_at_beta(1.0, start)[0, 0]) < BALANCED:
        return np.inf
    decided = float(kernel.integrate(start, [0.0, t_end], rtol=1e-6, atol=1e-8, traps=traps).reached[0])
    last = min(t_end, 2 * decided)
    # Half of the cells are finer and finer towards t = 0, where s relaxes whatever the schedule's own time is.
    spread = np.concatenate([np.linspace(0, last, CELLS // 2 + 1), np.geomspace(1e-6 * last, last, CELLS // 2)])
    ends = np.unique(np.concatenate([spread, [b for b in kernel.breakpoints if 0 < b < last]]))
    middles = (ends[1:] + ends[:-1]) / 2
    times = np.concatenate([[0.0], middles])
    path = kernel.integrate(start, times, rtol=1e-8, atol=1e-11).y[0, 1:]
    apart = path + np.array([SMALL / 2, -SMALL / 2, 0.0])
    rates = kernel.rhs_at_beta(kernel.beta_at(middles), apart)
    growth = np.cumsum((rates[:, 0] - rates[:, 1]) / SMALL * np.diff(ends))
    return max(0.0, float(growth.max()))


@dataclass(frozen=True)
class WaitingStates:
    """The stationary states m_1 = m_2 = m of a pair of alike components, with s = 2m² − 1 (see
    `derive.asymptotics.quasi_static`).

    overlap: m (n,). beta: at which each is stationary. growth: λ of b there. Each (n,).
    """

    overlap: np.ndarray
    beta: np.ndarray
    growth: np.ndarray


def waiting_states(kernel: Kernel, overlap: np.ndarray) -> WaitingStates:
    """Those with the given overlaps (n,), not zero."""
    states = np.stack([overlap, overlap, 2 * overlap**2 - 1], axis=1)
    idle, pulled = kernel.rhs_at_beta(0.0, states)[:, 0], kernel.rhs_at_beta(1.0, states)[:, 0]
    beta = -idle / (pulled - idle)
    rates = kernel.rhs_at_beta(beta, states + np.array([SMALL / 2, -SMALL / 2, 0.0]))
    return WaitingStates(overlap, beta, (rates[:, 0] - rates[:, 1]) / SMALL)


def heavier_side(kernel: Kernel) -> float:
    """The sign of m at the heavier mode, where a pair of components is drawn to; 1 for equal modes."""
    return -1.0 if float(kernel.rhs_at_beta(1.0, np.zeros((1, 3)))[0, 0]) < -BALANCED else 1.0


def require_alike(session: Session) -> None:
    """Raise BadInput unless the problem is two alike components under two opposite modes."""
    if not is_pair_on_a_line(session) or len(set(session.problem.proposal.weights)) > 1:
        found = "its components are not alike, or its modes not two opposite ones"
        raise BadInput("problem", found, "give two components of one weight, scale and radius", "")
