"""The particle simulation: stochastic gradient flow of the tempered reverse KL in all d dimensions.

It knows the two densities and how to sample from one of them, nothing of summary statistics or of `derive`, and is therefore an
independent check of the derived equations. The target is p*(x) = sum_k w*_k N(x; nu_k, sigma*_k^2 I), the proposal
q(x) = sum_i w_i N(x; a_i, sigma_i^2 I); the means a_i follow da_i/dt = -g_i, or its part tangential to the sphere |a_i| = const, with
g_i the gradient of KL(q || p*^beta / Z) estimated from fresh particles in every step. Time has unit metric on the means a_i.

Weights w = softmax(theta) and scales sigma_i = exp(tau_i) rest, or are learned from the same particles: dtheta/dt and dtau/dt are minus the
same objective's derivatives, with unit metric on theta and tau. Near its optimum tau_i relaxes at the rate 2 d w_i, which Euler's
method follows only for dt < 1 / (d w_i).

A run differs from the flow by its step size alone: Euler's method and the gradient's noise both bias the overlaps by O(dt), which
`extrapolate_step` removes. One velocity, from `estimate_velocity`, has no bias at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from kernels.device import Device, DeviceRequest, resolve_device
from kernels.initial_means import checked_seed, embed_overlaps, uniform_sphere_means
from kernels.particle_step import ParticleFlow, Replicas, replicas_at
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

LEARNABLE = ("means", "weights", "scales")

Manifold = str  # "sphere" or "euclidean"; checked when a run begins
Precision = str  # "float32" or "float64"; checked when a run begins

COORDINATES_PER_CALL = {"cpu": 2e7, "cuda": 2e9}
"""How many particle coordinates run between two looks at progress and the keyboard: a fraction of a second."""


@dataclass(frozen=True)
class ParticleRun:
    """What `simulate_particles` saw.

    t, beta: (n_out,); beta is that of the step which starts at t, and the last one's at the end.
    M: (n_out, replicas, L, K) overlaps a_i . nu_k; Q: (n_out, replicas, L, L) overlaps a_i . a_j.
    weights, scales: (n_out, replicas, L), of the proposal. final_means: (replicas, L, d); final_weights, final_scales: (replicas, L).
    device: what really ran. dt, particles (per component and step), seed: as given.
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


