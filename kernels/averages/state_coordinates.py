"""Coordinates for averages whose logits contain products of normal variables: states, or few combinations of them.

No rotation makes such logits short, so the coefficients themselves must be functions of few coordinates: of at most as
many states, or, where the quadratic forms are constant, of the slopes, which are affine in the states. Where a state is
unbounded, the table holds in a box about the modes, and outside a kernel sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import sympy as sp

from derive.objects.system import BETA
from kernels.averages.coordinates import INDEPENDENT, MOST_COORDINATES, SAME
from kernels.averages.pattern_moments import moments_of
from kernels.generate.lattice_code import Layout, seeks_poles
from kernels.generate.templates.crossed import crossed_densities
from kernels.lower.lattice import Group, Moment, Pattern, patterns_of
from kernels.lower.lowering import lower

DEPENDS = 1e-9
"""Coefficients that differ by no more than this relative difference are the same function of the coordinates."""


@dataclass(frozen=True)
class StateCoordinates:
    """The coordinates of a group whose logits contain products of normal variables.

    Attributes
    ----------
    expressions
        The coordinates in states.
    box
        (n, 2) the interval of each.
    everywhere
        Whether the states stay within the box.
    pattern
        The pattern with the moments of the group.
    degrees
        The degrees of freedom of the χ² variable, or None.
    coefficients
        The coefficients (N, ·) of the logits at coordinates (N, n).
    samples
        Coefficients at fixed points of the box, which tell functions apart.
    """

    expressions: tuple[sp.Expr, ...]
    box: np.ndarray
    everywhere: bool
    pattern: Pattern
    degrees: float | None
    coefficients: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    samples: np.ndarray = field(repr=False)

    @property
    def moments(self) -> tuple[Moment, ...]:
        """The moments of the table."""
        return self.pattern.moments

    @property
    def own_moments(self) -> tuple[Moment, ...]:
        """The moments of the group, in the order of the table's."""
        return self.pattern.moments

    @property
    def numbers(self) -> tuple:
        """What decides the moments as functions of the coordinates."""
        return "states", self.box.tolist(), self.pattern, self.degrees, self.samples.tolist()

    def same(self, other: object) -> bool:
        """Whether the moments are the same functions of the coordinates."""
        if not isinstance(other, StateCoordinates):
            return False
        if (self.pattern, self.degrees, self.box.shape) != (other.pattern, other.degrees, other.box.shape):
            return False
        pairs = ((self.box, other.box), (self.samples, other.samples))
        return all(np.allclose(a, b, rtol=SAME, atol=SAME) for a, b in pairs)

    def coefficients_at(self, u: np.ndarray) -> np.ndarray:
        """The coefficients (N, ·) at points u (N, n) of the cube from −1 to 1 that stands for the box."""
        low, high = self.box.T
        return self.coefficients((low + high) / 2 + (high - low) / 2 * u)

    def moments_at(self, u: np.ndarray, nats: float) -> np.ndarray:
        """The moments (N, ·) at such points."""
        return moments_of(self.pattern, self.coefficients_at(u), self.degrees, nats)

    def nodes_at(self, u: np.ndarray, nats: float) -> float:
        """The most nodes that the sums at some of such points take, without those of a χ² variable."""
        pattern, layout = self.pattern, Layout(self.pattern)
        seek, densities = seeks_poles(pattern.normals, pattern.chi_squared), np.empty(pattern.normals)
        most = 0.0
        for row in self.coefficients_at(u):
            crossed_densities(row[: layout.forms], pattern.components, pattern.normals, nats, seek, densities)
            most = max(most, float(np.prod(2 * np.sqrt(2 * nats) * densities)))
        return most


def state_coordinates(
    group: Group,
    coefficients: Sequence[sp.Expr],
    values: Mapping[sp.Symbol, float],
    states: Mapping[sp.Symbol, np.ndarray],
    bounds: Mapping[sp.Symbol, tuple[float, float]],
    beyond: float,
) -> StateCoordinates | None:
    """The coordinates of a group at given parameters; None where its coefficients depend on more than a few.

    coefficients: of the logits relative to one of them, in states and parameters. states: (N,) the values of every
    state at random states. bounds: the intervals of the bounded states. beyond: how far the table follows the others.
    """
    (pattern,) = patterns_of([group])
    given = [lower(e.xreplace({s: sp.Float(v, 17) for s, v in values.items()})) for e in coefficients]
    seen = set().union(*(e.free_symbols for e in given))
    moving = tuple(s for s in states if s in seen)
    if pattern.sampled or BETA in seen or not moving:
        return None
    chosen = _combinations(given, moving, len(group.offsets), Layout(pattern))
    if chosen is None:
        return None
    function = sp.lambdify(moving, given, "numpy", cse=True)
    back = np.linalg.pinv(chosen).T

    def at(coordinates: np.ndarray) -> np.ndarray:
        columns = (coordinates @ back).T
        return np.stack([np.broadcast_to(np.asarray(e, float), len(coordinates)) for e in function(*columns)], axis=1)

    drawn = np.stack([states[s] for s in moving], axis=1)
    exact = np.stack([np.broadcast_to(np.asarray(e, float), len(drawn)) for e in function(*drawn.T)], axis=1)
    if not np.abs(at(drawn @ chosen.T) - exact).max() <= DEPENDS * (1 + np.abs(exact).max()):
        return None
    low, high = np.array([bounds.get(s, (-beyond, beyond)) for s in moving]).T
    middles, halves = (low + high) / 2, (high - low) / 2
    middle, half = chosen @ middles, np.abs(chosen) @ halves
    box = np.stack([middle - half, middle + half], axis=1)
    degrees = None if group.chi_squared is None else float(sp.sympify(group.chi_squared.degrees).xreplace(dict(values)))
    points = np.random.default_rng(13).uniform(-1, 1, (16, len(chosen)))
    expressions = tuple(sp.Add(*(c * s for c, s in zip(row.tolist(), moving, strict=True) if c)) for row in chosen)
    everywhere = all(s in bounds for s in moving)
    return StateCoordinates(expressions, box, everywhere, pattern, degrees, at, at(middle + half * points))


def _combinations(
    given: list[sp.Expr], moving: tuple[sp.Symbol, ...], components: int, layout: Layout
) -> np.ndarray | None:
    """Combinations (n, moving) of the states on which slopes depend: the states themselves where these are few.

    None where there are too many, or where more than the offsets is no affine function of the states.
    """
    if len(moving) <= MOST_COORDINATES:
        return np.eye(len(moving))
    slopes = given[components : components + components * layout.normals]
    others = given[components + components * layout.normals :]
    if any(e.free_symbols for e in others):
        return None
    gradients = [[sp.diff(e, s) for s in moving] for e in slopes]
    if any(entry.free_symbols for row in gradients for entry in row):
        return None
    rest = np.array(gradients, float)
    rows, scale = rest.copy(), np.abs(rest).max()
    chosen: list[np.ndarray] = []
    while np.abs(rest).max() > INDEPENDENT * scale:
        if len(chosen) == MOST_COORDINATES:
            return None
        k = int(np.argmax(np.linalg.norm(rest, axis=1)))
        chosen.append(rows[k] / np.abs(rows[k]).max())
        direction = rest[k] / np.linalg.norm(rest[k])
        rest = rest - np.outer(rest @ direction, direction)
    return np.array(chosen) if chosen else None
