"""The verdict on a claimed result: equal, compatible with a sample, equal up to a factor, different, or undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import sympy as sp

from annealvi.comparison.claims import sampled
from annealvi.comparison.claims.ranges import Place, Range, base_of
from annealvi.comparison.claims.results import Effort, Result
from annealvi.comparison.evidence.factors import CLOSE, named_factor, named_number
from annealvi.session.session import Session
from derive.objects.short_repr import short_repr
from derive.problem.specification import BadInput

EQUAL, COMPATIBLE, FACTOR, DIFFERENT, UNDECIDED = "equal", "compatible", "factor", "different", "undecided"
NEAR_LIMIT, APPROACH = 0.05, 2.0
"""A claim is right in a limit if the ratio comes this close to one at an end of a range, and is this many times as far
away at the other end."""
LARGEST_SQUARE = 4096
"""The largest integer in the square of the number of a factor that is named."""
CONSTANTS = (sp.S.One, sp.pi, 1 / sp.pi, sp.sqrt(sp.pi), 1 / sp.sqrt(sp.pi))


@dataclass(frozen=True)
class Claim:
    """A formula for a result, and the points at which it is compared.

    Attributes
    ----------
    text : str
        The formula as it was written.
    expression : sympy.Expr
        The formula in the problem's symbols, with all definitions written out.
    result : Result
        What it is a formula for.
    ranges : tuple of Range
    places : tuple of Place
        The points along the ranges.
    values : tuple of float
        The formula's value at each place.
    """

    text: str
    expression: sp.Expr
    result: Result
    ranges: tuple[Range, ...]
    places: tuple[Place, ...]
    values: tuple[float, ...]

    @property
    def name(self) -> str:
        """The result's name."""
        return self.result.name


@dataclass(frozen=True)
class ClaimPoint:
    """A claim and the package's result at one point.

    Attributes
    ----------
    at : mapping of str to float
        The parameter that varies; the others have the problem's values.
    claim, ours, error : float
        Both numbers, and the error of ours.
    more : mapping
        The seed and the number of runs of an ensemble, and the formula's value.
    """

    at: Mapping[str, float]
    claim: float
    ours: float
    error: float
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """claim/ours, nan where ours is zero."""
        return self.claim / self.ours if self.ours else math.nan


@dataclass(frozen=True)
class ClaimVerdict:
    """What was found about one claim.

    Attributes
    ----------
    name, text : str
        The result's name, and the formula as it was written.
    verdict : str
        "equal", "compatible" (with a sampled result), "factor" (equal up to a factor), "different" or "undecided".
    meaning, against : str
        What the result is, and how it was computed.
    ranges : mapping of str to (float, float)
        The parameters that were varied one at a time.
    base : mapping of str to float
        The problem's own numbers, which all parameters have that do not vary.
    points : tuple of ClaimPoint
        By range.
    factor : sympy.Expr or None
        The claim divided by the result, where this is one factor.
    limit : str
        The limit in which the claim is right, where the ratio shows one.
    p_value : float or None
        Of a sampled result: the probability of data as far from the claim as these, if it is right.
    hidden : float or None
        Of a sampled result: the common factor of a wrong formula that would be rejected in 95 of 100 comparisons.
    idle : tuple of str
        Of a sampled result: the ranges over which all runs had one outcome, which decide nothing.
    """

    name: str
    text: str
    verdict: str
    meaning: str
    against: str
    ranges: Mapping[str, tuple[float, float]]
    base: Mapping[str, float]
    points: tuple[ClaimPoint, ...]
    factor: sp.Expr | None = None
    limit: str = ""
    p_value: float | None = None
    hidden: float | None = None
    idle: tuple[str, ...] = ()

    SHOWN = ("name", "verdict", "factor", "limit")
    __repr__ = short_repr

    @property
    def agrees(self) -> bool:
        """Whether the claim holds where it was compared."""
        return self.verdict in (EQUAL, COMPATIBLE)

    @property
    def worst(self) -> ClaimPoint:
        """The point where the ratio is farthest from one, of a sample the one most standard errors away."""
        if self.p_value is not None:
            return max(self.points, key=lambda p: abs(p.claim - p.ours) / p.error)
        return max(self.points, key=lambda p: abs(math.log(p.ratio)) if p.ratio > 0 else math.inf)

    def along(self, name: str) -> tuple[ClaimPoint, ...]:
        """The points along one range."""
        return tuple(p for p in self.points if name in p.at)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        sample = {"p_value": self.p_value, "smallest_factor_found": self.hidden, "idle_ranges": list(self.idle)}
        return {
            "verdict": self.verdict,
            "claim": self.text,
            "against": f"{self.meaning}: {self.against}",
            "factor": None if self.factor is None else str(self.factor),
            "limit": self.limit or None,
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            "base": dict(self.base),
            "points": [
                {**p.at, "claim": p.claim, "ours": p.ours, "error": p.error, "ratio": p.ratio, **p.more}
                for p in self.points
            ],
            **(sample if self.p_value is not None else {}),
        }


