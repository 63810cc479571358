"""What particle runs saw, as frozen values, and what is made of several of them: errors, and the limit of small
steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ParticleRun:
    """What `simulate_particles` saw.

    t, beta: (n_out,); beta is that of the step which starts at t, and the last one's at the end. M: (n_out, replicas,
    L, K) overlaps a_i . nu_k; Q: (n_out, replicas, L, L) overlaps a_i . a_j. weights, scales: (n_out, replicas, L), of
    the proposal. final_means: (replicas, L, d); final_weights, final_scales: (replicas, L). device, projected: what
    really ran. dt, particles (per component and step), seed: as given.
    """

    t: np.ndarray
    beta: np.ndarray
    M: np.ndarray
    Q: np.ndarray
    weights: np.ndarray
    scales: np.ndarray
    final_means: np.ndarray
    final_weights: np.ndarray
    final_scales: np.ndarray
    device: str
    seed: int
    dt: float
    particles: int
    projected: bool = False


@dataclass(frozen=True)
class VelocityEstimate:
    """The flow's velocity at one state, each part with its standard error.

    means: da_i/dt (L, d); M: dM/dt (L, K); Q: dQ/dt (L, L); weights: dw_i/dt (L,); scales: dsigma_i/dt (L,). What is
    not learned has velocity and standard error zero.
    """

    means: np.ndarray
    M: np.ndarray
    Q: np.ndarray
    weights: np.ndarray
    scales: np.ndarray
    means_standard_error: np.ndarray
    M_standard_error: np.ndarray
    Q_standard_error: np.ndarray
    weights_standard_error: np.ndarray
    scales_standard_error: np.ndarray
    device: str


@dataclass(frozen=True)
class ExtrapolatedRun:
    """Means over replicas extrapolated to dt = 0: M (n_out, L, K), Q (n_out, L, L), weights and scales (n_out, L),
    their standard errors, and the bias that the finer run still had (its mean minus the extrapolated one)."""

    t: np.ndarray
    beta: np.ndarray
    M: np.ndarray
    Q: np.ndarray
    weights: np.ndarray
    scales: np.ndarray
    M_standard_error: np.ndarray
    Q_standard_error: np.ndarray
    weights_standard_error: np.ndarray
    scales_standard_error: np.ndarray
    M_bias: np.ndarray
    Q_bias: np.ndarray
    weights_bias: np.ndarray
    scales_bias: np.ndarray

    def until(self, records: int) -> ExtrapolatedRun:
        """The first so many records."""
        return ExtrapolatedRun(*(values[:records] for values in vars(self).values()))


def mean_and_standard_error(values: np.ndarray, axis: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the replicas and its standard error; `axis` is theirs, 1 in a ParticleRun. Raises ValueError for a
    single replica."""
    values = np.asarray(values, float)
    count = values.shape[axis]
    if count < 2:
        raise ValueError("a standard error needs at least 2 replicas")
    return values.mean(axis), values.std(axis, ddof=1) / np.sqrt(count)


def extrapolate_step(coarse: ParticleRun, fine: ParticleRun) -> ExtrapolatedRun:
    """The run at dt = 0 from two runs, the second with half the first one's step: Richardson's 2 fine - coarse, replica
    by replica.

    Both runs have as many replicas, which start alike, and recorded the same times (twice the record_every in the finer
    one), under one schedule for all replicas. Give them different seeds: then the two runs' noises are independent.
    Raises ValueError if the runs are no such pair.
    """
    if not np.isclose(coarse.dt, 2 * fine.dt, rtol=1e-12, atol=0):
        raise ValueError(f"the fine run needs half the coarse run's step {coarse.dt:g}, but has {fine.dt:g}")
    if coarse.M.shape != fine.M.shape or coarse.Q.shape != fine.Q.shape or not np.allclose(coarse.t, fine.t, rtol=1e-9):
        raise ValueError("the two runs must have the same replicas, components and recorded times")
    if coarse.beta.ndim != 1 or fine.beta.ndim != 1:
        raise ValueError("runs under an adaptive schedule have no common temperatures to extrapolate at")
    M, M_error, M_bias = _extrapolated(coarse.M, fine.M)
    Q, Q_error, Q_bias = _extrapolated(coarse.Q, fine.Q)
    weights, weights_error, weights_bias = _extrapolated(coarse.weights, fine.weights)
    scales, scales_error, scales_bias = _extrapolated(coarse.scales, fine.scales)
    return ExtrapolatedRun(
        coarse.t,
        coarse.beta,
        M,
        Q,
        weights,
        scales,
        M_error,
        Q_error,
        weights_error,
        scales_error,
        M_bias,
        Q_bias,
        weights_bias,
        scales_bias,
    )


def _extrapolated(coarse: np.ndarray, fine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over replicas at dt = 0, its standard error, and the bias of the finer mean."""
    mean, error = mean_and_standard_error(2 * fine - coarse)
    return mean, error, fine.mean(1) - mean
