"""Sums over the particles that the CPU draws at once: dot products with differences, and weighted sums of normals.

Each particle is one lane; see `kernels.particles.random_stream.LANES`.
"""

from __future__ import annotations

import numpy as np

from kernels.particles.random_stream import LANES, compiled


@compiled
def add_block(dots: np.ndarray, squares: np.ndarray, normals: np.ndarray, differences: np.ndarray, block: int) -> None:
    """Adds what coordinates 4 block .. 4 block + 3 contribute to dots (L + K, LANES) and squares (LANES,)."""
    first, second, third, fourth = (
        normals[4 * block],
        normals[4 * block + 1],
        normals[4 * block + 2],
        normals[4 * block + 3],
    )
    for lane in range(LANES):
        low = first[lane] * first[lane] + second[lane] * second[lane]
        squares[lane] += low + (third[lane] * third[lane] + fourth[lane] * fourth[lane])
    for c in range(len(dots)):
        row = dots[c]
        along = differences[c, 4 * block : 4 * block + 4]
        for lane in range(LANES):
            low = along[0] * first[lane] + along[1] * second[lane]
            row[lane] += low + (along[2] * third[lane] + along[3] * fourth[lane])


@compiled
def subtract_weighted(gradient: np.ndarray, normals: np.ndarray, weights: np.ndarray) -> None:
    """Subtracts the normals (4 blocks, LANES), times weights (LANES,) and summed over the lanes, from the gradient.

    gradient: (4 blocks,). The loop adds up four rows at once: a single row's sum would be over before the pipelines of
    the processor are full.
    """
    real = normals.dtype.type
    for block in range(len(normals) // 4):
        first, second, third, fourth = (
            normals[4 * block],
            normals[4 * block + 1],
            normals[4 * block + 2],
            normals[4 * block + 3],
        )
        sum_1, sum_2, sum_3, sum_4 = real(0), real(0), real(0), real(0)
        for lane in range(LANES):
            sum_1 += weights[lane] * first[lane]
            sum_2 += weights[lane] * second[lane]
            sum_3 += weights[lane] * third[lane]
            sum_4 += weights[lane] * fourth[lane]
        gradient[4 * block] -= np.float64(sum_1)
        gradient[4 * block + 1] -= np.float64(sum_2)
        gradient[4 * block + 2] -= np.float64(sum_3)
        gradient[4 * block + 3] -= np.float64(sum_4)
