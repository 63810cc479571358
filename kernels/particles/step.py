"""One step of the stochastic gradient flow: the formulas, records and functions that the CPU and CUDA kernels share.

A step uses the densities of proposal and target and samples of the proposal, nothing else. With
f = log q - beta log p*, x = a_i + sigma_i z and the scores of Gaussian mixtures, the gradient of KL(q || p*^beta / Z)
in the proposal's mean a_i is

    g_i = w_i E_i[grad f(x)],   grad f(x) = sum_c k_c(x) (c - x),

a sum over the centres c of both mixtures. The proposal's mean a_j pulls with k = rho_j(x) / sigma_j^2, the target's
mean nu_k with k = -beta rho*_k(x) / sigma*_k^2, where rho and rho* are the responsibilities. All L + K centres lie in
one array, the proposal's first. Only z is random. It enters the squared distances as

    |x - c|^2 = |a_i - c|^2 + 2 sigma_i z . (a_i - c) + sigma_i^2 |z|^2,

where the first term is known in double precision, and single precision concerns the random terms only. A step sums two
quantities over the particles: k_c(x) for each centre c, and z times the sum of k_c(x) over all centres. Then

    g_i = w_i (sum_c E_i[k_c] (c - a_i) - sigma_i E_i[z sum_c k_c]).

The gradients in the logits theta_i of the weights and in tau_i = log sigma_i need two more numbers for each component,

    E_i[f(x)]   and   E_i[(x - a_i) . grad f(x)],   (x - a_i) . (c - x) = -sigma_i z . (a_i - c) - sigma_i^2 |z|^2.

Both densities lack their factors (2 pi)^(-d/2). These shift every E_i[f(x)] alike, and only differences between them
move the weights.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kernels.machine.vector_math import exp
from kernels.particles.random_stream import compiled


class ParticleFlow(NamedTuple):
    """The constants of a run, as the kernels take them.

    Attributes
    ----------
    targets
        Means of the target, (K, d), C-contiguous, in the working precision.
    dt
        Step of Euler's method.
    particles
        Particles of each component in each step.
    seed
        Seed of the random stream.
    spherical
        Whether the means stay on their spheres.
    learns_means, learns_weights, learns_scales
        Whether the means, weights and scales move.
    """

    targets: np.ndarray
    dt: float
    particles: int
    seed: np.uint64
    spherical: bool
    learns_means: bool
    learns_weights: bool
    learns_scales: bool

    @property
    def learns_shapes(self) -> bool:
        """Whether weights or scales move, so that the kernels need two more sums for each component."""
        return self.learns_weights or self.learns_scales


class Replicas(NamedTuple):
    """The state of all replicas, as arrays of float64 that the kernels change in place.

    Attributes
    ----------
    means
        Means of the proposal, (replicas, L, d).
    radii
        Radii of the means' spheres, (replicas, L).
    log_weights, log_scales
        The coordinates in which weights and scales move, (replicas, L).
    weights, scales
        Their exponentials, (replicas, L).
    log_amplitudes
        log weight - d log scale of all centres, (replicas, L + K).
    precisions
        1 / scale^2 of all centres, (replicas, L + K).
    """

    means: np.ndarray
    radii: np.ndarray
    log_weights: np.ndarray
    log_scales: np.ndarray
    weights: np.ndarray
    scales: np.ndarray
    log_amplitudes: np.ndarray
    precisions: np.ndarray


class Estimates(NamedTuple):
    """What one step estimates for each replica, from fresh particles.

    Where neither weights nor scales are learned, the kernels leave log_ratios and stretches unchanged.

    Attributes
    ----------
    gradients
        Gradients of the objective in the means, (replicas, L, d).
    log_ratios
        E_i[f] up to a constant that all components share, (replicas, L).
    stretches
        E_i[(x - a_i) . grad f], (replicas, L).
    """

    gradients: np.ndarray
    log_ratios: np.ndarray
    stretches: np.ndarray


def draws_per_component(d: int, centres: int, particles: int, projected: bool) -> int:
    """How many standard normals one step draws for each component.

    A step draws the d coordinates of each particle. Where the particles are projected onto the span of the
    `centres` = L + K centres, a step draws L + K coordinates of each particle and one vector of R^d for all particles.
    """
    return particles * centres + d if projected else particles * d


def replicas_at(
    means: np.ndarray, weights: np.ndarray, scales: np.ndarray, target_weights: np.ndarray, target_scales: np.ndarray
) -> Replicas:
    """The state with the given means (replicas, L, d).

    The proposal's weights and scales are (replicas, L), the target's (K,).
    """
    replicas, _, d = means.shape
    all_weights, all_scales = (
        np.concatenate([own, np.broadcast_to(target, (replicas, len(target)))], axis=1)
        for own, target in ((weights, target_weights), (scales, target_scales))
    )
    return Replicas(
        means=means.copy(),
        radii=np.linalg.norm(means, axis=-1),
        log_weights=np.log(weights),
        log_scales=np.log(scales),
        weights=weights.copy(),
        scales=scales.copy(),
        log_amplitudes=np.log(all_weights) - d * np.log(all_scales),
        precisions=1 / all_scales**2,
    )


@compiled
def normalise_exponentials(values: np.ndarray, start: int, stop: int, log_sums: np.ndarray, lanes: int) -> None:
    """Replaces the rows start .. stop - 1 of values, (rows, lanes), by exp(values) over the sum of exp(values).

    log_sums, (lanes,), receives the sum's logarithm. No exponential overflows.
    """
    for lane in range(lanes):
        log_sums[lane] = values[start, lane]
    for c in range(start + 1, stop):
        for lane in range(lanes):
            log_sums[lane] = max(log_sums[lane], values[c, lane])
    for c in range(start, stop):
        for lane in range(lanes):
            values[c, lane] = exp(values[c, lane] - log_sums[lane])
    for lane in range(lanes):
        total = 0.0
        for c in range(start, stop):
            total += values[c, lane]
        for c in range(start, stop):
            values[c, lane] /= total
        log_sums[lane] += math.log(total)


@compiled
def find_pulls(
    pulls: np.ndarray,
    dots: np.ndarray,
    squares: np.ndarray,
    totals: np.ndarray,
    log_sums: np.ndarray,
    separations: np.ndarray,
    scale: float,
    log_amplitudes: np.ndarray,
    precisions: np.ndarray,
    proposals: int,
    beta: float,
    lanes: int,
) -> None:
    """Finds the pulls k_c(x) of all centres c on some particles x of component i, one particle in each lane.

    The function writes the pulls to `pulls` (L + K, lanes), their sums over the centres to `totals` (lanes,), and log q
    and log p* at x, up to a constant, to `log_sums` (2, lanes). dots: z . (a_i - c), (L + K, lanes); squares: |z|^2,
    (lanes,); separations: |a_i - c|^2, (L + K,); scale: sigma_i; log_amplitudes: log weight - d log scale, (L + K,);
    precisions: 1 / scale^2, (L + K,); proposals: L.
    """
    for c in range(len(pulls)):
        for lane in range(lanes):
            squared_distance = separations[c] + scale * (2.0 * dots[c, lane] + scale * squares[lane])
            pulls[c, lane] = log_amplitudes[c] - 0.5 * precisions[c] * squared_distance
    normalise_exponentials(pulls, 0, proposals, log_sums[0], lanes)
    normalise_exponentials(pulls, proposals, len(pulls), log_sums[1], lanes)
    for lane in range(lanes):
        totals[lane] = 0.0
    for c in range(len(pulls)):
        factor = precisions[c] if c < proposals else -beta * precisions[c]
        for lane in range(lanes):
            pulls[c, lane] *= factor
            totals[lane] += pulls[c, lane]


def move_shapes(
    log_weights: np.ndarray,
    log_scales: np.ndarray,
    weights: np.ndarray,
    scales: np.ndarray,
    log_amplitudes: np.ndarray,
    precisions: np.ndarray,
    log_ratios: np.ndarray,
    stretches: np.ndarray,
    replica: int,
    d: int,
    dt: float,
    learns_weights: bool,
    learns_scales: bool,
) -> None:
    """Euler step of one replica's weights and scales, in place.

    The step follows dtheta_i/dt = -w_i (e_i - sum_j w_j e_j), with e_i in `log_ratios`, and dtau_i/dt = -w_i s_i, with
    s_i in `stretches`. The function also renews the proposal's part of `log_amplitudes` and `precisions`. All arrays
    have a row for each replica, because Numba's CUDA simulator cannot hand on a row of an array. The function is plain
    Python, and the CPU's and the GPU's compilers each compile it.
    """
    proposals = weights.shape[1]
    average = 0.0
    for i in range(proposals):
        average += weights[replica, i] * log_ratios[replica, i]
    largest = -math.inf
    for i in range(proposals):
        if learns_scales:
            log_scales[replica, i] -= dt * weights[replica, i] * stretches[replica, i]
            scales[replica, i] = math.exp(log_scales[replica, i])
        if learns_weights:
            log_weights[replica, i] -= dt * weights[replica, i] * (log_ratios[replica, i] - average)
        largest = max(largest, log_weights[replica, i])
    if learns_weights:
        total = 0.0
        for i in range(proposals):
            total += math.exp(log_weights[replica, i] - largest)
        for i in range(proposals):
            log_weights[replica, i] -= largest + math.log(total)
            weights[replica, i] = math.exp(log_weights[replica, i])
    for i in range(proposals):
        log_amplitudes[replica, i] = log_weights[replica, i] - d * log_scales[replica, i]
        precisions[replica, i] = math.exp(-2.0 * log_scales[replica, i])
