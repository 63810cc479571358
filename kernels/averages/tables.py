"""The run-time tables behind the averages of a system, each with the error that was measured when it was made."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import sympy as sp

from derive.objects.expectation import Expectation
from derive.objects.short_repr import short_repr
from derive.objects.states import StateKind, StateVariable
from derive.objects.system import BETA, OdeSystem
from kernels.averages.lattice_rule import SCRAMBLE_STATES, LatticeRule, nodes_asked, nodes_visited, rule_for
from kernels.averages.lattice_states import random_states
from kernels.averages.proxy import Proxy, fit
from kernels.averages.quadrature import NormalRule, averages, measured_error, normal_rule, pole_distance
from kernels.generate.codegen import ARGUMENT, distinct_averages, written_out
from kernels.generate.templates.integrator import UNROLLED
from kernels.lower.lattice import groups_of, patterns_of
from kernels.lower.lowering import lower

LATTICE_STATES = 12
SAMPLES = 67  # a prime, so that every stride of `_samples` visits all of them
MOST_AT_ONCE = 1e6
"""Integrand values that are held at once while an average over one variable is tabulated, or those at one argument."""
FARTHER = 4.0
"""How many scales beyond twice the problem's largest length a mean is followed where nothing bounds it; see
`intervals`."""


@dataclass(frozen=True)
class Reach:
    """How far a problem's own vectors and scales go. length: of its longest vector. smallest, largest: of its
    scales."""

    length: float
    smallest: float
    largest: float

    @property
    def followed_scales(self) -> tuple[float, float]:
        """Where learned scales may go."""
        return 0.05 * self.smallest, 30 * self.largest

    @property
    def sampled_scales(self) -> tuple[float, float]:
        """Where the rules of lattices are measured. A lattice's steps follow from the state wherever it is; scales far
        apart only make the measurement expensive."""
        return min(self.smallest, 0.2 * self.largest), max(self.largest, 5 * self.smallest)

    def with_other(self, other: Reach) -> Reach:
        return Reach(
            max(self.length, other.length), min(self.smallest, other.smallest), max(self.largest, other.largest)
        )


def reach_of(system: OdeSystem, values: Mapping[sp.Symbol, float]) -> Reach:
    """What a system's parameters say of it: the modes' lengths, R and r, and the scales that are not learned."""
    gram = system.gram.xreplace(dict(values))
    lengths = [float(sp.sqrt(gram[i, i])) for i in range(gram.shape[0]) if gram[i, i].is_number]
    lengths += [v for s, v in values.items() if re.fullmatch(r"R|r(_\d+)?", s.name)]
    scales = [v for s, v in values.items() if s.name.startswith("sigma")] or [1.0]
    return Reach(max(lengths, default=1.0), min(scales), max(scales))


class MeasuredError(NamedTuple):
    """How an average is approximated, and the largest error seen when its table was made: what the samples showed, and
    no bound.

    average: what is approximated. method: "Chebyshev proxy", "trapezoidal rule", or a lattice over so many variables.
    size: coefficients or nodes, at a typical state where they follow from it. error: the largest difference from a
    finer rule; of lattices relative to E|f| where that exceeds one, and of quasi-random points a standard error.
    samples: where it was measured, in words.
    """

    average: str
    method: str
    size: int
    error: float
    samples: str


@dataclass(frozen=True)
class Tables:
    """values: (total,) coefficients, or nodes then weights, of every average, then the rules of lattices. layout:
    (averages + groups, 2) start and count.

    ranges: (averages + groups, 2) intervals of proxies. by_proxy: which averages have one. measured_errors: one per
    average over one variable, and one per group of averages over several.
    """

    values: np.ndarray
    layout: np.ndarray
    ranges: np.ndarray
    by_proxy: dict[int, bool]
    measured_errors: tuple[MeasuredError, ...]

    __repr__ = short_repr


def intervals(
    system: OdeSystem, values: Mapping[sp.Symbol, float], reach: Reach, scales: tuple[float, float] | None = None
) -> np.ndarray:
    """(states, 2): the states' intervals in numbers. A state that nothing bounds gets the interval of means of length 2
    · reach.length + FARTHER · (largest scale, or one), and an unbounded scale that
    of `scales`, by default reach.followed_scales. Outside of it no average was measured and the integrator stops."""
    known = dict(values)
    farthest = (2 * reach.length + FARTHER * max(1.0, reach.largest)) ** 2

    def number(bound: sp.Expr) -> float:
        value = bound.xreplace(known)
        return float(np.clip(float(value), -farthest, farthest))

    def interval(state: StateVariable) -> tuple[float, float]:
        low, high = state.interval
        if state.kind is StateKind.SCALE and not high.is_finite:
            return reach.followed_scales if scales is None else scales
        return number(low), number(high)

    return np.array([interval(state) for state in system.variables]).reshape(-1, 2)


def build_tables(
    system: OdeSystem, values: Mapping[sp.Symbol, float], tolerance: float, proxies: bool, reach: Reach | None = None
) -> Tables:
    """Tables for every distinct average at the given parameter values and as far as the states reach (default: what the
    values say).

    tolerance: absolute error of each average. proxies: use a Chebyshev proxy where an average looks at one bounded
    state and is smooth enough; the trapezoidal rule otherwise.
    """
    reach = reach_of(system, values) if reach is None else reach
    limits = intervals(system, values, reach)
    pieces: list[np.ndarray] = []
    layout, ranges, measured_errors = [], [], []
    by_proxy = {}
    for n, (shape, state) in enumerate(distinct_averages(system)):
        integrand, rule, arguments = _rule(
            shape, state, system, values, limits, tolerance / 10 if proxies else tolerance
        )
        proxy = None
        if proxies and state is not None and all(b.is_finite for b in system.variables[state].interval):
            low, high = limits[state]
            proxy = fit(partial(_averages_of, integrand, rule), low, high, tolerance / 2)
        error = float(np.max([measured_error(integrand, rule, part) for part in _parts(rule, arguments)]))
        seen = f"{SAMPLES} points across the domain, ends included" if arguments else "its only value"
        start = sum(map(len, pieces))
        by_proxy[n] = proxy is not None
        if proxy is not None:
            pieces.append(_padded(proxy.coefficients))
            layout.append((start, len(pieces[-1])))
            seen = f"{proxy.compared} arguments, most of them at the ends, and of its rule {seen}"
            measured_errors.append(
                MeasuredError(str(shape), "Chebyshev proxy", len(proxy.coefficients), proxy.error + error, seen)
            )
        else:
            pieces += [rule.nodes, rule.weights]
            layout.append((start, len(rule.nodes)))
            measured_errors.append(MeasuredError(str(shape), "trapezoidal rule", len(rule.nodes), error, seen))
        ranges.append((proxy.low, proxy.high) if isinstance(proxy, Proxy) else (0.0, 0.0))
        if not measured_errors[-1].error <= 2 * tolerance:
            raise ArithmeticError(
                f"{shape}: measured error {measured_errors[-1].error:.1e} misses the tolerance {tolerance:.1e}"
            )
    for lattice, measured in _lattice_rules(
        system, values, intervals(system, values, reach, reach.sampled_scales), tolerance
    ):
        layout.append((sum(map(len, pieces)), lattice.points))
        pieces.append(lattice.table)
        ranges.append((0.0, 0.0))
        measured_errors.append(measured)
    values_array = np.concatenate(pieces) if pieces else np.zeros(1)
    return Tables(
        values_array,
        np.array(layout, dtype=np.int64).reshape(-1, 2),
        np.array(ranges, dtype=float).reshape(-1, 2),
        by_proxy,
        tuple(measured_errors),
    )


def _padded(coefficients: np.ndarray) -> np.ndarray:
    """With zeros for the highest degrees, so that the recurrence takes UNROLLED coefficients at a time and the constant
    at last."""
    return np.pad(coefficients, (0, -(len(coefficients) - 1) % UNROLLED))


def _lattice_rules(
    system: OdeSystem, values: Mapping[sp.Symbol, float], limits: np.ndarray, tolerance: float
) -> list[tuple[LatticeRule, MeasuredError]]:
    """For each group of averages over several variables, measured at random states."""
    groups = groups_of(system)
    if not groups:
        return []
    numbers = _numbers_at(system, values, random_states(system, values, limits, LATTICE_STATES))
    found = []
    for group, pattern in zip(groups, patterns_of(groups), strict=True):
        rule = rule_for(group, pattern, numbers, tolerance)
        kind = "quasi-random lines" if pattern.sampled else "trapezoidal lattice"
        method = f"{kind}, {pattern.variables} variable{'s' * (pattern.variables > 1)}"
        seen = f"{SCRAMBLE_STATES if pattern.sampled else LATTICE_STATES} random states"
        found.append((rule, MeasuredError(str(group), method, rule.size, rule.error, seen)))
    return found


def most_nodes(system: OdeSystem, values: Mapping[sp.Symbol, float], tables: Tables, state: np.ndarray) -> float:
    """The largest number of nodes that one average over several variables asks for at a state (states,); 0 without such
    averages."""
    return max(_sizes(nodes_asked, system, values, tables, state), default=0.0)


def all_nodes(system: OdeSystem, values: Mapping[sp.Symbol, float], tables: Tables, state: np.ndarray) -> float:
    """How many nodes all averages over several variables visit at a state (states,), about."""
    return sum(_sizes(nodes_visited, system, values, tables, state))


def _sizes(
    size: Callable[..., float], system: OdeSystem, values: Mapping[sp.Symbol, float], tables: Tables, state: np.ndarray
) -> list[float]:
    groups = groups_of(system)
    numbers = _numbers_at(system, values, state[None])
    rows = zip(groups, tables.layout[len(tables.layout) - len(groups) :], strict=True)
    return [size(group, numbers, tables.values[start], points) for group, (start, points) in rows]


def _numbers_at(
    system: OdeSystem, values: Mapping[sp.Symbol, float], states: np.ndarray
) -> dict[sp.Symbol, np.ndarray]:
    """Every state, parameter, beta and named subexpression without an average at the states (n, states): (n,) each.

    A coefficient may contain beta, whose value hardly matters to a rule; it is taken as one.
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
    shape: Expectation,
    state: int | None,
    system: OdeSystem,
    values: Mapping[sp.Symbol, float],
    limits: np.ndarray,
    tolerance: float,
) -> tuple[Callable[..., np.ndarray], NormalRule, tuple[np.ndarray, ...]]:
    """The vectorised integrand, a rule that serves every state within the limits, and sampled arguments to measure it
    at."""
    (z,) = shape.variables
    concrete = written_out(shape.integrand, system).xreplace({s: sp.Float(v, 20) for s, v in values.items()})
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
    """The arguments, some at a time."""
    some = max(1, int(MOST_AT_ONCE / len(rule.nodes)))
    count = max((len(a) for a in arguments), default=1)
    return (tuple(a[begin : begin + some] for a in arguments) for begin in range(0, count, some))


def _samples(low: float, high: float, k: int) -> np.ndarray:
    """Points of one interval, ends included, in an order that differs from axis to axis."""
    points = np.linspace(low, high, SAMPLES)
    return points[(np.arange(SAMPLES) * (2 * k + 1)) % SAMPLES]


def _corners(boxes: list[np.ndarray]) -> list[tuple[float, ...]]:
    corners: list[tuple[float, ...]] = [()]
    for low, high in boxes:
        corners = [(*c, x) for c in corners for x in (float(low), float(high))]
    return corners
