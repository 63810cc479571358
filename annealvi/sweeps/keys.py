"""The keys that a sweep may vary: every key of a problem file, and three numbers of the bimodal case."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from numbers import Real
from typing import Any

from derive.problem.kinds import KINDS
from derive.problem.problem_file import KEYS, is_key, with_changes
from derive.problem.schedules import make_schedule
from derive.problem.specification import BadInput, Problem, ScheduleSpec, Space


def _with_separation(problem: Problem, R: float) -> Problem:
    longest = max(math.hypot(*row) for row in problem.target.means)
    means = tuple(tuple(R * x / longest for x in row) for row in problem.target.means)
    return replace(problem, target=replace(problem.target, means=means), proposal=replace(problem.proposal, radius=R))


def _with_mode_weight(problem: Problem, w: float) -> Problem:
    return replace(problem, target=replace(problem.target, weights=(w, 1 - w)))


def _with_component_weight(problem: Problem, w: float) -> Problem:
    return replace(problem, proposal=replace(problem.proposal, weights=(w, 1 - w)))


SHORT: Mapping[str, Callable[[Problem, float], Problem]] = {
    "R": _with_separation,
    "w_star": _with_mode_weight,
    "w_1": _with_component_weight,
}
"""Short keys.

R scales all modes so that the farthest is at distance R from the origin, and sets the radius of all components; w_star
is the first mode's weight, and w_1 the first component's.
"""


def _with_dimension(problem: Problem, d: float) -> Problem:
    return replace(problem, space=Space(int(d) if float(d).is_integer() else d))  # type: ignore[arg-type]


DIRECT: Mapping[str, Callable[[Problem, Any], Problem]] = {
    "schedule.T0": lambda problem, T0: replace(problem, schedule=replace(problem.schedule, T0=T0)),
    "schedule.t0": lambda problem, t0: replace(problem, schedule=replace(problem.schedule, t0=t0)),
    "space.dimension": _with_dimension,
    **SHORT,
}
"""Keys that are set without writing the problem to TOML and reading it again. At each point of a large map that would
take as long as the point itself.
"""


def vary(problem: Problem, settings: Mapping[str, Any]) -> Problem:
    """Return the problem with other values at some keys, checked like a problem file. BadInput names the settings."""
    try:
        for key, value in settings.items():
            if key in DIRECT and (isinstance(value, bool) or not isinstance(value, Real)):
                raise BadInput(key, f"{value!r} is not a number", "write a number such as 3.0")
        others = {key: value for key, value in settings.items() if key not in DIRECT}
        problem = with_changes(problem, others) if others else problem
        for key in (key for key in DIRECT if key in settings):
            problem = DIRECT[key](problem, settings[key])
        return problem
    except BadInput as wrong:
        raise wrong.at(f"at {in_words(settings)}") from None
    except ZeroDivisionError:
        raise BadInput(
            "R", "all modes are at the origin, and no factor moves them", "vary target.means[k][n] instead", ""
        ) from None


def in_words(settings: Mapping[str, Any]) -> str:
    """Return the settings of a point as text for messages."""
    return ", ".join(
        f"{key} = {value:.6g}" if isinstance(value, float) else f"{key} = {value}" for key, value in settings.items()
    )


def require_independent(keys: Sequence[str]) -> None:
    """Raise BadInput for two keys that set the same number, so that one undoes the other."""
    for one, other in combinations(keys, 2):
        common = _set_by(one) & _set_by(other)
        places = [_above_the_diagonal(key) for key in (one, other)]
        inside = places[0].startswith(places[1]) or places[1].startswith(places[0])
        entries = "[" in one and "[" in other and not inside
        if common and not (entries and not common & {"target.weights", "proposal.weights"}):
            raise BadInput("axis", f"{one} and {other} both set {min(common)}", "vary one of them", "")


def _above_the_diagonal(key: str) -> str:
    """A key of an entry of a covariance as that of the equal entry on or above the diagonal; any other key as it is."""
    entry = re.fullmatch(r"(.*\.covariances\[\d+\])\[(\d+)\]\[(\d+)\]", key)
    if entry is None:
        return key
    row, column = sorted(map(int, entry.groups()[1:]))
    return f"{entry[1]}[{row}][{column}]"


def _set_by(key: str) -> set[str]:
    short = {"R": {"target.means", "proposal.radius"}, "w_star": {"target.weights"}, "w_1": {"proposal.weights"}}
    return short.get(key, {key.split("[")[0]})


def numbers_of(spec: ScheduleSpec) -> tuple[str, ...]:
    """Return which of T0 and t0 the schedule has."""
    kind = KINDS[spec.kind]
    return kind.numbers if kind.adaptive else tuple(parameter.name for parameter in make_schedule(spec).parameters)


def require_numbers(kind: str, numbers: Collection[str], keys: Iterable[str]) -> None:
    """Raise BadInput for a key of a number that schedules of this kind do not have: varying it would change nothing."""
    for key in keys:
        if key in ("schedule.T0", "schedule.t0") and key.removeprefix("schedule.") not in numbers:
            fixed = ", or one that floor and mod have made fixed" if kind == "expression" else ""
            raise BadInput(
                key, f"schedule.kind {kind!r} has no such number{fixed}", "vary another key or choose another kind"
            )


def require_key(key: str, option: str) -> None:
    """Raise BadInput for a word that is no key."""
    if key not in SHORT and not is_key(key):
        near = difflib.get_close_matches(key, (*KEYS, *SHORT), 1)
        remedy = (
            f"did you mean {near[0]}?"
            if near
            else "vary a key of the problem file such as schedule.T0, or R, w_star or w_1"
        )
        raise BadInput(option, f"{key[:40]!r} cannot vary", remedy, "")
