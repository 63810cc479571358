"""The particle simulation on CUDA: one block of threads for each replica and component, sums in a fixed order.

A block takes its particles a tile at a time. A thread draws four coordinates of a particle at once, keeps them, and
leaves what they contribute to the dot products with the centres in shared memory; so many threads as a particle has
such columns share it, and the block's groups of threads have different particles. Then each sum is added up by one
thread, each particle's pulls are found by one thread, and each thread adds what it has kept, weighted by the pulls, to
its own coordinates. No normal is drawn twice, nothing is added by two threads at once, and memory does not grow with
the dimension times the particles.

Importing this module imports numba.cuda, which is slow to load and optional: only a run on CUDA does so.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import cuda
from numba.core.errors import NumbaPerformanceWarning

from kernels.machine.cuda_functions import for_cuda
from kernels.particles.random_stream import blocks_of, four_normals
from kernels.particles.step import Estimates, ParticleFlow, Replicas, find_pulls, move_shapes

SHARED_BYTES = 48 * 1024
"""What a block of threads has on every GPU."""
SHARED_FOR_TILE = 24 * 1024
"""For a tile's partial sums: then two blocks or more fit on a multiprocessor at once."""
THREADS = (128, 64, 32)


class BlockShape(NamedTuple):
    """How a block of threads shares out its work.

    span: threads that share a particle, each with every span-th block of four coordinates; passes: such blocks for each
    thread; groups: particles in work at once; tile: particles between two rounds of sums, a multiple of groups.
    """

    threads: int
    span: int
    passes: int
    groups: int
    tile: int


