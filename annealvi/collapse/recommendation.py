"""The recommended schedule: the cheapest one, over kinds and parameters, with P(collapse) below a wanted bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from annealvi.annealing.betas import TIMED_KINDS
from annealvi.collapse.ensemble import Ensemble, collapse_by_ensemble
from annealvi.collapse.ensemble_search import EnsembleSearch
from annealvi.collapse.family import Member
from annealvi.collapse.formula_coverage import is_quick, require_recommendable
from annealvi.collapse.schedule_search import Candidate, ScheduleSearch
from annealvi.session.resolution import warnings_of
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked, require_choice
from derive.problem.specification import BadInput, Problem, ScheduleSpec

KINDS = TIMED_KINDS
CONFIDENCE, ROUNDS = 0.95, 4
"""Confidence of all rounds of confirmation together: each of the ROUNDS rounds may be wrong in 5 %/ROUNDS only."""

RUNS_BY_FORMULA, RUNS_BY_ENSEMBLES = 20_000, 4_000
"""Number of trajectories that are to confirm the result, where the formula or ensembles guide the search."""
MARGIN = 3.0
"""Standard errors of the confirming ensemble by which a search by ensembles aims below the wanted bound, which that
ensemble could otherwise not confirm.
"""

SCOPE = {
    "formula": (
        "for two Gaussian components of fixed width and weight on a sphere, without",
        "the noise of finite samples;",
        "T0 and t0 do not carry over to flows, whose width is free: see find_barrier",
    ),
    "ensembles": (
        "for this problem's mixtures, without the noise of finite samples;",
        "T0 and t0 do not carry over to flows: see find_barrier",
    ),
}
"""What a recommendation covers, in words, by what guided the search."""


@dataclass(frozen=True)
class Recommendation:
    """The cheapest schedule that was found, with the evidence for it.

    Attributes
    ----------
    schedule : ScheduleSpec
        The schedule.
    p : float
        Its P(collapse) by what guided the search, the largest one if R ranges over an interval.
    duration : float
        Its duration, in units of the flow's time.
    separation : float
        The R at which p is largest.
    p_ode, stderr : float
        Its P(collapse) by an ODE ensemble, and the standard error.
    compared : tuple of Candidate
        The best schedule of each kind by what guided the search, cheapest first.
    device : str
        Where the ensemble ran.
    p_max : float
        The wanted bound of P(collapse).
    p_upper : float
        The upper confidence bound of P(collapse) by the ensemble alone.
    confirmed : bool
        Whether p_upper <= p_max.
    n : int
        Number of trajectories of the ensemble.
    method : {"formula", "ensembles"}
        What guided the search: the separatrix formula where it covers the problem, else ensembles.
    warnings : tuple of str
        Warnings about modes that cannot be told apart, see `annealvi.session.resolution`.
    """

    schedule: ScheduleSpec
    p: float
    duration: float
    separation: float
    p_ode: float
    stderr: float
    compared: tuple[Candidate, ...]
    device: str
    p_max: float
    p_upper: float
    confirmed: bool
    n: int
    method: str = "formula"
    warnings: tuple[str, ...] = ()

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from annealvi.collapse.collapse_tables import print_recommendation
        from annealvi.show.printing import as_html

        return as_html(print_recommendation, self)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        spec = {"kind": self.schedule.kind, "T0": self.schedule.T0, "t0": self.schedule.t0}
        sampled = {"p_ode": self.p_ode, "stderr": self.stderr, "worst_R": self.separation, "device": self.device}
        sampled |= {
            "n": self.n,
            "p_upper": self.p_upper,
            "confidence": CONFIDENCE,
            "confirmed": self.confirmed,
            "method": self.method,
            "covers": " ".join(SCOPE[self.method]),
        }
        sampled["warnings"] = list(self.warnings)
        return {
            "schedule": spec,
            "p": self.p,
            "duration": self.duration,
            "compared": [c.as_dict() for c in self.compared],
            **sampled,
        }


@checked
def recommend(
    problem: Problem,
    p_max: float,
    *,
    kinds: Sequence[str] = KINDS,
    R: tuple[float, float] | None = None,
    n: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Recommendation:
    """Find the schedule of shortest duration with P(collapse) <= p_max, and the best schedule of each kind beside it.

    The separatrix formula guides the search where it covers the problem; ensembles guide it for every other problem,
    over fewer temperatures and to 10 % in the duration. An ODE ensemble with other starts then has to confirm P <=
    p_max with a confidence of 95 %. Where it does not, the search goes on to longer schedules of the same kind, in at
    most four rounds.

    Parameters
    ----------
    problem : Problem
        The problem; its schedule is ignored.
    p_max : float
        The wanted bound of P(collapse), between 0 and 1.
    kinds : sequence of str
        Kinds of schedule to compare; by default all kinds with T0 and t0.
    R : tuple of float, optional
        A range of the separation, (LO, HI), for the worst case over it: R is the distance of the farthest mode from the
        origin and the radius of the components. By default the problem's own separation.
    n : int, optional
        Number of trajectories of each ensemble that is to confirm the result; by default 20 000 where the formula
        guides the search, else 4000.
    seed : int
        Seed of the first ensemble; later rounds take the seeds that follow.
    device : {"auto", "cpu", "cuda"}
        Where the kernels run.
    progress : callable, optional
        Called with (steps done, steps in all).

    Returns
    -------
    Recommendation
        The schedule with its probabilities; durations are in units of the flow's time.

    Raises
    ------
    BadInput
        For p_max outside (0, 1), for an empty range R, for unknown kinds, for fewer components than modes, for two
        modes so close that the heavier one attracts from everywhere, and where no schedule of a duration up to 1e6 (by
        ensembles 1e5) is good enough.

    Examples
    --------
    >>> import annealvi
    >>> annealvi.recommend(annealvi.load_problem("bimodal"), 0.05)  # doctest: +SKIP
    """
    kinds = tuple(kinds)
    if not 0 < p_max < 1:
        raise BadInput("--p-max", f"{p_max:g} is no probability to ask for", "give a number above 0 and below 1", "")
    require_choice("kinds", kinds, KINDS)
    if not kinds:
        raise BadInput("kinds", "no kind to choose from", f"give some of {', '.join(KINDS)}", "")
    if R is not None and not (0 < R[0] < R[1] < math.inf):
        raise BadInput("--R", f"the range {R[0]:g}:{R[1]:g} is empty", "give LO:HI with 0 < LO < HI", "")
    require_recommendable(problem)
    by_formula = is_quick(problem)
    n = (RUNS_BY_FORMULA if by_formula else RUNS_BY_ENSEMBLES) if n is None else n
    searches: list[Search] = []
    for done, kind in enumerate(kinds):
        if by_formula:
            searches.append(ScheduleSearch.of(problem, kind, R, p_max, device))
        else:
            aim = max(p_max - MARGIN * math.sqrt(p_max * (1 - p_max) / n), p_max / 2)
            searches.append(EnsembleSearch.of(problem, kind, R, aim, device, (seed + ROUNDS) % 2**64))
        if progress is not None:
            progress(2 * done + 1, 3 * len(kinds))
        searches[-1].find()
        if progress is not None:
            progress(2 * done + 2, 3 * len(kinds))
    found = sorted((s for s in searches if math.isfinite(s.duration)), key=lambda s: s.duration)
    if not found:
        remedy = "ask for a larger --p-max, or for modes that are closer or more alike"
        raise BadInput(
            "--p-max", f"no schedule of duration up to {searches[0].longest:.0e} reaches P <= {p_max:g}", remedy, ""
        )
    check = _confirm(found[0], p_max, n, seed, device)
    best = check.search
    compared = []
    for done, search in enumerate(sorted(searches, key=lambda s: s.duration)):
        compared.append(search.candidate(best.duration))
        if progress is not None:
            progress(2 * len(kinds) + done + 1, 3 * len(kinds))
    problem, outcomes, upper = check.worst.session.problem, check.ensemble.outcomes, check.upper
    return Recommendation(
        schedule=problem.schedule,
        p=check.p,
        duration=best.duration,
        separation=problem.proposal.radii[0],
        p_ode=outcomes.p,
        stderr=outcomes.stderr,
        compared=tuple(compared),
        device=check.ensemble.device,
        p_max=p_max,
        p_upper=upper,
        confirmed=upper <= p_max,
        n=n,
        method="formula" if by_formula else "ensembles",
        warnings=tuple(
            dict.fromkeys(line for _, member in best.members for line in warnings_of(member.session.problem))
        ),
    )


Search = ScheduleSearch | EnsembleSearch


@dataclass(frozen=True)
class _Check:
    """The confirmation of a search's result.

    Attributes
    ----------
    search : Search
        The search whose schedule was tested last.
    p : float
        The largest P over the separations by what guided the search.
    worst : Member
        The member of the separation where P is largest.
    ensemble : Ensemble
        The ensemble at that separation.
    upper : float
        The ensemble's upper confidence bound.
    """

    search: Search
    p: float
    worst: Member
    ensemble: Ensemble
    upper: float


def _confirm(search: Search, p_max: float, n: int, seed: int, device: str) -> _Check:
    """Search for a smaller P until an ensemble with its own seed confirms P <= p_max.

    The search stops early where n runs could not confirm p_max even if none of them collapsed.
    """
    aim, confidence = search.p_max, 1 - (1 - CONFIDENCE) / ROUNDS
    for done in range(1, ROUNDS + 1):
        p, worst = search.checked()
        kernel = worst.kernel if isinstance(search, EnsembleSearch) else None
        starts = (seed + done - 1) % 2**64
        ensemble = collapse_by_ensemble(worst.session, n=n, seed=starts, device=device, kernel=kernel)
        check = _Check(search, p, worst, ensemble, ensemble.outcomes.upper_bound(confidence))
        if check.upper <= p_max or done == ROUNDS or n < fewest_to_confirm(p_max):
            break
        aim -= min(check.upper - p_max, aim / 2)
        longer = search.tightened(aim)
        if not math.isfinite(longer.duration):
            break
        search = longer
    return check


def fewest_to_confirm(p_max: float) -> int:
    """Return how many trajectories confirm P <= p_max if none of them collapses."""
    return math.ceil(math.log((1 - CONFIDENCE) / ROUNDS) / math.log1p(-p_max))
