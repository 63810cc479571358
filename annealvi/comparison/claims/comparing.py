"""All claims of a file or call, compared one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from annealvi.comparison.claims.fixed_points import FixedPointClaim, FixedPointVerdict, judged_fixed_point
from annealvi.comparison.claims.results import Effort
from annealvi.comparison.claims.verdicts import Claim, ClaimVerdict, judged
from annealvi.session.session import Session


def compared_claims(
    claims: Sequence[Claim | FixedPointClaim], session: Session, effort: Effort, source: str
) -> tuple[ClaimVerdict | FixedPointVerdict, ...]:
    """The verdict on each claim. Raises BadInput for a result that the problem does not have."""
    return tuple(
        judged_fixed_point(claim, session, effort, source)
        if isinstance(claim, FixedPointClaim)
        else judged(claim, session, effort, source)
        for claim in claims
    )