@dataclass(frozen=True)
class VelocityEstimate:
    """The flow's velocity at one state, each part with its standard error.

    means: da_i/dt (L, d); M: dM/dt (L, K); Q: dQ/dt (L, L); weights: dw_i/dt (L,); scales: dsigma_i/dt (L,). What is not learned has
    velocity and standard error zero.
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
    """Means over replicas extrapolated to dt = 0: M (n_out, L, K), Q (n_out, L, L), weights and scales (n_out, L), their standard errors,
    and the bias that the finer run still had (its mean minus the extrapolated one)."""

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


@dataclass(frozen=True)
class ParticleSimulation:
    """A run that is about to begin: its constants, the target's means (K, d) in double precision, and the replicas on their device.

    replicas: a kernels.particles_cpu.CpuParticles, or its twin on CUDA.
    """

    flow: ParticleFlow
    target_means: np.ndarray
    device: Device
    replicas: Any


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
    learn: Sequence[str] = ("means",),
    record_every: int = 1,
    precision: Precision = "float64",
    device: DeviceRequest = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> ParticleRun:
    """Runs the stochastic gradient flow of all replicas at once, one Euler step for each entry of `betas`.

    initial_means: (replicas, L, d); target_means: (K, d); target_weights, target_scales: (K,);
    proposal_weights, proposal_scales: (L,) or (replicas, L), at the start.
    betas: (steps,), the inverse temperature at the start of each step, t = n dt; dt: in the time of the flow of the means a_i.
    particles: samples per component and step. manifold: "sphere" keeps every |a_i|, "euclidean" lets it evolve.
    learn: which of "means", "weights" and "scales" move; the others rest.
    The state is recorded at t = 0, then after every `record_every` steps, and at the end. precision is that of samples and scores; the
    state and all sums over particles are double. progress(steps_done, steps_total) is called a few times a second.

    The result is a function of the arguments alone: it is the same for any number of threads, and to rounding on any device.
    Raises ValueError for bad input, ArithmeticError where learned scales diverge because dt is too large, and
    kernels.device.DeviceUnavailable where `device` cannot run.
    """
    betas = _finite("betas", betas, 1)
    if not 1 <= len(betas) <= MAX_STEPS or betas.min() < 0:
        raise ValueError("betas must hold at least one inverse temperature, none of them negative")
    simulation = prepare_simulation(
        initial_means,
        target_means,
        target_weights,
        target_scales,
        proposal_weights,
        proposal_scales,
        dt,
        particles=particles,
        seed=seed,
        manifold=manifold,
        learn=learn,
        precision=precision,
        device=device,
    )
    run = run_and_record(simulation, len(betas), record_every, lambda first, last: betas[first:last, None], progress=progress)
    return replace(run, beta=run.beta[:, 0])


def run_and_record(
    simulation: ParticleSimulation,
    steps: int,
    record_every: int,
    betas_of_steps: Callable[[int, int], np.ndarray],
    *,
    stop_every: int | None = None,
    ended: Callable[[int], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ParticleRun:
    """The loop of a run; the `beta` of what it returns is (n_out, 1) or (n_out, replicas).

    betas_of_steps(first, last): the inverse temperatures of steps first .. last - 1, (last - first, 1) for all replicas alike or
    (last - first, replicas). It is asked in order, when step `first` is about to begin, and never across a multiple of `stop_every`.
    ended(steps done): asked at every record; a run that has ended is cut there.
    """
    check_integer("record_every", record_every, 1, MAX_STEPS)
    flow, replicas = simulation.flow, simulation.replicas
    state = replicas.state()
    chunk = max(1, int(COORDINATES_PER_CALL[simulation.device.kind] / (state.means.size * flow.particles)))
    records = [*range(0, steps, record_every), steps]
    M = np.empty((len(records), *state.weights.shape, len(flow.targets)))
    Q = np.empty((len(records), *state.weights.shape, state.weights.shape[1]))
    weights, scales = np.empty((2, len(records), *state.weights.shape))
    betas = []

    def record(out: int) -> None:
        M[out], Q[out] = _overlaps(state.means, simulation.target_means)
        weights[out], scales[out] = state.weights, state.scales

    record(0)
    for out, (start, stop) in enumerate(pairwise(records), start=1):
        for first, last in _pieces(start, stop, chunk, stop_every):
            piece = betas_of_steps(first, last)
            if first == start:
                betas.append(piece[0])
            replicas.advance(piece, first)
            if progress is not None:
                progress(last, steps)
        state = replicas.state()
        _refuse_divergence(state, flow)
        record(out)
        if ended is not None and ended(stop):
            records = records[: out + 1]
            M, Q, weights, scales = (values[: out + 1] for values in (M, Q, weights, scales))
            break
    return ParticleRun(
        t=np.array(records) * flow.dt,
        beta=np.array([*betas, piece[-1]]),
        M=M,
        Q=Q,
        weights=weights,
        scales=scales,
        final_means=state.means,
        final_weights=state.weights,
        final_scales=state.scales,
        device=simulation.device.name,
        seed=int(flow.seed),
        dt=flow.dt,
        particles=flow.particles,
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
    learn: Sequence[str] = ("means",),
    precision: Precision = "float64",
    device: DeviceRequest = "auto",
) -> VelocityEstimate:
    """The velocity of the flow at one state, means (L, d), from `replicas` independent estimates of `particles` samples per component each.

    Unbiased for every number of particles, and without a step size: what the right-hand side of an exact equation must equal within
    the standard error. The other arguments and the errors are those of `simulate_particles`, with weights and scales (L,); replicas is
    at least 2.
    """
    state = _finite("means", means, 2)
    check_integer("replicas", replicas, 1, MAX_REPLICAS)
    beta = float(_finite("beta", beta, 0))
    if replicas < 2 or beta < 0:
        raise ValueError("a velocity needs at least 2 replicas for its standard error, and beta must not be negative")
    simulation = prepare_simulation(
        np.repeat(state[None], replicas, axis=0),
        target_means,
        target_weights,
        target_scales,
        _finite("proposal_weights", proposal_weights, 1),
        _finite("proposal_scales", proposal_scales, 1),
        1.0,
        particles=particles,
        seed=seed,
        manifold=manifold,
        learn=learn,
        precision=precision,
        device=device,
    )
    velocity, weight_velocity, scale_velocity = _velocities(simulation, beta)
    inner = np.einsum("ric,jc->rij", velocity, state)
    mean, mean_error = mean_and_standard_error(velocity, axis=0)
    M, M_error = mean_and_standard_error(velocity @ simulation.target_means.T, axis=0)
    Q, Q_error = mean_and_standard_error(inner + inner.transpose(0, 2, 1), axis=0)
    weights, weights_error = mean_and_standard_error(weight_velocity, axis=0)
    scales, scales_error = mean_and_standard_error(scale_velocity, axis=0)
    return VelocityEstimate(mean, M, Q, weights, scales, mean_error, M_error, Q_error, weights_error, scales_error, simulation.device.name)


def mean_and_standard_error(values: np.ndarray, axis: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the replicas and its standard error; `axis` is theirs, 1 in a ParticleRun. Raises ValueError for a single replica."""
    values = np.asarray(values, float)
    count = values.shape[axis]
    if count < 2:
        raise ValueError("a standard error needs at least 2 replicas")
    return values.mean(axis), values.std(axis, ddof=1) / np.sqrt(count)


