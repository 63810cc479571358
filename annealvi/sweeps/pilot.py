"""What a part of a sweep takes, timed before all of it is begun."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

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
