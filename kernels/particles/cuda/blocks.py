"""How a block of threads shares out the work of an estimate, and how its threads add up their numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from kernels.machine.cuda_functions import device_function
from kernels.particles.random_stream import blocks_of

SHARED_BYTES = 48 * 1024
"""The shared memory that a block of threads has on every GPU."""
SHARED_FOR_TILE = 24 * 1024
"""The shared memory for a tile's partial sums. It leaves room for at least two blocks on a multiprocessor."""
THREADS = (128, 64, 32)
"""The sizes that a block may have, in threads."""


class BlockShape(NamedTuple):
    """How a block of threads shares out its work.

    Attributes
    ----------
    threads
        Threads of the block, a power of two.
    span
        Threads that share a particle; each takes every span-th block of four coordinates.
    passes
        Blocks of four coordinates that each thread takes.
    groups
        Particles in work at once.
    tile
        Particles between two rounds of sums, a multiple of `groups`.
    """

    threads: int
    span: int
    passes: int
    groups: int
    tile: int


def block_shape(d: int, particles: int, centres: int, real_bytes: int, more: int = 0) -> BlockShape:
    """The shape for particles of d coordinates under L + K = `centres` centres, in a precision of `real_bytes` bytes.

    more: the bytes of shared memory that the kernel needs for other things.

    A block has fewer than THREADS[0] threads where a particle has few blocks of coordinates, or where the centres are
    many. Raises ValueError where shared memory cannot hold the sums for so many centres.
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
        if enough and shared + more <= SHARED_BYTES:
            return BlockShape(threads, span, -(-blocks // span), groups, tile)
    raise ValueError(f"the CUDA simulation has no room for {centres} mixture components in all: use device='cpu'")


def row_adder(threads: int) -> Any:
    """The device function that adds up rows of numbers, one number of each thread, in blocks of so many threads."""

    @device_function
    def add_up(parts: np.ndarray, row_count: int, thread: int) -> None:
        """Adds up each row of the shared array `parts`, (row_count, threads) flat, into the row's first place.

        The order of the sums is fixed.
        """
        cuda.syncthreads()
        stride = threads // 2
        while stride > 0:
            if thread < stride:
                for row in range(row_count):
                    parts[row * threads + thread] += parts[row * threads + thread + stride]
            cuda.syncthreads()
            stride //= 2

    return add_up


def block_adder(threads: int) -> Any:
    """The device function that adds up one number of each thread, in blocks of so many threads."""
    add_up = row_adder(threads)

    @device_function
    def sum_over_block(parts: np.ndarray, own: float) -> float:
        """The sum of all threads' own numbers, in a fixed order; `parts` is shared work space, (threads,) or longer."""
        thread = cuda.threadIdx.x
        parts[thread] = own
        add_up(parts, 1, thread)
        total = parts[0]
        cuda.syncthreads()
        return total

    return sum_over_block