def extrapolate_step(coarse: ParticleRun, fine: ParticleRun) -> ExtrapolatedRun:
    """The run at dt = 0 from two runs, the second with half the first one's step: Richardson's 2 fine - coarse, replica by replica.

    Both runs have as many replicas, which start alike, and recorded the same times (twice the record_every in the finer one), under one
    schedule for all replicas. Give them different seeds: then the two runs' noises are independent. Raises ValueError if the runs are no
    such pair.
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


def prepare_simulation(
    means: np.ndarray,
    target_means: Any,
    target_weights: Any,
    target_scales: Any,
    proposal_weights: Any,
    proposal_scales: Any,
    dt: float,
    *,
    particles: int,
    seed: int,
    manifold: str,
    learn: Sequence[str],
    precision: str,
    device: DeviceRequest,
) -> ParticleSimulation:
    """Checks the arguments of `simulate_particles`, means (replicas, L, d), and puts the replicas at their start; raises what that does."""
    means, targets = _finite("initial_means", means, 3), _finite("target_means", target_means, 2)
    replicas, L, d = means.shape
    K = len(targets)
    if min(means.shape) < 1 or K < 1 or targets.shape[1] != d:
        raise ValueError(f"proposal means of shape {means.shape} and target means of shape {targets.shape} do not share a dimension d >= 1")
    if replicas > MAX_REPLICAS or L > MAX_COMPONENTS:
        raise ValueError(f"at most {MAX_REPLICAS} replicas and {MAX_COMPONENTS} proposal components, not {replicas} and {L}")
    if manifold not in ("sphere", "euclidean"):
        raise ValueError(f'manifold must be "sphere" or "euclidean", not {manifold!r}')
    if manifold == "sphere" and not np.all(np.any(means != 0, axis=-1)):
        raise ValueError("on the sphere no initial mean may be zero")
    if isinstance(learn, str) or not learn or not set(learn) <= set(LEARNABLE):
        raise ValueError(f"learn must name at least one of {', '.join(LEARNABLE)} in a tuple, not {learn!r}")
    if precision not in ("float32", "float64"):
        raise ValueError(f'precision must be "float32" or "float64", not {precision!r}')
    dt = float(_finite("dt", dt, 0))
    if dt <= 0:
        raise ValueError(f"dt must be positive, not {dt!r}")
    check_integer("particles", particles, 1, MAX_PARTICLES)
    start = replicas_at(
        means,
        _per_replica(_weights("proposal_weights", proposal_weights, L, 1, 2), replicas, "proposal_weights"),
        _per_replica(_positive("proposal_scales", proposal_scales, L, 1, 2), replicas, "proposal_scales"),
        _weights("target_weights", target_weights, K, 1),
        _positive("target_scales", target_scales, K, 1),
    )
    flow = ParticleFlow(
        targets=np.ascontiguousarray(targets, precision),
        dt=dt,
        particles=int(particles),
        seed=checked_seed(seed),
        spherical=manifold == "sphere",
        learns_means="means" in learn,
        learns_weights="weights" in learn,
        learns_scales="scales" in learn,
    )
    where = resolve_device(device)
    return ParticleSimulation(flow, targets, where, _replicas_on(where, start, flow))


def _replicas_on(device: Device, start: Replicas, flow: ParticleFlow) -> Any:
    if device.kind == "cuda":
        from kernels.particles_cuda import CudaParticles

        return CudaParticles(start, flow)
    from kernels.particles_cpu import CpuParticles

    return CpuParticles(start, flow)


def _velocities(simulation: ParticleSimulation, beta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Independent estimates of da_i/dt (replicas, L, d), dw_i/dt and dsigma_i/dt (replicas, L), zero for what is not learned."""
    flow, state, estimates = simulation.flow, simulation.replicas.state(), simulation.replicas.estimates(beta)
    velocity = -estimates.gradients * flow.learns_means
    if flow.spherical:
        along = np.sum(velocity * state.means, axis=-1, keepdims=True) / np.sum(state.means**2, axis=-1, keepdims=True)
        velocity -= along * state.means
    logits = -state.weights * _centred(estimates.log_ratios, state.weights) * flow.learns_weights
    log_scales = -state.weights * estimates.stretches * flow.learns_scales
    return velocity, state.weights * _centred(logits, state.weights), state.scales * log_scales


