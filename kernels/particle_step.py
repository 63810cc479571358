"""One step of the stochastic gradient flow, from two densities and their samples alone: the source shared by both devices, and the CPU's.

With x = a_i + sigma_i z and the scores of Gaussian mixtures, the gradient of KL(q || p*^beta / Z) in the proposal's mean a_i is

    g_i = w_i E_i[ sum_c k_c(x) (c - x) ],

a sum over the centres c of both mixtures: the proposal's a_j, pulling with k = rho_j(x) / sigma_j^2, and the target's nu_k, pulling with
k = -beta rho*_k(x) / sigma*_k^2, where rho and rho* are the responsibilities. All L + K centres lie in one array, the proposal's first. Over
particles two sums are kept, of k_c(x) for each centre and of (sum_c k_c(x)) x.

A particle simulation is parallel over replicas, each of which runs its steps in one thread: its numbers cannot depend on the number of
threads, and threads meet once per chunk of steps.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from kernels import random_stream
from kernels.random_stream import compiled, fill_normals

CALLED_SOURCE = hashlib.sha256(Path(random_stream.__file__).read_bytes()).hexdigest()


class ParticleFlow(NamedTuple):
    """The constants of a run, as the kernels take them.

    targets: (K, d), C-contiguous, of the working precision; weights, scales: (L,) of the proposal;
    log_amplitudes, precisions: (L + K,) log weight - d log scale and 1 / scale^2 of all centres; seed: uint64.
    """

    targets: np.ndarray
    weights: np.ndarray
    scales: np.ndarray
    log_amplitudes: np.ndarray
    precisions: np.ndarray
    dt: float
    particles: int
    seed: np.uint64
    spherical: bool


@compiled
def normalise_exponentials(values, start, stop):
    """Replaces values[start:stop] by exp(values) over their sum, without overflow."""
    largest = values[start]
    for c in range(start + 1, stop):
        largest = max(largest, values[c])
    total = 0.0
    for c in range(start, stop):
        values[c] = math.exp(values[c] - largest)
        total += values[c]
    for c in range(start, stop):
        values[c] /= total


@compiled
def squared_distances_to_pulls(values, log_amplitudes, precisions, proposals, beta):
    """Replaces the squared distances from x to all centres, (L + K,), by the pulls k_c(x), and returns their sum.

    log_amplitudes: log weight - d log scale; precisions: 1 / scale^2; proposals: L.
    """
    for c in range(values.size):
        values[c] = log_amplitudes[c] - 0.5 * precisions[c] * values[c]
    normalise_exponentials(values, 0, proposals)
    normalise_exponentials(values, proposals, values.size)
    total = 0.0
    for c in range(values.size):
        values[c] *= precisions[c]
        if c >= proposals:
            values[c] *= -beta
        total += values[c]
    return total


@compiled
def squared_distance(x, centre):
    """|x - centre|^2; the differences in the precision of x, their sum in double."""
    total = 0.0
    for c in range(centre.size):
        difference = np.float64(x[c] - centre[c])
        total += difference * difference
    return total


@compiled
def estimate_gradient(gradient, component, centres, flow, beta, replica, step):
    """Writes the estimate of g_i to `gradient`, (d,) of float64, given one replica's centres, (L + K, d) of the working precision."""
    d = gradient.size
    mean, scale = centres[component], centres.dtype.type(flow.scales[component])
    x = np.empty(4 * ((d + 3) // 4), centres.dtype)
    pulls = np.empty(len(centres))
    pull_sums = np.zeros(len(centres))
    gradient[:] = 0.0
    for particle in range(flow.particles):
        fill_normals(x, flow.seed, replica, step, component, particle)
        for c in range(d):
            x[c] = mean[c] + scale * x[c]
        for c in range(len(centres)):
            pulls[c] = squared_distance(x, centres[c])
        total_pull = squared_distances_to_pulls(pulls, flow.log_amplitudes, flow.precisions, flow.weights.size, beta)
        for c in range(len(centres)):
            pull_sums[c] += pulls[c]
        for c in range(d):
            gradient[c] -= total_pull * np.float64(x[c])
    for c in range(len(centres)):
        for coordinate in range(d):
            gradient[coordinate] += pull_sums[c] * np.float64(centres[c, coordinate])
    for c in range(d):
        gradient[c] *= flow.weights[component] / flow.particles


@compiled
def estimate_gradients(gradients, centres, means, flow, beta, replica, step):
    """Writes the estimates of one replica, (L, d), at its means, (L, d); `centres` is work space."""
    proposals = len(means)
    for i in range(proposals):
        for c in range(means.shape[1]):
            centres[i, c] = means[i, c]
    for i in range(proposals):
        estimate_gradient(gradients[i], i, centres, flow, beta, replica, step)


@compiled
def move_mean(mean, gradient, dt, spherical, radius):
    """Euler step of one mean, (d,), in place: along -gradient, on the sphere along its tangential part and back to the radius."""
    along = 0.0
    if spherical:
        for c in range(mean.size):
            along += gradient[c] * mean[c]
        along /= radius * radius
    for c in range(mean.size):
        mean[c] -= dt * (gradient[c] - along * mean[c])
    if spherical:
        squared_norm = 0.0
        for c in range(mean.size):
            squared_norm += mean[c] * mean[c]
        rescaling = radius / math.sqrt(squared_norm)
        for c in range(mean.size):
            mean[c] *= rescaling


def compile_cpu_kernels(called_source: str):
    """The CPU's two kernels.

    Numba's disk cache notices edits of this file alone; its key also holds what a kernel closes over, here the digest of the called file.
    """
    parallel = njit(parallel=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc"})

    @parallel
    def advance(means, radii, betas, first_step, flow):
        """Moves means, (replicas, L, d) of float64, in place by one step for each of the inverse temperatures `betas`."""
        _ = called_source
        for replica in prange(len(means)):
            centres, gradients = work_space(means[replica], flow.targets)
            for n in range(betas.size):
                estimate_gradients(gradients, centres, means[replica], flow, betas[n], replica, first_step + n)
                for i in range(len(gradients)):
                    move_mean(means[replica, i], gradients[i], flow.dt, flow.spherical, radii[replica, i])

    @parallel
    def estimate(means, flow, beta):
        """Independent estimates of the gradients, (replicas, L, d), one at each replica's means."""
        _ = called_source
        estimates = np.empty_like(means)
        for replica in prange(len(means)):
            centres, gradients = work_space(means[replica], flow.targets)
            estimate_gradients(gradients, centres, means[replica], flow, beta, replica, 0)
            estimates[replica] = gradients
        return estimates

    return advance, estimate


@compiled
def work_space(means, targets):
    """Centres, (L + K, d), of which the targets stand already, and gradients, (L, d)."""
    proposals, d = means.shape
    centres = np.empty((proposals + len(targets), d), targets.dtype)
    centres[proposals:] = targets
    return centres, np.empty((proposals, d))


advance, estimate = compile_cpu_kernels(CALLED_SOURCE)
