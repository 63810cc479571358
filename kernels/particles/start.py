"""The start of a particle simulation: checks the arguments and puts the replicas on their device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.machine.device import Device, DeviceRequest, resolve_device
from kernels.particles.covariances import METRICS, CovarianceFlow, Covariances, Factors, factors_of
from kernels.particles.initial_means import checked_seed
from kernels.particles.objective import TEMPERED_REVERSE_KL, Objective
from kernels.particles.random_stream import MAX_COMPONENTS, MAX_PARTICLES, MAX_REPLICAS
from kernels.particles.shapes import LEARNABLE, PARAMETERS, SCALES, WEIGHTS
from kernels.particles.step import ParticleFlow, Replicas, replicas_at

Manifold = str  # "sphere" or "euclidean"; checked when a run begins
Precision = str  # "float32" or "float64"; checked when a run begins


@dataclass(frozen=True)
class ParticleSimulation:
    """A run that is about to begin.

    Attributes
    ----------
    flow
        The run's constants.
    target_means
        Means of the target in double precision, (K, d).
    device
        The device that holds the replicas.
    replicas
        A `kernels.particles.cpu.CpuParticles`, or an object with the same methods for CUDA or for projected particles.
    projected
        Whether the particles are drawn in the span of the centres.
    covariance_flow
        The constants of the covariances' flow; None without covariances.
    """

    flow: ParticleFlow
    target_means: np.ndarray
    device: Device
    replicas: Any
    projected: bool
    covariance_flow: CovarianceFlow | None = None


def prepare_simulation(
    means: np.ndarray,
    target_means: Any,
    target: Mapping[str, Any],
    proposal: Mapping[str, Any],
    dt: float,
    *,
    particles: int,
    seed: int,
    manifold: str,
    learn: Sequence[str],
    precision: str,
    device: DeviceRequest,
    projected: bool,
    objective: Objective,
    covariances: Covariances | None = None,
) -> ParticleSimulation:
    """Checks the arguments of `simulate_particles` and puts the replicas, with means (replicas, L, d), at their start.

    Raises ValueError and DeviceUnavailable as `simulate_particles` does.
    """
    means, targets = finite_array("initial_means", means, 3), finite_array("target_means", target_means, 2)
    replicas, L, d = means.shape
    K = len(targets)
    if min(means.shape) < 1 or K < 1 or targets.shape[1] != d:
        raise ValueError(
            f"proposal means of shape {means.shape} and target means of shape {targets.shape} do "
            f"not share a dimension d >= 1"
        )
    if replicas > MAX_REPLICAS or L > MAX_COMPONENTS:
        raise ValueError(
            f"at most {MAX_REPLICAS} replicas and {MAX_COMPONENTS} proposal components, not {replicas} and {L}"
        )
    if manifold not in ("sphere", "euclidean"):
        raise ValueError(f'manifold must be "sphere" or "euclidean", not {manifold!r}')
    if manifold == "sphere" and not np.all(np.any(means != 0, axis=-1)):
        raise ValueError("on the sphere no initial mean may be zero")
    learnable = LEARNABLE if covariances is None else (*LEARNABLE, "covariances")
    if isinstance(learn, str) or not learn or not set(learn) <= set(learnable):
        raise ValueError(f"learn must name at least one of {', '.join(learnable)} in a tuple, not {learn!r}")
    if precision not in ("float32", "float64"):
        raise ValueError(f'precision must be "float32" or "float64", not {precision!r}')
    dt = float(finite_array("dt", dt, 0))
    if dt <= 0:
        raise ValueError(f"dt must be positive, not {dt!r}")
    check_integer("particles", particles, 1, MAX_PARTICLES)
    for name, parameters in (("target", target), ("proposal", proposal)):
        if set(parameters) != set(PARAMETERS):
            raise ValueError(f"the {name} has {' and '.join(PARAMETERS)}, not {' and '.join(parameters) or 'nothing'}")
    own = [_per_replica(_numbers("proposal", proposal, name, L, 1, 2), replicas, name) for name in PARAMETERS]
    modes = np.array([_numbers("target", target, name, K, 1) for name in PARAMETERS])
    centres, reference_scale = targets, None
    if objective.has_reference:
        centres, reference_scale = np.concatenate([targets, np.zeros((1, d))]), objective.reference_scale
    if objective.forward_share > 0 and L + K > MAX_COMPONENTS:
        raise ValueError(f"the forward KL takes at most {MAX_COMPONENTS} components in all, not {L + K}")
    r, factors, covariance_flow = 0, None, None
    if covariances is not None:
        if projected or objective != TEMPERED_REVERSE_KL:
            raise ValueError(
                "covariances need the tempered reverse KL of p*^beta and particles in all d dimensions: "
                "leave out objective and projected=True"
            )
        factors = _checked_factors(covariances, replicas, L, K, d)
        r = factors.factors.shape[-1]
        covariance_flow = CovarianceFlow(r, covariances.metric == "log", "covariances" in learn)
    start = replicas_at(means, np.array(own), modes, reference_scale, r)
    if projected:
        _refuse_projection(start, L, learn, objective)
    flow = ParticleFlow(
        targets=np.ascontiguousarray(centres, precision),
        target_weights=modes[WEIGHTS].copy(),
        target_scales=modes[SCALES].copy(),
        dt=dt,
        particles=int(particles),
        seed=checked_seed(seed),
        spherical=manifold == "sphere",
        learns_means="means" in learn,
        learns=tuple(name in learn for name in PARAMETERS),
        forward_share=float(objective.forward_share),
    )
    where = resolve_device(device)
    there = (
        _replicas_on(where, start, flow, projected)
        if factors is None or covariance_flow is None
        else _covariant_replicas_on(where, start, flow, factors, covariance_flow)
    )
    return ParticleSimulation(flow, targets, where, there, projected, covariance_flow)


def _refuse_projection(start: Replicas, proposals: int, learn: Sequence[str], objective: Objective) -> None:
    """Raises ValueError where the noise outside the centres' span is not that of one Gaussian vector."""
    if objective != TEMPERED_REVERSE_KL:
        raise ValueError("projected particles know the tempered reverse KL of p*^beta alone: leave out projected=True")
    for name, precisions in (
        ("proposal", start.precisions[:, :proposals]),
        ("target", start.precisions[:, proposals:]),
    ):
        if np.any(precisions != precisions[:, :1]):
            raise ValueError(
                f"projected particles need one scale in each mixture, and the {name}'s differ: leave out projected=True"
            )
    if set(learn) != {"means"}:
        raise ValueError(f"projected particles move means alone, not {' and '.join(learn)}: leave out projected=True")


