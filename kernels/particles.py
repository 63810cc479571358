"""The particle simulation: stochastic gradient flow of the tempered reverse KL in all d dimensions.

It knows the two densities and how to sample from one of them, nothing of summary statistics or of `derive`, and is therefore an
independent check of the derived equations. The target is p*(x) = sum_k w*_k N(x; nu_k, sigma*_k^2 I), the proposal
q(x) = sum_i w_i N(x; a_i, sigma_i^2 I); the means a_i follow da_i/dt = -g_i, or its part tangential to the sphere |a_i| = const, with
g_i the gradient of KL(q || p*^beta / Z) estimated from fresh particles in every step. Time has unit metric on the means a_i.

A run differs from the flow by its step size alone: Euler's method and the gradient's noise both bias the overlaps by O(dt), which
`extrapolate_step` removes. One velocity, from `estimate_velocity`, has no bias at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from kernels.device import Device, DeviceRequest, resolve_device
from kernels.initial_means import checked_seed, embed_overlaps, uniform_sphere_means
from kernels.particle_step import ParticleFlow
from kernels.random_stream import MAX_COMPONENTS, MAX_PARTICLES, MAX_REPLICAS, MAX_STEPS

__all__ = [
    "ExtrapolatedRun",
    "ParticleRun",
    "VelocityEstimate",
    "embed_overlaps",
    "estimate_velocity",
    "extrapolate_step",
    "mean_and_standard_error",
    "simulate_particles",
    "uniform_sphere_means",
]

Manifold = str  # "sphere" or "euclidean"; checked when a run begins
Precision = str  # "float32" or "float64"; checked when a run begins

COORDINATES_PER_CALL = {"cpu": 2e7, "cuda": 2e9}
"""How many particle coordinates run between two looks at progress and the keyboard: a fraction of a second."""


@dataclass(frozen=True)
class ParticleRun:
    """What `simulate_particles` saw.

    t, beta: (n_out,); beta is that of the step which starts at t, and the last one's at the end.
    M: (n_out, replicas, L, K) overlaps a_i . nu_k; Q: (n_out, replicas, L, L) overlaps a_i . a_j.
    final_means: (replicas, L, d). device: what really ran. dt, particles (per component and step), seed: as given.
    """

    t: np.ndarray
    beta: np.ndarray
    M: np.ndarray
    Q: np.ndarray
    final_means: np.ndarray
    device: str
    seed: int
    dt: float
    particles: int


@dataclass(frozen=True)
class VelocityEstimate:
    """The flow's velocity at one state: da_i/dt (L, d), dM/dt (L, K), dQ/dt (L, L), each with its standard error."""

    means: np.ndarray
    M: np.ndarray
    Q: np.ndarray
    means_standard_error: np.ndarray
    M_standard_error: np.ndarray
    Q_standard_error: np.ndarray
    device: str


@dataclass(frozen=True)
class ExtrapolatedRun:
    """Overlaps extrapolated to dt = 0: means over replicas M (n_out, L, K), Q (n_out, L, L), their standard errors,
    and the bias that the finer run still had (its mean minus the extrapolated one)."""

    t: np.ndarray
    beta: np.ndarray
    M: np.ndarray
    Q: np.ndarray
    M_standard_error: np.ndarray
    Q_standard_error: np.ndarray
    M_bias: np.ndarray
    Q_bias: np.ndarray