def judged(claim: Claim, session: Session, effort: Effort, source: str) -> ClaimVerdict:
    """Compute the result at the claim's points and compare. Raises BadInput where the result does not exist."""
    points = []
    where = ""
    try:
        compute = claim.result.prepare(session, effort)
        for n, (place, value) in enumerate(zip(claim.places, claim.values, strict=True)):
            where = "".join(f"at {name} = {x:g}: " for name, x in place.at.items())
            found = compute(place, n)
            points.append(ClaimPoint(place.at, value, found.value, found.error, found.more))
    except BadInput as wrong:
        remedy = f"leave the claim out, or: {wrong.remedy}"
        raise BadInput(f"claims.{claim.name}", f"{where}{wrong.found}", remedy, source) from None
    result, ranges = claim.result, {r.name: (r.values[0], r.values[-1]) for r in claim.ranges}
    base = base_of(session.problem)
    verdict = ClaimVerdict(
        claim.name, claim.text, DIFFERENT, result.meaning, result.method, ranges, base, tuple(points)
    )
    more = _sampled(verdict) if result.sampled else _computed(verdict, claim)
    found_verdict = more.pop("verdict")
    limit = _limit(verdict) if found_verdict == DIFFERENT else ""
    return replace(verdict, verdict=found_verdict, limit=limit, **more)


def _computed(verdict: ClaimVerdict, claim: Claim) -> dict[str, Any]:
    """The verdict on a result without sampling error: within its numerical error and rounding."""
    claimed, ours, error = np.array([(p.claim, p.ours, p.error) for p in verdict.points]).T
    if (np.abs(claimed - ours) <= CLOSE * np.abs(ours) + error).all():
        return {"verdict": EQUAL}
    if (ours == 0).any() or (claimed == 0).any():
        return {"verdict": DIFFERENT}
    ratios = claimed / ours
    bases = {r.symbol: np.array([p.numbers[r.symbol] for p in claim.places]) for r in claim.ranges}
    factor = named_factor(ratios, bases) if not error.any() else None
    factor = factor if factor is not None and _is_plain(factor) else None
    middle = float(np.median(ratios))
    allowed = (CLOSE + error / np.abs(ours)) * abs(middle)
    if factor is None and len(ratios) > 1 and (np.abs(ratios - middle) <= 2 * allowed).all():
        factor = _constant(middle, float(allowed.max()))
    return {"verdict": DIFFERENT if factor is None else FACTOR, "factor": factor}


def _is_plain(factor: sp.Expr) -> bool:
    """Whether a factor's number is the root of a ratio of small integers; any large number is the root of a ratio."""
    square = factor.as_independent(*factor.free_symbols, as_Add=False)[0] ** 2
    return bool(square.is_Rational and max(abs(square.p), square.q) <= LARGEST_SQUARE)


def _constant(value: float, error: float) -> sp.Expr:
    """The plain number that a factor is, or its digits."""
    for constant in CONSTANTS:
        named = named_number(value / float(constant))
        if named is not None and _is_plain(named):
            return named * constant
    near = sp.Rational(value).limit_denominator(12)
    return near if abs(float(near) - value) <= error else sp.Float(f"{value:.6g}")


def _sampled(verdict: ClaimVerdict) -> dict[str, Any]:
    """The verdict on a probability that an ensemble samples."""
    claimed = np.array([p.claim for p in verdict.points])
    collapsed, runs = (np.array([p.more[name] for p in verdict.points], float) for name in ("collapsed", "runs"))
    p_value = sampled.p_value(collapsed, runs, claimed)
    hidden = sampled.smallest_factor_found(collapsed, runs)
    told: dict[str, Any] = {"p_value": p_value, "hidden": hidden}
    if p_value < sampled.LEVEL:
        factor = sampled.fitted_factor(collapsed, runs, claimed) if len(runs) > 1 else None
        if factor and sampled.p_value(collapsed, runs, claimed / factor, 1) >= sampled.LEVEL:
            return {**told, "verdict": FACTOR, "factor": sp.Float(f"{factor:.3g}")}
        return {**told, "verdict": DIFFERENT}
    names = list(verdict.ranges) or [""]
    idle = tuple(
        name for name in names if all(p.ours in (0.0, 1.0) for p in verdict.points if name in p.at or not name)
    )
    return {**told, "verdict": UNDECIDED if idle else COMPATIBLE, "idle": idle}


def _limit(verdict: ClaimVerdict) -> str:
    """The ends of ranges towards which the ratio tends to one, in words; empty where there is none."""
    found = []
    for name in verdict.ranges:
        points = verdict.along(name)
        away = np.abs(np.array([p.ratio for p in points]) - 1)
        if len(points) < 3 or not np.isfinite(away).all():
            continue
        for towards, course in (("large", away), ("small", away[::-1])):
            if (np.diff(course) < 0).all() and course[-1] <= NEAR_LIMIT and course[0] >= APPROACH * course[-1]:
                end = points[-1] if towards == "large" else points[0]
                found.append(f"for {towards} {name}: the ratio is {end.ratio:.4g} at {name} = {end.at[name]:.4g}")
    return "; ".join(found)
