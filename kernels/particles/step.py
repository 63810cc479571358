"""One step of the stochastic gradient flow, from two densities and their samples alone: what the CPU and CUDA kernels
share.

With f = log q - beta log p*, x = a_i + sigma_i z and the scores of Gaussian mixtures, the gradient of KL(q || p*^beta /
Z) in the proposal's mean a_i is

    g_i = w_i E_i[grad f(x)],   grad f(x) = sum_c k_c(x) (c - x),

a sum over the centres c of both mixtures: the proposal's a_j, pulling with k = rho_j(x) / sigma_j^2, and the target's
nu_k, pulling with k = -beta rho*_k(x) / sigma*_k^2, where rho and rho* are the responsibilities. All L + K centres lie
in one array, the proposal's first. Only z is random, and it enters the squared distances as

    |x - c|^2 = |a_i - c|^2 + 2 sigma_i z . (a_i - c) + sigma_i^2 |z|^2,

whose first term is known, so that single precision is left with the random ones. Over particles two sums are kept: of
k_c(x) for each centre, and of z times the sum of all k_c(x); then g_i = w_i (sum_c E[k_c] (c - a_i) - sigma_i E[z sum_c
k_c]).

The gradients in the logits theta_i of the weights and in tau_i = log sigma_i need two numbers more for each component,

    E_i[f(x)]   and   E_i[(x - a_i) . grad f(x)],   (x - a_i) . (c - x) = -sigma_i z . (a_i - c) - sigma_i^2 |z|^2.

The factors (2 pi)^(d/2) are left out of both densities: they shift every E_i[f(x)] alike, and only their differences
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

    targets: (K, d), C-contiguous, of the working precision; dt: the step; particles: per component and step; seed:
    uint64; spherical: whether the means keep to their spheres; the others: what moves, and what rests.
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
        """Whether weights or scales move: what the kernels' extra sums are for."""
        return self.learns_weights or self.learns_scales


class Replicas(NamedTuple):
    """The state of all replicas, as the kernels take it: arrays of float64, changed in place.

    means: (replicas, L, d); radii: (replicas, L), of the spheres; log_weights, log_scales: (replicas, L), the
    coordinates in which weights and scales move; weights, scales: (replicas, L), their exponentials; log_amplitudes,
    precisions: (replicas, L + K), log weight - d log scale and 1 / scale^2 of all centres.
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

    gradients: (replicas, L, d), of the objective in the means; log_ratios: (replicas, L), E_i[f] up to a common
    constant; stretches: (replicas, L), E_i[(x - a_i) . grad f]. The last two are left as they are where neither weights
    nor scales are learned.
    """

    gradients: np.ndarray
    log_ratios: np.ndarray
    stretches: np.ndarray


def draws_per_component(d: int, centres: int, particles: int, projected: bool) -> int:
    """The standard normals that one step draws for each component: all coordinates of its particles or, where these are
    projected onto the span of the `centres` = L + K centres, that many coordinates of each and one vector of R^d."""
    return particles * centres + d if projected else particles * d


def replicas_at(
    means: np.ndarray, weights: np.ndarray, scales: np.ndarray, target_weights: np.ndarray, target_scales: np.ndarray
) -> Replicas:
    """The state with the given means (replicas, L, d), and weights and scales (replicas, L) of the proposal, (K,) of
    the target."""
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
def normalise_exponentials(values, start, stop, log_sums, lanes):
    """Replaces the rows start .. stop - 1 of values, (rows, lanes), by exp(values) over their sum, whose logarithm goes
    to log_sums (lanes,); without overflow."""
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
    pulls, dots, squares, totals, log_sums, separations, scale, log_amplitudes, precisions, proposals, beta, lanes
):
    """Writes the pulls k_c(x) of all centres on so many particles of component i, (L + K, lanes), and their sums to
    totals (lanes,).

    dots: (L + K, lanes), z . (a_i - c); squares: (lanes,), |z|^2; separations: (L + K,), |a_i - c|^2; scale: sigma_i;
    log_amplitudes: log weight - d log scale; precisions: 1 / scale^2; proposals: L. log_sums: (2, lanes) receives log q
    and log p* at x, up to a constant.
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
    log_weights,
    log_scales,
    weights,
    scales,
    log_amplitudes,
    precisions,
    log_ratios,
    stretches,
    replica,
    d,
    dt,
    learns_weights,
    learns_scales,
):
    """Euler step of one replica's weights and scales, in place, and with them of the proposal's part of what the
    densities need.

    dtheta_i/dt = -w_i (e_i - sum_j w_j e_j) with e_i in `log_ratios`, dtau_i/dt = -w_i times the stretch. All arrays
    have a row for each replica. This is plain Python for each device's own compiler: rows of an array cannot be handed
    on in Numba's CUDA simulator.
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
