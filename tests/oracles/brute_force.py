"""The probability of collapse by brute force: retyped equations, vectors drawn in R^d, and plain Runge–Kutta steps.

The module imports nothing of the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import retyped
from scipy.interpolate import CubicSpline


def initial_overlaps(n: int, dimension: int, rng: np.random.Generator) -> np.ndarray:
    """The overlaps m_1, m_2, s, (n, 3), of unit vectors of R^dimension; 10^4 triples of vectors are drawn at a time."""
    parts = []
    for first in range(0, n, 10_000):
        vectors = rng.standard_normal((min(10_000, n - first), 2, dimension))
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        parts.append(np.stack([vectors[:, 0, 0], vectors[:, 1, 0], (vectors[:, 0] * vectors[:, 1]).sum(1)], axis=1))
    return np.concatenate(parts)


def flow(R: float, w_star: float, w_1: float) -> Callable[[float, np.ndarray], np.ndarray]:
    """The retyped right-hand side as a function of beta and states (n, 3).

    It uses splines of F and of w_1 G_1, which are accurate to 1e-8.
    """
    m = np.linspace(-1.01, 1.01, 1600)
    attraction = CubicSpline(m, [retyped.F(x, R, w_star) for x in m])
    repulsion = CubicSpline(m, [retyped.exchange_sech(min(x, 1.0), R, w_1) for x in m])

    def rates(beta: float, y: np.ndarray) -> np.ndarray:
        m_1, m_2, s = y.T
        pull_1, pull_2, push = w_1 * beta * attraction(m_1), (1 - w_1) * beta * attraction(m_2), repulsion(s)
        d_1 = pull_1 * (1 - m_1**2) - push * (m_2 - s * m_1)
        d_2 = pull_2 * (1 - m_2**2) - push * (m_1 - s * m_2)
        d_s = pull_1 * (m_2 - s * m_1) + pull_2 * (m_1 - s * m_2) - 2 * push * (1 - s**2)
        return np.stack([d_1, d_2, d_s], axis=1)

    return rates


def run(
    rates: Callable[[float, np.ndarray], np.ndarray], beta: Callable[[float], float], y: np.ndarray, t_end: float
) -> np.ndarray:
    """The states at t_end, by classical Runge–Kutta steps of about 0.25/(β + 0.01).

    All rates are below β + 0.1, so that the steps are far inside the method's region of stability. The local error of a
    step is about (h rate)^5/120 < 1e-5 at most. This is far below an error that would change one outcome in 10^3.
    """
    t = 0.0
    while t < t_end:
        h = min(0.25 / (beta(t) + 0.01), t_end - t)
        now, middle, end = beta(t), beta(t + h / 2), beta(t + h * (1 - 1e-12))
        k_1 = rates(now, y)
        k_2 = rates(middle, y + h / 2 * k_1)
        k_3 = rates(middle, y + h / 2 * k_2)
        k_4 = rates(end, y + h * k_3)
        y = y + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
        t += h
    return y


def collapsed_share(
    R: float, w_star: float, w_1: float, beta: Callable[[float], float], t_end: float, dimension: int, n: int, seed: int
):
    """The share of n runs that collapse, and its standard error."""
    start = initial_overlaps(n, dimension, np.random.default_rng(seed))
    end = run(flow(R, w_star, w_1), beta, start, t_end)
    p = float(np.mean((end[:, 0] > 0) == (end[:, 1] > 0)))
    return p, math.sqrt(max(p * (1 - p), 1 / n) / n)
