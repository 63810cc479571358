"""Chebyshev proxies: polynomials that replace a smooth function of one scalar on an interval, with a measured error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev
from scipy.fft import dct

MOST_DEGREE = 512


@dataclass(frozen=True)
class Proxy:
    """The polynomial Σ_n coefficients[n] T_n on [low, high].

    Attributes
    ----------
    coefficients
        (degree + 1,) of the Chebyshev polynomials.
    low, high
        The ends of the interval.
    error
        The largest difference from the function, at points that the fit did not use.
    compared
        The number of these points.
    """

    coefficients: np.ndarray
    low: float
    high: float
    error: float
    compared: int = 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return chebyshev.chebval((2 * x - self.low - self.high) / (self.high - self.low), self.coefficients)


def fit(function: Callable[[np.ndarray], np.ndarray], low: float, high: float, tolerance: float) -> Proxy | None:
    """A proxy whose measured error is at most `tolerance`, or None.

    The degree doubles until the highest coefficients are negligible; these are then dropped. None means that no degree
    up to MOST_DEGREE suffices: the function is not smooth enough on the interval.
    """
    degree = 16
    while degree <= MOST_DEGREE:
        coefficients = _interpolant(function, low, high, degree)
        trimmed = _trim(coefficients, tolerance / 4)
        if len(trimmed) < len(coefficients):
            proxy = Proxy(trimmed, low, high, 0.0)
            differences = _differences(proxy, function, degree)
            error = float(differences.max())
            if error <= tolerance:
                return Proxy(trimmed, low, high, error, len(differences))
        degree *= 2
    return None


def _interpolant(function: Callable[[np.ndarray], np.ndarray], low: float, high: float, degree: int) -> np.ndarray:
    """Coefficients (degree + 1,) of the interpolant at the Chebyshev points of the first kind.

    A cosine transform leaves the coefficients with no more rounding than the function has. A Vandermonde matrix made by
    recurrence, as in `chebyshev.chebinterpolate`, loses degree² roundings near the ends, and a slowly decaying series
    then never reaches 1e-12.
    """
    angles = np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1)
    coefficients = dct(function((low + high) / 2 + (high - low) / 2 * np.cos(angles)), type=2) / (degree + 1)
    coefficients[0] /= 2
    return coefficients


def _trim(coefficients: np.ndarray, allowance: float) -> np.ndarray:
    """Drop the highest coefficients whose absolute sum stays within the allowance."""
    dropped = np.cumsum(np.abs(coefficients[::-1])) <= allowance
    return coefficients[: len(coefficients) - int(dropped.sum())] if not dropped.all() else coefficients[:1]


def _differences(proxy: Proxy, function: Callable[[np.ndarray], np.ndarray], degree: int) -> np.ndarray:
    """The differences from the function at four times as many points as nodes.

    The points lie between the nodes and, like the nodes, are dense at the ends.
    """
    count = 4 * degree + 3
    angles = np.pi * (np.arange(count) + 0.37) / count
    x = (proxy.low + proxy.high) / 2 + (proxy.high - proxy.low) / 2 * np.cos(angles)
    x = np.concatenate([[proxy.low, proxy.high], x])
    return np.abs(proxy(x) - function(x))
