"""Particles drawn in the span of the centres, on CUDA: the kernels before and after the kernel `estimate`.

`kernels.particles.projection` explains the method and does the same on the CPU.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda

from kernels.machine.cuda_functions import for_cuda
from kernels.particles.cuda.blocks import block_adder
from kernels.particles.cuda.replicas import CudaParticles
from kernels.particles.projection import DEPENDENT, basis_with_targets, noise_factor
from kernels.particles.random_stream import ORTHOGONAL_NOISE, four_normals
from kernels.particles.shapes import SCALES, WEIGHTS
from kernels.particles.step import ParticleFlow, Replicas


def span_means_source(real: Any, threads: int) -> Any:
    """The Python function of the kernel `span_means` for blocks of so many threads, before compilation.

    real: the precision of the centres.
    """
    sum_over_block = block_adder(threads)

    def span_means(basis: np.ndarray, centres: np.ndarray, means: np.ndarray) -> None:
        """Extends the orthonormal bases of the targets' span to the span of all centres; grid (replicas,).

        basis: (replicas, L + K, d); means: (replicas, L, d). centres: (replicas, L + K, L + K); receives the means'
        coordinates in the basis. `kernels.particles.projection.add_to_basis` does the same for one vector.
        """
        replica, thread = cuda.blockIdx.x, cuda.threadIdx.x
        _, proposals, d = means.shape
        partial_sums = cuda.shared.array(threads, np.float64)
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

    return span_means


def lift_source(threads: int) -> Any:
    """The Python function of the kernel `lift` for blocks of so many threads, before compilation."""
    noise_factor_there, four_normals_there = for_cuda(noise_factor), for_cuda(four_normals)
    sum_over_block = block_adder(threads)

    def lift(
        gradients: np.ndarray,
        within: np.ndarray,
        basis: np.ndarray,
        values: np.ndarray,
        precisions: np.ndarray,
        betas: np.ndarray,
        row: int,
        particles: int,
        seed: np.uint64,
        step: int,
    ) -> None:
        """Writes the gradients, (replicas, L, d): noise outside the centres' span, and the given part within it.

        within: (replicas, L, L + K), the gradients' coordinates in the basis. betas: (rows, 1) or (rows, replicas); the
        kernel uses the given row. Grid (replicas, L).
        """
        replica, component, thread = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
        _, proposals, d = gradients.shape
        beta = betas[row, min(replica, betas.shape[1] - 1)]
        total_pull = precisions[replica, component] - beta * precisions[replica, proposals]
        weight, scale = values[WEIGHTS, replica, component], values[SCALES, replica, component]
        factor = noise_factor_there(weight, scale, total_pull, particles)
        partial_sums = cuda.shared.array(threads, np.float64)
        for block in range(thread, (d + 3) // 4, threads):
            coordinate = 4 * block
            for normal in four_normals_there(seed, replica, step, component, ORTHOGONAL_NOISE, block, np.float64):
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

    return lift


@lru_cache
def compiled_kernels(precision: str, threads: int) -> tuple[Any, ...]:
    """The kernels `span_means` and `lift`; each of them compiles at its first launch."""
    return cuda.jit(span_means_source(np.dtype(precision).type, threads)), cuda.jit(lift_source(threads))


class ProjectedCudaParticles(CudaParticles):
    """Replicas whose particles are drawn in the span of the centres.

    Only the means move, and each mixture has one scale.
    """

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
            state.values,
            state.precisions,
            betas,
            row,
            flow.particles,
            flow.seed,
            step,
        )
