"""Which problems the separatrix formula and recommendations cover, decided from the problem alone."""

from __future__ import annotations

from derive.problem.objective_scope import key_of_another_objective, require_tempered_reverse_kl
from derive.problem.specification import ADAPTIVE_KINDS, BadInput, Problem

LEAST_DIMENSION = 3
"""In the plane the law of the difference of the means has no density."""

UNCOVERED = (
    "the formula covers two components on the sphere that learn their means under two opposite modes, "
    "with a schedule that is a function of time, under the tempered reverse KL"
)

INSTEAD_OF_MAPPING = "map P by ODE ensembles with --result p_ode"


def uncovered_key(problem: Problem) -> str | None:
    """Return the first key whose value the formula does not cover."""
    target, proposal, flow = problem.target, problem.proposal, problem.flow
    opposite = (
        len(target.means) == 2 and any(target.means[0]) and all(x == -y for x, y in zip(*target.means, strict=True))
    )
    covered = {
        "target.covariances": not target.covariances,
        "proposal.covariances": not proposal.covariances,
        "target.means": opposite,
        "proposal.weights": len(proposal.weights) == 2,
        "flow.manifold": flow.manifold == "sphere",
        "flow.learn": set(flow.learn) == {"means"},
        "schedule.kind": problem.schedule.kind not in ADAPTIVE_KINDS,
    }
    return key_of_another_objective(problem) or next((key for key, holds in covered.items() if not holds), None)


def is_covered(problem: Problem) -> bool:
    """Return whether the formula covers the problem; `separatrix.covers` answers the same for the problem's session."""
    return uncovered_key(problem) is None


def is_quick(problem: Problem) -> bool:
    """Return whether the formula covers the problem and takes at most seconds."""
    return is_covered(problem) and has_equal_scales(problem) and problem.space.dimension >= LEAST_DIMENSION


def require_covered(problem: Problem, remedy: str) -> None:
    """Raise BadInput for a problem that the formula does not cover."""
    require_tempered_reverse_kl(problem, "the formula covers", remedy)
    if (key := uncovered_key(problem)) is not None:
        raise BadInput(key, UNCOVERED, remedy)


def require_quick(problem: Problem, remedy: str) -> None:
    """Raise BadInput for a problem that the formula does not cover, or covers only in a long time."""
    require_covered(problem, remedy)
    if not has_equal_scales(problem):
        key = "target.scales" if len(set(problem.target.scales)) > 1 else "proposal.scales"
        raise BadInput(key, "with unequal scales each point of the formula would take a minute or more", remedy)
    if problem.space.dimension < LEAST_DIMENSION:
        found = f"the formula needs d >= {LEAST_DIMENSION}, not {problem.space.dimension}"
        raise BadInput("space.dimension", found, f"{remedy}, or more dimensions")


def require_recommendable(problem: Problem) -> None:
    """Raise BadInput for a problem for which no schedule can be recommended, by formula or by ensembles."""
    require_tempered_reverse_kl(
        problem, "schedules are recommended for", "compare ensembles with `annealvi collapse --over`"
    )
    modes, components = len(problem.target.weights), len(problem.proposal.weights)
    if components < modes:
        found = f"under any schedule {components} of {modes} modes are covered at most"
        raise BadInput("proposal.weights", found, "give as many components as modes")


def has_equal_scales(problem: Problem) -> bool:
    """Return whether the scales within each mixture are equal.

    Otherwise no trap is known, every trajectory that is shot runs to its end, and shooting takes a minute or more.
    """
    return all(len(set(scales)) == 1 for scales in (problem.target.scales, problem.proposal.scales))
