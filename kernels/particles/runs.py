"""The results of particle simulations as frozen records, their standard errors, and their limit of small steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ParticleRun:
    """The result of `simulate_particles`.

    Attributes
    ----------
    t
        Times of the records, (n_out,).
    beta
        Inverse temperature of the step that starts at t, and at the end that of the last step, (n_out,).
    M
        Overlaps a_i . nu_k, (n_out, replicas, L, K).
    Q
        Overlaps a_i . a_j, (n_out, replicas, L, L).
    parameters
        The proposal's "weights" and "scales", (n_out, replicas, L) each.
    final_means
        Means of the proposal at the end, (replicas, L, d).
    device, projected
        The device that ran, and whether the particles were projected onto the span of the centres.
    seed, dt, particles
        As given to `simulate_particles`.
    X
        The means' first r coordinates, (n_out, replicas, L, r); None in a run without covariances.
    covariances
        Covariances of the proposal in these coordinates, (n_out, replicas, L, r, r); None in a run without covariances.
    """

    t: np.ndarray
    beta: np.ndarray
    M: np.ndarray
    Q: np.ndarray
    parameters: dict[str, np.ndarray]
    final_means: np.ndarray
    device: str
    seed: int
    dt: float
    particles: int
    projected: bool = False
    X: np.ndarray | None = None
    covariances: np.ndarray | None = None


@dataclass(frozen=True)
class VelocityEstimate:
    """The flow's velocity at one state.

    Each part has its standard error in the attribute `..._standard_error`. The velocity of a parameter that is not
    learned, and its standard error, are zero.

    Attributes
    ----------
    means
        da_i/dt, (L, d).
    M, Q
        dM/dt, (L, K), and dQ/dt, (L, L).
    parameters
        By "weights" and "scales" dw_i/dt and dsigma_i/dt, (L,).
    device
        The device that ran.
    X
        Velocity of the means' first r coordinates, (L, r); None without covariances.
    covariances
        dC_i/dt, (L, r, r); None without covariances.
    """

    means: np.ndarray
    M: np.ndarray
    Q: np.ndarray
    parameters: dict[str, np.ndarray]
    means_standard_error: np.ndarray
    M_standard_error: np.ndarray
    Q_standard_error: np.ndarray
    parameters_standard_error: dict[str, np.ndarray]
    device: str
    X: np.ndarray | None = None
    covariances: np.ndarray | None = None
    X_standard_error: np.ndarray | None = None
    covariances_standard_error: np.ndarray | None = None


@dataclass(frozen=True)
class ExtrapolatedRun:
    """Means over the replicas, extrapolated to dt = 0.

    Each mean has its standard error in `..._standard_error`, and in `..._bias` the bias of the finer run: that run's
    mean minus the extrapolated one.

    Attributes
    ----------
    t, beta
        Times and inverse temperatures of the records, (n_out,).
    M, Q
        Overlaps, (n_out, L, K) and (n_out, L, L).
    parameters
        The proposal's "weights" and "scales", (n_out, L) each.
    X, covariances
        The means' first r coordinates, (n_out, L, r), and the covariances, (n_out, L, r, r); with their errors and
        biases None in runs without covariances.
    """

    t: np.ndarray
    beta: np.ndarray
    M: np.ndarray
    Q: np.ndarray
    parameters: dict[str, np.ndarray]
    M_standard_error: np.ndarray
    Q_standard_error: np.ndarray
    parameters_standard_error: dict[str, np.ndarray]
    M_bias: np.ndarray
    Q_bias: np.ndarray
    parameters_bias: dict[str, np.ndarray]
    X: np.ndarray | None = None
    covariances: np.ndarray | None = None
    X_standard_error: np.ndarray | None = None
    covariances_standard_error: np.ndarray | None = None
    X_bias: np.ndarray | None = None
    covariances_bias: np.ndarray | None = None

    def until(self, records: int) -> ExtrapolatedRun:
        """The same run with its first records only."""

        def first(values: Any) -> Any:
            if isinstance(values, dict):
                return {name: first(entry) for name, entry in values.items()}
            return None if values is None else values[:records]

        return ExtrapolatedRun(*map(first, vars(self).values()))


def mean_and_standard_error(values: np.ndarray, axis: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the replicas and its standard error.

    axis: the axis of the replicas, which is 1 in a ParticleRun. Raises ValueError for a single replica.
    """
    values = np.asarray(values, float)
    count = values.shape[axis]
    if count < 2:
        raise ValueError("a standard error needs at least 2 replicas")
    return values.mean(axis), values.std(axis, ddof=1) / np.sqrt(count)


def extrapolate_step(coarse: ParticleRun, fine: ParticleRun) -> ExtrapolatedRun:
    """The limit dt = 0 of two runs, of which the second has half the first one's step.

    The limit is Richardson's extrapolation, 2 fine - coarse, for each replica. Both runs need the same number of
    replicas with the same initial states, the same recorded times (so that record_every is twice as large in the finer
    run), and one schedule for all replicas. Different seeds make the noises of the two runs independent. Raises
    ValueError where steps, shapes, recorded times or the shape of beta do not fit. The function does not compare the
    initial states, nor the values of beta.
    """
    if not np.isclose(coarse.dt, 2 * fine.dt, rtol=1e-12, atol=0):
        raise ValueError(f"the fine run needs half the coarse run's step {coarse.dt:g}, but has {fine.dt:g}")
    if coarse.M.shape != fine.M.shape or coarse.Q.shape != fine.Q.shape or not np.allclose(coarse.t, fine.t, rtol=1e-9):
        raise ValueError("the two runs must have the same replicas, components and recorded times")
    covariant = [(coarse.X, fine.X), (coarse.covariances, fine.covariances)]
    if any(np.asarray(here).shape != np.asarray(there).shape for here, there in covariant):
        raise ValueError("both runs must have covariances in the same coordinates, or neither")
    if coarse.beta.ndim != 1 or fine.beta.ndim != 1:
        raise ValueError("runs under an adaptive schedule have no common temperatures to extrapolate at")
    M, Q = _extrapolated(coarse.M, fine.M), _extrapolated(coarse.Q, fine.Q)
    found = {name: _extrapolated(coarse.parameters[name], values) for name, values in fine.parameters.items()}
    parameters = ({name: parts[n] for name, parts in found.items()} for n in range(3))
    fields: list[Any] = [field for trio in zip(M, Q, parameters, strict=True) for field in trio]
    for pair in zip(*(_extrapolated(*runs) for runs in covariant), strict=True):
        fields += pair
    return ExtrapolatedRun(coarse.t, coarse.beta, *fields)


def _extrapolated(coarse: np.ndarray | None, fine: np.ndarray | None) -> tuple[Any, Any, Any]:
    """The mean over the replicas at dt = 0, its standard error, and the bias of the finer run's mean.

    Each is None for what the runs do not have.
    """
    if coarse is None or fine is None:
        return None, None, None
    mean, error = mean_and_standard_error(2 * fine - coarse)
    return mean, error, fine.mean(1) - mean
