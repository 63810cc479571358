"""What a part of a sweep takes, timed before all of it is begun."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

FEW, MANY = 50, 2000
"""Trajectories of an ensemble's first and second pilot. The second is left out where the first is slow."""
SLOW = 0.5
SLOWEST_COMPILATION = 60.0


def timed(run: Callable[[], Any]) -> float:
    """Seconds."""
    begun = perf_counter()
    run()
    return perf_counter() - begun


def seconds_of(run: Callable[[], Any]) -> float:
    """What run() takes once its kernels are compiled; it is run again to learn that, unless it is slow anyway."""
    first = timed(run)
    return first if first > SLOWEST_COMPILATION else timed(run)


def seconds_of_ensemble(run: Callable[[int], Any], n: int) -> float:
    """What run(n) takes, from runs of fewer trajectories."""
    run(min(n, 1))  # compiles
    few = min(n, FEW)
    seconds = timed(lambda: run(few))
    if seconds > SLOW or n <= FEW:
        return seconds * n / few
    many = min(n, MANY)
    return timed(lambda: run(many)) * n / many
