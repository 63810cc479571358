"""The tables from which a kernel reads the averages of a system at run time, each with its measured error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import sympy as sp

from derive.objects.expectation import Expectation
from derive.objects.short_repr import short_repr
from derive.objects.system import BETA, OdeSystem
from kernels.averages.coordinates import coordinates_of
from kernels.averages.lattice_rule import SCRAMBLE_STATES, nodes_asked, nodes_visited, rule_for
from kernels.averages.lattice_states import random_states
from kernels.averages.pairs import pair_coordinates
from kernels.averages.proxy import fit
from kernels.averages.quadrature import NormalRule, averages, measured_error, normal_rule, pole_distance
from kernels.averages.reach import Reach, intervals, reach_of
from kernels.averages.state_coordinates import state_coordinates
from kernels.averages.surfaces import AnyCoordinates, Surface, Surfaces
from kernels.generate.templates.clenshaw import UNROLLED
from kernels.lower.analysis import ARGUMENT, SystemAverages, TablePlace, TabulatedAverage, written_out
from kernels.lower.invariants import relative_coefficients
from kernels.lower.lattice import Group
from kernels.lower.lowering import lower

LATTICE_STATES = 12
PAIR_STATES = 64
BEYOND = 2.0
"""The table of a group in unbounded states follows them to so many of the largest scale, or of one, beyond the longest
vector's length. Farther out, kernels sum."""
SAMPLES = 67  # a prime, so that every stride of `_samples` visits all points
MOST_AT_ONCE = 1e6
"""The most integrand values that are in memory at once while an average over one variable is tabulated, unless a single
argument takes more."""


class MeasuredError(NamedTuple):
    """How an average is approximated, and the largest error that was measured when its table was made.

    The error is what the samples showed, and no bound.

    Attributes
    ----------
    average
        The average.
    method
        "Chebyshev proxy", "trapezoidal rule", "Chebyshev series" and its number of coordinates, or a lattice and its
        number of variables.
    size
        The number of coefficients or nodes; at a typical state where the number depends on the state.
    error
        The largest difference from a finer rule, plus, for a proxy, its largest difference from the rule. For a lattice
        the error is relative to E|f| where E|f| exceeds one; for quasi-random points it is a standard error.
    samples
        Where the error was measured, in words.
    """

    average: str
    method: str
    size: int
    error: float
    samples: str


@dataclass(frozen=True)
class Tables:
    """The tables of a system: those of the averages over one variable, then those of the groups.

    Attributes
    ----------
    values
        (total,) the coefficients of each proxy or the nodes and weights of each trapezoidal rule, then the lattice rule
        of each group.
    layout
        (averages + groups, 2) the start and the count of each table.
    ranges
        (averages + groups, 2) the intervals of proxies.
    by_proxy
        Whether a proxy serves an average over one variable, by index.
    surfaces
        Where a group's table is read, by the group's index. The other groups are summed over lattices.
    measured_errors
        One record for each average over one variable, and one for each group.
    """

    values: np.ndarray
    layout: np.ndarray
    ranges: np.ndarray
    by_proxy: dict[int, bool]
    surfaces: dict[int, TablePlace]
    measured_errors: tuple[MeasuredError, ...]

    __repr__ = short_repr

    @property
    def way_with_groups(self) -> str:
        """How averages over several variables are computed, as the end of a sentence; empty where there are none."""
        boxed = sum(where.sums is not None for where in self.surfaces.values())
        sums = len(self.layout) - len(self.by_proxy) - len(self.surfaces) - boxed
        series = "by series" if not boxed else f"by series, {boxed} of them in a box and outside by sums"
        ways = [f"{way} ({count})" for way, count in ((series, len(self.surfaces)), ("by sums", sums)) if count]
        return f", averages over several variables {' and '.join(ways)}" if ways else ""

    @property
    def has_series(self) -> bool:
        """Whether a series stands for some average, rather than a sum over nodes."""
        return any(self.by_proxy.values()) or bool(self.surfaces)


