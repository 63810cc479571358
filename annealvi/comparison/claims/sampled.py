"""The statistics of a claimed probability: numbers of runs that collapsed, beside the numbers that a claim predicts."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import xlogy
from scipy.stats import chi2, ncx2

LEVEL = 1e-3
"""A claim is rejected if the data are less likely than this under it: one right claim in a thousand is rejected."""
POWER = 0.95


def deviance(collapsed: np.ndarray, runs: np.ndarray, claimed: np.ndarray) -> float:
    """Twice the log likelihood ratio of the observed shares (n,) and the claimed probabilities (n,).

    For a right claim it is distributed like chi-squared with n degrees of freedom. It is infinite where something
    happened that the claim excludes, and where a claimed number is no probability.
    """
    if ((claimed < 0) | (claimed > 1)).any():
        return math.inf
    share = collapsed / runs
    with np.errstate(divide="ignore"):
        seen = xlogy(collapsed, share) + xlogy(runs - collapsed, 1 - share)
        expected = xlogy(collapsed, claimed) + xlogy(runs - collapsed, 1 - claimed)
    return float(2 * np.sum(seen - expected))


def p_value(collapsed: np.ndarray, runs: np.ndarray, claimed: np.ndarray, fitted: int = 0) -> float:
    """The probability of a deviance as large as this under the claim, of which `fitted` numbers were fitted."""
    return float(chi2.sf(deviance(collapsed, runs, claimed), max(len(runs) - fitted, 1)))


def fitted_factor(collapsed: np.ndarray, runs: np.ndarray, claimed: np.ndarray) -> float | None:
    """The number f for which claimed/f fits the data best; None where nothing collapsed or a claim is not positive."""
    if not (claimed > 0).all() or not collapsed.any():
        return None
    least = math.log(float(claimed.max()))  # with a smaller f a probability would exceed one
    start = math.log(float((runs * claimed).sum() / collapsed.sum()))
    ends = max(least, start - 3), max(least, start) + 3
    found = minimize_scalar(
        lambda f: deviance(collapsed, runs, np.minimum(claimed / math.exp(f), 1.0)), bounds=ends, method="bounded"
    )
    return float(math.exp(found.x))


def smallest_factor_found(collapsed: np.ndarray, runs: np.ndarray) -> float:
    """The factor of a formula, common to all points, that is rejected with probability POWER.

    A wrong formula that differs from the truth by less than this at every point may pass. To first order the deviance
    of a formula f times the truth is a noncentral chi-squared with noncentrality (f − 1)² Σ n p/(1 − p).
    """
    p = (collapsed + 1) / (runs + 2)
    rejected = chi2.isf(LEVEL, len(runs))
    needed = brentq(lambda x: ncx2.sf(rejected, len(runs), x) - POWER, 1e-3, 1e4)
    return float(1 + math.sqrt(needed / np.sum(runs * p / (1 - p))))
