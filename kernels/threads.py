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


def run_on_threads(kernel: Any, units: int, *arguments: Any) -> None:
    """Calls kernel(first, stop, *arguments) for ranges that make up 0..units, on as many threads as numba.get_num_threads() says.

    Returns when all have run. There are some more ranges than threads, so that a thread whose units end early takes over others.
    """
    threads = min(numba.get_num_threads(), units)
    if threads <= 1:
        kernel(0, units, *arguments)
        return
    bounds = np.linspace(0, units, min(SLICES_PER_THREAD * threads, units) + 1).astype(int).tolist()
    pool = _pool(threads, os.getpid())
    slices = [pool.submit(kernel, first, stop, *arguments) for first, stop in pairwise(bounds)]
    try:
        for one in slices:
            one.result()
    except BaseException:
        for one in slices:  # those that have not begun: an interrupted run ends at once
            one.cancel()
        raise


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """A process made by a fork has none of its parent's threads, so each process has its own."""
    return ThreadPoolExecutor(threads)
