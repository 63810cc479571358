"""Work shared out among plain threads, which another thread can stop.

Numba's own parallel loops take longer to compile than the kernels that they run, and end in spinning barriers, which
are slow where other processes share the cores. The kernels here give up Python's lock instead. The thread that asks for
the work waits while others do it: Python hands signals to the main thread alone, and only between two of its own
instructions.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numba
import numpy as np

from kernels.machine.stages import stage

SLICES_PER_THREAD = 4
LOOK = 0.1
"""Seconds after which a waiting thread looks at signals and at its time limit."""

_own = threading.local()


class TimeLimitError(Exception):
    """The work has taken as long as `at_most` allows, and was stopped."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Stop compiled code within, once this thread has waited so long for it, and raise TimeLimitError. Compiling it
    does not count."""
    before = _seconds_left()
    _own.seconds_left = given = min(before, seconds)
    try:
        yield
    finally:
        _own.seconds_left = before if before == np.inf else before - (given - _seconds_left())


def _seconds_left() -> float:
    return getattr(_own, "seconds_left", np.inf)


def run_on_threads(kernel: Any, units: int, *arguments: Any, brief: bool = False) -> None:
    """Calls kernel(first, stop, flag, *arguments) for ranges that make up 0..units, on as many threads as
    numba.get_num_threads() says.

    Returns when all have run. There are some more ranges than threads, so that a thread whose units end early takes
    over others. flag: (1,) an integer, zero until the kernel is to return as soon as it can, whatever is missing then:
    after an interrupt, an error in another thread, or the limit of `at_most`, all of which are raised. brief: the work
    is over in milliseconds, so that handing it over would take longer, and the caller's thread does it.
    """
    flag = np.zeros(1, np.int64)
    with stage("compiling the kernels"):
        kernel(0, 0, flag, *arguments)  # in the caller's thread, where an interrupt ends it
    if units == 0:
        return
    if brief:
        kernel(0, units, flag, *arguments)
        return
    threads = min(numba.get_num_threads(), units)
    slices = min(SLICES_PER_THREAD * threads, units) if threads > 1 else 1
    ranges = iter(list(pairwise(np.linspace(0, units, slices + 1).astype(int).tolist())))

    def take_ranges() -> None:
        try:
            for first, stop in ranges:
                if flag[0] == 0:
                    kernel(first, stop, flag, *arguments)
        except BaseException:
            flag[0] = 1
            raise

    works = [_pool(threads).submit(take_ranges) for _ in range(threads)]

    def over(seconds: float) -> bool:
        try:
            for work in works:
                work.exception(seconds)
        except TimeoutError:
            return False
        return True

    try:
        wait_until(over, flag)
    except BaseException:
        wait(works)
        raise
    for work in works:
        work.result()


def wait_until(over: Callable[[float], bool], flag: np.ndarray) -> None:
    """Wait for work that looks at the flag, which is set where an interrupt, or TimeLimitError, ends the waiting.

    over(seconds): waits so long at most, and tells whether the work is over.
    """
    end = time.monotonic() + _seconds_left()
    try:
        while not over(max(0.0, min(LOOK, end - time.monotonic()))):
            if time.monotonic() >= end:
                raise TimeLimitError
    except BaseException:
        flag[0] = 1
        raise
    finally:
        _own.seconds_left = end - time.monotonic()


def _pool(threads: int) -> ThreadPoolExecutor:
    """Each thread that asks for work has its own, so that several do not wait for each other; a process made by a fork
    has none yet."""
    pools = _own.__dict__.setdefault("pools", {})
    key = threads, os.getpid()
    if key not in pools:
        pools[key] = ThreadPoolExecutor(threads)
    return pools[key]
