"""The rules behind averages over several variables, with the errors that were measured.

A rule consists of its accuracy in nats (an error of about e^{−nats}), the numbers of the χ² law, and quasi-random
points where the variables are many. Without such points the rule sums over a tensor grid, along one axis per variable.

The error of a tensor rule is at most the sum over its axes of the error of the one-dimensional rule, averaged over the
other variables. The survey of a rule measures this sum at states of the system. It draws the other variables from their
law and compares, along each axis, the kernel's own step with half the step and 1.2 times the width. The survey
evaluates the integrands of the derivation and not the moments of the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import cached_property

import numpy as np
import sympy as sp
from scipy.special import ndtri
from scipy.stats import chi2, qmc

from kernels.averages.chi_law import ChiLaw, chi_law, chi_nodes
from kernels.averages.lattice_reference import Integrand, integrand_values
from kernels.averages.quadrature import CONSTANT
from kernels.generate.lattice_code import MOST_NODES, seeks_poles
from kernels.generate.templates.crossed import crossed_densities
from kernels.generate.templates.lattice import chi_density, normal_density
from kernels.lower.lattice import Group, Pattern
from kernels.lower.lowering import lower

FEWEST_DRAWS, MOST_DRAWS = 3, 48
MOST_VALUES = 2e5
"""How many integrand values the coarse measurement along one axis should take; the number of draws of the other
variables follows from it. The same number limits the values that are in memory at once."""
MOST_ON_AN_AXIS = 2e6
"""The most nodes along one axis. The measurement of a finer rule would take seconds at each state."""
MOST_SURVEYED = 2e9
"""The most integrand values, minutes of work, that the measurement of one quasi-random rule may take. The number of
points is chosen accordingly."""
TIGHTENINGS = 5
SCRAMBLES = 8
SCRAMBLE_STATES = 5
FEWEST_POINTS, MOST_POINTS = 2**6, 2**12
"""The fewest and the most quasi-random points per scramble."""
FINEST_INNER = 1e-8
"""The finest tolerance of the innermost axis beside quasi-random points, whose own errors are no smaller."""


@dataclass(frozen=True)
class LatticeRule:
    """The rule by which a kernel computes the averages of a group.

    Attributes
    ----------
    table
        The part of the run-time tables that belongs to the group.
    points
        The number of quasi-random points in the table; 0 for a tensor grid.
    size
        The number of nodes of one pass at a typical state.
    error
        The measured error: absolute, or relative to E|f| where E|f| exceeds one.
    """

    table: np.ndarray
    points: int
    size: int
    error: float


def rule_for(group: Group, pattern: Pattern, numbers: Mapping[sp.Symbol, np.ndarray], tolerance: float) -> LatticeRule:
    """The rule of a group at a tolerance.

    numbers: (m,) values of every state, parameter and named subexpression at m sampled states. tolerance: of each
    average. Raises ArithmeticError where a tensor grid misses the tolerance at a sampled state after TIGHTENINGS
    attempts, or where a rule would be too large to visit.
    """
    survey = _Survey(group, numbers)
    if pattern.sampled:
        return _sampled_rule(group, survey, tolerance)
    nats = math.log(CONSTANT * pattern.variables / tolerance)
    highest_power = max(sum(m.variables[: len(group.normals)]) for m in group.moments)
    nats += highest_power * math.log(2 * nats) / 2  # the size of this power of z at the radius of the ball
    survey.refuse_large(nats, 0)
    for _ in range(TIGHTENINGS):
        error, sizes = survey.axis_errors(nats)
        if error <= tolerance:
            return LatticeRule(survey.head(nats), 0, int(np.median(sizes)), error)
        nats += math.log(10)
    raise ArithmeticError(f"{group}: measured error {error:.1e} misses the tolerance {tolerance:.1e}")


def _sampled_rule(group: Group, survey: _Survey, tolerance: float) -> LatticeRule:
    """A rule with as many quasi-random points as the tolerance asks for, if the error falls like one over their number.

    The number of points is at most MOST_POINTS and at most what can be measured.
    """
    nats = math.log(CONSTANT / max(tolerance, FINEST_INNER))
    points = FEWEST_POINTS
    survey.refuse_large(nats, SCRAMBLES * points)
    most = survey.most_points(nats)
    inner, _ = survey.axis_errors(nats, only_inner=True)
    while True:
        outer = outer_points(group, points, survey.degrees)
        error, sizes = survey.scramble_error(nats, outer)
        if not math.isfinite(error + inner):
            raise ArithmeticError(f"{group}: its integrand is not finite at a sampled state")
        if error <= tolerance or points == most:
            table = np.concatenate([survey.head(nats), outer.ravel()])
            return LatticeRule(table, len(outer), int(np.median(sizes)), error + inner)
        points = min(most, points * 2 ** math.ceil(math.log2(error / tolerance)))


def nodes_asked(group: Group, numbers: Mapping[sp.Symbol, np.ndarray], nats: float, points: int) -> float:
    """How many nodes a rule with these nats and points asks for at one state.

    A kernel compares this number with MOST_NODES. numbers: the value (1,) of each symbol at the state.
    """
    return _Survey(group, numbers).nodes_asked(0, nats, points)


def nodes_visited(group: Group, numbers: Mapping[sp.Symbol, np.ndarray], nats: float, points: int) -> float:
    """About how many of the nodes asked for lie within the ball where the Gaussian weights are not negligible."""
    survey = _Survey(group, numbers)
    return survey.nodes_asked(0, nats, points) if points else survey.tensor_size(0, nats)


def outer_points(group: Group, points: int, degrees: float | None) -> np.ndarray:
    """Quasi-random values (SCRAMBLES · points, outer variables) of all variables but the last normal variable.

    The χ² variable, where there is one, comes first.
    """
    # The seeds are fixed, so that a kernel is a function of the state.
    columns = (group.chi_squared is not None) + len(group.normals) - 1
    uniform = np.concatenate(
        [
            qmc.Sobol(columns, scramble=True, rng=np.random.default_rng([seed, 1])).random(points)
            for seed in range(SCRAMBLES)
        ]
    )
    values = ndtri(uniform)
    if degrees is not None:
        values[:, 0] = chi2.ppf(uniform[:, 0], degrees)
    return values


class _Survey:
    """The integrands of a group and the steps of its rule at sampled states."""

    def __init__(self, group: Group, numbers: Mapping[sp.Symbol, np.ndarray]) -> None:
        self.group = group
        self.states = len(next(iter(numbers.values())))
        self.numbers = numbers
        self.integrands = [a.integrand for a in group.averages]
        self.free = sorted(
            set().union(*(f.free_symbols for f in self.integrands)) - set(group.variables), key=lambda s: s.name
        )
        self.degrees = None
        if group.chi_squared is not None:
            degrees = self._at_states(group.chi_squared.degrees)
            if np.ptp(degrees) != 0:
                raise ValueError(f"{group}: degrees of freedom that depend on the state have no kernel")
            self.degrees = float(degrees[0])
        r = len(group.normals)
        self.linear = [_spread(self._at_states(row[n]) for row in group.slopes) for n in range(r)]
        self.quadratic = [2 * _spread(self._at_states(row[n]) for row in group.curvatures) for n in range(r)]
        self.chi_slope = _spread(self._at_states(k) for k in group.chi_slopes)
        rows = [group.offsets, *group.slopes, *group.curvatures, *group.crossings]
        self.forms = np.stack([self._at_states(e) for row in rows for e in row], axis=1)
        self.densities: dict[tuple[int, float], np.ndarray] = {}

    @cached_property
    def evaluate(self) -> Integrand:
        return integrand_values(self.integrands, self.group.variables, self.free)

    def _at_states(self, expression: sp.Expr) -> np.ndarray:
        symbols = sorted(expression.free_symbols, key=lambda s: s.name)
        found = sp.lambdify(symbols, lower(expression), "numpy")(*(self.numbers[s] for s in symbols))
        return np.broadcast_to(np.asarray(found, float), self.states)

    def law(self, nats: float) -> ChiLaw | None:
        """The χ² law of the group, where there is one."""
        return None if self.degrees is None else chi_law(self.degrees, nats)

    def head(self, nats: float) -> np.ndarray:
        """The head of the group's table: the nats, then the χ² law."""
        law = self.law(nats)
        return np.array([nats, *(astuple(law) if law is not None else ())])

    def density(self, state: int, axis: int, nats: float) -> float:
        """The nodes per unit length along an axis. The axis of the χ² variable, where there is one, is the last."""
        if axis < len(self.group.normals):
            if self.group.crossed:
                return float(self._crossed_densities(state, nats)[axis])
            return normal_density(self.linear[axis][state], self.quadratic[axis][state], nats)
        law = chi_law(self.degrees, nats)
        return chi_density(self.chi_slope[state], law.own_density, law.steepest)

    def _crossed_densities(self, state: int, nats: float) -> np.ndarray:
        if (state, nats) not in self.densities:
            group, found = self.group, np.empty(len(self.group.normals))
            seek = seeks_poles(len(group.normals), group.chi_squared is not None)
            crossed_densities(self.forms[state], len(group.offsets), len(group.normals), nats, seek, found)
            self.densities[state, nats] = found
        return self.densities[state, nats]

    def nodes_along(self, state: int, axis: int, nats: float) -> float:
        """The nodes along an axis."""
        law = self.law(nats)
        width = 2 * math.sqrt(2 * nats) if axis < len(self.group.normals) or law is None else law.highest - law.lowest
        return width * self.density(state, axis, nats)

    def nodes_asked(self, state: int, nats: float, points: int) -> float:
        """The number of nodes that the kernel compares with MOST_NODES.

        These are the nodes in the box around the ball, or on all lines through the quasi-random points.
        """
        return max(points, 1) * math.prod(self.nodes_along(state, axis, nats) for axis in self._summed(points))

    def refuse_large(self, nats: float, points: int) -> None:
        """Raise ArithmeticError for a rule too large at a typical state, or too fine along an axis at any state.

        The check comes before any array of that size is made.
        """
        typical = float(np.median([self.nodes_asked(state, nats, points) for state in range(self.states)]))
        if not typical <= MOST_NODES:
            raise ArithmeticError(
                f"{self.group}: about {typical:.1e} nodes at a typical state, and {MOST_NODES:.0e} are the most"
            )
        finest = max(
            self.nodes_along(state, axis, nats) for state in range(self.states) for axis in self._summed(points)
        )
        if not finest <= MOST_ON_AN_AXIS:
            raise ArithmeticError(
                f"{self.group}: {finest:.1e} nodes along one variable, and {MOST_ON_AN_AXIS:.0e} are the most"
            )

    def most_points(self, nats: float) -> int:
        """The largest number of points, a power of two, whose measurement takes at most MOST_SURVEYED integrand values.

        The number is at least FEWEST_POINTS and at most MOST_POINTS.
        """
        line = max(self.nodes_along(state, self._inner, nats) for state in range(self.states))
        affordable = MOST_SURVEYED / (SCRAMBLE_STATES * SCRAMBLES * line)
        return min(MOST_POINTS, max(FEWEST_POINTS, 2 ** math.floor(math.log2(affordable))))

    @property
    def _inner(self) -> int:
        """The innermost axis: that of the last normal variable, or of the χ² variable where there is no other."""
        return max(len(self.group.normals) - 1, 0)

    def _summed(self, points: int) -> Iterable[int]:
        """The axes along which the trapezoidal rule sums."""
        return [self._inner] if points else range(len(self.group.variables))

    def axis_errors(self, nats: float, only_inner: bool = False) -> tuple[float, list[float]]:
        """The largest error over states and averages, and the number of nodes of a pass at each state."""
        generator = np.random.default_rng(7)
        law, variables, r = self.law(nats), self.group.variables, len(self.group.normals)
        worst, sizes = 0.0, []
        for state in range(self.states):
            values = [generator.normal(size=MOST_DRAWS) for _ in range(r)]
            if law is not None:
                values.append(generator.chisquare(law.degrees, MOST_DRAWS))
            totals = np.zeros(len(self.group.averages))
            lengths = np.ones(len(self.group.averages))
            for axis in [self._inner] if only_inner else range(len(variables)):
                density = self.density(state, axis, nats)
                draws = int(np.clip(MOST_VALUES / self.nodes_along(state, axis, nats), FEWEST_DRAWS, MOST_DRAWS))
                drawn = [x[:draws] for x in values]
                budget = nats - sum((z**2 / 2 for n, z in enumerate(drawn[:r]) if n != axis), np.zeros(draws))
                coarse, _ = self._along(state, axis, drawn, density, budget, 1.0, nats)
                fine, size = self._along(state, axis, drawn, 2 * density, np.full(draws, np.inf), 1.2, nats)
                totals += np.abs(coarse - fine).mean(axis=1)
                lengths = np.maximum(lengths, size.mean(axis=1))
            worst = max(worst, float(np.nan_to_num(totals / lengths, nan=np.inf).max()))
            sizes.append(self.tensor_size(state, nats))
        return worst, sizes

    def _along(
        self,
        state: int,
        axis: int,
        drawn: list[np.ndarray],
        density: float,
        budget: np.ndarray,
        stretch: float,
        nats: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Σ weight f and Σ weight |f| along one axis, both (averages, draws), for each draw of the other variables."""
        law = self.law(nats)
        if axis < len(self.group.normals):
            count = math.ceil(stretch * math.sqrt(2 * nats) * density)
            nodes = np.arange(-count, count + 1) / density
            spent = nodes**2 / 2
            log_weight = -spent - math.log(math.sqrt(2 * math.pi))
        else:
            assert law is not None
            extra = (stretch - 1) * (law.highest - law.lowest) / 2
            count = math.ceil((law.highest - law.lowest + 2 * extra) * density) + 1
            nodes, log_weight = chi_nodes(law, law.lowest - extra + np.arange(count) / density)
            spent = np.full(count, -np.inf)
        numbers = {s: self.numbers[s][state] for s in self.free}
        sums, sizes = np.zeros((2, len(self.integrands), len(budget)))
        for part in _parts(len(nodes), len(budget)):
            weights = np.exp(log_weight[part])[:, None] / density * (spent[part, None] <= budget)
            values = [nodes[part, None] if n == axis else x[None, :] for n, x in enumerate(drawn)]
            rows = [np.broadcast_to(f, weights.shape) for f in self.evaluate(values, numbers)]
            sums += [(f * weights).sum(axis=0) for f in rows]
            sizes += [(np.abs(f) * weights).sum(axis=0) for f in rows]
        return sums, sizes

    def scramble_error(self, nats: float, outer: np.ndarray) -> tuple[float, list[float]]:
        """The largest standard error over states and averages, and the number of nodes of a pass at each state."""
        worst, sizes, r = 0.0, [], len(self.group.normals)
        for state in range(min(self.states, SCRAMBLE_STATES)):
            density = self.density(state, r - 1, nats)
            count = math.ceil(math.sqrt(2 * nats) * density)
            nodes = np.arange(-count, count + 1) / density
            weights = np.exp(-(nodes**2) / 2) / (density * math.sqrt(2 * math.pi))
            numbers = {s: self.numbers[s][state] for s in self.free}
            lines, sizes_of_lines = np.zeros((2, len(self.integrands), len(outer)))
            for part in _parts(len(outer), len(nodes)):
                columns = [x[:, None] for x in outer[part].T]
                chi = [] if self.degrees is None else [columns.pop(0)]
                found = self.evaluate([*columns, nodes[None, :], *chi], numbers)
                rows = [np.broadcast_to(f, (len(outer[part]), len(nodes))) for f in found]
                lines[:, part] = [f @ weights for f in rows]
                sizes_of_lines[:, part] = [np.abs(f) @ weights for f in rows]
            means, lengths = (np.array(np.split(x, SCRAMBLES, axis=1)).mean(axis=2) for x in (lines, sizes_of_lines))
            errors = np.std(means, axis=0, ddof=1) / math.sqrt(SCRAMBLES)
            worst = max(
                worst, float(np.nan_to_num(errors / np.maximum(1.0, np.mean(lengths, axis=0)), nan=np.inf).max())
            )
            sizes.append(float(len(outer) * len(nodes)))
        return worst, sizes

    def tensor_size(self, state: int, nats: float) -> float:
        """The nodes of the tensor grid within the ball where the Gaussian weights are not negligible."""
        r = len(self.group.normals)
        radius = math.sqrt(2 * nats)
        ball = math.pi ** (r / 2) / math.gamma(r / 2 + 1)
        size = ball * math.prod(radius * self.density(state, n, nats) for n in range(r))
        law = self.law(nats)
        return size if law is None else size * (law.highest - law.lowest) * self.density(state, r, nats)


def _parts(rows: int, columns: int) -> Iterator[slice]:
    """The rows of an array in parts of at most MOST_VALUES values, but of at least one row."""
    some = max(1, int(MOST_VALUES / columns))
    return (slice(begin, begin + some) for begin in range(0, rows, some))


def _spread(values: Iterable[np.ndarray]) -> np.ndarray:
    """The largest difference among arrays (m,), entry by entry."""
    stacked = np.stack(list(values))
    return np.ptp(stacked, axis=0)
