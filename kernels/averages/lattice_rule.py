"""The numbers behind lattice averages: how many nats of accuracy, the χ² law, quasi-random points; and what errors they
leave.

The error of a tensor rule is at most the sum over its axes of the one-dimensional rule's error, averaged over the other
variables. That is what is measured: at states of the system, with the other variables drawn from their law, along each
axis with the kernel's own step against half the step and 1.2 times the width. The integrands are those of the
derivation, not the kernel's moments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from functools import cache, cached_property

import numpy as np
import sympy as sp
from scipy.special import ndtri
from scipy.stats import chi2, qmc

from kernels.averages.lattice_reference import Integrand, integrand_values
from kernels.generate.lattice_code import MOST_NODES
from kernels.generate.templates.lattice import chi_density, normal_density
from kernels.lower.lattice import Group, Pattern
from kernels.lower.lowering import lower

CONSTANT = 8.0
"""Stands for residues and the strip's bound in the error formula, as in `quadrature`."""
FEWEST_DRAWS, MOST_DRAWS = 3, 48
MOST_VALUES = 2e5
"""How many integrand values one axis' measurement should take, in its coarse form; fewer draws of the other variables
keep to it. Of values that are held at once it is a limit."""
MOST_ON_AN_AXIS = 2e6
"""Nodes along one axis beyond which no rule is made: its measurement at one state would take seconds."""
MOST_SURVEYED = 2e9
"""Integrand values, minutes of work, that the measurement of one quasi-random rule may take; fewer points keep to
it."""
TIGHTENINGS = 5
SCRAMBLES = 8
SCRAMBLE_STATES = 5
FEWEST_POINTS, MOST_POINTS = 2**6, 2**12
"""Quasi-random points per scramble."""
FINEST_INNER = 1e-8
"""Quasi-random points reach no better than this, so the innermost axis of such an average need not either."""


@dataclass(frozen=True)
class ChiLaw:
    """χ² with `degrees` degrees of freedom in the variable τ of `generate.templates.lattice`.

    normaliser: of the log density. lowest, highest: where the density, with c² beside it, falls to e^{−nats} of its
    peak. own_density: nodes per unit of τ that integrate 1, c and c² alone. steepest: by which a slope in c is
    multiplied for the q of `chi_density`. peak: the largest log density.
    """

    degrees: float
    normaliser: float
    lowest: float
    highest: float
    own_density: float
    steepest: float
    peak: float


@cache
def chi_law(degrees: float, nats: float) -> ChiLaw:
    """Raises ValueError for fewer than one degree of freedom."""
    if not degrees >= 1:
        raise ValueError(f"a chi-squared variable needs at least one degree of freedom, not {degrees:g}")
    half = sp.Float(degrees, 30) / 2
    normaliser = float(half * sp.log(half) - half - sp.loggamma(half).evalf(30))
    law = ChiLaw(degrees, normaliser, -8.0, 8.0, 0.0, 0.0, 0.0)
    width = min(8.0, 20 * math.sqrt(nats / degrees))
    tau = np.linspace(-width, width, 100_001)
    c, log_weight = _chi_nodes(law, tau)
    peak = float(log_weight.max())
    kept = tau[log_weight + 2 * np.maximum(tau, 0) > peak - nats]
    slopes = c * (1 + np.exp(-tau) / degrees) * (nats + log_weight - peak)
    law = replace(
        law, lowest=float(kept[0]), highest=float(kept[-1]), peak=peak, steepest=float(slopes.max()) / (2 * math.pi**2)
    )
    own = math.sqrt(nats * degrees) / (4 * math.pi)
    while _moment_error(law, own) > max(CONSTANT * math.exp(-nats), 1e-14):
        own *= 1.05
    return replace(law, own_density=own)


