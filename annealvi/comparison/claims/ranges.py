"""The ranges over which a claim is compared: which numbers of a problem can vary, and the points of each range."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from annealvi.comparison.reading.formulas import Scope
from annealvi.sweeps.keys import numbers_of, vary
from derive.dynamics.symbolic_problem import symbolise
from derive.objects.mixtures import DIMENSION
from derive.objects.system import BETA
from derive.problem.field_checks import shown
from derive.problem.schedules import START_TEMPERATURE, TIME_SCALE
from derive.problem.specification import BadInput, Problem
from derive.rules.geometry import RADIUS, R

FACTOR = 2.0
"""A range that is not stated goes from the problem's value divided by this to the value times this; that of a weight
does the same with its odds."""
HOTTEST_BETA = 0.1
"""The least inverse temperature of a range that is not stated."""
LEAST_DIMENSION = 3
"""A range that is not stated goes to no fewer dimensions than the formula for P needs."""
SCHEDULE_NUMBERS = {"T0": START_TEMPERATURE, "t0": TIME_SCALE}
_WEIGHT = re.compile(r"w_(star_)?([0-9]+)")


@dataclass(frozen=True)
class Range:
    """One number of the problem, and the values that it takes.

    Attributes
    ----------
    name : str
        Its name in the claims.
    symbol : sympy.Symbol
    values : tuple of float
        Increasing.
    """

    name: str
    symbol: sp.Symbol
    values: tuple[float, ...]


@dataclass(frozen=True)
class Place:
    """One point at which a claim is compared.

    Attributes
    ----------
    at : mapping of str to float
        The number that varies, by its name in the claims; empty for a claim without parameters.
    settings : mapping
        The keys of the problem that differ from the base problem, for `annealvi.sweeps.keys.vary`.
    problem : Problem
        The problem there.
    numbers : mapping of sympy.Symbol to float
        All numbers that claims may contain.
    """

    at: Mapping[str, float]
    settings: Mapping[str, Any]
    problem: Problem
    numbers: Mapping[sp.Symbol, float]

    @property
    def words(self) -> str:
        """The place in words that follow "at"."""
        return ", ".join(f"{name} = {x:.4g}" for name, x in self.at.items()) or "the problem's numbers"


def numbers_at(problem: Problem) -> dict[sp.Symbol, float]:
    """The numbers of a problem and of its schedule by symbol."""
    schedule = {SCHEDULE_NUMBERS[name]: float(getattr(problem.schedule, name)) for name in numbers_of(problem.schedule)}
    return {**symbolise(problem).values, **{s: x for s, x in schedule.items() if math.isfinite(x)}}


def base_of(problem: Problem) -> dict[str, float]:
    """The numbers of a problem and of its schedule by name."""
    return {s.name: x for s, x in numbers_at(problem).items()}


def settings_of(symbol: sp.Symbol, value: float, problem: Problem) -> dict[str, Any] | None:
    """The keys that give a number of the problem another value; None for a number that cannot vary alone."""
    if symbol == R:
        on_sphere = all(math.isclose(r, math.hypot(*problem.target.means[0])) for r in problem.proposal.radii)
        return {"R": value} if on_sphere else None
    if symbol == DIMENSION:
        return {"space.dimension": value}
    if symbol == RADIUS:
        return {"proposal.radius": value}
    if symbol in SCHEDULE_NUMBERS.values():
        return {f"schedule.{symbol.name}": value}
    if symbol.name in ("sigma", "sigma_star"):
        section, count = _mixture(symbol, problem)
        return {f"{section}.scales": [value] * count}
    match = _WEIGHT.fullmatch(symbol.name)
    if match is None:
        return None
    section, count = _mixture(symbol, problem)
    return {f"{section}.weights[{int(match[2]) - 1}]": value} if count > 1 else None


def _mixture(symbol: sp.Symbol, problem: Problem) -> tuple[str, int]:
    """The section of the mixture that a symbol such as w_star_1 belongs to, and its number of components."""
    if "star" in symbol.name:
        return "target", len(problem.target.weights)
    return "proposal", len(problem.proposal.weights)


def places_of(ranges: tuple[Range, ...], problem: Problem, source: str) -> tuple[Place, ...]:
    """The points along each range, with all other numbers at the problem's values; the problem itself without ranges.

    Raises BadInput where the problem does not take a value.
    """
    places = []
    for axis in ranges:
        for value in axis.values:
            if axis.symbol == BETA:
                places.append(Place({axis.name: value}, {}, problem, {**numbers_at(problem), BETA: value}))
                continue
            settings = settings_of(axis.symbol, value, problem) or {}
            try:
                varied = vary(problem, settings)
                places.append(Place({axis.name: value}, settings, varied, numbers_at(varied)))
            except BadInput as wrong:
                found = f"at {axis.name} = {value:g} the problem is refused: {wrong.found}"
                raise BadInput(f"ranges.{axis.name}", found, f"state another range ({wrong.remedy})", source) from None
    return tuple(places) or (Place({}, {}, problem, numbers_at(problem)),)


def values_between(symbol: sp.Symbol, low: float, high: float, count: int) -> tuple[float, ...]:
    """Values with equal ratios, for weights with equal differences, for a dimension whole."""
    if _WEIGHT.fullmatch(symbol.name):
        return tuple(map(float, np.linspace(low, high, count)))
    values = np.geomspace(low, high, count)
    values[[0, -1]] = low, high
    return tuple(map(float, np.unique(np.rint(values)) if symbol == DIMENSION else values))


def usual_range(symbol: sp.Symbol, value: float) -> tuple[float, float]:
    """The range about the problem's value."""
    low, high = value / FACTOR, value * FACTOR
    if symbol == BETA:
        return HOTTEST_BETA, 1.0
    if _WEIGHT.fullmatch(symbol.name):
        odds = value / (1 - value)
        return odds / FACTOR / (1 + odds / FACTOR), odds * FACTOR / (1 + odds * FACTOR)
    if symbol == START_TEMPERATURE:
        return max(low, 1.0), high
    if symbol == DIMENSION:
        return max(low, min(value, LEAST_DIMENSION)), high
    return low, high


