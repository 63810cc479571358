"""The kernel that estimates the gradients of one step: one block of threads for each replica and component.

The package's docstring describes what a block does; the formulas stand in `kernels.particles.step`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from kernels.machine.cuda_functions import device_function
from kernels.particles.cuda.blocks import BlockShape, block_adder, row_adder
from kernels.particles.cuda.tiles import dot_product_adder, gradient_adder, particle_drawer, pull_finder
from kernels.particles.shapes import NO_SUMS, SCALES, WEIGHTS


def centre_loader(real: Any, centre_count: int, shape: BlockShape, r: int = 0) -> Any:
    """The device function that loads what the particles' densities need of the centres.

    r: how many of the first coordinates do not count, because covariances take the place of the scales there.
    """
    threads, span, passes, _, _ = shape
    coordinates = passes * 4
    add_up = row_adder(threads)

    @device_function
    def load_centres(
        separations: np.ndarray,
        amplitudes: np.ndarray,
        inverse_variances: np.ndarray,
        differences: np.ndarray,
        parts: np.ndarray,
        component: int,
        centres: np.ndarray,
        log_amplitudes: np.ndarray,
        precisions: np.ndarray,
    ) -> None:
        """Writes |a - c|^2, log weight - d log scale and 1 / scale^2 of all centres c to the first three arguments.

        a is the mean in the row `component` of the replica's centres. The first three arguments are shared arrays,
        (L + K,). differences: local, (L + K, coordinates) flat; receives the thread's own coordinates of a - c. parts:
        shared work space, (L + K, threads) flat.
        """
        replica, thread, d = cuda.blockIdx.x, cuda.threadIdx.x, centres.shape[2]
        column = thread % span
        for c in range(thread, centre_count, threads):
            amplitudes[c] = log_amplitudes[replica, c]
            inverse_variances[c] = precisions[replica, c]
        for c in range(centre_count):
            part = 0.0
            for coordinate in range(r + thread, d, threads):
                difference = np.float64(centres[replica, component, coordinate]) - np.float64(
                    centres[replica, c, coordinate]
                )
                part += difference * difference
            parts[c * threads + thread] = part
        add_up(parts, centre_count, thread)
        for c in range(thread, centre_count, threads):
            separations[c] = parts[c * threads]
        for n in range(coordinates):
            coordinate = 4 * (column + n // 4 * span) + n % 4
            for c in range(centre_count):
                difference = np.float64(0)
                if r <= coordinate < d:
                    difference = np.float64(centres[replica, component, coordinate]) - np.float64(
                        centres[replica, c, coordinate]
                    )
                differences[c * coordinates + n] = real(difference)

    return load_centres


def gradient_writer(centre_count: int, shape: BlockShape, adds: bool) -> Any:
    """The device function that gathers the groups' parts of the gradient.

    adds: whether the gradient is added to what is there, instead of replacing it.
    """
    threads, span, passes, groups, _ = shape
    coordinates = passes * 4

    @device_function
    def write_gradient(
        gradients: np.ndarray,
        gradient: np.ndarray,
        pull_sums: np.ndarray,
        differences: np.ndarray,
        scale: float,
        weight: float,
        particles: int,
    ) -> None:
        """Writes the component's estimated gradient to `gradients`, (replicas, L, d), from the threads' own sums."""
        replica, component, thread, d = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x, gradients.shape[2]
        column, group = thread % span, thread // span
        gathered = cuda.shared.array((threads, 4), np.float64)
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
                            total -= pull_sums[c] * np.float64(differences[c * coordinates + n + e])
                        before = gradients[replica, component, coordinate] if adds else 0.0
                        gradients[replica, component, coordinate] = before + total * weight / particles

    return write_gradient


def mean_writer(threads: int) -> Any:
    """The device function that averages over the component's particles."""
    sum_over_block = block_adder(threads)

    @device_function
    def write_mean(means: np.ndarray, row: int, parts: np.ndarray, own: float, particles: int) -> None:
        """Writes the mean over the particles to the component's place in a row of `means`, (rows, replicas, L).

        own: the thread's part of the sum over the particles; parts: shared work space, (threads,) or longer.
        """
        total = sum_over_block(parts, own)
        if cuda.threadIdx.x == 0:
            means[row, cuda.blockIdx.x, cuda.blockIdx.y] = total / particles

    return write_mean


