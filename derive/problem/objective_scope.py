"""Which problems state another objective than the tempered reverse KL, and the line that refuses them.

Whatever rests on closed forms or on other code than the derived equations knows the tempered reverse KL of p*^beta
alone, and calls `require_tempered_reverse_kl` before it computes.
"""

from __future__ import annotations

from derive.problem.specification import COVARIANCES, BadInput, Objective, Problem


def key_of_another_objective(problem: Problem) -> str | None:
    """The key by which a problem states another objective; None for the tempered reverse KL of p*^beta."""
    if problem.objective != Objective():
        return "objective.kind"
    return None if problem.target.reference_scale is None else "target.reference_scale"


def require_tempered_reverse_kl(problem: Problem, what: str, remedy: str) -> None:
    """Raise BadInput for a problem with another objective.

    what: what is confined to it, as the beginning of a sentence such as "fixed points are found for".
    """
    if (key := key_of_another_objective(problem)) is not None:
        raise BadInput(key, f"{what} the tempered reverse KL of p*^beta alone", remedy)


def require_isotropic(problem: Problem, what: str, remedy: str) -> None:
    """Raise BadInput for a problem in which covariances are given or learned.

    what: what is confined to isotropic components, as the beginning of a sentence such as "fixed points are found for".
    """
    if problem.has_covariances:
        given = {"target": problem.target.covariances, "proposal": problem.proposal.covariances}
        keys = [f"{section}.{COVARIANCES}" for section, matrices in given.items() if matrices]
        raise BadInput(next(iter(keys), "flow.learn"), f"{what} isotropic components alone", remedy)