def _centred(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The values, (replicas, L), less their weighted mean over the components."""
    return values - np.sum(weights * values, axis=-1, keepdims=True)


def _refuse_divergence(state: Replicas, flow: ParticleFlow) -> None:
    if not np.all(np.isfinite(state.scales) & (state.scales > 0)):
        raise ArithmeticError(f"the learned scales diverge with dt = {flow.dt:g}; near the optimum the step must be below 1 / (d w_i)")


def _overlaps(means: np.ndarray, target_means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return means @ target_means.T, means @ means.transpose(0, 2, 1)


def _pieces(start: int, stop: int, length: int, stop_every: int | None) -> Iterator[tuple[int, int]]:
    """start .. stop in pieces of at most `length`, none across a multiple of `stop_every`."""
    first = start
    while first < stop:
        last = min(first + length, stop)
        if stop_every is not None:
            last = min(last, (first // stop_every + 1) * stop_every)
        yield first, last
        first = last


def _finite(name: str, values: Any, *dimensions: int) -> np.ndarray:
    try:
        array = np.array(values, float, order="C")
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an array of numbers") from None
    if array.ndim not in dimensions:
        raise ValueError(f"{name} must be an array of {' or '.join(map(str, dimensions))} dimensions, not of shape {array.shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite")
    return array


def _positive(name: str, values: Any, length: int, *dimensions: int) -> np.ndarray:
    array = _finite(name, values, *dimensions)
    if array.shape[-1] != length or not np.all(array > 0):
        raise ValueError(f"{name} must be {length} positive numbers, not {array.tolist()!r}")
    return array


def _weights(name: str, values: Any, length: int, *dimensions: int) -> np.ndarray:
    array = _positive(name, values, length, *dimensions)
    worst = array.sum(-1).flat[np.argmax(np.abs(array.sum(-1) - 1))]
    if abs(worst - 1) > 1e-9:
        raise ValueError(f"{name} must sum to one, not to {worst:.12g}")
    return array


def _per_replica(array: np.ndarray, replicas: int, name: str) -> np.ndarray:
    if array.ndim == 2 and len(array) != replicas:
        raise ValueError(f"{name} must have one row for each of {replicas} replicas, not {len(array)}")
    return np.array(np.broadcast_to(array, (replicas, array.shape[-1])))


def check_integer(name: str, value: Any, smallest: int, largest: int) -> None:
    """Raises ValueError unless the value is an integer within the bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not smallest <= value <= largest:
        raise ValueError(f"{name} must be an integer from {smallest} to {largest}, not {value!r}")
