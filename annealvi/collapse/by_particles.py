"""The probability of collapse by the particle simulation, which knows neither the summary statistics' equations nor
their law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from annealvi.collapse.outcome import Outcomes, judging
from annealvi.runs.trajectories import simulate
from annealvi.session.session import Session
from derive.objects.short_repr import short_repr


@dataclass(frozen=True)
class ParticleRuns:
    """outcomes: of the replicas. t_end: when they were read. projected: whether particles were drawn in the span of
    modes and means."""

    outcomes: Outcomes
    t_end: float
    device: str
    method: str
    projected: bool

    SHOWN: ClassVar = ("outcomes", "t_end", "device", "method")
    __repr__ = short_repr

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        ran = {"t_end": self.t_end, "device": self.device, "method": self.method, "projected": self.projected}
        return {**self.outcomes.as_dict(), **ran}


def collapse_by_particles(
    session: Session, *, t_end: float | None = None, least_weight: float | None = None, **options: Any
) -> ParticleRuns:
    """The outcomes of the d-dimensional stochastic gradient flow's replicas at t_end (default: the schedule's end and
    50 more).

    least_weight: as of `collapse_by_ensemble`. options: those of `annealvi.simulate`.
    """
    judge = judging(session, least_weight)
    paths = simulate(session, t_end=t_end, points=2, **options)
    outcomes = judge(paths.values[:, -1, : len(session.state_names)])
    return ParticleRuns(outcomes, float(paths.t[-1]), paths.device, paths.method, bool(paths.projected))
