"""The time that a part of a sweep takes, measured before the whole sweep begins."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

SLOWEST_COMPILATION = 60.0
"""Seconds that a first run may owe to compilation."""


def timed(run: Callable[[], Any]) -> float:
    """Return the seconds that a run takes."""
    begun = perf_counter()
    run()
    return perf_counter() - begun


def seconds_of(run: Callable[[], Any]) -> float:
    """Return the seconds that run() takes once its kernels are compiled.

    These are the seconds of a second run, unless the first run took longer than any compilation.
    """
    first = timed(run)
    return first if first > SLOWEST_COMPILATION else timed(run)