def build_tables(
    averages: SystemAverages,
    values: Mapping[sp.Symbol, float],
    tolerance: float,
    proxies: bool,
    reach: Reach | None = None,
) -> Tables:
    """Tables for every average of a system at the given parameter values.

    tolerance: the wanted error of each average; for an average over several variables it is relative to E|f| where E|f|
    exceeds one. proxies: use a Chebyshev series where an average looks at few bounded states and is smooth enough, and
    the trapezoidal rule otherwise. reach: how far the states go; by default what the parameter values say. Raises
    ArithmeticError where the measured error of an average over one variable exceeds twice the tolerance, or that of a
    tensor grid the tolerance. Quasi-random points may miss the tolerance; `measured_errors` then says by how much.
    """
    system = averages.system
    reach = reach_of(system, values) if reach is None else reach
    limits = intervals(system, values, reach)
    entries = [_tabulated(average, system, values, limits, tolerance, proxies) for average in averages.tabulated]
    sampled = intervals(system, values, reach, reach.sampled_scales)
    surfaces = _surfaces(averages, values, limits, sampled, tolerance, reach) if proxies else {}
    of_groups, of_sums = _group_entries(averages, values, sampled, tolerance, surfaces)
    first = len(entries) + len(of_groups)
    rows = {g: first + n for n, g in enumerate(of_sums)}
    entries += [*of_groups, *of_sums.values()]
    parts, starts = _without_copies([entry.values for entry in entries])
    return Tables(
        np.concatenate(parts) if parts else np.zeros(1),
        np.array([(start, e.size) for start, e in zip(starts, entries, strict=True)], np.int64).reshape(-1, 2),
        np.array([entry.interval for entry in entries], float).reshape(-1, 2),
        {n: entries[n].by_proxy for n in range(len(averages.tabulated))},
        {g: TablePlace(surface.coordinates, surface.moments, rows.get(g)) for g, surface in surfaces.items()},
        tuple(entry.measured for entry in entries[:first]),
    )


def _surfaces(
    averages: SystemAverages,
    values: Mapping[sp.Symbol, float],
    limits: np.ndarray,
    sampled: np.ndarray,
    tolerance: float,
    reach: Reach,
) -> dict[int, Surface]:
    """The tables of the groups that have one, by index.

    sampled: the states' intervals, from which random states are drawn where a box is not that of the states.
    """
    system = averages.system
    in_boxes = [
        i is None and (p is not None or group.crossed)
        for group, p, i in zip(averages.groups, averages.pairs, averages.invariants, strict=True)
    ]
    states = random_states(system, values, sampled, PAIR_STATES) if any(in_boxes) else np.zeros((0, len(system.states)))
    drawn = dict(zip(system.states, states.T, strict=True))
    numbers = {s: float(v) for s, v in values.items()}
    ends = {s: (float(low), float(high)) for s, (low, high) in zip(system.states, limits, strict=True)}
    bounded = {v.symbol: ends[v.symbol] for v in system.variables if all(end.is_finite for end in v.interval)}
    beyond = reach.length + BEYOND * max(1.0, reach.largest)
    made = Surfaces(tolerance)
    found: dict[int, Surface] = {}
    for g, group in enumerate(averages.groups):
        invariants, pair = averages.invariants[g], averages.pairs[g]
        coordinates: AnyCoordinates | None = None
        if invariants is not None:
            coordinates = coordinates_of(group, invariants, numbers, ends)
        elif pair is not None:
            coordinates = pair_coordinates(group, pair, numbers, drawn)
        elif group.crossed:
            of_logits = relative_coefficients(group, system)
            coordinates = state_coordinates(group, of_logits, numbers, drawn, bounded, beyond)
        surface = None if coordinates is None else made.surface_of(coordinates)
        if surface is not None:
            found[g] = surface
    return found


def _without_copies(tables: list[np.ndarray]) -> tuple[list[np.ndarray], list[int]]:
    """The tables, each once, and where each begins. Groups whose moments are one function hand in one array."""
    starts: dict[int, int] = {}
    kept: list[np.ndarray] = []
    for table in tables:
        if id(table) not in starts:
            starts[id(table)] = sum(map(len, kept))
            kept.append(table)
    return kept, [starts[id(table)] for table in tables]


class _Entry(NamedTuple):
    """The part of the tables that belongs to one average or one group.

    size: the count in the layout. interval: that of the proxy.
    """

    values: np.ndarray
    size: int
    interval: tuple[float, float]
    by_proxy: bool
    measured: MeasuredError