def estimate_source(
    real: Any, centre_count: int, shape: BlockShape, with_shapes: bool, with_reference: bool = False
) -> Any:
    """The Python function of the kernel `estimate`, before compilation.

    real: the precision of particles and centres; with_shapes: whether the kernel also estimates the parameters' slopes;
    with_reference: whether the last centre is a reference.
    """
    float64 = np.float64
    threads, span, passes, groups, tile = shape
    kept_size, differences_size, coordinates = tile // groups * passes * 4, centre_count * passes * 4, passes * 4
    sums_size, parts_size = (centre_count + 1) * tile, centre_count * threads
    partials_size = sums_size * (span + 1)
    load_centres = centre_loader(real, centre_count, shape)
    draw_particles = particle_drawer(real, centre_count, shape)
    add_dot_products = dot_product_adder(centre_count, shape)
    find_pulls_of_particle = pull_finder(centre_count, shape, with_shapes, with_reference)
    add_to_gradient = gradient_adder(real, centre_count, shape)
    write_gradient, write_mean = gradient_writer(centre_count, shape, False), mean_writer(threads)

    def estimate(
        gradients: np.ndarray,
        slopes: np.ndarray,
        centres: np.ndarray,
        values: np.ndarray,
        log_amplitudes: np.ndarray,
        precisions: np.ndarray,
        betas: np.ndarray,
        row: int,
        particles: int,
        seed: np.uint64,
        step: int,
    ) -> None:
        """Writes the arrays of `Estimates` for the given centres, (replicas, L + K, d) of `real`.

        betas: (rows, 1) or (rows, replicas); the kernel uses the given row. Grid (replicas, L).
        """
        replica, component, thread = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
        d, proposals, beta = gradients.shape[2], gradients.shape[1], betas[row, min(replica, betas.shape[1] - 1)]
        weight, scale = values[WEIGHTS, replica, component], values[SCALES, replica, component]
        separations = cuda.shared.array(centre_count, float64)
        amplitudes = cuda.shared.array(centre_count, float64)
        inverse_variances = cuda.shared.array(centre_count, float64)
        pull_sums = cuda.shared.array(centre_count, float64)
        parts = cuda.shared.array(parts_size, float64)
        partials = cuda.shared.array(partials_size, real)
        sums = cuda.shared.array(sums_size, float64)
        pulls = cuda.shared.array((centre_count, tile), float64)
        totals = cuda.shared.array(tile, float64)
        kept = cuda.local.array(kept_size, real)
        differences = cuda.local.array(differences_size, real)
        gradient = cuda.local.array(coordinates, float64)
        slope_sums = NO_SUMS
        for c in range(thread, centre_count, threads):
            pull_sums[c] = 0.0
        for n in range(coordinates):
            gradient[n] = 0.0
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
        cuda.syncthreads()
        for first in range(0, particles, tile):
            members = min(tile, particles - first)
            draw_particles(partials, kept, differences, seed, step, component, first, members, d)
            cuda.syncthreads()
            add_dot_products(sums, partials, members)
            cuda.syncthreads()
            if thread < members:
                slope_sums = find_pulls_of_particle(
                    pulls, totals, slope_sums, sums, separations, amplitudes, inverse_variances, scale, proposals, beta
                )
            cuda.syncthreads()
            add_to_gradient(gradient, pull_sums, pulls, totals, kept, members, d)
        write_gradient(gradients, gradient, pull_sums, differences, scale, weight, particles)
        if with_shapes:
            for n in range(len(slope_sums)):
                write_mean(slopes, n, parts, slope_sums[n], particles)

    return estimate
