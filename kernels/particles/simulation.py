"""The particle simulation: stochastic gradient flow of the tempered reverse KL in all d dimensions.

The simulation knows the two densities and how to sample from them. It knows nothing of summary statistics or of
`derive`, and is therefore an independent check of the derived equations. The target is p*(x) = sum_k w*_k N(x; nu_k,
sigma*_k^2 I), the proposal q(x) = sum_i w_i N(x; a_i, sigma_i^2 I). The means follow da_i/dt = -g_i, or the part of it
that is tangential to the sphere |a_i| = const. Here g_i is the gradient of KL(q || p*^beta / Z), which every step
estimates from fresh particles. The metric on the means a_i is the unit metric, which fixes the unit of time.

The weights w = softmax(theta) and the scales sigma_i = exp(tau_i) are constant, or the run learns them from the same
particles: dtheta/dt and dtau/dt are minus the objective's derivatives, with the unit metric on theta and tau. Near its
optimum tau_i relaxes at the rate 2 d w_i, which Euler's method follows only for dt < 1 / (d w_i).

With `covariances`, components have covariances in the first r coordinates, which may be learned too
(`kernels.particles.covariances`); the scales then apply to the other d - r coordinates.

Other objectives are those of `kernels.particles.objective`: with a reference, and with a part of the forward KL, for
which a step samples the target too.

A run differs from the flow only because its step is finite: Euler's method and the gradient's noise both bias the
overlaps by O(dt), and `extrapolate_step` removes this bias. One velocity, from `estimate_velocity`, has no bias at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import numpy as np

from kernels.machine.device import DeviceRequest
from kernels.particles import shapes
from kernels.particles.covariances import Covariances, Factors, covariance_velocities
from kernels.particles.objective import TEMPERED_REVERSE_KL, Objective
from kernels.particles.random_stream import MAX_REPLICAS, MAX_STEPS
from kernels.particles.runs import ParticleRun, VelocityEstimate, mean_and_standard_error
from kernels.particles.shapes import PARAMETERS, SCALES, WEIGHTS
from kernels.particles.start import (
    Manifold,
    ParticleSimulation,
    Precision,
    check_integer,
    finite_array,
    prepare_simulation,
)
from kernels.particles.step import Replicas, draws_per_component

COORDINATES_PER_CALL = {"cpu": 2e7, "cuda": 2e9}
"""How many particle coordinates a run draws between two reports of progress. Drawing so many takes a fraction of a
second, after which the run also heeds an interrupt."""

FARTHEST = 1e6
"""A mean this many times farther out than all lengths and scales has diverged. No flow takes a mean there: the target
attracts, and components repel each other only over a distance of some scales. With too long a step a mean gets there
within a few dozen steps."""


class DivergenceError(ArithmeticError):
    """The step is too long for Euler's method to follow the flow; the message says how long the step may be."""

    exit_status: ClassVar[int] = 1
    option: ClassVar[str] = "--dt"
    remedy: ClassVar[str] = "give a shorter step"