def _tabulated(
    average: TabulatedAverage,
    system: OdeSystem,
    values: Mapping[sp.Symbol, float],
    limits: np.ndarray,
    tolerance: float,
    proxies: bool,
) -> _Entry:
    """The table of an average over one variable."""
    integrand, rule, arguments = _rule(average, system, values, limits, tolerance / 10 if proxies else tolerance)
    proxy = None
    if proxies and average.state is not None and all(b.is_finite for b in system.variables[average.state].interval):
        low, high = limits[average.state]
        proxy = fit(partial(_averages_of, integrand, rule), low, high, tolerance / 2)
    error = float(np.max([measured_error(integrand, rule, part) for part in _parts(rule, arguments)]))
    seen = f"{SAMPLES} points across the domain, ends included" if arguments else "its only value"
    name = str(average.expression)
    if proxy is not None:
        seen = f"{proxy.compared} arguments, most of them at the ends, and of its rule {seen}"
        measured = MeasuredError(name, "Chebyshev proxy", len(proxy.coefficients), proxy.error + error, seen)
        table = _padded(proxy.coefficients)
        entry = _Entry(table, len(table), (proxy.low, proxy.high), True, measured)
    else:
        measured = MeasuredError(name, "trapezoidal rule", len(rule.nodes), error, seen)
        entry = _Entry(np.concatenate([rule.nodes, rule.weights]), len(rule.nodes), (0.0, 0.0), False, measured)
    if not measured.error <= 2 * tolerance:
        raise ArithmeticError(f"{name}: measured error {measured.error:.1e} misses the tolerance {tolerance:.1e}")
    return entry


def _padded(coefficients: np.ndarray) -> np.ndarray:
    """The coefficients with zeros for further degrees.

    The recurrence can then take UNROLLED coefficients at a time before it takes the constant.
    """
    return np.pad(coefficients, (0, -(len(coefficients) - 1) % UNROLLED))


def _group_entries(
    averages: SystemAverages,
    values: Mapping[sp.Symbol, float],
    limits: np.ndarray,
    tolerance: float,
    surfaces: Mapping[int, Surface],
) -> tuple[list[_Entry], dict[int, _Entry]]:
    """The tables of the groups of averages over several variables, and the rules of those that have none.

    Also the rules of those groups, by index, whose table ends within the states' domain. The errors of rules are
    measured at random states.
    """
    system = averages.system
    summed = [g for g in range(len(averages.groups)) if g not in surfaces or not surfaces[g].everywhere]
    numbers = _numbers_at(system, values, random_states(system, values, limits, LATTICE_STATES)) if summed else {}
    rules: dict[int, _Entry] = {}
    for g in summed:
        group, pattern = averages.groups[g], averages.patterns[g]
        rule = rule_for(group, pattern, numbers, tolerance)
        kind = "quasi-random lines" if pattern.sampled else "trapezoidal lattice"
        method = f"{kind}, {pattern.variables} variable{'s' * (pattern.variables > 1)}"
        seen = f"{SCRAMBLE_STATES if pattern.sampled else LATTICE_STATES} random states"
        measured = MeasuredError(str(group), method, rule.size, rule.error, seen)
        rules[g] = _Entry(rule.table, rule.points, (0.0, 0.0), False, measured)
    tables = {g: _of_surface(averages.groups[g], surface, rules.get(g)) for g, surface in surfaces.items()}
    found = [tables.get(g) or rules[g] for g in range(len(averages.groups))]
    return found, {g: rules[g] for g in summed if g in surfaces}


def _of_surface(group: Group, surface: Surface, sums: _Entry | None) -> _Entry:
    count = len(surface.coordinates)
    method = f"Chebyshev series, {count} coordinate{'s' * (count > 1)}"
    seen = f"{surface.probes} points of the box of its coordinates, half of them at the ends"
    error = surface.error
    if sums is not None:
        method += f", and outside their box {sums.measured.method}"
        seen += f", and outside {sums.measured.samples}"
        error = max(error, sums.measured.error)
    measured = MeasuredError(str(group), method, surface.size, error, seen)
    return _Entry(surface.table, len(group.moments), (0.0, 0.0), False, measured)


def most_nodes(averages: SystemAverages, values: Mapping[sp.Symbol, float], tables: Tables, state: np.ndarray) -> float:
    """The largest number of nodes that one average over several variables asks for at a state (states,).

    The number is 0 for a system without such averages.
    """
    return max(_sizes(nodes_asked, averages, values, tables, state), default=0.0)


def all_nodes(averages: SystemAverages, values: Mapping[sp.Symbol, float], tables: Tables, state: np.ndarray) -> float:
    """About how many nodes all averages over several variables visit together at a state (states,)."""
    return sum(_sizes(nodes_visited, averages, values, tables, state))