def block_shape(d: int, particles: int, centres: int, real_bytes: int) -> BlockShape:
    """The shape for particles of d coordinates under so many centres; raises ValueError where shared memory does not
    hold these.

    There are fewer threads than THREADS[0] where the particles' blocks of coordinates are fewer, or the centres many.
    """
    blocks = blocks_of(d)
    for threads in THREADS:
        span = min(blocks, threads)
        sums_of_particle = (centres + 1) * (real_bytes * (span + 1) + 8) + 8 * (centres + 1)
        most = min(threads, max(1, SHARED_FOR_TILE // sums_of_particle))
        groups = min(threads // span, most)
        tile = most // groups * groups
        shared = tile * sums_of_particle + 8 * (threads * (centres + 5) + 4 * centres)
        enough = threads == THREADS[-1] or blocks * particles > threads // 2
        if enough and shared <= SHARED_BYTES:
            return BlockShape(threads, span, -(-blocks // span), groups, tile)
    raise ValueError(f"the CUDA simulation has no room for {centres} mixture components in all: use device='cpu'")


def kernel_sources(real: Any, centre_count: int, shape: BlockShape, with_shapes: bool) -> tuple[Any, Any, Any]:
    """The Python functions of the kernels `estimate`, `move_means` and `move_all_shapes`, for the precision `real`,
    before compilation.

    with_shapes: whether `estimate` also finds what moves weights and scales.
    """
    float64 = np.float64
    threads, span, passes, groups, tile = shape
    rows = centre_count + 1  # the dot product with each centre, and the particle's own square
    own = tile // groups
    kept_size, differences_size, coordinates = own * passes * 4, centre_count * passes * 4, passes * 4
    partials_size, sums_size, parts_size = rows * tile * (span + 1), rows * tile, centre_count * threads
    move_shapes_there = cuda.jit(device=True)(move_shapes)
    find_pulls_there, four_normals_there = for_cuda(find_pulls), for_cuda(four_normals)

    @cuda.jit(device=True)
    def add_up(parts, row_count, thread):
        """Adds up each row of parts, (row_count, threads) flat, into its first place, in an order that depends on
        nothing."""
        cuda.syncthreads()
        stride = threads // 2
        while stride > 0:
            if thread < stride:
                for row in range(row_count):
                    parts[row * threads + thread] += parts[row * threads + thread + stride]
            cuda.syncthreads()
            stride //= 2

    def estimate(
        gradients,
        log_ratios,
        stretches,
        centres,
        weights,
        scales,
        log_amplitudes,
        precisions,
        betas,
        row,
        particles,
        seed,
        step,
    ):
        """Writes the estimates of `Estimates` at the centres, (replicas, L + K, d) of `real`; grid (replicas, L).

        The inverse temperature stands in the given row of `betas`, which holds one for all replicas or one for each.
        """
        replica, component, thread = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
        d, proposals = gradients.shape[2], gradients.shape[1]
        blocks = (d + 3) // 4
        column, group = thread % span, thread // span
        beta = betas[row, min(replica, betas.shape[1] - 1)]
        scale = scales[replica, component]
        amplitudes = cuda.shared.array(centre_count, float64)
        inverse_variances = cuda.shared.array(centre_count, float64)
        separations = cuda.shared.array(centre_count, float64)
        pull_sums = cuda.shared.array(centre_count, float64)
        parts = cuda.shared.array(parts_size, float64)
        gathered = cuda.shared.array((threads, 4), float64)
        partials = cuda.shared.array(partials_size, real)
        sums = cuda.shared.array(sums_size, float64)
        tile_pulls = cuda.shared.array((centre_count, tile), float64)
        tile_totals = cuda.shared.array(tile, float64)
        kept = cuda.local.array(kept_size, real)
        differences = cuda.local.array(differences_size, real)
        gradient = cuda.local.array(coordinates, float64)
        tile_gradient = cuda.local.array(coordinates, real)
        along = cuda.local.array(centre_count, real)
        normals = cuda.local.array(4, real)
        dots = cuda.local.array((centre_count, 1), float64)
        squares = cuda.local.array(1, float64)
        pulls = cuda.local.array((centre_count, 1), float64)
        totals = cuda.local.array(1, float64)
        log_sums = cuda.local.array((2, 1), float64)
        log_ratio_sum, stretch_sum = 0.0, 0.0

        for c in range(thread, centre_count, threads):
            amplitudes[c] = log_amplitudes[replica, c]
            inverse_variances[c] = precisions[replica, c]
            pull_sums[c] = 0.0
        for c in range(centre_count):
            part = 0.0
            for coordinate in range(thread, d, threads):
                difference = float64(centres[replica, component, coordinate]) - float64(centres[replica, c, coordinate])
                part += difference * difference
            parts[c * threads + thread] = part
        add_up(parts, centre_count, thread)
        for c in range(thread, centre_count, threads):
            separations[c] = parts[c * threads]
        for n in range(coordinates):
            gradient[n] = 0.0
            coordinate = 4 * (column + n // 4 * span) + n % 4
            for c in range(centre_count):
                difference = float64(0)
                if coordinate < d:
                    difference = float64(centres[replica, component, coordinate]) - float64(
                        centres[replica, c, coordinate]
                    )
                differences[c * coordinates + n] = real(difference)
        cuda.syncthreads()

        for first in range(0, particles, tile):
            members = min(tile, particles - first)
            for q in range(own):
                member = group + q * groups
                if group < groups and member < members:
                    square = real(0)
                    for c in range(centre_count):
                        along[c] = real(0)
                    for block in range(column, blocks, span):
                        n = block // span * 4
                        normals[0], normals[1], normals[2], normals[3] = four_normals_there(
                            seed, replica, step, component, first + member, block, real
                        )
                        for e in range(4):
                            normal = normals[e] if 4 * block + e < d else real(0)
                            kept[q * coordinates + n + e] = normal
                            square += normal * normal
                            for c in range(centre_count):
                                along[c] += differences[c * coordinates + n + e] * normal
                    for c in range(centre_count):
                        partials[(c * tile + member) * (span + 1) + column] = along[c]
                    partials[(centre_count * tile + member) * (span + 1) + column] = square
            cuda.syncthreads()
            for place in range(thread, sums_size, threads):
                if place % tile < members:
                    total = 0.0
                    for other in range(span):
                        total += float64(partials[place * (span + 1) + other])
                    sums[place] = total
            cuda.syncthreads()
            if thread < members:
                for c in range(centre_count):
                    dots[c, 0] = sums[c * tile + thread]
                squares[0] = sums[centre_count * tile + thread]
                find_pulls_there(
                    pulls,
                    dots,
                    squares,
                    totals,
                    log_sums,
                    separations,
                    scale,
                    amplitudes,
                    inverse_variances,
                    proposals,
                    beta,
                    1,
                )
                tile_totals[thread] = totals[0]
                for c in range(centre_count):
                    tile_pulls[c, thread] = pulls[c, 0]
                if with_shapes:
                    log_ratio_sum += log_sums[0, 0] - beta * log_sums[1, 0]
                    stretch_sum -= scale * scale * totals[0] * squares[0]
                    for c in range(centre_count):
                        stretch_sum -= scale * pulls[c, 0] * dots[c, 0]
            cuda.syncthreads()
            for c in range(thread, centre_count, threads):
                for member in range(members):
                    pull_sums[c] += tile_pulls[c, member]
            for n in range(coordinates):
                tile_gradient[n] = real(0)
            for q in range(own):
                member = group + q * groups
                if group < groups and member < members:
                    total_pull = real(tile_totals[member])
                    for n in range(coordinates):
                        if column + n // 4 * span < blocks:
                            tile_gradient[n] += total_pull * kept[q * coordinates + n]
            for n in range(coordinates):
                gradient[n] -= float64(tile_gradient[n])

        for n in range(0, coordinates, 4):
            cuda.syncthreads()
            for e in range(4):
                gathered[thread, e] = gradient[n + e]
            cuda.syncthreads()
            block = column + n // 4 * span
            if group == 0:
                for e in range(4):
                    coordinate = 4 * block + e
                    if coordinate < d:
                        total = 0.0
                        for other in range(groups):
                            total += gathered[other * span + column, e]
                        total *= scale
                        for c in range(centre_count):
                            total -= pull_sums[c] * float64(differences[c * coordinates + n + e])
                        gradients[replica, component, coordinate] = total * weights[replica, component] / particles

        if with_shapes:
            parts[thread] = log_ratio_sum
            add_up(parts, 1, thread)
            if thread == 0:
                log_ratios[replica, component] = parts[0] / particles
            cuda.syncthreads()
            parts[thread] = stretch_sum
            add_up(parts, 1, thread)
            if thread == 0:
                stretches[replica, component] = parts[0] / particles

    def move_means(means, centres, gradients, radii, dt, spherical):
        """Euler step of all means, (replicas, L, d) of float64, in place, and of their copies among the centres; grid
        (replicas, L)."""
        replica, component, thread = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
        d = means.shape[2]
        radius = radii[replica, component]
        parts = cuda.shared.array(threads, float64)
        along = 0.0
        if spherical:
            parts[thread] = 0.0
            for coordinate in range(thread, d, threads):
                parts[thread] += gradients[replica, component, coordinate] * means[replica, component, coordinate]
            add_up(parts, 1, thread)
            along = parts[0] / (radius * radius)
            cuda.syncthreads()
        parts[thread] = 0.0
        for coordinate in range(thread, d, threads):
            mean = means[replica, component, coordinate]
            mean -= dt * (gradients[replica, component, coordinate] - along * mean)
            means[replica, component, coordinate] = mean
            parts[thread] += mean * mean
        add_up(parts, 1, thread)
        rescaling = radius / math.sqrt(parts[0]) if spherical else 1.0
        for coordinate in range(thread, d, threads):
            mean = rescaling * means[replica, component, coordinate]
            means[replica, component, coordinate] = mean
            centres[replica, component, coordinate] = real(mean)

    def move_all_shapes(
        log_weights,
        log_scales,
        weights,
        scales,
        log_amplitudes,
        precisions,
        log_ratios,
        stretches,
        d,
        dt,
        learns_weights,
        learns_scales,
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
def compiled_kernels(precision: str, centre_count: int, shape: BlockShape, with_shapes: bool) -> tuple[Any, ...]:
    """`kernel_sources`, ready to launch; each kernel compiles at its first launch."""
    return tuple(
        cuda.jit(source) for source in kernel_sources(np.dtype(precision).type, centre_count, shape, with_shapes)
    )


class CudaParticles:
    """The replicas of a run and their step, on the current CUDA device. drawn: in how many coordinates particles are,
    by default all."""

    def __init__(self, start: Replicas, flow: ParticleFlow, drawn: int | None = None):
        replicas, proposals, _ = start.means.shape
        centres = np.concatenate([start.means, np.broadcast_to(flow.targets, (replicas, *flow.targets.shape))], axis=1)
        shape = block_shape(drawn or centres.shape[2], flow.particles, centres.shape[1], flow.targets.dtype.itemsize)
        self._threads = shape.threads
        self._grid = (replicas, proposals)
        self._estimate, self._move_means, self._move_all_shapes = compiled_kernels(
            flow.targets.dtype.name, centres.shape[1], shape, flow.learns_shapes
        )
        self._state: Any = Replicas(*(cuda.to_device(array) for array in start))
        self._centres = cuda.to_device(np.ascontiguousarray(centres, flow.targets.dtype))
        zeros = np.zeros_like(start.weights)
        self._estimates: Any = Estimates(
            *(cuda.to_device(array) for array in (np.zeros_like(start.means), zeros, zeros))
        )
        self._flow = flow

    def state(self) -> Replicas:
        """A copy on the host."""
        return Replicas(*(array.copy_to_host() for array in self._state))

    def advance(self, betas: np.ndarray, first_step: int) -> None:
        """One step for each row of `betas`, (steps, 1) for all replicas alike or (steps, replicas); waits for the
        device."""
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
            self._move_means[self._grid, self._threads](
                state.means, self._centres, gradients, state.radii, flow.dt, flow.spherical
            )
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