def simulate_particles(
    initial_means: np.ndarray,
    target_means: np.ndarray,
    target: Mapping[str, np.ndarray],
    proposal: Mapping[str, np.ndarray],
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
    projected: bool = False,
    objective: Objective = TEMPERED_REVERSE_KL,
    covariances: Covariances | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ParticleRun:
    """Run the stochastic gradient flow of all replicas at once, one Euler step for each entry of `betas`.

    The result is a function of the arguments alone: it is the same for any number of threads, and the same to rounding
    on any device.

    Parameters
    ----------
    initial_means
        Means of the proposal at t = 0, (replicas, L, d).
    target_means
        Means of the target, (K, d).
    target
        The "weights" and "scales" of the target, (K,).
    proposal
        The "weights" and "scales" of the proposal at t = 0, (L,) or (replicas, L).
    betas
        Inverse temperature at the start t = n dt of each step, (steps,).
    dt
        Step, in the time of the flow of the means a_i.
    particles
        Samples of each component in each step.
    seed
        Seed of the random stream, from 0 to 2^64 - 1.
    manifold
        "sphere" keeps every |a_i|, "euclidean" lets it evolve.
    learn
        Which of "means", "weights" and "scales", and of "covariances" where there are any, move; the others are
        constant.
    record_every
        Steps between two records. The run also records the state at t = 0 and at the end.
    precision
        Precision of samples and scores, "float32" or "float64". The state and all sums over particles are double.
    device
        "auto", "cpu" or "cuda".
    projected
        Draw the particles in the span of the centres, which gives other numbers with the same law
        (`kernels.particles.projection`). Possible only where each mixture has one scale and only means are learned,
        under the tempered reverse KL.
    objective
        What the flow minimises. A part of the forward KL takes as many samples of each target component in each step.
    covariances
        Covariances of both mixtures in the first r of the d coordinates, and their metric. Scales go on to apply
        outside these coordinates. Possible only under the tempered reverse KL, and not with `projected`.
    progress
        Called as progress(steps_done, steps_total) a few times a second.

    Raises
    ------
    ValueError
        For bad input.
    DivergenceError
        Where means, weights, scales or covariances diverge because dt is too large.
    kernels.machine.device.DeviceUnavailable
        Where `device` cannot run.
    """
    betas = finite_array("betas", betas, 1)
    if not 1 <= len(betas) <= MAX_STEPS or betas.min() < 0:
        raise ValueError("betas must hold at least one inverse temperature, none of them negative")
    simulation = prepare_simulation(
        initial_means,
        target_means,
        target,
        proposal,
        dt,
        particles=particles,
        seed=seed,
        manifold=manifold,
        learn=learn,
        precision=precision,
        device=device,
        projected=projected,
        objective=objective,
        covariances=covariances,
    )
    run = run_and_record(
        simulation, len(betas), record_every, lambda first, last: betas[first:last, None], progress=progress
    )
    return replace(run, beta=run.beta[:, 0])


@np.errstate(over="ignore", invalid="ignore")  # the next record refuses a state that has diverged
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
    """Run a simulation step by step and record it; the `beta` of the result is (n_out, 1) or (n_out, replicas).

    betas_of_steps(first, last) gives the inverse temperatures of steps first .. last - 1, (last - first, 1) for all
    replicas alike or (last - first, replicas). The loop calls it in order, when step `first` is about to begin, and
    never for steps on both sides of a multiple of `stop_every`. The loop calls ended(steps_done) at every record, and
    ends the run there if the answer is true.
    """
    check_integer("record_every", record_every, 1, MAX_STEPS)
    flow, replicas = simulation.flow, simulation.replicas
    start = state = replicas.state()
    replica_count, L, d = state.means.shape
    K = len(simulation.target_means)
    draws = replica_count * L * draws_per_component(d, L + K, flow.particles, simulation.projected)
    chunk = max(1, int(COORDINATES_PER_CALL[simulation.device.kind] / draws))
    records = [*range(0, steps, record_every), steps]
    M = np.empty((len(records), replica_count, L, K))
    Q = np.empty((len(records), replica_count, L, L))
    values = np.empty((len(state.values), len(records), replica_count, L))
    factors = _factors(simulation)
    variances = _extreme_variances(start, factors)
    X, covariances, betas = [], [], []

    def record(out: int) -> None:
        M[out], Q[out] = _overlaps(state.means, simulation.target_means)
        values[:, out] = state.values
        if factors is not None:
            X.append(state.means[..., : factors.factors.shape[-1]])
            covariances.append(factors.covariances()[:, :L])

    record(0)
    for out, (begin, stop) in enumerate(pairwise(records), start=1):
        for first, last in _pieces(begin, stop, chunk, stop_every):
            piece = betas_of_steps(first, last)
            if first == begin:
                betas.append(piece[0])
            replicas.advance(piece, first)
            if progress is not None:
                progress(last, steps)
        state, factors = replicas.state(), _factors(simulation)
        _refuse_divergence(simulation, start, state, variances, factors)
        record(out)
        if ended is not None and ended(stop):
            records = records[: out + 1]
            M, Q, values = M[: out + 1], Q[: out + 1], values[:, : out + 1]
            break
    return ParticleRun(
        t=np.array(records) * flow.dt,
        beta=np.array([*betas, piece[-1]]),
        M=M,
        Q=Q,
        parameters=dict(zip(PARAMETERS, values, strict=True)),
        final_means=state.means,
        device=simulation.device.name,
        seed=int(flow.seed),
        dt=flow.dt,
        particles=flow.particles,
        projected=simulation.projected,
        X=np.array(X) if X else None,
        covariances=np.array(covariances) if covariances else None,
    )


def estimate_velocity(
    means: np.ndarray,
    target_means: np.ndarray,
    target: Mapping[str, np.ndarray],
    proposal: Mapping[str, np.ndarray],
    beta: float,
    *,
    particles: int,
    replicas: int,
    seed: int,
    manifold: Manifold = "sphere",
    learn: Sequence[str] = ("means",),
    precision: Precision = "float64",
    device: DeviceRequest = "auto",
    projected: bool = False,
    objective: Objective = TEMPERED_REVERSE_KL,
    covariances: Covariances | None = None,
) -> VelocityEstimate:
    """Estimate the velocity of the flow at one state, the means (L, d) with weights and scales (L,).

    The velocity is the average of `replicas` independent estimates, at least 2, from `particles` samples of each
    component. The estimate is unbiased for every number of particles and involves no step size: the right-hand side of
    an exact equation must equal it within the standard error. The other arguments and the errors are those of
    `simulate_particles`.
    """
    state = finite_array("means", means, 2)
    check_integer("replicas", replicas, 1, MAX_REPLICAS)
    beta = float(finite_array("beta", beta, 0))
    if replicas < 2 or beta < 0:
        raise ValueError("a velocity needs at least 2 replicas for its standard error, and beta must not be negative")
    if covariances is not None:
        finite_array("proposal covariances", covariances.proposal, 3)
    simulation = prepare_simulation(
        np.repeat(state[None], replicas, axis=0),
        target_means,
        target,
        {name: finite_array(f"proposal {name}", values, 1) for name, values in proposal.items()},
        1.0,
        particles=particles,
        seed=seed,
        manifold=manifold,
        learn=learn,
        precision=precision,
        device=device,
        projected=projected,
        objective=objective,
        covariances=covariances,
    )
    velocity, rates, covariance_rates = _velocities(simulation, beta)
    inner = np.einsum("ric,jc->rij", velocity, state)
    mean, mean_error = mean_and_standard_error(velocity, axis=0)
    M, M_error = mean_and_standard_error(velocity @ simulation.target_means.T, axis=0)
    Q, Q_error = mean_and_standard_error(inner + inner.transpose(0, 2, 1), axis=0)
    parameters, errors = (dict(zip(PARAMETERS, found, strict=True)) for found in mean_and_standard_error(rates, axis=1))
    found = VelocityEstimate(mean, M, Q, parameters, mean_error, M_error, Q_error, errors, simulation.device.name)
    if covariance_rates is None:
        return found
    r = covariance_rates.shape[-1]
    C, C_error = mean_and_standard_error(covariance_rates, axis=0)
    return replace(
        found, X=mean[:, :r], covariances=C, X_standard_error=mean_error[:, :r], covariances_standard_error=C_error
    )


def _factors(simulation: ParticleSimulation) -> Factors | None:
    """The factors of the covariances now; None without covariances."""
    return None if simulation.covariance_flow is None else simulation.replicas.factors()


def _velocities(simulation: ParticleSimulation, beta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Independent estimates of da_i/dt, (replicas, L, d), and of the parameters' rates, (parameters, replicas, L).

    With covariances, the last part is the estimates of their rates, (replicas, L, r, r). The estimates for what is not
    learned are zero.
    """
    flow, state, estimates = simulation.flow, simulation.replicas.state(), simulation.replicas.estimates(beta)
    velocity = -estimates.gradients * flow.learns_means
    if flow.spherical:
        along = np.sum(velocity * state.means, axis=-1, keepdims=True) / np.sum(state.means**2, axis=-1, keepdims=True)
        velocity -= along * state.means
    factors, covariance_rates = _factors(simulation), None
    if factors is not None and simulation.covariance_flow is not None:
        covariance_rates = covariance_velocities(factors, estimates.whitened, simulation.covariance_flow)
    return velocity, shapes.velocities(state.values, estimates.slopes, flow.learns), covariance_rates


def _refuse_divergence(
    simulation: ParticleSimulation,
    start: Replicas,
    state: Replicas,
    variances: tuple[float, float],
    factors: Factors | None,
) -> None:
    """Raises DivergenceError where a mean is beyond FARTHEST, or a parameter or a covariance has diverged.

    Values that are not numbers count as diverged. The message names the longest step for which Euler's method is stable
    near the optimum; a start far from the optimum may need a shorter step. In the rules sigma^2 is the smallest of the
    `variances` at the start.
    """
    d, heaviest = start.means.shape[-1], start.values[WEIGHTS].max()
    smallest, largest = variances
    ends = [np.linalg.norm(vectors, axis=-1).max() for vectors in (start.means, simulation.target_means)]
    whole = np.nanmax([*ends, largest**0.5, state.values[SCALES].max()])
    r = simulation.covariance_flow.coordinates if simulation.covariance_flow is not None else 0
    checks = {
        "means": (np.abs(state.means) <= FARTHEST * whole, "2 sigma^2 / w_i", 2 * smallest / heaviest),
        **shapes.longest_steps(start.values, state.values, d, r),
    }
    if factors is not None and simulation.covariance_flow is not None:
        sound = (np.abs(factors.factors) <= FARTHEST * whole).all(axis=(-2, -1)) & np.isfinite(factors.log_volumes)
        logarithmic = simulation.covariance_flow.logarithmic
        rule, limit = ("1 / w_i", 1 / heaviest) if logarithmic else ("sigma^2 / w_i", smallest / heaviest)
        checks["covariances"] = (sound, rule, limit)
    broken = [name for name, (sound, _, _) in checks.items() if not np.all(sound)]
    if broken:
        _, rule, limit = min((checks[name] for name in broken), key=lambda check: check[2])
        what = f"the {' and '.join(broken)} diverge with dt = {simulation.flow.dt:g}"
        raise DivergenceError(f"{what}; near the optimum the step must be below {rule}, here {limit:.2g}")


def _extreme_variances(start: Replicas, factors: Factors | None) -> tuple[float, float]:
    """The smallest and the largest variance of any centre in any direction at the start."""
    variances = [] if factors is None else [np.linalg.eigvalsh(factors.covariances())]
    if factors is None or factors.factors.shape[-1] < start.means.shape[-1]:
        variances.append(1 / start.precisions)
    return float(min(v.min() for v in variances)), float(max(v.max() for v in variances))


def _overlaps(means: np.ndarray, target_means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return means @ target_means.T, means @ means.transpose(0, 2, 1)


def _pieces(start: int, stop: int, length: int, stop_every: int | None) -> Iterator[tuple[int, int]]:
    """The range start .. stop in pieces of at most `length`; no piece extends across a multiple of `stop_every`."""
    first = start
    while first < stop:
        last = min(first + length, stop)
        if stop_every is not None:
            last = min(last, (first // stop_every + 1) * stop_every)
        yield first, last
        first = last
