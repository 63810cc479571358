"""Runs a kernel on plain threads, which the waiting thread can stop.

Numba's own parallel loops take longer to compile than the kernels that they run, and they end in spinning barriers,
which are slow where other processes share the cores. The kernels here release Python's lock instead. The calling thread
waits while other threads work, because Python delivers signals to the main thread only, and only between two of its
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
"""Seconds after which a waiting thread checks for signals and for its time limit."""

_own = threading.local()


class TimeLimitError(Exception):
    """Compiled code was stopped because it had taken as long as `at_most` allows."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Stop compiled code in this block, and raise TimeLimitError, once this thread has waited so long for it.

    The time for compiling the code does not count.
    """
    before = _seconds_left()
    _own.seconds_left = given = min(before, seconds)
    try:
        yield
    finally:
        _own.seconds_left = before if before == np.inf else before - (given - _seconds_left())


def _seconds_left() -> float:
    return getattr(_own, "seconds_left", np.inf)


def run_on_threads(kernel: Any, units: int, *arguments: Any, brief: bool = False) -> None:
    """Calls kernel(first, stop, flag, *arguments) on several threads, for ranges that make up 0 .. units.

    There are numba.get_num_threads() threads, and more ranges than threads, so that a thread that finishes its units
    early takes others. The function returns when the kernel has run for all ranges. flag: one integer, (1,). It is zero
    until the kernel must return as soon as possible with its work unfinished: after an interrupt, an error in another
    thread, or the limit of `at_most`. Each of these raises its exception here once the threads have returned. brief:
    whether the work takes only milliseconds; then the caller's thread does it, because passing it to other threads
    would take longer.
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
    """Wait until work is over; set the flag, which the work reads, if an interrupt or TimeLimitError ends the wait.

    over(seconds): waits for this time at most, and returns whether the work is over.
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
    """The calling thread's own pool of worker threads.

    Threads with pools of their own do not wait for each other's work. A forked process begins without pools, because
    threads do not survive a fork.
    """
    pools = _own.__dict__.setdefault("pools", {})
    key = threads, os.getpid()
    if key not in pools:
        pools[key] = ThreadPoolExecutor(threads)
    return pools[key]
