"""The exact law of the initial overlaps of two uniform directions in R^d, in coordinates that make it a product.

(μ_1 + μ_2)/|μ_1 + μ_2| and (μ_1 − μ_2)/|μ_1 − μ_2| are a uniform orthonormal pair, independent of s = μ_1·μ_2. Let μ*
be the direction of the modes. Then, for every s,

    u_1 = μ*·(μ_1 + μ_2)/√(2(1 + s)),    u_2 = μ*·(μ_1 − μ_2)/√(2(1 − s))

are two coordinates of a uniform unit vector. Hence s and u_1 have the density ∝ (1 − x²)^{(d−3)/2}, v = u_2/√(1 − u_1²)
has the density ∝ (1 − v²)^{(d−4)/2}, and all three are independent. For w_1 = w_2 the flow at β = 0 keeps u_1 and u_2.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betainc, betaincinv


def states(u_1: np.ndarray, v: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return the overlaps (m_1, m_2, s), shape (n, 3), of coordinates (n,) of the initial law."""
    u_2 = v * np.sqrt(1 - u_1**2)
    half_sum, half_difference = u_1 * np.sqrt((1 + s) / 2), u_2 * np.sqrt((1 - s) / 2)
    return np.stack([half_sum + half_difference, half_sum - half_difference, s * np.ones_like(half_sum)], -1)


def overlap_nodes(count: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss nodes and weights (count,) for the law of s.

    They come from the tridiagonal matrix of the Gegenbauer polynomials' recurrence.
    """
    order, k = (dimension - 2) / 2, np.arange(1, count)
    # For order 0 the first coefficient is 0/0; its limit is 1/2.
    squares = np.where(k + order > 1, k * (k + 2 * order - 1) / (4 * (k + order) * np.maximum(k + order - 1, 0.5)), 0.5)
    nodes, vectors = np.linalg.eigh(np.diag(np.sqrt(squares), 1) + np.diag(np.sqrt(squares), -1))
    return nodes, vectors[0] ** 2


def sum_distribution(u_1: np.ndarray, dimension: int) -> np.ndarray:
    """Return P(coordinate <= u_1) for one coordinate of a uniform unit vector in R^dimension."""
    return _distribution(u_1, dimension)


def sum_quantile(q: np.ndarray, dimension: int) -> np.ndarray:
    """Invert `sum_distribution`."""
    tail = np.minimum(q, 1 - q)
    return np.sign(q - 0.5) * np.sqrt(betaincinv(0.5, (dimension - 1) / 2, 1 - 2 * tail))


def difference_distribution(v: np.ndarray, dimension: int) -> np.ndarray:
    """Return P(V <= v), where V is a coordinate of a uniform unit vector in R^(dimension − 1)."""
    return _distribution(v, dimension - 1)


def widest_difference(dimension: int, beyond: float) -> float:
    """Return the v that |V| exceeds with probability `beyond`."""
    return float(np.sqrt(betaincinv(0.5, (dimension - 2) / 2, 1 - beyond)))


def _distribution(x: np.ndarray, dimension: int) -> np.ndarray:
    """Return P(X <= x) for one coordinate X of a uniform unit vector."""
    return 0.5 + 0.5 * np.sign(x) * betainc(0.5, (dimension - 1) / 2, np.minimum(np.abs(x), 1.0) ** 2)