def simulate_particles(
    initial_means: np.ndarray,
    target_means: np.ndarray,
    target_weights: np.ndarray,
    target_scales: np.ndarray,
    proposal_weights: np.ndarray,
    proposal_scales: np.ndarray,
    betas: np.ndarray,
    dt: float,
    *,
    particles: int,
    seed: int,
    manifold: Manifold = "sphere",
    record_every: int = 1,
    precision: Precision = "float64",
    device: DeviceRequest = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> ParticleRun:
    """Runs the stochastic gradient flow of all replicas at once, one Euler step for each entry of `betas`.

    initial_means: (replicas, L, d); target_means: (K, d); weights and scales: (K,) and (L,).
    betas: (steps,), the inverse temperature at the start of each step, t = n dt; dt: in the time of the flow of the means a_i.
    particles: samples per component and step. manifold: "sphere" keeps every |a_i|, "euclidean" lets it evolve.
    The state is recorded at t = 0, then after every `record_every` steps, and at the end. precision is that of samples and scores; the
    means and all sums over particles are double. progress(steps_done, steps_total) is called a few times a second.

    The result is a function of the arguments alone: it is the same for any number of threads, and to rounding on any device.
    Raises ValueError for bad input and kernels.device.DeviceUnavailable where `device` cannot run.
    """
    means = _finite("initial_means", initial_means, 3)
    betas = _finite("betas", betas, 1)
    if not 1 <= len(betas) <= MAX_STEPS or betas.min() < 0:
        raise ValueError("betas must hold at least one inverse temperature, none of them negative")
    _positive_integer("record_every", record_every, MAX_STEPS)
    flow = _flow(
        means, target_means, target_weights, target_scales, proposal_weights, proposal_scales, dt, particles, seed, manifold, precision
    )
    target = _finite("target_means", target_means, 2)
    where = resolve_device(device)
    simulation = _simulation(where, means, flow)

    steps = len(betas)
    records = [*range(0, steps, record_every), steps]
    coordinates_per_step = means.size * particles
    chunk = max(1, int(COORDINATES_PER_CALL[where.kind] / coordinates_per_step))
    M = np.empty((len(records), *means.shape[:2], len(target)))
    Q = np.empty((len(records), *means.shape[:2], means.shape[1]))
    M[0], Q[0] = _overlaps(means, target)
    for out, (start, stop) in enumerate(pairwise(records), start=1):
        for first, last in _pieces(start, stop, chunk):
            simulation.advance(betas[first:last], first)
            if progress is not None:
                progress(last, steps)
        M[out], Q[out] = _overlaps(simulation.means(), target)
    return ParticleRun(
        t=np.array(records) * float(dt),
        beta=betas[np.minimum(records, steps - 1)],
        M=M,
        Q=Q,
        final_means=simulation.means(),
        device=where.name,
        seed=int(seed),
        dt=float(dt),
        particles=int(particles),
    )


def estimate_velocity(
    means: np.ndarray,
    target_means: np.ndarray,
    target_weights: np.ndarray,
    target_scales: np.ndarray,
    proposal_weights: np.ndarray,
    proposal_scales: np.ndarray,
    beta: float,
    *,
    particles: int,
    replicas: int,
    seed: int,
    manifold: Manifold = "sphere",
    precision: Precision = "float64",
    device: DeviceRequest = "auto",
) -> VelocityEstimate:
    """The velocity of the flow at one state, means (L, d), from `replicas` independent estimates of `particles` samples per component each.

    Unbiased for every number of particles, and without a step size: what the right-hand side of an exact equation must equal within
    the standard error. The other arguments and the errors are those of `simulate_particles`; replicas is at least 2.
    """
    state = _finite("means", means, 2)
    _positive_integer("replicas", replicas, MAX_REPLICAS)
    beta = float(_finite("beta", beta, 0))
    if replicas < 2 or beta < 0:
        raise ValueError("a velocity needs at least 2 replicas for its standard error, and beta must not be negative")
    copies = np.repeat(state[None], replicas, axis=0)
    flow = _flow(
        copies, target_means, target_weights, target_scales, proposal_weights, proposal_scales, 1.0, particles, seed, manifold, precision
    )
    where = resolve_device(device)
    velocity = -_simulation(where, copies, flow).gradients(beta)
    if flow.spherical:
        velocity -= np.sum(velocity * state, axis=-1, keepdims=True) / np.sum(state**2, axis=-1, keepdims=True) * state
    inner = np.einsum("ric,jc->rij", velocity, state)
    mean, mean_error = mean_and_standard_error(velocity, axis=0)
    M, M_error = mean_and_standard_error(velocity @ _finite("target_means", target_means, 2).T, axis=0)
    Q, Q_error = mean_and_standard_error(inner + inner.transpose(0, 2, 1), axis=0)
    return VelocityEstimate(mean, M, Q, mean_error, M_error, Q_error, where.name)


def mean_and_standard_error(values: np.ndarray, axis: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the replicas and its standard error; `axis` is theirs, 1 in a ParticleRun. Raises ValueError for a single replica."""
    values = np.asarray(values, float)
    count = values.shape[axis]
    if count < 2:
        raise ValueError("a standard error needs at least 2 replicas")
    return values.mean(axis), values.std(axis, ddof=1) / np.sqrt(count)


def extrapolate_step(coarse: ParticleRun, fine: ParticleRun) -> ExtrapolatedRun:
    """Overlaps at dt = 0 from two runs, the second with half the first one's step: Richardson's 2 fine - coarse, replica by replica.

    Both runs have as many replicas, which start alike, and recorded the same times (twice the record_every in the finer one). Give them
    different seeds: then the two runs' noises are independent. Raises ValueError if the runs are no such pair.
    """
    if not np.isclose(coarse.dt, 2 * fine.dt, rtol=1e-12, atol=0):
        raise ValueError(f"the fine run needs half the coarse run's step {coarse.dt:g}, but has {fine.dt:g}")
    if coarse.M.shape != fine.M.shape or coarse.Q.shape != fine.Q.shape or not np.allclose(coarse.t, fine.t, rtol=1e-9):
        raise ValueError("the two runs must have the same replicas, components and recorded times")
    M, M_error = mean_and_standard_error(2 * fine.M - coarse.M)
    Q, Q_error = mean_and_standard_error(2 * fine.Q - coarse.Q)
    return ExtrapolatedRun(coarse.t, coarse.beta, M, Q, M_error, Q_error, fine.M.mean(1) - M, fine.Q.mean(1) - Q)


def _simulation(device: Device, means: np.ndarray, flow: ParticleFlow) -> Any:
    radii = np.linalg.norm(means, axis=-1)
    if device.kind == "cuda":
        from kernels.particles_cuda import CudaParticles

        return CudaParticles(means, radii, flow)
    from kernels.particles_cpu import CpuParticles

    return CpuParticles(means, radii, flow)


def _overlaps(means: np.ndarray, target_means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return means @ target_means.T, means @ means.transpose(0, 2, 1)


def _pieces(start: int, stop: int, length: int) -> Iterator[tuple[int, int]]:
    for first in range(start, stop, length):
        yield first, min(first + length, stop)


def _flow(
    means: np.ndarray,
    target_means: Any,
    target_weights: Any,
    target_scales: Any,
    proposal_weights: Any,
    proposal_scales: Any,
    dt: float,
    particles: int,
    seed: int,
    manifold: str,
    precision: str,
) -> ParticleFlow:
    replicas, L, d = means.shape
    targets = _finite("target_means", target_means, 2)
    if min(means.shape) < 1 or len(targets) < 1 or targets.shape[1] != d:
        raise ValueError(f"proposal means of shape {means.shape} and target means of shape {targets.shape} do not share a dimension d >= 1")
    if replicas > MAX_REPLICAS or L > MAX_COMPONENTS:
        raise ValueError(f"at most {MAX_REPLICAS} replicas and {MAX_COMPONENTS} proposal components, not {replicas} and {L}")
    if manifold not in ("sphere", "euclidean"):
        raise ValueError(f'manifold must be "sphere" or "euclidean", not {manifold!r}')
    if manifold == "sphere" and not np.all(np.any(means != 0, axis=-1)):
        raise ValueError("on the sphere no initial mean may be zero")
    if precision not in ("float32", "float64"):
        raise ValueError(f'precision must be "float32" or "float64", not {precision!r}')
    dt = float(_finite("dt", dt, 0))
    if dt <= 0:
        raise ValueError(f"dt must be positive, not {dt!r}")
    _positive_integer("particles", particles, MAX_PARTICLES)
    weights, target_weights = _weights("proposal_weights", proposal_weights, L), _weights("target_weights", target_weights, len(targets))
    scales, target_scales = _positive("proposal_scales", proposal_scales, L), _positive("target_scales", target_scales, len(targets))
    all_scales = np.concatenate([scales, target_scales])
    return ParticleFlow(
        targets=np.ascontiguousarray(targets, precision),
        weights=weights,
        scales=scales,
        log_amplitudes=np.log(np.concatenate([weights, target_weights])) - d * np.log(all_scales),
        precisions=1 / all_scales**2,
        dt=dt,
        particles=int(particles),
        seed=checked_seed(seed),
        spherical=manifold == "sphere",
    )


def _finite(name: str, values: Any, dimensions: int) -> np.ndarray:
    try:
        array = np.array(values, float, order="C")
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an array of numbers") from None
    if array.ndim != dimensions:
        raise ValueError(f"{name} must be an array of {dimensions} dimensions, not of shape {array.shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite")
    return array


def _positive(name: str, values: Any, length: int) -> np.ndarray:
    array = _finite(name, values, 1)
    if len(array) != length or not np.all(array > 0):
        raise ValueError(f"{name} must be {length} positive numbers, not {values!r}")
    return array


def _weights(name: str, values: Any, length: int) -> np.ndarray:
    array = _positive(name, values, length)
    if abs(array.sum() - 1) > 1e-9:
        raise ValueError(f"{name} must sum to one, not to {array.sum():.12g}")
    return array


def _positive_integer(name: str, value: Any, largest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= largest:
        raise ValueError(f"{name} must be an integer from 1 to {largest}, not {value!r}")
