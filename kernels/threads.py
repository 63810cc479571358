"""Work shared out among plain threads.

Numba's own parallel loops take longer to compile than the kernels that they run, and end in spinning barriers, which are slow where other
processes share the cores. The kernels here give up Python's lock instead.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numba
import numpy as np

SLICES_PER_THREAD = 4


def run_on_threads(kernel: Any, units: int, *arguments: Any, most_threads: int | None = None) -> None:
    """Calls kernel(first, stop, *arguments) for ranges that make up 0..units, on as many threads as numba.get_num_threads() says.

    Returns when all have run. There are some more ranges than threads, so that a thread whose units end early takes over others.
    most_threads: fewer threads, where the work is too little to be shared out.
    """
    threads = min(numba.get_num_threads(), most_threads or units, units)
    slices = min(SLICES_PER_THREAD * threads, units) if threads > 1 else 1
    ranges = iter(list(pairwise(np.linspace(0, units, slices + 1).astype(int).tolist())))

    def take_ranges() -> None:
        try:
            for first, stop in ranges:
                kernel(first, stop, *arguments)
        finally:
            for _ in ranges:  # after an error or an interrupt no thread begins another range
                pass

    others = [_pool(threads - 1, os.getpid()).submit(take_ranges) for _ in range(threads - 1)]
    try:
        take_ranges()
    finally:
        for other in others:
            other.result()


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """A process made by a fork has none of its parent's threads, so each process has its own."""
    return ThreadPoolExecutor(threads)
