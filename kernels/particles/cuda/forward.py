"""The kernel that mixes the forward KL into the estimates of one step: one block of threads for each component.

The formulas stand in `kernels.particles.forward`. The block of a component of the proposal draws the samples of all
components of the target, one component after the other. Blocks of one replica thus draw the same samples, because a
draw is a function of its numbers alone, and no block needs the sums of another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from kernels.particles.cuda.blocks import BlockShape, block_adder
from kernels.particles.cuda.estimate import centre_loader, gradient_writer
from kernels.particles.cuda.tiles import dot_product_adder, gradient_adder, particle_drawer, share_finder
from kernels.particles.shapes import NO_SUMS, WEIGHTS


def add_forward_part_source(real: Any, component_count: int, shape: BlockShape, with_shapes: bool) -> Any:
    """The Python function of the kernel `add_forward_part`, before compilation.

    real: the precision of samples and centres; component_count: L; with_shapes: whether the kernel also estimates the
    parameters' slopes.
    """
    float64, parameters = np.float64, len(NO_SUMS)
    threads, span, passes, groups, tile = shape
    kept_size, differences_size, coordinates = tile // groups * passes * 4, component_count * passes * 4, passes * 4
    sums_size, parts_size = (component_count + 1) * tile, component_count * threads
    partials_size = sums_size * (span + 1)
    load_centres = centre_loader(real, component_count, shape)
    draw_particles = particle_drawer(real, component_count, shape)
    add_dot_products = dot_product_adder(component_count, shape)
    find_shares_of_sample = share_finder(component_count, shape, with_shapes)
    add_to_gradient = gradient_adder(real, component_count, shape)
    write_gradient, sum_over_block = gradient_writer(component_count, shape, True), block_adder(threads)

    def add_forward_part(
        gradients: np.ndarray,
        slopes: np.ndarray,
        centres: np.ndarray,
        values: np.ndarray,
        log_amplitudes: np.ndarray,
        precisions: np.ndarray,
        target_weights: np.ndarray,
        target_scales: np.ndarray,
        share: float,
        particles: int,
        seed: np.uint64,
        step: int,
    ) -> None:
        """Multiplies the arrays of `Estimates` by 1 - share, and adds `share` times those of the forward KL.

        Grid (replicas, L). centres: (replicas, L + K or more, d) of `real`; target_weights, target_scales: (K,).
        """
        replica, component, thread = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
        d, precision, weight = gradients.shape[2], precisions[replica, component], values[WEIGHTS, replica, component]
        separations = cuda.shared.array(component_count, float64)
        amplitudes = cuda.shared.array(component_count, float64)
        inverse_variances = cuda.shared.array(component_count, float64)
        pull_sums = cuda.shared.array(component_count, float64)
        parts = cuda.shared.array(parts_size, float64)
        partials = cuda.shared.array(partials_size, real)
        sums = cuda.shared.array(sums_size, float64)
        pulls = cuda.shared.array((component_count, tile), float64)
        totals = cuda.shared.array(tile, float64)
        kept = cuda.local.array(kept_size, real)
        differences = cuda.local.array(differences_size, real)
        gradient = cuda.local.array(coordinates, float64)
        slope_sums = cuda.local.array(parameters, float64)
        for coordinate in range(thread, d, threads):
            gradients[replica, component, coordinate] *= 1.0 - share
        if thread < parameters:
            slopes[thread, replica, component] *= 1.0 - share
        for k in range(len(target_weights)):
            cuda.syncthreads()
            for i in range(thread, component_count, threads):
                pull_sums[i] = 0.0
            for n in range(coordinates):
                gradient[n] = 0.0
            for n in range(parameters):
                slope_sums[n] = 0.0
            load_centres(
                separations,
                amplitudes,
                inverse_variances,
                differences,
                parts,
                component_count + k,
                centres,
                log_amplitudes,
                precisions,
            )
            cuda.syncthreads()
            for first in range(0, particles, tile):
                members = min(tile, particles - first)
                draw_particles(partials, kept, differences, seed, step, component_count + k, first, members, d)
                cuda.syncthreads()
                add_dot_products(sums, partials, members)
                cuda.syncthreads()
                if thread < members:
                    find_shares_of_sample(
                        pulls,
                        totals,
                        slope_sums,
                        sums,
                        separations,
                        amplitudes,
                        inverse_variances,
                        target_scales[k],
                        d,
                    )
                cuda.syncthreads()
                add_to_gradient(gradient, pull_sums, pulls, totals, kept, members, d)
            factor = share * target_weights[k]
            write_gradient(gradients, gradient, pull_sums, differences, target_scales[k], factor * precision, particles)
            if with_shapes:
                for n in range(parameters):
                    total = sum_over_block(parts, slope_sums[n])
                    if thread == 0:
                        slopes[n, replica, component] -= factor * total / (weight * particles)

    return add_forward_part
