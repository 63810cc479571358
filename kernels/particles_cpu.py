"""The particle simulation on the CPU.

Each replica runs its steps in one thread, so that the numbers cannot depend on how many threads there are.
"""

from __future__ import annotations

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import njit

from kernels import particle_step, random_stream
from kernels.particle_step import ParticleFlow, squared_distances_to_pulls
from kernels.random_stream import compiled, fill_normals

CALLED_SOURCE = hashlib.sha256(b"".join(Path(str(module.__file__)).read_bytes() for module in (particle_step, random_stream))).hexdigest()


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
    for c in range(d):
        gradient[c] = 0.0
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


@compiled
def work_space(means, targets):
    """Centres, (L + K, d), of which the targets stand already, and gradients, (L, d)."""
    proposals, d = means.shape
    centres = np.empty((proposals + len(targets), d), targets.dtype)
    for k in range(len(targets)):
        for c in range(d):
            centres[proposals + k, c] = targets[k, c]
    return centres, np.empty((proposals, d))


def compile_cpu_kernels(called_source: str):
    """The CPU's two kernels, each for the replicas first .. stop - 1, so that threads can share the replicas out.

    Numba's disk cache notices edits of this file alone; its key also holds what a kernel closes over, here the digest of the called files.
    """
    threadable = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc"})

    @threadable
    def advance(first, stop, means, radii, betas, first_step, flow):
        """Moves means, (replicas, L, d) of float64, in place by one step for each of the inverse temperatures `betas`."""
        _ = called_source
        centres, gradients = work_space(means[0], flow.targets)
        for replica in range(first, stop):
            for n in range(betas.size):
                estimate_gradients(gradients, centres, means[replica], flow, betas[n], replica, first_step + n)
                for i in range(len(gradients)):
                    move_mean(means[replica, i], gradients[i], flow.dt, flow.spherical, radii[replica, i])

    @threadable
    def estimate(first, stop, estimates, means, flow, beta):
        """Writes independent estimates of the gradients, (replicas, L, d), one at each replica's means."""
        _ = called_source
        centres, _gradients = work_space(means[0], flow.targets)
        for replica in range(first, stop):
            estimate_gradients(estimates[replica], centres, means[replica], flow, beta, replica, 0)

    return advance, estimate


advance, estimate = compile_cpu_kernels(CALLED_SOURCE)


class CpuParticles:
    """The replicas of a run and their step, on as many threads as numba.get_num_threads() says.

    Plain threads, because Numba's parallel loops end in spinning barriers, which are slow where other processes share the cores.
    """

    def __init__(self, means: np.ndarray, radii: np.ndarray, flow: ParticleFlow):
        self._means, self._radii, self._flow = means.copy(), radii, flow
        threads = min(numba.get_num_threads(), len(means))
        slices = 4 * threads if threads > 1 else 1
        self._bounds = np.linspace(0, len(means), min(slices, len(means)) + 1).astype(int).tolist()
        self._pool = ThreadPoolExecutor(threads)

    def means(self) -> np.ndarray:
        """(replicas, L, d), float64, a copy."""
        return self._means.copy()

    def advance(self, betas: np.ndarray, first_step: int) -> None:
        """One step for each inverse temperature, (steps,)."""
        self._for_all_replicas(advance, self._means, self._radii, betas, first_step, self._flow)

    def gradients(self, beta: float) -> np.ndarray:
        """Independent estimates of all g_i, (replicas, L, d), at the replicas' means."""
        estimates = np.empty_like(self._means)
        self._for_all_replicas(estimate, estimates, self._means, self._flow, beta)
        return estimates

    def _for_all_replicas(self, kernel: Any, *arguments: Any) -> None:
        for slice_done in [self._pool.submit(kernel, first, stop, *arguments) for first, stop in pairwise(self._bounds)]:
            slice_done.result()
