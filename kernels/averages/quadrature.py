"""E[f(z)] for z ~ N(0, 1) by the trapezoidal rule, whose size follows from the integrand's poles and a tolerance.

For f analytic in the strip |Im z| < δ, the rule with step h errs by about e^{−2πδ/h + δ²/2}, and never by less than
e^{−2π²/h²}, the limit that the Gaussian weight sets. The nearest poles of tanh(a + bz) and sech(a + bz) lie at distance
δ = π/(2|b|) from the real axis. A Gauss–Hermite rule takes no account of δ and converges slowly as b grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CONSTANT = 8.0
"""The number that stands for the residues and for the bound on the strip in the error formulas, also in those of
`lattice_rule`. Both are smaller for tanh and sech with |b| ≥ 0.1."""
MOST_NODES = 200_000


@dataclass(frozen=True)
class NormalRule:
    """A trapezoidal rule for N(0, 1).

    Attributes
    ----------
    nodes, weights
        (n,) each; the weights include the Gaussian density.
    error
        The predicted absolute error for |f| ≤ 1.
    """

    nodes: np.ndarray
    weights: np.ndarray
    error: float


def pole_distance(slope: float) -> float:
    """The distance from the real axis to the nearest pole of tanh(a + slope z) or sech(a + slope z)."""
    return math.pi / (2 * abs(slope)) if slope != 0 else math.inf


def normal_rule(distance: float, tolerance: float) -> NormalRule:
    """The smallest symmetric rule whose predicted error is at most `tolerance`, for |f| ≤ 1 with poles at `distance`.

    Raises ValueError for a tolerance outside [1e-15, 0.1] or a rule of more than MOST_NODES nodes.
    """
    if not 1e-15 <= tolerance <= 0.1:
        raise ValueError(f"a quadrature tolerance lies between 1e-15 and 0.1, not {tolerance:g}")
    nats = math.log(CONSTANT / tolerance)
    step = math.pi * math.sqrt(2 / nats)
    if distance < 2 * math.pi / step:
        step = min(step, 2 * math.pi * distance / (nats + distance**2 / 2))
    half_width = math.sqrt(2 * nats)
    count = math.ceil(half_width / step)
    if 2 * count + 1 > MOST_NODES:
        raise ValueError(
            f"a pole at distance {distance:.2g} needs more than {MOST_NODES} nodes at tolerance {tolerance:g}"
        )
    nodes = step * np.arange(-count, count + 1)
    weights = step * np.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi)
    return NormalRule(nodes, weights, tolerance)


def measured_error(integrand: Callable[..., np.ndarray], rule: NormalRule, arguments: tuple[np.ndarray, ...]) -> float:
    """The largest difference between the rule and one with half its step and 1.2 times its width.

    The largest value is taken over the given arguments. integrand: f(z, *arguments), vectorised; arguments: (n,) each.
    """
    step = (rule.nodes[1] - rule.nodes[0]) / 2
    count = math.ceil(1.2 * rule.nodes[-1] / step)
    nodes = step * np.arange(-count, count + 1)
    fine = NormalRule(nodes, step * np.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi), rule.error)
    return float(np.abs(averages(integrand, rule, arguments) - averages(integrand, fine, arguments)).max())


def averages(integrand: Callable[..., np.ndarray], rule: NormalRule, arguments: tuple[np.ndarray, ...]) -> np.ndarray:
    """The averages E[f(z, x)], (n,), at the arguments x, each of which is an array (n,)."""
    values = integrand(rule.nodes[None, :], *(np.asarray(a, float)[:, None] for a in arguments))
    size = max((len(a) for a in arguments), default=1)
    return np.broadcast_to(values, (size, len(rule.nodes))) @ rule.weights
