"""The particle simulation on CUDA: one block of threads for each replica and component, sums in a fixed order.

A block takes its particles a tile at a time. First each thread owns one particle and finds its pulls; then each thread owns blocks of four
coordinates and adds up x over the tile's particles, drawing their normals a second time instead of storing them, so that memory
does not grow with the dimension times the particles.

Importing this module imports numba.cuda, which is slow to load and optional: only a run on CUDA does so.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda
from numba.core.errors import NumbaPerformanceWarning

from kernels.particle_step import ParticleFlow, squared_distances_to_pulls
from kernels.random_stream import four_normals

SHARED_BYTES = 48 * 1024


def threads_per_block(centres: int) -> int:
    """The largest usual number of threads whose pulls on `centres` centres fit in shared memory; raises ValueError if none does."""
    for threads in (128, 64, 32):
        if 8 * (threads * (centres + 1) + 3 * centres) <= SHARED_BYTES:
            return threads
    raise ValueError(f"the CUDA simulation takes at most 170 mixture components in all, not {centres}: use device='cpu'")


def kernel_sources(real: Any, centre_count: int, threads: int) -> tuple[Any, Any]:
    """The Python functions of the two kernels, `estimate` and `move`, for the precision `real`, before compilation."""
    float64 = np.float64

    def estimate(gradients, centres, weights, scales, log_amplitudes, precisions, beta, particles, seed, step):
        """Writes the estimates g_i, (replicas, L, d) of float64, at the centres, (replicas, L + K, d) of `real`; grid (replicas, L)."""
        replica, component, thread = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
        d = gradients.shape[2]
        blocks = (d + 3) // 4
        scale = real(scales[component])
        amplitudes = cuda.shared.array(centre_count, float64)
        inverse_variances = cuda.shared.array(centre_count, float64)
        pull_sums = cuda.shared.array(centre_count, float64)
        tile_pulls = cuda.shared.array((threads, centre_count), float64)
        tile_totals = cuda.shared.array(threads, float64)
        pulls = cuda.local.array(centre_count, float64)

        for c in range(thread, centre_count, threads):
            amplitudes[c] = log_amplitudes[c]
            inverse_variances[c] = precisions[c]
            pull_sums[c] = 0.0
        for coordinate in range(thread, d, threads):
            gradients[replica, component, coordinate] = 0.0
        cuda.syncthreads()

        for first in range(0, particles, threads):
            if first + thread < particles:
                for c in range(centre_count):
                    pulls[c] = 0.0
                for block in range(blocks):
                    coordinate = 4 * block
                    for normal in four_normals(seed, replica, step, component, first + thread, block, real):
                        if coordinate < d:
                            x = centres[replica, component, coordinate] + scale * normal
                            for c in range(centre_count):
                                difference = float64(x - centres[replica, c, coordinate])
                                pulls[c] += difference * difference
                        coordinate += 1
                tile_totals[thread] = squared_distances_to_pulls(pulls, amplitudes, inverse_variances, weights.size, beta)
                for c in range(centre_count):
                    tile_pulls[thread, c] = pulls[c]
            cuda.syncthreads()
            tile = min(threads, particles - first)
            for c in range(thread, centre_count, threads):
                for member in range(tile):
                    pull_sums[c] += tile_pulls[member, c]
            for block in range(thread, blocks, threads):
                for member in range(tile):
                    coordinate = 4 * block
                    for normal in four_normals(seed, replica, step, component, first + member, block, real):
                        if coordinate < d:
                            x = centres[replica, component, coordinate] + scale * normal
                            gradients[replica, component, coordinate] -= tile_totals[member] * float64(x)
                        coordinate += 1
            cuda.syncthreads()

        for coordinate in range(thread, d, threads):
            gradient = gradients[replica, component, coordinate]
            for c in range(centre_count):
                gradient += pull_sums[c] * float64(centres[replica, c, coordinate])
            gradients[replica, component, coordinate] = gradient * weights[component] / particles

    def move(means, centres, gradients, radii, dt, spherical):
        """Euler step of all means, (replicas, L, d) of float64, in place, and of their copies among the centres; grid (replicas, L)."""
        replica, component, thread = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
        d = means.shape[2]
        radius = radii[replica, component]
        partial_sums = cuda.shared.array(threads, float64)
        along = 0.0
        if spherical:
            partial_sums[thread] = 0.0
            for coordinate in range(thread, d, threads):
                partial_sums[thread] += gradients[replica, component, coordinate] * means[replica, component, coordinate]
            cuda.syncthreads()
            for other in range(threads):
                along += partial_sums[other]
            along /= radius * radius
            cuda.syncthreads()
        partial_sums[thread] = 0.0
        for coordinate in range(thread, d, threads):
            mean = means[replica, component, coordinate]
            mean -= dt * (gradients[replica, component, coordinate] - along * mean)
            means[replica, component, coordinate] = mean
            partial_sums[thread] += mean * mean
        cuda.syncthreads()
        rescaling = 1.0
        if spherical:
            squared_norm = 0.0
            for other in range(threads):
                squared_norm += partial_sums[other]
            rescaling = radius / math.sqrt(squared_norm)
        for coordinate in range(thread, d, threads):
            mean = rescaling * means[replica, component, coordinate]
            means[replica, component, coordinate] = mean
            centres[replica, component, coordinate] = real(mean)

    return estimate, move


@lru_cache
def compiled_kernels(precision: str, centre_count: int, threads: int) -> tuple[Any, Any]:
    """`kernel_sources`, ready to launch; each kernel compiles at its first launch."""
    estimate, move = kernel_sources(np.dtype(precision).type, centre_count, threads)
    return cuda.jit(estimate), cuda.jit(move)


class CudaParticles:
    """The replicas of a run and their step, on the current CUDA device."""

    def __init__(self, means: np.ndarray, radii: np.ndarray, flow: ParticleFlow):
        replicas, proposals, _ = means.shape
        centres = np.concatenate([means, np.broadcast_to(flow.targets, (replicas, *flow.targets.shape))], axis=1)
        self._threads = threads_per_block(centres.shape[1])
        self._grid = (replicas, proposals)
        self._estimate, self._move = compiled_kernels(flow.targets.dtype.name, centres.shape[1], self._threads)
        self._means = cuda.to_device(means)
        self._radii = cuda.to_device(radii)
        self._centres = cuda.to_device(np.ascontiguousarray(centres, flow.targets.dtype))
        self._gradients = cuda.to_device(np.empty_like(means))
        self._mixtures = [cuda.to_device(a) for a in (flow.weights, flow.scales, flow.log_amplitudes, flow.precisions)]
        self._flow = flow

    def means(self) -> np.ndarray:
        """(replicas, L, d), float64, a copy on the host."""
        return self._means.copy_to_host()

    def advance(self, betas: np.ndarray, first_step: int) -> None:
        """One step for each inverse temperature, (steps,); returns when the device has finished."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumbaPerformanceWarning)
            for n, beta in enumerate(betas):
                self._launch_estimate(float(beta), first_step + n)
                self._move[self._grid, self._threads](
                    self._means, self._centres, self._gradients, self._radii, self._flow.dt, self._flow.spherical
                )
        cuda.synchronize()

    def gradients(self, beta: float) -> np.ndarray:
        """Independent estimates of all g_i, (replicas, L, d), at the replicas' means."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumbaPerformanceWarning)
            self._launch_estimate(beta, 0)
        return self._gradients.copy_to_host()

    def _launch_estimate(self, beta: float, step: int) -> None:
        self._estimate[self._grid, self._threads](
            self._gradients, self._centres, *self._mixtures, beta, self._flow.particles, self._flow.seed, step
        )
