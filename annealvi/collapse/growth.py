"""The growth exponent Λ: how far b = m_1 − m_2 grows while the pair of components still moves together.

For alike components b = 0 is invariant. Near b = 0 the flow is db/dt = λ(t) b, with λ taken along the path from m_1 =
m_2 = s = 0. Then Λ = max_t ∫_0^t λ, and to leading order b_c = C e^{−Λ} with C of order one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annealvi.collapse.trapping import is_pair_on_a_line
from annealvi.session.session import Session
from derive.problem.objective_scope import require_tempered_reverse_kl
from derive.problem.specification import BadInput
from kernels.integrate.kernel import Kernel

CELLS = 4000
"""Number of cells of the integral over time."""
SMALL = 1e-5
"""The b at which (db/dt)/b is measured. db/dt is odd in b, so λ is off by about b² = 1e-10, and by 1e-11 of rounding.
"""

BALANCED = 1e-11
"""An attraction at m = 0 below this value is no more than the error of the averages: the path would leave by rounding
alone.
"""


def transverse_growth(kernel: Kernel, traps: np.ndarray, t_end: float, cells: int = CELLS) -> float:
    """Compute Λ by the midpoint rule; it is infinite at w* = ½, where the path waits between the modes.

    The schedule's breakpoints are ends of cells, so the error is of the order of 1/cells². The path is followed for
    twice the time it takes to be decided, because λ < 0 from there on, as near any mode.
    """
    start = np.zeros((1, 3))
    if abs(kernel.rhs_at_beta(1.0, start)[0, 0]) < BALANCED:
        return np.inf
    decided = float(kernel.integrate(start, [0.0, t_end], rtol=1e-6, atol=1e-8, traps=traps).reached[0])
    last = min(t_end, 2 * decided)
    # Half of the cells refine geometrically towards t = 0, where s relaxes on a time scale of its own.
    spread = np.concatenate([np.linspace(0, last, cells // 2 + 1), np.geomspace(1e-6 * last, last, cells // 2)])
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
    """Stationary states m_1 = m_2 = m of a pair of alike components, with s = 2m² − 1.

    `derive.asymptotics.quasi_static` derives them.

    Attributes
    ----------
    overlap : ndarray
        Shape (n,). The overlap m.
    beta : ndarray
        Shape (n,). The inverse temperature at which each state is stationary.
    growth : ndarray
        Shape (n,). The growth rate λ of b in each state.
    """

    overlap: np.ndarray
    beta: np.ndarray
    growth: np.ndarray


def waiting_states(kernel: Kernel, overlap: np.ndarray) -> WaitingStates:
    """Return the stationary states with the given overlaps (n,), which must not be zero."""
    states = np.stack([overlap, overlap, 2 * overlap**2 - 1], axis=1)
    idle, pulled = kernel.rhs_at_beta(0.0, states)[:, 0], kernel.rhs_at_beta(1.0, states)[:, 0]
    beta = -idle / (pulled - idle)
    rates = kernel.rhs_at_beta(beta, states + np.array([SMALL / 2, -SMALL / 2, 0.0]))
    return WaitingStates(overlap, beta, (rates[:, 0] - rates[:, 1]) / SMALL)


def heavier_side(kernel: Kernel) -> float:
    """Return the sign of m at the heavier mode, to which a pair of components is drawn; 1 for equal modes."""
    return -1.0 if float(kernel.rhs_at_beta(1.0, np.zeros((1, 3)))[0, 0]) < -BALANCED else 1.0


def require_alike(session: Session) -> None:
    """Raise BadInput unless the problem is two alike components under two opposite modes."""
    require_tempered_reverse_kl(session.problem, "waiting pairs are known for", "leave it out")
    if not is_pair_on_a_line(session) or len(set(session.problem.proposal.weights)) > 1:
        found = "its components are not alike, or its modes not two opposite ones"
        raise BadInput("problem", found, "give two components of one weight, scale and radius", "")
