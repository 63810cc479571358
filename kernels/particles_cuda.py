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

from kernels.particle_step import Estimates, ParticleFlow, Replicas, move_shapes, pulled_squares, squared_distances_to_pulls
from kernels.random_stream import four_normals

SHARED_BYTES = 48 * 1024


def threads_per_block(centres: int) -> int:
    """The largest usual number of threads whose pulls on `centres` centres fit in shared memory; raises ValueError if none does."""
    for threads in (128, 64, 32):
        if 8 * (threads * (centres + 1) + 3 * centres) <= SHARED_BYTES:
            return threads
    raise ValueError(f"the CUDA simulation takes at most 170 mixture components in all, not {centres}: use device='cpu'")


def kernel_sources(real: Any, centre_count: int, threads: int, with_shapes: bool) -> tuple[Any, Any, Any]:
    """The Python functions of the kernels `estimate`, `move_means` and `move_all_shapes`, for the precision `real`, before compilation.

    with_shapes: whether `estimate` also finds what moves weights and scales.
    """
    float64 = np.float64
    move_shapes_there = cuda.jit(device=True)(move_shapes)

    def estimate(gradients, log_ratios, stretches, centres, weights, scales, log_amplitudes, precisions, betas, row, particles, seed, step):
        """Writes the estimates of `Estimates` at the centres, (replicas, L + K, d) of `real`; grid (replicas, L).

        The inverse temperature stands in the given row of `betas`, which holds one for all replicas or one for each.
        """
        replica, component, thread = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
        d, proposals = gradients.shape[2], gradients.shape[1]
        blocks = (d + 3) // 4
        beta = betas[row, min(replica, betas.shape[1] - 1)]
        scale = real(scales[replica, component])
        amplitudes = cuda.shared.array(centre_count, float64)
        inverse_variances = cuda.shared.array(centre_count, float64)
        pull_sums = cuda.shared.array(centre_count, float64)
        tile_pulls = cuda.shared.array((threads, centre_count), float64)
        tile_totals = cuda.shared.array(threads, float64)
        pulls = cuda.local.array(centre_count, float64)
        if with_shapes:
            squares = cuda.local.array(centre_count, float64)
            log_ratio_sum, doubled_stretch_sum = 0.0, 0.0

        for c in range(thread, centre_count, threads):
            amplitudes[c] = log_amplitudes[replica, c]
            inverse_variances[c] = precisions[replica, c]
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
                if with_shapes:
                    for c in range(centre_count):
                        squares[c] = pulls[c]
                total_pull, log_ratio = squared_distances_to_pulls(pulls, amplitudes, inverse_variances, proposals, beta)
                tile_totals[thread] = total_pull
                if with_shapes:
                    log_ratio_sum += log_ratio
                    doubled_stretch_sum -= pulled_squares(pulls, squares, component)
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
            gradients[replica, component, coordinate] = gradient * weights[replica, component] / particles

        if with_shapes:
            for coordinate in range(thread, d, threads):
                for c in range(centre_count):
                    separation = float64(centres[replica, c, coordinate] - centres[replica, component, coordinate])
                    doubled_stretch_sum += pull_sums[c] * separation * separation
            tile_pulls[thread, 0] = log_ratio_sum
            tile_totals[thread] = doubled_stretch_sum
            cuda.syncthreads()
            if thread == 0:
                log_ratio_sum, doubled_stretch_sum = 0.0, 0.0
                for other in range(threads):
                    log_ratio_sum += tile_pulls[other, 0]
                    doubled_stretch_sum += tile_totals[other]
                log_ratios[replica, component] = log_ratio_sum / particles
                stretches[replica, component] = 0.5 * doubled_stretch_sum / particles

    def move_means(means, centres, gradients, radii, dt, spherical):
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

    def move_all_shapes(
        log_weights, log_scales, weights, scales, log_amplitudes, precisions, log_ratios, stretches, d, dt, learns_weights, learns_scales
    ):
        """Euler step of the weights and scales of all replicas, in place; one thread for each replica."""
        replica = cuda.grid(1)
        if replica < len(weights):
            move_shapes_there(
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
            )

    return estimate, move_means, move_all_shapes


@lru_cache
def compiled_kernels(precision: str, centre_count: int, threads: int, with_shapes: bool) -> tuple[Any, ...]:
    """`kernel_sources`, ready to launch; each kernel compiles at its first launch."""
    return tuple(cuda.jit(source) for source in kernel_sources(np.dtype(precision).type, centre_count, threads, with_shapes))


class CudaParticles:
    """The replicas of a run and their step, on the current CUDA device."""

    def __init__(self, start: Replicas, flow: ParticleFlow):
        replicas, proposals, _ = start.means.shape
        centres = np.concatenate([start.means, np.broadcast_to(flow.targets, (replicas, *flow.targets.shape))], axis=1)
        self._threads = threads_per_block(centres.shape[1])
        self._grid = (replicas, proposals)
        self._estimate, self._move_means, self._move_all_shapes = compiled_kernels(
            flow.targets.dtype.name, centres.shape[1], self._threads, flow.learns_shapes
        )
        self._state: Any = Replicas(*(cuda.to_device(array) for array in start))
        self._centres = cuda.to_device(np.ascontiguousarray(centres, flow.targets.dtype))
        zeros = np.zeros_like(start.weights)
        self._estimates: Any = Estimates(*(cuda.to_device(array) for array in (np.zeros_like(start.means), zeros, zeros)))
        self._flow = flow

    def state(self) -> Replicas:
        """A copy on the host."""
        return Replicas(*(array.copy_to_host() for array in self._state))

    def advance(self, betas: np.ndarray, first_step: int) -> None:
        """One step for each row of `betas`, (steps, 1) for all replicas alike or (steps, replicas); waits for the device."""
        betas_there = cuda.to_device(np.ascontiguousarray(betas))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumbaPerformanceWarning)
            for row in range(len(betas)):
                self._launch_estimate(betas_there, row, first_step + row)
                self._launch_moves()
        cuda.synchronize()

    def estimates(self, beta: float) -> Estimates:
        """Independent estimates, one at each replica's state."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumbaPerformanceWarning)
            self._launch_estimate(cuda.to_device(np.array([[beta]])), 0, 0)
        return Estimates(*(array.copy_to_host() for array in self._estimates))

    def _launch_estimate(self, betas: Any, row: int, step: int) -> None:
        self._launch_estimate_at(self._centres, self._estimates, betas, row, step)

    def _launch_estimate_at(self, centres: Any, estimates: Any, betas: Any, row: int, step: int) -> None:
        """Estimates at the centres, (replicas, L + K, coordinates), in as many coordinates."""
        state, flow = self._state, self._flow
        self._estimate[self._grid, self._threads](
            *estimates,
            centres,
            state.weights,
            state.scales,
            state.log_amplitudes,
            state.precisions,
            betas,
            row,
            flow.particles,
            flow.seed,
            step,
        )

    def _launch_moves(self) -> None:
        state, flow = self._state, self._flow
        gradients, log_ratios, stretches = self._estimates
        if flow.learns_means:
            self._move_means[self._grid, self._threads](state.means, self._centres, gradients, state.radii, flow.dt, flow.spherical)
        if flow.learns_shapes:
            replicas, _, d = state.means.shape
            self._move_all_shapes[(replicas + self._threads - 1) // self._threads, self._threads](
                state.log_weights,
                state.log_scales,
                state.weights,
                state.scales,
                state.log_amplitudes,
                state.precisions,
                log_ratios,
                stretches,
                d,
                flow.dt,
                flow.learns_weights,
                flow.learns_scales,
            )