def _chi_nodes(law: ChiLaw, tau: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """c and the log density in τ."""
    ratio = np.exp(-tau) / law.degrees
    t = tau - ratio
    return law.degrees * np.exp(t), law.degrees / 2 * (t - np.expm1(t)) + np.log1p(ratio) + law.normaliser


def _moment_error(law: ChiLaw, density: float) -> float:
    """Largest error of E[1], E[c/ν] and E[(c/ν)²] over shifts of the grid."""
    errors = [0.0]
    for shift in (0.0, 0.25, 0.5):
        tau = law.lowest + (np.arange(math.ceil((law.highest - law.lowest) * density) + 1) - shift) / density
        c, log_weight = _chi_nodes(law, tau)
        weights, c = np.exp(log_weight) / density, c / law.degrees
        errors += [abs(weights.sum() - 1), abs(weights @ c - 1), abs(weights @ c**2 / (1 + 2 / law.degrees) - 1)]
    return max(errors)


@dataclass(frozen=True)
class LatticeRule:
    """table: the group's part of the run-time tables. points: quasi-random points in it, 0 for a tensor grid.

    size: nodes of one pass at a typical state. error: measured, absolute or relative to E|f| where that exceeds one.
    """

    table: np.ndarray
    points: int
    size: int
    error: float


def rule_for(group: Group, pattern: Pattern, numbers: Mapping[sp.Symbol, np.ndarray], tolerance: float) -> LatticeRule:
    """The rule of a group.

    numbers: (m,) sampled values of every state, parameter and named subexpression. tolerance: of each average. Raises
    ArithmeticError where a tensor grid misses the tolerance at some sampled state, however it is tightened, and where
    it would be too large to visit.
    """
    survey = _Survey(group, numbers)
    if pattern.sampled:
        return _sampled_rule(group, survey, tolerance)
    nats = math.log(CONSTANT * pattern.variables / tolerance)
    nats += (
        max(sum(m.variables[: len(group.normals)]) for m in group.moments) * math.log(2 * nats) / 2
    )  # a power of z at the radius
    survey.refuse_large(nats, 0)
    for _ in range(TIGHTENINGS):
        error, sizes = survey.axis_errors(nats)
        if error <= tolerance:
            return LatticeRule(survey.head(nats), 0, int(np.median(sizes)), error)
        nats += math.log(10)
    raise ArithmeticError(f"{group}: measured error {error:.1e} misses the tolerance {tolerance:.1e}")


def _sampled_rule(group: Group, survey: _Survey, tolerance: float) -> LatticeRule:
    """As many points as the tolerance asks for where the error falls like one over their number, but not more than
    MOST_POINTS, and no more than can be measured."""
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
    """How many nodes a rule with these nats and points asks for at the state of `numbers`, (1,) each: what is held
    against MOST_NODES."""
    return _Survey(group, numbers).nodes_asked(0, nats, points)


def nodes_visited(group: Group, numbers: Mapping[sp.Symbol, np.ndarray], nats: float, points: int) -> float:
    """How many of the nodes asked for lie within the ball that the Gaussian weights leave, about."""
    survey = _Survey(group, numbers)
    return survey.nodes_asked(0, nats, points) if points else survey.tensor_size(0, nats)


def outer_points(group: Group, points: int, degrees: float | None) -> np.ndarray:
    """(SCRAMBLES · points, outer variables) quasi-random values: χ² first where there is one, then all normals but the
    last."""
    # The seeds are fixed: a kernel is a function of the state.
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
    """A group's integrands and steps at sampled states."""

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

    @cached_property
    def evaluate(self) -> Integrand:
        return integrand_values(self.integrands, self.group.variables, self.free)

    def _at_states(self, expression: sp.Expr) -> np.ndarray:
        symbols = sorted(expression.free_symbols, key=lambda s: s.name)
        found = sp.lambdify(symbols, lower(expression), "numpy")(*(self.numbers[s] for s in symbols))
        return np.broadcast_to(np.asarray(found, float), self.states)

    def law(self, nats: float) -> ChiLaw | None:
        return None if self.degrees is None else chi_law(self.degrees, nats)

    def head(self, nats: float) -> np.ndarray:
        law = self.law(nats)
        return np.array([nats, *(astuple(law) if law is not None else ())])

    def density(self, state: int, axis: int, nats: float) -> float:
        """Nodes per unit length; the last axis is the χ² variable's where there is one."""
        if axis < len(self.group.normals):
            return normal_density(self.linear[axis][state], self.quadratic[axis][state], nats)
        law = chi_law(self.degrees, nats)
        return chi_density(self.chi_slope[state], law.own_density, law.steepest)

    def nodes_along(self, state: int, axis: int, nats: float) -> float:
        law = self.law(nats)
        width = 2 * math.sqrt(2 * nats) if axis < len(self.group.normals) or law is None else law.highest - law.lowest
        return width * self.density(state, axis, nats)

    def nodes_asked(self, state: int, nats: float, points: int) -> float:
        """The size that the kernel holds against MOST_NODES: of the box around the ball, or of all lines through the
        points."""
        return max(points, 1) * math.prod(self.nodes_along(state, axis, nats) for axis in self._summed(points))

    def refuse_large(self, nats: float, points: int) -> None:
        """Raise ArithmeticError, before anything of its size is made, for a rule that is too large at a typical state,
        or too fine along an axis at any."""
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
        """The largest power of two up to MOST_POINTS whose measurement takes no more than MOST_SURVEYED values; at
        least FEWEST_POINTS."""
        line = max(self.nodes_along(state, self._inner, nats) for state in range(self.states))
        affordable = MOST_SURVEYED / (SCRAMBLE_STATES * SCRAMBLES * line)
        return min(MOST_POINTS, max(FEWEST_POINTS, 2 ** math.floor(math.log2(affordable))))

    @property
    def _inner(self) -> int:
        """The innermost axis: the last normal variable's, or that of the χ² variable where it is alone."""
        return max(len(self.group.normals) - 1, 0)

    def _summed(self, points: int) -> Iterable[int]:
        """The axes along which the trapezoidal rule goes."""
        return [self._inner] if points else range(len(self.group.variables))

    def axis_errors(self, nats: float, only_inner: bool = False) -> tuple[float, list[float]]:
        """The largest error over states and averages, and the nodes of a pass at each state."""
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
        """Σ weight f and Σ weight |f| along one axis, for each draw of the other variables: (averages, draws) each."""
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
            nodes, log_weight = _chi_nodes(law, law.lowest - extra + np.arange(count) / density)
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
        """The largest standard error among scrambles over states and averages, and the nodes of a pass at each
        state."""
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
        """Nodes of the tensor grid within the ball that the Gaussian weights leave."""
        r = len(self.group.normals)
        radius = math.sqrt(2 * nats)
        ball = math.pi ** (r / 2) / math.gamma(r / 2 + 1)
        size = ball * math.prod(radius * self.density(state, n, nats) for n in range(r))
        law = self.law(nats)
        return size if law is None else size * (law.highest - law.lowest) * self.density(state, r, nats)


def _parts(rows: int, columns: int) -> Iterator[slice]:
    """Rows of an array, some at a time, so that MOST_VALUES are held at once, or one row."""
    some = max(1, int(MOST_VALUES / columns))
    return (slice(begin, begin + some) for begin in range(0, rows, some))


def _spread(values) -> np.ndarray:
    """The largest difference among (m,) arrays."""
    stacked = np.stack(list(values))
    return np.ptp(stacked, axis=0)