def _replicas_on(device: Device, start: Replicas, flow: ParticleFlow, projected: bool) -> Any:
    if device.kind == "cuda":
        if projected:
            from kernels.particles.cuda.projection import ProjectedCudaParticles

            return ProjectedCudaParticles(start, flow)
        from kernels.particles.cuda.replicas import CudaParticles

        return CudaParticles(start, flow)
    if projected:
        from kernels.particles.projection import ProjectedCpuParticles

        return ProjectedCpuParticles(start, flow)
    from kernels.particles.cpu import CpuParticles

    return CpuParticles(start, flow)


def _covariant_replicas_on(
    device: Device, start: Replicas, flow: ParticleFlow, factors: Factors, covariance_flow: CovarianceFlow
) -> Any:
    if device.kind == "cuda":
        from kernels.particles.cuda.covariances import CovariantCudaParticles

        return CovariantCudaParticles(start, flow, factors, covariance_flow)
    from kernels.particles.covariant_cpu import CovariantCpuParticles

    return CovariantCpuParticles(start, flow, factors, covariance_flow)


def finite_array(name: str, values: Any, *dimensions: int) -> np.ndarray:
    """The values as a finite array with one of the given numbers of dimensions; raises ValueError otherwise."""
    try:
        array = np.array(values, float, order="C")
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an array of numbers") from None
    if array.ndim not in dimensions:
        raise ValueError(
            f"{name} must be an array of {' or '.join(map(str, dimensions))} dimensions, not of shape {array.shape}"
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite")
    return array


def _numbers(mixture: str, parameters: Mapping[str, Any], parameter: str, length: int, *dimensions: int) -> np.ndarray:
    """The numbers of one parameter of a mixture, all positive; weights sum to one."""
    name = f"{mixture} {parameter}"
    array = finite_array(name, parameters[parameter], *dimensions)
    if array.shape[-1] != length or not np.all(array > 0):
        raise ValueError(f"{name} must be {length} positive numbers, not {array.tolist()!r}")
    worst = array.sum(-1).flat[np.argmax(np.abs(array.sum(-1) - 1))]
    if parameter == "weights" and abs(worst - 1) > 1e-9:
        raise ValueError(f"{name} must sum to one, not to {worst:.12g}")
    return array


def _checked_factors(covariances: Covariances, replicas: int, L: int, K: int, d: int) -> Factors:
    """The factors of the covariances of L and K components; raises ValueError unless these are as they must be."""
    if covariances.metric not in METRICS:
        raise ValueError(f"metric must be {' or '.join(map(repr, METRICS))}, not {covariances.metric!r}")
    target = finite_array("target covariances", covariances.target, 3)
    proposal = finite_array("proposal covariances", covariances.proposal, 3, 4)
    r = target.shape[-1]
    for name, matrices, count in (("target", target, K), ("proposal", proposal, L)):
        if matrices.shape[-3:] != (count, r, r) or not 1 <= r <= d:
            raise ValueError(
                f"{name} covariances must be {count} matrices of one size r from 1 to {d}, "
                f"not of shape {matrices.shape}"
            )
        largest = np.abs(matrices).max(axis=(-2, -1), keepdims=True)
        if np.any(np.abs(matrices - matrices.swapaxes(-2, -1)) > 1e-12 * largest):
            raise ValueError(f"{name} covariances must be symmetric")
    if proposal.ndim == 4 and len(proposal) != replicas:
        raise ValueError(f"proposal covariances must have one row for each of {replicas} replicas, not {len(proposal)}")
    try:
        return factors_of(np.broadcast_to(proposal, (replicas, L, r, r)), target)
    except np.linalg.LinAlgError:
        raise ValueError("covariances must be positive definite") from None


def _per_replica(array: np.ndarray, replicas: int, parameter: str) -> np.ndarray:
    if array.ndim == 2 and len(array) != replicas:
        raise ValueError(f"proposal {parameter} must have one row for each of {replicas} replicas, not {len(array)}")
    return np.array(np.broadcast_to(array, (replicas, array.shape[-1])))


def check_integer(name: str, value: Any, smallest: int, largest: int) -> None:
    """Raises ValueError unless the value is an integer within the bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not smallest <= value <= largest:
        raise ValueError(f"{name} must be an integer from {smallest} to {largest}, not {value!r}")