def _sizes(
    size: Callable[..., float],
    averages: SystemAverages,
    values: Mapping[sp.Symbol, float],
    tables: Tables,
    state: np.ndarray,
) -> list[float]:
    numbers = _numbers_at(averages.system, values, state[None])
    first = len(averages.tabulated)
    rows = enumerate(zip(averages.groups, tables.layout[first : first + len(averages.groups)], strict=True))
    summed = [row for g, row in rows if g not in tables.surfaces]
    return [size(group, numbers, tables.values[start], points) for group, (start, points) in summed]


def _numbers_at(
    system: OdeSystem, values: Mapping[sp.Symbol, float], states: np.ndarray
) -> dict[sp.Symbol, np.ndarray]:
    """The values (n,) of every state, parameter and named subexpression without an average, at the states (n, states).

    Coefficients of an average may contain beta, whose value hardly matters to a rule; they are taken at beta = 1.
    """
    count = len(states)
    numbers: dict[sp.Symbol, np.ndarray] = {BETA: np.ones(count)}
    numbers |= {s: np.full(count, float(v)) for s, v in values.items()}
    numbers |= dict(zip(system.states, states.T, strict=True))
    for symbol, definition in system.subexpressions:
        if not definition.free_symbols <= set(numbers) or definition.has(Expectation):
            continue
        used = sorted(definition.free_symbols, key=lambda s: s.name)
        found = sp.lambdify(used, lower(definition), "numpy")(*(numbers[s] for s in used))
        numbers[symbol] = np.broadcast_to(np.asarray(found, float), count)
    return numbers


def _rule(
    average: TabulatedAverage,
    system: OdeSystem,
    values: Mapping[sp.Symbol, float],
    limits: np.ndarray,
    tolerance: float,
) -> tuple[Callable[..., np.ndarray], NormalRule, tuple[np.ndarray, ...]]:
    """The vectorised integrand, a rule that suffices at every state within the limits, and sampled arguments.

    The error of the rule is measured at these arguments.
    """
    expression, state = average
    (z,) = expression.variables
    concrete = written_out(expression.integrand, system).xreplace({s: sp.Float(v, 20) for s, v in values.items()})
    symbols = (ARGUMENT,) if state is not None else tuple(s for s in system.states if s in concrete.free_symbols)
    boxes = [limits[state]] if state is not None else [limits[system.states.index(s)] for s in symbols]
    slope = 0.0
    arguments = tuple(_samples(low, high, k) for k, (low, high) in enumerate(boxes))
    for node in concrete.atoms(sp.tanh, sp.sech):
        coefficient = lower(sp.expand(node.args[0]).coeff(z))
        steepest = np.abs(sp.lambdify(symbols, coefficient, "numpy")(*arguments))
        corners = [np.abs(sp.lambdify(symbols, coefficient, "numpy")(*corner)) for corner in _corners(boxes)]
        slope = max(slope, float(np.max(steepest)), *map(float, corners))
    rule = normal_rule(pole_distance(slope), tolerance)
    return sp.lambdify((z, *symbols), lower(concrete), "numpy"), rule, arguments


def _averages_of(integrand: Callable[..., np.ndarray], rule: NormalRule, x: np.ndarray) -> np.ndarray:
    return np.concatenate([averages(integrand, rule, part) for part in _parts(rule, (x,))])


def _parts(rule: NormalRule, arguments: tuple[np.ndarray, ...]) -> Iterator[tuple[np.ndarray, ...]]:
    """The arguments in parts, so that few integrand values are in memory at once."""
    some = max(1, int(MOST_AT_ONCE / len(rule.nodes)))
    count = max((len(a) for a in arguments), default=1)
    return (tuple(a[begin : begin + some] for a in arguments) for begin in range(0, count, some))


def _samples(low: float, high: float, k: int) -> np.ndarray:
    """Points of the interval of axis k, ends included, in an order that differs from axis to axis."""
    points = np.linspace(low, high, SAMPLES)
    return points[(np.arange(SAMPLES) * (2 * k + 1)) % SAMPLES]


def _corners(boxes: list[np.ndarray]) -> list[tuple[float, ...]]:
    corners: list[tuple[float, ...]] = [()]
    for low, high in boxes:
        corners = [(*c, x) for c in corners for x in (float(low), float(high))]
    return corners
