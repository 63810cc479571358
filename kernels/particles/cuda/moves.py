"""The kernels that move the replicas by one Euler step: their means, and the parameters of their components."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from kernels.machine.cuda_functions import device_function
from kernels.particles.cuda.blocks import block_adder
from kernels.particles.shapes import move_shapes


def move_means_source(real: Any, threads: int) -> Any:
    """The Python function of the kernel `move_means` for blocks of so many threads, before compilation.

    real: the precision of the centres.
    """
    sum_over_block = block_adder(threads)

    def move_means(
        means: np.ndarray, centres: np.ndarray, gradients: np.ndarray, radii: np.ndarray, dt: float, spherical: bool
    ) -> None:
        """Euler step of all means, (replicas, L, d) of float64, in place, and of their copies among the centres.

        Grid (replicas, L).
        """
        replica, component, thread = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
        d = means.shape[2]
        radius = radii[replica, component]
        parts = cuda.shared.array(threads, np.float64)
        along = 0.0
        if spherical:
            own = 0.0
            for coordinate in range(thread, d, threads):
                own += gradients[replica, component, coordinate] * means[replica, component, coordinate]
            along = sum_over_block(parts, own) / (radius * radius)
        own = 0.0
        for coordinate in range(thread, d, threads):
            mean = means[replica, component, coordinate]
            mean -= dt * (gradients[replica, component, coordinate] - along * mean)
            means[replica, component, coordinate] = mean
            own += mean * mean
        squared_norm = sum_over_block(parts, own)
        rescaling = radius / math.sqrt(squared_norm) if spherical else 1.0
        for coordinate in range(thread, d, threads):
            mean = rescaling * means[replica, component, coordinate]
            means[replica, component, coordinate] = mean
            centres[replica, component, coordinate] = real(mean)

    return move_means


def move_all_shapes_source() -> Any:
    """The Python function of the kernel `move_all_shapes`, before compilation."""
    move_shapes_there = device_function(move_shapes)

    def move_all_shapes(
        logs: np.ndarray,
        values: np.ndarray,
        log_amplitudes: np.ndarray,
        precisions: np.ndarray,
        slopes: np.ndarray,
        d: int,
        dt: float,
        learns: tuple[bool, ...],
    ) -> None:
        """Euler step of the parameters of all replicas, in place; one thread for each replica."""
        replica = cuda.grid(1)
        if replica < len(log_amplitudes):
            move_shapes_there(logs, values, log_amplitudes, precisions, slopes, replica, d, dt, learns)

    return move_all_shapes
