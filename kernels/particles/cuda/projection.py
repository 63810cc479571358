"""Particles drawn in the span of the centres on CUDA: `kernels.particles.projection` around the estimate of
`kernels.particles.cuda.replicas`.

Importing this module imports numba.cuda, as `kernels.particles.cuda.replicas` does.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda

from kernels.machine.cuda_functions import for_cuda
from kernels.particles.cuda.replicas import CudaParticles
from kernels.particles.projection import DEPENDENT, basis_with_targets, noise_factor
from kernels.particles.random_stream import ORTHOGONAL_NOISE, four_normals
from kernels.particles.step import ParticleFlow, Replicas


def kernel_sources(real: Any, threads: int) -> tuple[Any, Any]:
    """The Python functions of the kernels `span_means` and `lift`, for centres of the precision `real`, before
    compilation.

    threads: of a block, a power of two.
    """
    float64 = np.float64
    noise_factor_there, four_normals_there = for_cuda(noise_factor), for_cuda(four_normals)

    @cuda.jit(device=True)
    def sum_over_block(partial_sums, own):
        """The sum of all threads' own numbers, in a fixed order; partial_sums: shared, (threads,)."""
        thread = cuda.threadIdx.x
        partial_sums[thread] = own
        cuda.syncthreads()
        half = threads // 2
        while half > 0:
            if thread < half:
                partial_sums[thread] += partial_sums[thread + half]
            cuda.syncthreads()
            half //= 2
        total = partial_sums[0]
        cuda.syncthreads()
        return total

    def span_means(basis, centres, means):
        """Extends the bases, (replicas, L + K, d), by what the means, (replicas, L, d), have outside the targets' span;
        grid (replicas,).

        Writes the means' coordinates to `centres`, (replicas, L + K, L + K), as
        `kernels.particles.projection.add_to_basis` does.
        """
        replica, thread = cuda.blockIdx.x, cuda.threadIdx.x
        _, proposals, d = means.shape
        partial_sums = cuda.shared.array(threads, float64)
        for i in range(proposals):
            row = basis.shape[1] - proposals + i
            own = 0.0
            for c in range(thread, d, threads):
                basis[replica, row, c] = means[replica, i, c]
                own += means[replica, i, c] * means[replica, i, c]
            length = math.sqrt(sum_over_block(partial_sums, own))
            for repetition in range(2):
                for other in range(row):
                    own = 0.0
                    for c in range(thread, d, threads):
                        own += basis[replica, other, c] * basis[replica, row, c]
                    along = sum_over_block(partial_sums, own)
                    for c in range(thread, d, threads):
                        basis[replica, row, c] -= along * basis[replica, other, c]
                    if thread == 0:
                        before = centres[replica, i, other] if repetition > 0 else real(0)
                        centres[replica, i, other] = real(before + along)
            own = 0.0
            for c in range(thread, d, threads):
                own += basis[replica, row, c] * basis[replica, row, c]
            left = math.sqrt(sum_over_block(partial_sums, own))
            if left <= DEPENDENT * length:
                left = 0.0
            for c in range(thread, d, threads):
                basis[replica, row, c] = basis[replica, row, c] / left if left != 0.0 else 0.0
            if thread == 0:
                centres[replica, i, row] = real(left)

    def lift(gradients, within, basis, weights, scales, precisions, betas, row, particles, seed, step):
        """Writes the gradients, (replicas, L, d), from their coordinates `within`, (replicas, L, L + K), and noise;
        grid (replicas, L).

        The inverse temperature stands in the given row of `betas`, which holds one for all replicas or one for each.
        """
        replica, component, thread = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
        _, proposals, d = gradients.shape
        beta = betas[row, min(replica, betas.shape[1] - 1)]
        total_pull = precisions[replica, component] - beta * precisions[replica, proposals]
        factor = noise_factor_there(weights[replica, component], scales[replica, component], total_pull, particles)
        partial_sums = cuda.shared.array(threads, float64)
        for block in range(thread, (d + 3) // 4, threads):
            coordinate = 4 * block
            for normal in four_normals_there(seed, replica, step, component, ORTHOGONAL_NOISE, block, float64):
                if coordinate < d:
                    gradients[replica, component, coordinate] = factor * normal
                coordinate += 1
        cuda.syncthreads()
        for direction in range(basis.shape[1]):
            own = 0.0
            for c in range(thread, d, threads):
                own += basis[replica, direction, c] * gradients[replica, component, c]
            change = within[replica, component, direction] - sum_over_block(partial_sums, own)
            for c in range(thread, d, threads):
                gradients[replica, component, c] += change * basis[replica, direction, c]

    return span_means, lift


@lru_cache
def compiled_kernels(precision: str, threads: int) -> tuple[Any, ...]:
    """`kernel_sources`, ready to launch; each kernel compiles at its first launch."""
    return tuple(cuda.jit(source) for source in kernel_sources(np.dtype(precision).type, threads))


class ProjectedCudaParticles(CudaParticles):
    """Replicas whose particles are drawn in the span of the centres. Only means move, and each mixture has one
    scale."""

    def __init__(self, start: Replicas, flow: ParticleFlow):
        replicas, proposals, _ = start.means.shape
        super().__init__(start, flow, drawn=proposals + len(flow.targets))
        self._span_means, self._lift = compiled_kernels(flow.targets.dtype.name, self._threads)
        basis, coordinates = (
            cuda.to_device(np.repeat(array[None], replicas, axis=0))
            for array in basis_with_targets(flow.targets, proposals)
        )
        self._basis, self._coordinates = basis, coordinates
        self._within: Any = self._estimates._replace(
            gradients=cuda.device_array((replicas, proposals, coordinates.shape[1]))
        )

    def _launch_estimate(self, betas: Any, row: int, step: int) -> None:
        state, flow = self._state, self._flow
        self._span_means[self._grid[0], self._threads](self._basis, self._coordinates, state.means)
        self._launch_estimate_at(self._coordinates, self._within, betas, row, step)
        self._lift[self._grid, self._threads](
            self._estimates.gradients,
            self._within.gradients,
            self._basis,
            state.weights,
            state.scales,
            state.precisions,
            betas,
            row,
            flow.particles,
            flow.seed,
            step,
        )
