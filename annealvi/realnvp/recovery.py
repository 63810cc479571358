"""Recovery of lost mode weight at the target's own temperature, where a missed mode may be found later."""

from __future__ import annotations

import math

import numpy as np

LIKELY = 4.0
"""Standard errors within which right weights stay in each of some twenty records; such weights need no recovery."""


def weight_error(mode_weights: np.ndarray, target_weights: np.ndarray) -> np.ndarray:
    """½ Σ_k |w_k − w*_k|, the share of the mass at the wrong mode: (…).

    mode_weights: (…, K). target_weights: of the same shape, or broadcast.
    """
    return 0.5 * np.abs(mode_weights - target_weights).sum(-1)


def sampling_error(target_weights: np.ndarray, samples: int) -> float:
    """The largest `weight_error` that chance alone gives to right weights.

    Right weights, counted in so many samples, exceed it in one of a thousand cases at most.
    """
    errors = np.sqrt(target_weights * (1 - target_weights) / samples)
    # Half the mean of a sum of absolute normal deviates, and LIKELY times a bound of its standard deviation.
    return 0.5 * float(math.sqrt(2 / math.pi) * errors.sum() + LIKELY * np.sqrt((errors**2).sum()))


def half_lives(steps: np.ndarray, errors: np.ndarray, annealed_at: np.ndarray, least: float) -> np.ndarray:
    """Steps in which each flow's error halves from its largest in the records after a step at T <= 1.05: (flows,).

    The record before that step does not count: a flow that has just begun or been quenched has not settled at that
    temperature, and may lose its modes only later. The half-life is 0 if the error is never above `least`, so that
    there is nothing to recover; inf if no later record has half the error; NaN for a flow without a record after a step
    at T <= 1.05. Errors are linear between records. steps: (records,). errors: (flows, records). annealed_at: (flows,).
    """
    return np.array([_half_life(steps, error, at, least) for error, at in zip(errors, annealed_at, strict=True)])


def first_records(steps: np.ndarray, annealed_at: np.ndarray) -> np.ndarray:
    """The index of each flow's first record after a step at T <= 1.05, or of the last record if there is none."""
    return np.minimum(np.searchsorted(steps, np.nan_to_num(annealed_at, nan=np.inf), side="right"), len(steps) - 1)


def _half_life(steps: np.ndarray, errors: np.ndarray, annealed_at: float, least: float) -> float:
    if not annealed_at < steps[-1]:
        return math.nan
    first = int(first_records(steps, np.array(annealed_at)))
    worst = first + int(errors[first:].argmax())
    if errors[worst] <= least:
        return 0.0
    half = 0.5 * errors[worst]
    below = np.flatnonzero(errors[worst:] <= half)
    if not len(below):
        return math.inf
    n = worst + int(below[0])
    share = (errors[n - 1] - half) / (errors[n - 1] - errors[n])
    return float(steps[n - 1] + share * (steps[n] - steps[n - 1]) - steps[worst])
