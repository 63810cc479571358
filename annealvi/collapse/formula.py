"""The separatrix formula for the probability of collapse, with its leading order and growth exponent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from annealvi.collapse.growth import transverse_growth
from annealvi.collapse.separatrix import FINE, Accuracy, Separatrix
from annealvi.runs.costs import cost_of_integration, require_affordable, stopped_in_time
from annealvi.runs.paths import side_by_side
from annealvi.session.session import Session
from derive.objects.short_repr import short_repr

if TYPE_CHECKING:
    from kernels.integrate.kernel import Kernel


@dataclass(frozen=True)
class Formula:
    """P(collapse) by the separatrix formula.

    Attributes
    ----------
    p : float
        Probability with the exact law of the initial overlaps.
    error : float
        Change of p under finer quadrature and shooting.
    leading : float
        Probability to leading order in large d, where m_1 + m_2 = s = 0 at the start.
    b_c : tuple of float
        (b_−, b_+): runs that start at m_1 + m_2 = s = 0 collapse when b = m_1 − m_2 lies between the two. For alike
        components b_+ = −b_−.
    growth : float or None
        Growth exponent Λ. It is infinite for w* = ½, where the pair waits between the modes, and None for components
        that are not alike, because b = 0 is not invariant then.
    runs : int
        Number of trajectories shot.
    device, method : str
        Where and how the trajectories were integrated.
    """

    p: float
    error: float
    leading: float
    b_c: tuple[float, float]
    growth: float | None
    runs: int
    device: str
    method: str

    __repr__ = short_repr

    @property
    def prefactor(self) -> float | None:
        """The prefactor C = b_c e^Λ; None where Λ is infinite or does not exist."""
        return None if self.growth is None or np.isinf(self.growth) else self.b_c[1] * float(np.exp(self.growth))

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, in which b_c is one number for alike components and the two ends otherwise."""
        return {
            "p": self.p,
            "error": self.error,
            "p_leading": self.leading,
            "b_c": self.b_c[1] if self.growth is not None else list(self.b_c),
            "growth": None if self.growth is None or np.isinf(self.growth) else self.growth,
            "prefactor": self.prefactor,
            "trajectories": self.runs,
            "device": self.device,
            "method": self.method,
        }


FASTER = "use --method ode without --n, or a larger --max-cost"
USUAL_RUNS = 4000
"""Number of trajectories that the formula shoots; measured problems needed 3500 to 5000."""


def collapse_by_formula(
    session: Session,
    *,
    device: str = "auto",
    kernel: Kernel | None = None,
    max_cost: float | None = None,
    tell: Callable[[str], None] | None = None,
) -> Formula:
    """Compute P(collapse) of two components under two opposite modes by shooting for the separatrix.

    kernel is the session's, if it is compiled already. A computation that is expected to take more than max_cost
    seconds is refused. Raises BadInput for that, for problems that the formula does not cover and for a schedule that
    never reaches T = 1, and IntegrationError where a trajectory fails.
    """
    kernel = kernel or session.compile(device)
    separatrix = Separatrix.of(session, kernel)
    if len(separatrix.traps) == 0:
        starts, times = session.random_states(USUAL_RUNS, 0), np.array([0.0, separatrix.t_end])
        cost = cost_of_integration(kernel, starts, times, FINE.rtol, side_by_side(kernel))
        require_affordable(cost, max_cost, FASTER, tell)
    with stopped_in_time(max_cost, FASTER):
        fine, coarse = separatrix.corrected(FINE), separatrix.corrected(Accuracy())
        leading = separatrix.leading(FINE)
        growth = transverse_growth(kernel, separatrix.traps, separatrix.t_end) if separatrix.symmetric else None
    nodes = f"{FINE.overlap_nodes} × {2 * FINE.sum_nodes} nodes"
    method = (
        f"separatrix by bisection to 1/{1 / FINE.width:.0f}, {nodes}, DOP853, rtol = {FINE.rtol:g}, {kernel.precision}"
    )
    runs = fine.runs + coarse.runs + leading.runs
    return Formula(fine.p, abs(fine.p - coarse.p), leading.p, leading.b_c, growth, runs, kernel.device, method)
