"""Coordinates for averages over the shares of two components, where states may grow without bound.

The logit of one component relative to the other is ℓ = A + B z + k (z² + c); see `kernels.lower.invariants.Pair`. Where
k is no function of the states, log-like functions of |B| and A are the coordinates: learned weights move A alone, and a
table over some forty nats costs few more terms than one over ten. Where k moves, the components are Gaussians x ~
N(μ_i, σ_i² I) in D dimensions, ξ = (x − μ)/σ of one of them, and in δ = |μ_1 − μ_2|/σ_other and τ = σ/σ_other

    B = δτ,  k = (1 − τ²)/2,  A = λ + D log τ − δ²/2,

with a constant λ as long as no weight is learned. Such a table holds in a box; outside, a kernel sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import sympy as sp

from kernels.averages.moment_sums import STEEPEST, Coefficients
from kernels.lower.invariants import Pair
from kernels.lower.lattice import Group, Moment

LINEAR = 3.0
"""Up to about this size a coordinate is linear in what it stands for, and then logarithmic. Shares have poles at the
distance π."""
ROOM = 1.5
"""How much farther a table reaches than the random states of which some coordinate is the largest."""
ROUND = 5.0
"""Of which number the farthest slope and offset are multiples."""
MOST_NATS = 60.0
"""The largest |A| of a table."""
FARTHEST = 12.0
"""The largest δ of a table. Beyond, the shares of components of like scales overlap by less than e^{−18}."""
WIDEST = 2.5
"""The largest |log τ| of a table, times √D: the deviation of the logit is √2 times as large. In few dimensions the
steepest logit of a table bounds it."""
SAME = 1e-9
"""The relative error to which λ is constant."""


@dataclass(frozen=True)
class PairCoordinates:
    """The coordinates of a group of two components.

    Attributes
    ----------
    expressions
        The coordinates in states and parameters.
    box
        (n, 2) the interval of each.
    own_moments
        The moments of the group, in the order of the table's.
    curvature
        k, where it is no coordinate, else None.
    constants
        λ and D, where k is a coordinate.
    degrees
        The degrees of freedom of the χ² variable, or None.
    moments
        The moments of the table, in which the second component's logit is ℓ.
    """

    expressions: tuple[sp.Expr, ...]
    box: np.ndarray
    own_moments: tuple[Moment, ...]
    curvature: float | None
    constants: tuple[float, float]
    degrees: float | None
    moments: tuple[Moment, ...]

    everywhere = False
    """Whether the states stay within the box."""

    @property
    def numbers(self) -> tuple:
        """What decides the moments as functions of the coordinates."""
        rest = (self.curvature, self.constants, self.degrees, self.moments)
        return ("pair", self.box.tolist(), *rest)

    def same(self, other: object) -> bool:
        """Whether the moments are the same functions of the coordinates."""
        return isinstance(other, PairCoordinates) and self.numbers == other.numbers

    def logits_at(self, u: np.ndarray) -> Coefficients:
        """The logits at points u (N, 2) of the cube from −1 to 1 that stands for the box."""
        low, high = self.box.T
        first, second = ((low + high) / 2 + (high - low) / 2 * u).T
        if self.curvature is not None:
            slope, offset = LINEAR * np.sinh(first), LINEAR * np.sinh(second)
            curvature = np.full(len(u), self.curvature)
        else:
            constant, dimensions = self.constants
            scale = np.exp(second)
            slope, curvature = first * scale, (1 - scale**2) / 2
            offset = constant + dimensions * second - first**2 / 2
        rows = np.zeros((3, len(u), 2))
        rows[:, :, 1] = offset, slope, curvature
        chi_slopes = np.zeros_like(rows[2]) if self.degrees is None else rows[2]
        return Coefficients(rows[0], rows[1][:, :, None], rows[2], chi_slopes)


def pair_coordinates(
    group: Group,
    pair: Pair,
    values: Mapping[sp.Symbol, float],
    states: Mapping[sp.Symbol, np.ndarray],
) -> PairCoordinates | None:
    """The coordinates of a group of two components at given parameters; None where its moments depend on more.

    states: (N,) the values of every state at random states.
    """
    offset, slope, curvature = (_at(e, values, states) for e in (pair.offset, pair.slope, pair.curvature))
    if not np.isfinite([offset, slope, curvature]).all() or curvature.max() >= 0.5:
        return None
    degrees = None if group.chi_squared is None else float(sp.sympify(group.chi_squared.degrees).xreplace(values))
    turned = slice(None, None, 1 if pair.component == 1 else -1)
    of_table = {Moment(m.variables, m.shares[turned], m.logs[turned]): m for m in group.moments}
    moments = tuple(sorted(of_table))
    own_moments, rest = tuple(of_table[m] for m in moments), (degrees, moments)
    size = sp.Abs(pair.slope)
    if np.ptp(curvature) == 0:
        # Rounding lets groups of one function share a table; they see other random states.
        farthest = (ROUND * math.ceil(ROOM * float(np.abs(x).max()) / ROUND) for x in (slope, offset))
        ends = [math.asinh(min(x, most) / LINEAR) for x, most in zip(farthest, (STEEPEST, MOST_NATS), strict=True)]
        if min(ends) == 0:
            return None
        expressions = tuple(sp.log((x + sp.sqrt(x**2 + LINEAR**2)) / LINEAR) for x in (size, pair.offset))
        box = np.array([(0.0, ends[0]), (-ends[1], ends[1])])
        return PairCoordinates(expressions, box, own_moments, float(curvature[0]), (0.0, 0.0), *rest)
    log_scale = np.log1p(-2 * curvature) / 2
    distance = np.abs(slope) * np.exp(-log_scale)
    dimensions, constant = np.polyfit(log_scale, offset + distance**2 / 2, 1)
    missed = offset + distance**2 / 2 - constant - dimensions * log_scale
    if not np.abs(missed).max() <= SAME * (1 + np.abs(offset).max()) or dimensions <= 0:
        return None
    squared = 1 - 2 * pair.curvature
    widest_scale = min(WIDEST / math.sqrt(dimensions), math.log(STEEPEST / FARTHEST))
    box = np.array([(0.0, FARTHEST), (-widest_scale, widest_scale)])
    constants = float(f"{constant:.12g}") if abs(constant) > SAME else 0.0, float(f"{dimensions:.12g}")
    expressions = size / sp.sqrt(squared), sp.log(squared) / 2
    return PairCoordinates(expressions, box, own_moments, None, constants, *rest)


def _at(expression: sp.Expr, values: Mapping[sp.Symbol, float], states: Mapping[sp.Symbol, np.ndarray]) -> np.ndarray:
    symbols = sorted(expression.free_symbols, key=lambda s: s.name)
    found = sp.lambdify(symbols, expression, "numpy")(*(states[s] if s in states else values[s] for s in symbols))
    return np.broadcast_to(np.asarray(found, float), len(next(iter(states.values()))))
