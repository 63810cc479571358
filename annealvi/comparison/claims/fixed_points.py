"""Claimed fixed points: the flow's zero nearest to the claimed state, and its spectrum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from annealvi.comparison.claims.ranges import Place, Range, base_of, places_of, ranges_of
from annealvi.comparison.claims.results import Effort, claimed_number
from annealvi.comparison.evidence.factors import CLOSE
from annealvi.fixed_points.mean_flow import MeanFlow, open_mean_flow
from annealvi.fixed_points.search import RANK, distance, fixed_point
from annealvi.fixed_points.zeros import RESOLVED, zeros_near
from annealvi.session.session import Session, open_session
from derive.objects.parameters import PARAMETERS
from derive.objects.short_repr import short_repr
from derive.objects.system import BETA
from derive.problem.field_checks import shown
from derive.problem.specification import BadInput

if TYPE_CHECKING:
    from annealvi.comparison.claims.reading import Reader


@dataclass(frozen=True)
class FixedPointClaim:
    """A state that is claimed to be a fixed point.

    Attributes
    ----------
    name, text : str
        Its name, and the table as it was written.
    ranges : tuple of Range
    places : tuple of Place
    states : tuple of ndarray
        The claimed state (states,) at each place.
    betas : tuple of float
        The inverse temperature at each place.
    stable : bool or None
        Whether the point is claimed to be stable; None where nothing is claimed.
    """

    name: str
    text: str
    ranges: tuple[Range, ...]
    places: tuple[Place, ...]
    states: tuple[np.ndarray, ...]
    betas: tuple[float, ...]
    stable: bool | None


@dataclass(frozen=True)
class StatePoint:
    """A claimed state and the nearest fixed point.

    Attributes
    ----------
    at : mapping of str to float
        The parameter that varies.
    beta : float
        The inverse temperature.
    claim, ours : mapping of str to float
        The claimed state and the nearest fixed point's, by name; `ours` is empty where no zero was found nearby.
    away : float
        The largest distance of a component between the two, in radii and logarithms.
    stable : bool or None
        Whether the nearest fixed point attracts all its neighbours; None where the spectrum does not say.
    growing : int
        Its number of directions in which a perturbation grows.
    """

    at: Mapping[str, float]
    beta: float
    claim: Mapping[str, float]
    ours: Mapping[str, float]
    away: float
    stable: bool | None
    growing: int

    @property
    def spectrum(self) -> str:
        """The spectrum in words."""
        if not self.ours:
            return "no fixed point nearby"
        if self.stable is None:
            return "not resolved"
        return "stable" if self.stable else f"{self.growing} growing"


@dataclass(frozen=True)
class FixedPointVerdict:
    """What was found about a claimed fixed point.

    Attributes
    ----------
    name, text : str
        The claim's name and text.
    verdict : str
        "equal" or "different".
    ranges : mapping of str to (float, float)
    base : mapping of str to float
        The problem's own numbers, which all parameters have that do not vary.
    points : tuple of StatePoint
    stable : bool or None
        Whether the point was claimed to be stable.
    """

    name: str
    text: str
    verdict: str
    ranges: Mapping[str, tuple[float, float]]
    base: Mapping[str, float]
    points: tuple[StatePoint, ...]
    stable: bool | None

    SHOWN = ("name", "verdict")
    __repr__ = short_repr

    against = "Newton's iteration from the claimed state, and the linearised flow there"

    @property
    def agrees(self) -> bool:
        """Whether the state is a fixed point everywhere, with the claimed stability."""
        return self.verdict == "equal"

    @property
    def worst(self) -> StatePoint:
        """The point that is farthest from a fixed point."""
        return max(self.points, key=lambda p: p.away)

    def along(self, name: str) -> tuple[StatePoint, ...]:
        """The points along one range."""
        return tuple(p for p in self.points if name in p.at)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "verdict": self.verdict,
            "claim": self.text,
            "against": self.against,
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            "base": dict(self.base),
            "points": [
                {
                    **p.at,
                    "beta": p.beta,
                    "claim": dict(p.claim),
                    "ours": dict(p.ours),
                    "error": p.away,
                    "stable": p.stable,
                    "growing_directions": p.growing,
                }
                for p in self.points
            ],
        }


def fixed_point_claim(name: str, table: Mapping[str, Any], reader: Reader, count: int) -> FixedPointClaim:
    """Read a table with a formula for each state, and where given beta and stable.

    Without beta the claim is for every inverse temperature. Raises BadInput with the place of a mistake.
    """
    key, source = f"claims.{shown(name)}", reader.scope.source
    states = reader.session.derivation.system.states
    given: dict[sp.Symbol, sp.Expr] = {}
    free = "beta" not in table
    symbols = {BETA} if free else set()
    for word, value in table.items():
        if word in ("beta", "stable"):
            continue
        state = reader.state_names.get(word)
        if state is None:
            remedy = f"the states are {', '.join(map(str, states))}; beside them write beta and stable"
            raise BadInput(f"{key}.{shown(str(word))}", "this is no state", remedy, source)
        given[state], mentioned = reader.expression(value, f"{key}.{word}", {"beta": BETA} if free else None)
        symbols |= mentioned
    missing = [s.name for s in states if s not in given]
    if missing:
        raise BadInput(key, f"no value for {', '.join(missing)}", "write a formula for each state", source)
    stable = table.get("stable")
    if stable is not None and not isinstance(stable, bool):
        raise BadInput(f"{key}.stable", shown(str(stable)), "write true or false", source)
    beta, mentioned = (BETA, set()) if free else reader.expression(table["beta"], f"{key}.beta")
    symbols |= mentioned
    problem = reader.session.problem
    ranges = ranges_of(symbols, reader.stated, problem, reader.scope, count)
    places = places_of(ranges, problem, source)
    betas, found = [], []
    for place in places:
        where = place.words
        level = claimed_number(beta, {BETA: 1.0, **place.numbers}, where, f"{key}.beta", source)
        if not 0 < level <= 1:
            raise BadInput(f"{key}.beta", f"{level:g} at {where}", "give an inverse temperature in (0, 1]", source)
        numbers = {**place.numbers, BETA: level}
        values = np.array([claimed_number(given[s], numbers, where, f"{key}.{s}", source) for s in states])
        try:
            open_session(place.problem).coordinates.require_state(values, key, source)
        except BadInput as wrong:
            raise BadInput(key, f"at {where} {wrong.found}", wrong.remedy, source) from None
        betas.append(level)
        found.append(values)
    text = ", ".join(
        f"{word} = {str(value).lower() if isinstance(value, bool) else value}" for word, value in table.items()
    )
    return FixedPointClaim(name, text, ranges, places, tuple(found), tuple(betas), stable)


def judged_fixed_point(claim: FixedPointClaim, session: Session, effort: Effort, source: str) -> FixedPointVerdict:
    """Find the fixed point to which Newton's iteration leads from the claimed state at each place.

    Raises BadInput for a flow without fixed points.
    """
    points = []
    for place, state, beta in zip(claim.places, claim.states, claim.betas, strict=True):
        try:
            flow = open_mean_flow(open_session(place.problem), device=effort.device)
        except BadInput as wrong:
            raise BadInput(f"claims.{claim.name}", wrong.found, wrong.remedy, source) from None
        points.append(_nearest(flow, place, state, beta))
    near = all(p.away <= CLOSE for p in points)
    told = near and all(p.stable is not None for p in points)
    right = near and all(claim.stable in (None, p.stable) for p in points)
    ranges = {r.name: (r.values[0], r.values[-1]) for r in claim.ranges}
    undecided = near and not told and all(p.stable in (None, claim.stable) for p in points)
    verdict = "equal" if right else "undecided" if undecided else "different"
    return FixedPointVerdict(
        claim.name, claim.text, verdict, ranges, base_of(session.problem), tuple(points), claim.stable
    )


def _nearest(flow: MeanFlow, place: Place, state: np.ndarray, beta: float) -> StatePoint:
    start = place_of(flow, state)
    zeros, left = zeros_near(flow, beta, start[None])
    names = flow.session.state_names
    claimed = dict(zip(names, map(float, state), strict=True))
    if not left[0] <= RESOLVED:
        return StatePoint(place.at, beta, claimed, {}, math.inf, None, 0)
    found = fixed_point(flow, beta, zeros[0], float(left[0]))
    stable = found.stable if found.spectrum.resolved else None
    away = distance(flow, start, zeros[0])
    return StatePoint(place.at, beta, claimed, found.state, away, stable, found.unstable_directions)


def place_of(flow: MeanFlow, state: np.ndarray) -> np.ndarray:
    """A place (L, p + r + rank) of the flow with this state (states,): logarithms, and means that reach into `rank`
    dimensions orthogonal to the modes."""
    session = flow.session
    gram = session.coordinates.gram_of_states(state)
    modes = len(flow.all_modes)
    kept = list(session.symbolic.independent_modes)
    along = np.linalg.solve(flow.modes, gram[modes:, kept].T).T
    squares, directions = np.linalg.eigh(gram[modes:, modes:] - along @ along.T)
    wide = squares > (RANK * flow.radii.max()) ** 2
    wide[-1] |= not wide.any() and flow.least_orthogonal > 0
    across = directions[:, wide] * np.sqrt(np.maximum(squares[wide], 0))
    logs = [np.log(state[session.positions_of(p)]) for p in PARAMETERS if p in flow.learned]
    return np.concatenate([*(column[:, None] for column in logs), along, across], axis=1)
