"""How far the states of a problem go: the intervals for which its averages are tabulated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import sympy as sp

from derive.objects.parameters import SCALES
from derive.objects.states import StateKind, StateVariable
from derive.objects.system import OdeSystem

FARTHER = 4.0
"""A mean of unbounded length is followed to this many scales beyond twice the problem's largest length; see
`intervals`."""


@dataclass(frozen=True)
class Reach:
    """How far the vectors and scales of a problem go.

    Attributes
    ----------
    length
        The length of the longest vector.
    smallest, largest
        The smallest and the largest scale, roots of covariances' eigenvalues included.
    hottest
        The highest temperature. A component that learns its covariance spreads with the root of the temperature.
    """

    length: float
    smallest: float
    largest: float
    hottest: float = 1.0

    @property
    def followed_scales(self) -> tuple[float, float]:
        """The interval in which the integrator follows learned scales."""
        return 0.05 * self.smallest, max(30.0, 3 * self.hottest**0.5) * self.largest

    @property
    def sampled_scales(self) -> tuple[float, float]:
        """The interval of learned scales in which the errors of lattice rules are measured.

        It is narrower than `followed_scales`, since the steps of a lattice adapt to any state, and scales far apart
        only make the measurement expensive.
        """
        return min(self.smallest, 0.2 * self.largest), max(self.largest, 5 * self.smallest)

    def with_other(self, other: Reach) -> Reach:
        """The reach that covers both."""
        return Reach(
            max(self.length, other.length),
            min(self.smallest, other.smallest),
            max(self.largest, other.largest),
            max(self.hottest, other.hottest),
        )


def reach_of(system: OdeSystem, values: Mapping[sp.Symbol, float]) -> Reach:
    """The reach that follows from a system's parameters.

    It uses the lengths of the modes, R and r, and the scales that are not learned.
    """
    gram = system.gram.xreplace(dict(values))
    lengths = [float(sp.sqrt(gram[i, i])) for i in range(gram.shape[0]) if gram[i, i].is_number]
    lengths += [v for s, v in values.items() if re.fullmatch(r"R|r(_\d+)?", s.name)]
    scales = [v for s, v in values.items() if s.name.startswith("sigma")]
    scales += [v**0.5 for s, v in values.items() if s.name.startswith("Sigma") and v > 0]
    scales = scales or [1.0]
    return Reach(max(lengths, default=1.0), min(scales), max(scales))


def intervals(
    system: OdeSystem, values: Mapping[sp.Symbol, float], reach: Reach, scales: tuple[float, float] | None = None
) -> np.ndarray:
    """The intervals (states, 2) of the states in numbers.

    Outside the intervals no average was measured, and the integrator stops. An unbounded state gets the interval that
    follows from means of length 2 · reach.length + FARTHER · (the largest scale, or one). An unbounded scale gets the
    interval `scales`, by default reach.followed_scales, and an entry of a covariance that of its square.
    """
    followed = reach.followed_scales if scales is None else scales
    known = dict(values)
    farthest = (2 * reach.length + FARTHER * max(1.0, reach.largest)) ** 2

    def number(bound: sp.Expr) -> float:
        value = bound.xreplace(known)
        return float(np.clip(float(value), -farthest, farthest))

    def interval(state: StateVariable) -> tuple[float, float]:
        low, high = state.interval
        if state.kind == SCALES and not high.is_finite:
            return followed
        if state.kind == StateKind.COVARIANCE:
            return (followed[0] ** 2 if low.is_finite else -(followed[1] ** 2)), followed[1] ** 2
        return number(low), number(high)

    return np.array([interval(state) for state in system.variables]).reshape(-1, 2)
