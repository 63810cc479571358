"""The bimodal equations as plain functions, typed from the page without any import from the package.

The time is that of the gradient flow of the means a_i. The overlaps are m_i = mu_i . mu* and s = mu_1 . mu_2, of unit
vectors. Integrals are sums over a fixed grid of z, which are accurate to 1e-13 for R <= 3; integrals with 30 digits use
mpmath.
"""

from __future__ import annotations

import math

import mpmath
import numpy as np

Z = np.arange(-10, 10.0001, 0.02)
GAUSSIAN = np.exp(-(Z**2) / 2) / math.sqrt(2 * math.pi) * 0.02


def F(m: float, R: float, w_star: float) -> float:
    h = math.log(w_star / (1 - w_star)) / 2
    return float(np.sum(GAUSSIAN * np.tanh(R**2 * m + h + R * Z)))


def G_1(s: float, R: float, w_1: float) -> float:
    delta = R**2 * (1 - s)
    return float(np.sum(GAUSSIAN / (1 + np.exp(delta + math.sqrt(2 * delta) * Z + math.log(w_1 / (1 - w_1))))))


def G_2(s: float, R: float, w_1: float) -> float:
    return G_1(s, R, 1 - w_1)


def exchange_sech(s: float, R: float, w_1: float) -> float:
    """w_1 G_1 = w_2 G_2, in the form that is smooth at s = 1."""
    w_2, delta = 1 - w_1, R**2 * (1 - s)
    mean = np.sum(GAUSSIAN / np.cosh((math.log(w_1 / w_2) + math.sqrt(2 * delta) * Z) / 2))
    return float(math.sqrt(w_1 * w_2) / 2 * math.exp(-delta / 4) * mean)


def dm_1(m_1: float, m_2: float, s: float, beta: float, R: float, w_star: float, w_1: float) -> float:
    return w_1 * (beta * F(m_1, R, w_star) * (1 - m_1**2) - G_1(s, R, w_1) * (m_2 - s * m_1))


def dm_2(m_1: float, m_2: float, s: float, beta: float, R: float, w_star: float, w_1: float) -> float:
    return (1 - w_1) * (beta * F(m_2, R, w_star) * (1 - m_2**2) - G_2(s, R, w_1) * (m_1 - s * m_2))


def ds(m_1: float, m_2: float, s: float, beta: float, R: float, w_star: float, w_1: float) -> float:
    first = w_1 * (beta * F(m_1, R, w_star) * (m_2 - s * m_1) - G_1(s, R, w_1) * (1 - s**2))
    second = (1 - w_1) * (beta * F(m_2, R, w_star) * (m_1 - s * m_2) - G_2(s, R, w_1) * (1 - s**2))
    return first + second


def gaussian_mean_mp(function, digits: int = 30) -> mpmath.mpf:  # type: ignore[no-untyped-def]
    """E[function(z)] to about `digits` digits, by Gauss-Legendre panels."""
    with mpmath.workdps(digits + 10):
        panels = [mpmath.mpf(n) / 2 for n in range(-28, 29)]
        return mpmath.quad(lambda z: function(z) * mpmath.npdf(z), panels)


def F_mp(m: str, R: str, w_star: str) -> mpmath.mpf:
    with mpmath.workdps(40):
        radius, weight = mpmath.mpf(R), mpmath.mpf(w_star)
        field = radius**2 * mpmath.mpf(m) + mpmath.log(weight / (1 - weight)) / 2
        return gaussian_mean_mp(lambda z: mpmath.tanh(field + radius * z))


def G_1_mp(s: str, R: str, w_1: str) -> mpmath.mpf:
    with mpmath.workdps(40):
        weight, delta = mpmath.mpf(w_1), mpmath.mpf(R) ** 2 * (1 - mpmath.mpf(s))
        level = delta + mpmath.log(weight / (1 - weight))
        return gaussian_mean_mp(lambda z: 1 / (1 + mpmath.exp(level + mpmath.sqrt(2 * delta) * z)))


def exchange_sech_mp(s: str, R: str, w_1: str) -> mpmath.mpf:
    with mpmath.workdps(40):
        weight, delta = mpmath.mpf(w_1), mpmath.mpf(R) ** 2 * (1 - mpmath.mpf(s))
        level = mpmath.log(weight / (1 - weight))
        mean = gaussian_mean_mp(lambda z: mpmath.sech((level + mpmath.sqrt(2 * delta) * z) / 2))
        return mpmath.sqrt(weight * (1 - weight)) / 2 * mpmath.exp(-delta / 4) * mean
