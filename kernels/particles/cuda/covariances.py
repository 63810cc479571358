"""Mixtures with covariances on CUDA: the kernels that estimate and that move the covariances.

`kernels.particles.covariances` has the formulas. The kernel `estimate_covariant` takes the four stages of `estimate`,
with r rows more than centres: the differences of row L + K + n are the unit vector of coordinate n, so that its "dot
product" is that coordinate of z.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda

from kernels.machine.cuda_functions import device_function, for_cuda
from kernels.particles.covariances import (
    CovarianceFlow,
    CovariantEstimates,
    Factors,
    find_covariant_pulls,
    move_covariance,
    turn_entry,
    write_inside,
)
from kernels.particles.cuda.blocks import BlockShape, block_shape
from kernels.particles.cuda.estimate import centre_loader, gradient_writer, mean_writer
from kernels.particles.cuda.replicas import CudaParticles
from kernels.particles.cuda.tiles import dot_product_adder, gradient_adder, particle_drawer
from kernels.particles.shapes import NO_SUMS, SCALES, WEIGHTS, add_slopes
from kernels.particles.step import ParticleFlow, Replicas


def covariant_block_shape(d: int, particles: int, centre_count: int, r: int, real_bytes: int) -> BlockShape:
    """The shape of the blocks of `estimate_covariant`; raises ValueError where shared memory cannot hold its sums."""
    return block_shape(d, particles, centre_count + r, real_bytes, 8 * (centre_count + 1) * (r + r * r))


def covariant_centre_loader(real: Any, centre_count: int, r: int, shape: BlockShape) -> Any:
    """The device function that loads what the particles' densities need of the centres and of their covariances."""
    threads, span, passes, _, _ = shape
    coordinates = passes * 4
    load_centres, turn_entry_there = centre_loader(real, centre_count, shape, r), device_function(turn_entry)

    @device_function
    def load_covariant_centres(
        separations: np.ndarray,
        amplitudes: np.ndarray,
        inverse_variances: np.ndarray,
        offsets: np.ndarray,
        turns: np.ndarray,
        differences: np.ndarray,
        parts: np.ndarray,
        component: int,
        centres: np.ndarray,
        log_amplitudes: np.ndarray,
        precisions: np.ndarray,
        factors: np.ndarray,
        inverses: np.ndarray,
        log_volumes: np.ndarray,
    ) -> None:
        """Does what `load_centres` does outside S, and writes the arguments of `find_covariant_pulls` inside.

        offsets, turns: shared, (L + K, r) and (L + K, r, r). differences: local, (L + K + r, coordinates) flat.
        """
        replica, thread = cuda.blockIdx.x, cuda.threadIdx.x
        column = thread % span
        load_centres(
            separations,
            amplitudes,
            inverse_variances,
            differences,
            parts,
            component,
            centres,
            log_amplitudes,
            precisions,
        )
        for n in range(coordinates):
            coordinate = 4 * (column + n // 4 * span) + n % 4
            for m in range(r):
                differences[(centre_count + m) * coordinates + n] = real(1) if coordinate == m else real(0)
        for c in range(thread, centre_count, threads):
            amplitudes[c] -= log_volumes[replica, c]
            for n in range(r):
                offset = 0.0
                for m in range(r):
                    difference = np.float64(centres[replica, component, m]) - np.float64(centres[replica, c, m])
                    offset += inverses[replica, c, n, m] * difference
                    turns[c, n, m] = turn_entry_there(inverses, factors, replica, c, component, n, m)
                offsets[c, n] = offset

    return load_covariant_centres


def covariant_pull_finder(centre_count: int, r: int, shape: BlockShape, with_shapes: bool) -> Any:
    """The device function of the third stage. with_shapes: whether it also adds up the parameters' slopes."""
    tile, float64, rows = shape.tile, np.float64, centre_count + r
    find_covariant_pulls_there, add_slopes_there = for_cuda(find_covariant_pulls), for_cuda(add_slopes)

    @device_function
    def find_pulls_of_particle(
        tile_pulls: np.ndarray,
        tile_totals: np.ndarray,
        slope_sums: tuple[float, ...],
        sums: np.ndarray,
        separations: np.ndarray,
        offsets: np.ndarray,
        turns: np.ndarray,
        amplitudes: np.ndarray,
        inverse_variances: np.ndarray,
        scale: float,
        d: int,
        proposals: int,
        beta: float,
    ) -> tuple[float, ...]:
        """Finds the pulls on the tile's particle that has the thread's number, by `find_covariant_pulls`.

        tile_pulls, tile_totals: shared, (L + K + r, tile) and (tile,); receive the pulls outside S, v in the last r
        rows, and the pulls' sums. slope_sums: the thread's, returned with what the particle adds.
        """
        thread = cuda.threadIdx.x
        dots = cuda.local.array((centre_count, 1), float64)
        squares = cuda.local.array(1, float64)
        inside = cuda.local.array((r, 1), float64)
        pulls = cuda.local.array((centre_count, 1), float64)
        seen = cuda.local.array((r, 1), float64)
        pushes = cuda.local.array((r, 1), float64)
        totals = cuda.local.array(1, float64)
        log_sums = cuda.local.array((2, 1), float64)
        for c in range(centre_count):
            dots[c, 0] = sums[c * tile + thread]
        squares[0] = sums[rows * tile + thread] if d > r else 0.0
        for n in range(r):
            inside[n, 0] = sums[(centre_count + n) * tile + thread]
            if d > r:
                squares[0] -= inside[n, 0] * inside[n, 0]
        find_covariant_pulls_there(
            pulls,
            seen,
            pushes,
            dots,
            squares,
            inside,
            totals,
            log_sums,
            separations,
            offsets,
            turns,
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
        for n in range(r):
            tile_pulls[centre_count + n, thread] = pushes[n, 0]
        if with_shapes:
            return add_slopes_there(slope_sums, pulls, dots, squares, totals, log_sums, scale, beta, False, 1)
        return slope_sums

    return find_pulls_of_particle


def estimate_covariant_source(real: Any, centre_count: int, r: int, shape: BlockShape, with_shapes: bool) -> Any:
    """The Python function of the kernel `estimate_covariant`, before compilation.

    The arguments are those of `kernels.particles.cuda.estimate.estimate_source`; shape: a `covariant_block_shape`.
    """
    float64, rows, inner_size = np.float64, centre_count + r, r + r * r
    threads, span, passes, groups, tile = shape
    kept_size, differences_size, coordinates = tile // groups * passes * 4, rows * passes * 4, passes * 4
    sums_size, parts_size = (rows + 1) * tile, rows * threads
    partials_size = sums_size * (span + 1)
    load_covariant_centres = covariant_centre_loader(real, centre_count, r, shape)
    draw_particles = particle_drawer(real, rows, shape)
    add_dot_products = dot_product_adder(rows, shape)
    find_pulls_of_particle = covariant_pull_finder(centre_count, r, shape, with_shapes)
    add_to_gradient = gradient_adder(real, rows, shape)
    write_gradient, write_mean = gradient_writer(rows, shape, False), mean_writer(threads)
    write_inside_there = device_function(write_inside)

    def estimate_covariant(
        gradients: np.ndarray,
        slopes: np.ndarray,
        whitened: np.ndarray,
        centres: np.ndarray,
        values: np.ndarray,
        log_amplitudes: np.ndarray,
        precisions: np.ndarray,
        factors: np.ndarray,
        inverses: np.ndarray,
        log_volumes: np.ndarray,
        betas: np.ndarray,
        row: int,
        particles: int,
        seed: np.uint64,
        step: int,
    ) -> None:
        """Writes the arrays of `CovariantEstimates` for the given centres, (replicas, L + K, d) of `real`.

        betas: (rows, 1) or (rows, replicas); the kernel uses the given row. Grid (replicas, L).
        """
        replica, component, thread = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
        d, proposals, beta = gradients.shape[2], gradients.shape[1], betas[row, min(replica, betas.shape[1] - 1)]
        weight, scale = values[WEIGHTS, replica, component], values[SCALES, replica, component]
        separations = cuda.shared.array(centre_count, float64)
        amplitudes = cuda.shared.array(centre_count, float64)
        inverse_variances = cuda.shared.array(centre_count, float64)
        offsets = cuda.shared.array((centre_count, r), float64)
        turns = cuda.shared.array((centre_count, r, r), float64)
        pull_sums = cuda.shared.array(rows, float64)
        parts = cuda.shared.array(parts_size, float64)
        partials = cuda.shared.array(partials_size, real)
        sums = cuda.shared.array(sums_size, float64)
        pulls = cuda.shared.array((rows, tile), float64)
        totals = cuda.shared.array(tile, float64)
        inner_sums = cuda.shared.array(inner_size, float64)
        kept = cuda.local.array(kept_size, real)
        differences = cuda.local.array(differences_size, real)
        gradient = cuda.local.array(coordinates, float64)
        slope_sums = NO_SUMS
        for c in range(thread, rows, threads):
            pull_sums[c] = 0.0
        for n in range(coordinates):
            gradient[n] = 0.0
        for n in range(thread, inner_size, threads):
            inner_sums[n] = 0.0
        load_covariant_centres(
            separations,
            amplitudes,
            inverse_variances,
            offsets,
            turns,
            differences,
            parts,
            component,
            centres,
            log_amplitudes,
            precisions,
            factors,
            inverses,
            log_volumes,
        )
        cuda.syncthreads()
        for first in range(0, particles, tile):
            members = min(tile, particles - first)
            draw_particles(partials, kept, differences, seed, step, component, first, members, d)
            cuda.syncthreads()
            add_dot_products(sums, partials, members)
            cuda.syncthreads()
            if thread < members:
                slope_sums = find_pulls_of_particle(
                    pulls,
                    totals,
                    slope_sums,
                    sums,
                    separations,
                    offsets,
                    turns,
                    amplitudes,
                    inverse_variances,
                    scale,
                    d,
                    proposals,
                    beta,
                )
            cuda.syncthreads()
            add_to_gradient(gradient, pull_sums, pulls, totals, kept, members, d)
            for entry in range(thread, r * r, threads):
                for member in range(members):
                    coordinate = sums[(centre_count + entry % r) * tile + member]
                    inner_sums[r + entry] += pulls[centre_count + entry // r, member] * coordinate
        write_gradient(gradients, gradient, pull_sums, differences, scale, weight, particles)
        cuda.syncthreads()
        if thread == 0:
            for n in range(r):
                inner_sums[n] = pull_sums[centre_count + n]
            write_inside_there(gradients, whitened, inner_sums, inverses, weight, particles, replica, component)
        if with_shapes:
            for n in range(len(slope_sums)):
                write_mean(slopes, n, parts, slope_sums[n], particles)

    return estimate_covariant


def move_covariances_source(r: int) -> Any:
    """The Python function of the kernel `move_covariances`, before compilation."""
    move_covariance_there = device_function(move_covariance)

    def move_covariances(
        factors: np.ndarray,
        inverses: np.ndarray,
        log_volumes: np.ndarray,
        whitened: np.ndarray,
        dt: float,
        logarithmic: bool,
    ) -> None:
        """Euler step of all covariances, in place in the arrays of `Factors`; one thread for each component."""
        replica, component = cuda.grid(1) // whitened.shape[1], cuda.grid(1) % whitened.shape[1]
        change = cuda.local.array((r, r), np.float64)
        moved = cuda.local.array((r, r), np.float64)
        if replica < len(whitened):
            move_covariance_there(
                factors, inverses, log_volumes, whitened, change, moved, replica, component, dt, logarithmic
            )

    return move_covariances


@lru_cache
def compiled_covariant_kernels(
    precision: str, centre_count: int, r: int, shape: BlockShape, with_shapes: bool
) -> tuple[Any, Any]:
    """The kernels `estimate_covariant` and `move_covariances`; each of them compiles at its first launch."""
    estimate = estimate_covariant_source(np.dtype(precision).type, centre_count, r, shape, with_shapes)
    return cuda.jit(estimate), cuda.jit(move_covariances_source(r))


class CovariantCudaParticles(CudaParticles):
    """Replicas whose components have covariances."""

    def __init__(self, start: Replicas, flow: ParticleFlow, factors: Factors, covariance_flow: CovarianceFlow):
        super().__init__(start, flow)
        replicas, proposals, d = start.means.shape
        r, precision = covariance_flow.coordinates, flow.targets.dtype
        count = proposals + len(flow.targets)
        shape = covariant_block_shape(d, flow.particles, count, r, precision.itemsize)
        self._estimate_threads, self._scaled = shape.threads, d - r
        self._estimate, self._move_covariances = compiled_covariant_kernels(
            precision.name, count, r, shape, flow.learns_shapes
        )
        self._factors: Any = Factors(*(cuda.to_device(np.ascontiguousarray(array)) for array in factors))
        self._whitened: Any = cuda.to_device(np.zeros((replicas, proposals, r, r)))
        self._covariance_flow = covariance_flow

    def factors(self) -> Factors:
        """A copy of the covariances' factors on the host."""
        return Factors(*(array.copy_to_host() for array in self._factors))

    def estimates(self, beta: float) -> Any:
        """Independent `CovariantEstimates`, one at the state of each replica."""
        return CovariantEstimates(*super().estimates(beta), self._whitened.copy_to_host())

    def _launch_estimate(self, betas: Any, row: int, step: int) -> None:
        state, flow = self._state, self._flow
        self._estimate[self._grid, self._estimate_threads](
            *self._estimates,
            self._whitened,
            self._centres,
            state.values,
            state.log_amplitudes,
            state.precisions,
            *self._factors,
            betas,
            row,
            flow.particles,
            flow.seed,
            step,
        )

    def _launch_moves(self) -> None:
        super()._launch_moves()
        if self._covariance_flow.learns:
            components = self._grid[0] * self._grid[1]
            self._move_covariances[(components + self._threads - 1) // self._threads, self._threads](
                *self._factors, self._whitened, self._flow.dt, self._covariance_flow.logarithmic
            )
