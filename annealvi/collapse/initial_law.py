"""The exact law of the initial overlaps of two independent uniform directions in R^d, as coordinates that make it a
product.

(μ_1 + μ_2)/|μ_1 + μ_2| and (μ_1 − μ_2)/|μ_1 − μ_2| are a uniform orthonormal pair, independent of s = μ_1·μ_2. So, with
μ* the modes' direction,

    u_1 = μ*·(μ_1 + μ_2)/√(2(1 + s)),    u_2 = μ*·(μ_1 − μ_2)/√(2(1 − s))

are two coordinates of a uniform unit vector, whatever s is: s has the density ∝ (1 − s²)^{(d−3)/2}, so has u_1, and v =
u_2/√(1 − u_1²) has ∝ (1 − v²)^{(d−4)/2}, all three independent. For w_1 = w_2 the flow at β = 0 keeps u_1 and u_2.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betainc, betaincinv


def states(u_1: np.ndarray, v: np.ndarray, s: np.ndarray) -> np.ndarray:
    """The overlaps (m_1, m_2, s), (n, 3), of coordinates (n,) of the initial law."""
    u_2 = v * np.sqrt(1 - u_1**2)
    half_sum, half_difference = u_1 * np.sqrt((1 + s) / 2), u_2 * np.sqrt((1 - s) / 2)
    return np.stack([half_sum + half_difference, half_sum - half_difference, s * np.ones_like(half_sum)], -1)


def overlap_nodes(count: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss nodes and weights (count,) of the law of s: the Gegenbauer polynomials' recurrence, by its tridiagonal
    matrix."""
    order, k = (dimension - 2) / 2, np.arange(1, count)
    # Where order is 0 the first coefficient is the limit 1/2, not 0/0.
    squares = np.where(k + order > 1, k * (k + 2 * order - 1) / (4 * (k + order) * np.maximum(k + order - 1, 0.5)), 0.5)
    nodes, vectors = np.linalg.eigh(np.diag(np.sqrt(squares), 1) + np.diag(np.sqrt(squares), -1))
    return nodes, vectors[0] ** 2


def sum_distribution(u_1: np.ndarray, dimension: int) -> np.ndarray:
    """P(coordinate <= u_1) of one coordinate of a uniform unit vector in R^dimension."""
    return _distribution(u_1, dimension)


def sum_quantile(q: np.ndarray, dimension: int) -> np.ndarray:
    """The inverse of `sum_distribution`."""
    tail = np.minimum(q, 1 - q)
    return np.sign(q - 0.5) * np.sqrt(betaincinv(0.5, (dimension - 1) / 2, 1 - 2 * tail))


def difference_distribution(v: np.ndarray, dimension: int) -> np.ndarray:
    """P(V <= v): v is a coordinate of a uniform unit vector of one dimension less."""
    return _distribution(v, dimension - 1)


def widest_difference(dimension: int, beyond: float) -> float:
    """The v that |v| passes with probability `beyond`."""
    return float(np.sqrt(betaincinv(0.5, (dimension - 2) / 2, 1 - beyond)))


def _distribution(x: np.ndarray, dimension: int) -> np.ndarray:
    return 0.5 + 0.5 * np.sign(x) * betainc(0.5, (dimension - 1) / 2, np.minimum(np.abs(x), 1.0) ** 2)
