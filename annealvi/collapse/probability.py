"""The command `collapse`: the probability of mode collapse by the routes asked for, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from annealvi.collapse.by_particles import ParticleRuns, collapse_by_particles
from annealvi.collapse.ensemble import Ensemble, collapse_by_ensemble
from annealvi.collapse.formula import Formula, collapse_by_formula
from annealvi.collapse.formula_coverage import LEAST_DIMENSION, has_equal_scales
from annealvi.collapse.outcome import judging
from annealvi.collapse.separatrix import covers
from annealvi.runs.paths import refuse_projection
from annealvi.session.resolution import warnings_of
from annealvi.session.session import Session
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked, require_choice
from derive.problem.specification import BadInput

METHODS = ("formula", "ode", "particles")


@dataclass(frozen=True)
class Collapse:
    """What each route found; None for one that was not asked for. warnings: see `annealvi.session.resolution`."""

    formula: Formula | None = None
    ode: Ensemble | None = None
    particles: ParticleRuns | None = None
    warnings: tuple[str, ...] = ()

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from annealvi.collapse.collapse_tables import print_collapse
        from annealvi.show.printing import as_html

        return as_html(print_collapse, self, "")

    def as_dict(self) -> dict[str, Any]:
        """The JSON form: one object per method, with `p` and, where sampled, `stderr`; `warnings` of modes that cannot
        be told apart."""
        found = {"formula": self.formula, "ode": self.ode, "particles": self.particles}
        by_method = {name: result.as_dict() for name, result in found.items() if result is not None}
        return {**by_method, "warnings": list(self.warnings)}


@checked
def collapse_probability(
    session: Session,
    methods: Sequence[str] | None = None,
    *,
    n: int | None = None,
    replicas: int = 64,
    particles: int = 256,
    dt: float = 0.1,
    t_end: float | None = None,
    least_weight: float | None = None,
    precision: str = "float32",
    projected: bool = False,
    seed: int = 0,
    device: str = "auto",
    max_cost: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Collapse:
    """P(collapse) of a problem by "formula", "ode" (n trajectories; None: as many as the problem can afford) and
    "particles" (replicas).

    methods: by default the ODE ensemble and, where it covers the problem and takes seconds at the most, the formula.
    t_end: when particles are read, and trajectories that are not proven decided. By default when the schedule has ended
    and the flow had time to settle, and of particles 1.2 times the time of the last decision, if an ODE ensemble ran of
    which every trajectory is proven decided. least_weight: with learned weights, the share of a mode's own weight below
    which it is missed. particles: samples per component and step of length dt, drawn in the span of modes and means if
    projected (see `annealvi.simulate`). max_cost: refuse what is expected to take more seconds. Raises BadInput for a
    method that does not cover the problem, and for projected where no particles run.
    """
    methods = default_methods(session) if methods is None else tuple(methods)
    require_choice("methods", methods, METHODS)
    if not methods:
        raise BadInput("methods", "none is asked for", f"name some of {', '.join(METHODS)}", "")
    judging(session, least_weight)  # refuses one that says nothing, whatever the methods
    if projected:  # before the other methods take their time
        if "particles" not in methods:
            raise BadInput(
                "--projected", "no particles are asked for", "add particles to --method, or leave it out", ""
            )
        refuse_projection(session.problem)
    kernel = session.compile(device) if session.rule is None and {"formula", "ode"} & set(methods) else None
    formula = (
        collapse_by_formula(session, kernel=kernel, device=device, max_cost=max_cost, tell=tell)
        if "formula" in methods
        else None
    )
    ode = None
    if "ode" in methods:
        options: dict[str, Any] = {
            "max_cost": max_cost,
            "progress": progress,
            "tell": tell,
            "seed": seed,
            "device": device,
        }
        options |= {"t_end": t_end, "least_weight": least_weight}
        ode = collapse_by_ensemble(session, n=n, kernel=kernel, **options)
    runs = None
    if "particles" in methods:
        if t_end is None and ode is not None and ode.undecided == 0:
            t_end = 1.2 * float(ode.t.max())
        options = {
            "replicas": replicas,
            "particles": particles,
            "dt": dt,
            "precision": precision,
            "seed": seed,
            "device": device,
        }
        options |= {
            "projected": projected,
            "max_cost": max_cost,
            "progress": progress,
            "tell": tell,
            "least_weight": least_weight,
        }
        runs = collapse_by_particles(session, t_end=t_end, **options)
    return Collapse(formula, ode, runs, warnings_of(session.problem))


def default_methods(session: Session) -> tuple[str, ...]:
    """The ODE ensemble and, where it covers the problem and takes seconds at the most, the formula."""
    quick = covers(session) and has_equal_scales(session.problem) and session.problem.space.dimension >= LEAST_DIMENSION
    return ("formula", "ode") if quick else ("ode",)
