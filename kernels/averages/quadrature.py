"""E[f(z)] for z ~ N(0, 1) by the trapezoidal rule, whose size follows from the integrand's complex poles and a
tolerance.

For f analytic in the strip |Im z| < δ the rule with step h errs by about e^{−2πδ/h + δ²/2}, and never by less than
e^{−2π²/h²}, the Gaussian weight's own limit. tanh(a + bz) and sech(a + bz) have their nearest poles at δ = π/(2|b|).
Gauss–Hermite rules know nothing of δ and converge slowly as b grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CONSTANT = 8.0
"""Stands for the residues and the strip's bound in the error formulas: each is below it for tanh and sech with |b| ≥
0.1."""
MOST_NODES = 200_000


@dataclass(frozen=True)
class NormalRule:
    """nodes, weights: (n,), with weights that include the Gaussian density. error: predicted absolute error for |f| ≤
    1."""

    nodes: np.ndarray
    weights: np.ndarray
    error: float


def pole_distance(slope: float) -> float:
    """Distance from the real axis to the nearest pole of tanh(a + slope z) or sech(a + slope z)."""
    return math.pi / (2 * abs(slope)) if slope != 0 else math.inf


def normal_rule(distance: float, tolerance: float) -> NormalRule:
    """The smallest symmetric rule whose predicted error is at most `tolerance` for |f| ≤ 1 with poles at `distance`.

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
    """Largest difference between the rule and one of half its step and 1.2 times its width, over the given arguments.

    integrand: f(z, *arguments), vectorised; arguments: (n,) each.
    """
    step = (rule.nodes[1] - rule.nodes[0]) / 2
    count = math.ceil(1.2 * rule.nodes[-1] / step)
    nodes = step * np.arange(-count, count + 1)
    fine = NormalRule(nodes, step * np.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi), rule.error)
    return float(np.abs(averages(integrand, rule, arguments) - averages(integrand, fine, arguments)).max())


def averages(integrand: Callable[..., np.ndarray], rule: NormalRule, arguments: tuple[np.ndarray, ...]) -> np.ndarray:
    """E[f(z, x)] for each of the arguments: (n,)."""
    values = integrand(rule.nodes[None, :], *(np.asarray(a, float)[:, None] for a in arguments))
    size = max((len(a) for a in arguments), default=1)
    return np.broadcast_to(values, (size, len(rule.nodes))) @ rule.weights
