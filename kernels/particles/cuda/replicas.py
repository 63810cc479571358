"""The replicas of a run on the current CUDA device, and the launches of their kernels."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda
from numba.core.errors import NumbaPerformanceWarning

from kernels.particles.cuda.blocks import BlockShape, block_shape
from kernels.particles.cuda.estimate import estimate_source
from kernels.particles.cuda.forward import add_forward_part_source
from kernels.particles.cuda.moves import move_all_shapes_source, move_means_source
from kernels.particles.step import Estimates, ParticleFlow, Replicas, Terms


@lru_cache
def compiled_kernels(precision: str, centre_count: int, shape: BlockShape, terms: Terms) -> tuple[Any, ...]:
    """The kernels `estimate`, `move_means` and `move_all_shapes`; each of them compiles at its first launch."""
    real = np.dtype(precision).type
    return (
        cuda.jit(estimate_source(real, centre_count, shape, terms.shapes, terms.reference)),
        cuda.jit(move_means_source(real, shape.threads)),
        cuda.jit(move_all_shapes_source()),
    )


@lru_cache
def compiled_forward_kernel(precision: str, component_count: int, shape: BlockShape, with_shapes: bool) -> Any:
    """The kernel `add_forward_part`, which compiles at its first launch."""
    return cuda.jit(add_forward_part_source(np.dtype(precision).type, component_count, shape, with_shapes))


class CudaParticles:
    """The replicas of a run and their step, on the current CUDA device.

    drawn: how many coordinates of its particles a step draws, by default all d.
    """

    def __init__(self, start: Replicas, flow: ParticleFlow, drawn: int | None = None):
        replicas, proposals, _ = start.means.shape
        centres = np.concatenate([start.means, np.broadcast_to(flow.targets, (replicas, *flow.targets.shape))], axis=1)
        shape = block_shape(drawn or centres.shape[2], flow.particles, centres.shape[1], flow.targets.dtype.itemsize)
        self._threads = shape.threads
        self._grid = (replicas, proposals)
        self._scaled = start.means.shape[2]  # how many coordinates the scales cover
        self._estimate, self._move_means, self._move_all_shapes = compiled_kernels(
            flow.targets.dtype.name, centres.shape[1], shape, flow.terms
        )
        self._state: Any = Replicas(*(cuda.to_device(array) for array in start))
        self._centres = cuda.to_device(np.ascontiguousarray(centres, flow.targets.dtype))
        self._estimates: Any = Estimates(
            *(cuda.to_device(np.zeros_like(array)) for array in (start.means, start.values))
        )
        self._flow = flow
        if flow.terms.forward:
            self._forward_shape = block_shape(centres.shape[2], flow.particles, proposals, flow.targets.dtype.itemsize)
            self._add_forward_part = compiled_forward_kernel(
                flow.targets.dtype.name, proposals, self._forward_shape, flow.learns_shapes
            )
            self._modes = [cuda.to_device(array) for array in (flow.target_weights, flow.target_scales)]

    def state(self) -> Replicas:
        """A copy of the replicas' state on the host."""
        return Replicas(*(array.copy_to_host() for array in self._state))

    def advance(self, betas: np.ndarray, first_step: int) -> None:
        """Do one step for each row of `betas`, (steps, 1) for all replicas alike or (steps, replicas).

        The function returns when the device has finished.
        """
        betas_there = cuda.to_device(np.ascontiguousarray(betas))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumbaPerformanceWarning)
            for row in range(len(betas)):
                self._launch_estimate(betas_there, row, first_step + row)
                self._launch_moves()
        cuda.synchronize()

    def estimates(self, beta: float) -> Estimates:
        """Independent estimates, one at the state of each replica."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumbaPerformanceWarning)
            self._launch_estimate(cuda.to_device(np.array([[beta]])), 0, 0)
        return Estimates(*(array.copy_to_host() for array in self._estimates))

    def _launch_estimate(self, betas: Any, row: int, step: int) -> None:
        if self._flow.forward_share < 1:
            self._launch_estimate_at(self._centres, self._estimates, betas, row, step)
        if self._flow.terms.forward:
            self._launch_forward_part(step)

    def _launch_forward_part(self, step: int) -> None:
        state, flow = self._state, self._flow
        self._add_forward_part[self._grid, self._forward_shape.threads](
            *self._estimates,
            self._centres,
            state.values,
            state.log_amplitudes,
            state.precisions,
            *self._modes,
            flow.forward_share,
            flow.particles,
            flow.seed,
            step,
        )

    def _launch_estimate_at(self, centres: Any, estimates: Any, betas: Any, row: int, step: int) -> None:
        """Launches the estimate with the given centres, (replicas, L + K, coordinates), in that many coordinates."""
        state, flow = self._state, self._flow
        self._estimate[self._grid, self._threads](
            *estimates,
            centres,
            state.values,
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
        gradients, slopes = self._estimates
        if flow.learns_means:
            self._move_means[self._grid, self._threads](
                state.means, self._centres, gradients, state.radii, flow.dt, flow.spherical
            )
        if flow.learns_shapes:
            blocks = (self._grid[0] + self._threads - 1) // self._threads
            self._move_all_shapes[blocks, self._threads](
                state.logs,
                state.values,
                state.log_amplitudes,
                state.precisions,
                slopes,
                self._scaled,
                flow.dt,
                flow.learns,
            )