def stated_ranges(table: Any, scope: Scope, source: str) -> dict[sp.Symbol, tuple[float, float]]:
    """The ranges that somebody states, by symbol. Raises BadInput with the place of a mistake."""
    if not isinstance(table, Mapping):
        raise BadInput("ranges", "no table", "write [ranges]", source)
    ranges: dict[sp.Symbol, tuple[float, float]] = {}
    for name, ends in table.items():
        key = f"ranges.{shown(str(name))}"
        symbol = scope.symbols.get(name)
        if symbol is None:
            raise BadInput(key, "no such parameter", f"the parameters are {', '.join(scope.symbols)}", source)
        if symbol in ranges:
            raise BadInput(key, "a second range of one parameter", "leave one out", source)
        numbers = isinstance(ends, list | tuple) and len(ends) == 2 and all(map(_is_number, ends))
        if not numbers or not 0 < ends[0] < ends[1]:
            raise BadInput(key, shown(str(ends)), "write two positive numbers, the smaller first: [2, 4]", source)
        ranges[symbol] = float(ends[0]), float(ends[1])
        if symbol == BETA and ends[1] > 1:
            raise BadInput(key, f"{ends[1]:g} is above one", "write inverse temperatures up to 1", source)
        if symbol == DIMENSION and any(x != int(x) for x in ends):
            raise BadInput(key, shown(str(ends)), "write whole numbers", source)
    return ranges


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def ranges_of(
    symbols: set[sp.Symbol],
    stated: Mapping[sp.Symbol, tuple[float, float]],
    problem: Problem,
    scope: Scope,
    count: int,
) -> tuple[Range, ...]:
    """The ranges of a claim that contains these symbols: the stated ones, and the usual ones of all others.

    Of two weights that sum to one, one varies.
    """
    known, ranges = {**numbers_at(problem), BETA: 1.0}, []
    wanted = [s for s in sorted(symbols, key=lambda s: s.name) if s == BETA or settings_of(s, 1.0, problem)]
    for symbol in wanted:
        twin = _twin(symbol, problem)
        if symbol not in stated and any(s.name == twin and (s in stated or s.name < symbol.name) for s in wanted):
            continue
        low, high = stated.get(symbol) or usual_range(symbol, known[symbol])
        ranges.append(Range(scope.written(symbol), symbol, values_between(symbol, low, high, count)))
    return tuple(ranges)


def _twin(symbol: sp.Symbol, problem: Problem) -> str:
    """The name of the weight that is one minus this one; empty where there is none."""
    match = _WEIGHT.fullmatch(symbol.name)
    if match is None or _mixture(symbol, problem)[1] != 2:
        return ""
    return f"w_{match[1] or ''}{3 - int(match[2])}"
