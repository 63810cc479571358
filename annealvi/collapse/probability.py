"""The probability of mode collapse by several routes side by side: formula, ODE ensemble and particles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from annealvi.collapse.by_particles import ParticleRuns, collapse_by_particles
from annealvi.collapse.collapse_law import DIMENSIONS, TRAJECTORIES, CollapseLaw, collapse_law, require_law
from annealvi.collapse.ensemble import Ensemble, collapse_by_ensemble, compiled_for_ensembles
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

METHODS = ("formula", "ode", "law", "particles")


@dataclass(frozen=True)
class Collapse:
    """P(collapse) by each route.

    Attributes
    ----------
    formula : Formula or None
        Result of the separatrix formula; None if it was not asked for, as for the next two.
    ode : Ensemble or None
        Result of the ODE ensemble.
    law : CollapseLaw or None
        Probabilities by dimension, to leading order in 1/√d.
    particles : ParticleRuns or None
        Result of the particle simulation.
    warnings : tuple of str
        Warnings about modes that cannot be told apart, see `annealvi.session.resolution`.
    """

    formula: Formula | None = None
    ode: Ensemble | None = None
    law: CollapseLaw | None = None
    particles: ParticleRuns | None = None
    warnings: tuple[str, ...] = ()

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from annealvi.collapse.collapse_tables import print_collapse
        from annealvi.show.printing import as_html

        return as_html(print_collapse, self, "")

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form: one object per method with `p` and, where sampled, `stderr`; and `warnings`."""
        found = {"formula": self.formula, "ode": self.ode, "law": self.law, "particles": self.particles}
        by_method = {name: result.as_dict() for name, result in found.items() if result is not None}
        return {**by_method, "warnings": list(self.warnings)}


@checked
def collapse_probability(
    session: Session,
    methods: Sequence[str] | None = None,
    *,
    n: int | None = None,
    dimensions: Sequence[int] | None = None,
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
    """Compute P(collapse) of a problem by one or more routes.

    The routes are the separatrix formula, an ensemble of the summary-statistics ODE, the d-dimensional particle
    simulation, and the law of many dimensions, which gives P in several dimensions at once.

    Parameters
    ----------
    session : Session
        The problem with its schedule and parameter values.
    methods : sequence of {"formula", "ode", "law", "particles"}, optional
        By default the ODE ensemble and, where the formula covers the problem and takes at most seconds, the formula.
    n : int, optional
        Number of ODE trajectories; by default as many as are affordable for the problem, and 4096 for the law.
    dimensions : sequence of int, optional
        The dimensions of the law; by default 32, 128, 1024 and 16 384.
    replicas : int
        Number of independent particle simulations.
    particles : int
        Samples per component and step of a particle simulation.
    dt : float
        Time step of a particle simulation, in units of the flow's time.
    t_end : float, optional
        Time at which particles are read, and trajectories that are not proven decided. By default the schedule's end
        and 50 units more. If an ODE ensemble ran and proved every trajectory decided, particles are by default read at
        1.2 times the time of the last decision.
    least_weight : float, optional
        With learned weights, the share of a mode's own weight below which the mode counts as missed, between 0 and 1;
        by default 0.1.
    precision : {"float32", "float64"}
        Precision of the particle simulation.
    projected : bool
        Draw particles only in the span of modes and means, see `annealvi.simulate`.
    seed : int
        Seed of the ensemble and of the particles.
    device : {"auto", "cpu", "cuda"}
        Where kernels and particles run.
    max_cost : float, optional
        Refuse a method that is expected to take more seconds than this.
    progress : callable, optional
        Called with (runs done, runs in all).
    tell : callable, optional
        Called with lines for people.

    Returns
    -------
    Collapse
        The result of each method: the formula with its numerical error, the other two with their standard errors.

    Raises
    ------
    BadInput
        For a method that does not cover the problem, for `projected` without particles and `dimensions` without the
        law, and for a method dearer than `max_cost`.

    References
    ----------
    Fogliani, Loureiro and Gabrié, arXiv:2602.12923.

    Examples
    --------
    >>> import annealvi
    >>> session = annealvi.open_session(annealvi.load_problem("bimodal"))  # doctest: +SKIP
    >>> found = annealvi.collapse_probability(session, ["formula", "ode"])  # doctest: +SKIP
    >>> found.formula.p, found.ode.outcomes.p, found.ode.outcomes.stderr  # doctest: +SKIP
    """
    methods = default_methods(session) if methods is None else tuple(methods)
    require_choice("methods", methods, METHODS)
    if not methods:
        raise BadInput("methods", "none is asked for", f"name some of {', '.join(METHODS)}", "")
    judging(session, least_weight)  # refuses a meaningless least_weight, whatever the methods
    if dimensions is not None and "law" not in methods:
        raise BadInput("--dimensions", "the law is not asked for", "add law to --method, or leave it out", "")
    if "law" in methods:
        require_law(session)
    if projected:  # before the other methods take their time
        if "particles" not in methods:
            raise BadInput(
                "--projected", "no particles are asked for", "add particles to --method, or leave it out", ""
            )
        refuse_projection(session.problem)
    kernel = (
        compiled_for_ensembles(session, device)
        if session.rule is None and {"formula", "ode", "law"} & set(methods)
        else None
    )
    formula = (
        collapse_by_formula(session, kernel=kernel, device=device, max_cost=max_cost, tell=tell)
        if "formula" in methods
        else None
    )
    ode = law = None
    options: dict[str, Any] = {
        "max_cost": max_cost,
        "progress": progress,
        "tell": tell,
        "seed": seed,
        "device": device,
    }
    options |= {"t_end": t_end, "least_weight": least_weight, "kernel": kernel}
    if "ode" in methods:
        ode = collapse_by_ensemble(session, n=n, **options)
    if "law" in methods:
        law = collapse_law(session, dimensions or DIMENSIONS, n=n or TRAJECTORIES, **options)
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
    return Collapse(formula, ode, law, runs, warnings_of(session.problem))


def default_methods(session: Session) -> tuple[str, ...]:
    """Return the ODE ensemble and, where the formula covers the problem and takes at most seconds, the formula."""
    quick = covers(session) and has_equal_scales(session.problem) and session.problem.space.dimension >= LEAST_DIMENSION
    return ("formula", "ode") if quick else ("ode",)
