"""The probability of collapse by the particle simulation.

The simulation uses neither the equations nor the initial law of the summary statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from annealvi.collapse.outcome import Outcomes, judging
from annealvi.runs.trajectories import simulate
from annealvi.session.session import Session
from derive.objects.short_repr import short_repr


@dataclass(frozen=True)
class ParticleRuns:
    """The outcomes of particle simulations.

    Attributes
    ----------
    outcomes : Outcomes
        Outcomes of the replicas.
    t_end : float
        Time at which they were read, in units of the flow's time.
    device, method : str
        Where and how the particles ran.
    projected : bool
        Whether particles were drawn only in the span of modes and means.
    """

    outcomes: Outcomes
    t_end: float
    device: str
    method: str
    projected: bool

    SHOWN: ClassVar = ("outcomes", "t_end", "device", "method")
    __repr__ = short_repr

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        ran = {"t_end": self.t_end, "device": self.device, "method": self.method, "projected": self.projected}
        return {**self.outcomes.as_dict(), **ran}


def collapse_by_particles(
    session: Session, *, t_end: float | None = None, least_weight: float | None = None, **options: Any
) -> ParticleRuns:
    """Simulate the d-dimensional stochastic gradient flow and read the outcomes of its replicas.

    Parameters
    ----------
    session : Session
        The problem with its schedule and parameter values.
    t_end : float, optional
        Time at which outcomes are read; by default 50 units after the schedule's end.
    least_weight : float, optional
        With learned weights, the share of a mode's own weight below which the mode counts as missed, between 0 and 1;
        by default 0.1.
    **options
        Further keywords of `annealvi.simulate`, such as `replicas`, `particles`, `dt`, `seed` and `device`.

    Returns
    -------
    ParticleRuns
        Outcomes with the statistical error of `replicas` independent runs.

    Raises
    ------
    BadInput
        For a `least_weight` outside (0, 1) or without learned weights, and for options that `simulate` refuses.

    Examples
    --------
    >>> import annealvi
    >>> session = annealvi.open_session(annealvi.load_problem("bimodal"))  # doctest: +SKIP
    >>> annealvi.collapse_by_particles(session, replicas=64, particles=256).outcomes.p  # doctest: +SKIP
    """
    judge = judging(session, least_weight)
    paths = simulate(session, t_end=t_end, points=2, **options)
    outcomes = judge(paths.values[:, -1, : len(session.state_names)])
    return ParticleRuns(outcomes, float(paths.t[-1]), paths.device, paths.method, bool(paths.projected))
