"""The time, the memory and the disk space that a sweep will take, stated before it begins."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from annealvi.runs.costs import Cost
from annealvi.sweeps.engines import Engine
from annealvi.sweeps.sweep import Sweep

try:
    from resource import RUSAGE_SELF, getrusage
except ModuleNotFoundError:  # Windows
    getrusage = None  # type: ignore[assignment]

CHUNK_SECONDS = 5.0
"""Seconds of work in a chunk. An interruption loses at most that much, and keeping a chunk takes only milliseconds
beside it.
"""
CHUNK_BYTES = 2**24
"""Largest size of a chunk's results."""
CHUNKS_PER_WORKER = 4
"""Least number of chunks for each worker, so that no worker waits long for the others at the end."""


@dataclass(frozen=True)
class Plan:
    """What a sweep will take.

    Attributes
    ----------
    points : int
        Points of the whole map.
    units : int
        Units of work, of which `finished` are done.
    finished : int
        Units that are done.
    chunk : int
        Units in each chunk.
    where : str
        The engine, in words.
    seconds : float
        Time for what is left.
    memory : int or None
        Bytes of memory; None where the system does not tell the size of a process.
    result : int
        Bytes of the result.
    """

    points: int
    units: int
    finished: int
    chunk: int
    where: str
    seconds: float
    memory: int | None
    result: int

    def __str__(self) -> str:
        return str(self.cost)

    @property
    def cost(self) -> Cost:
        """The plan as a cost, to compare with a limit and to print."""
        left = self.units - self.finished
        kept = f", {self.points * self.finished // self.units} of them finished" if self.finished else ""
        work = f"{math.ceil(left / self.chunk)} chunks on {self.where}"
        memory = "" if self.memory is None else f"{size(self.memory)} of memory, "
        sizes = f"{memory}a result of {size(self.result)}"
        return Cost(self.seconds, f"{self.points} points{kept}, {work}, {sizes}")


def make_plan(sweep: Sweep, finished: int, engine: Engine, chunk: int | None) -> Plan:
    """Estimate the time of a sweep, and choose the size of its chunks. `chunk` is a wanted number of units, if any."""
    left, workers = sweep.units - finished, engine.workers
    each = sweep.seconds_per_unit() if left else 0.0
    if chunk is None:
        fitting = min(
            CHUNK_SECONDS / max(each, 1e-9), CHUNK_BYTES / sweep.bytes_per_unit, left / (CHUNKS_PER_WORKER * workers)
        )
        chunk = max(1, int(fitting))
    chunk = max(1, min(chunk, left))
    seconds = each * chunk * math.ceil(left / chunk / workers) if workers > 1 else each * left
    result = sweep.units * sweep.bytes_per_unit
    held = resident()
    memory = None if held is None else workers * (held + 3 * chunk * sweep.bytes_per_unit)
    return Plan(
        sweep.units * sweep.points_per_unit, sweep.units, finished, chunk, engine.where, seconds, memory, result
    )


def resident() -> int | None:
    """Return the most memory that this process has used, in bytes; None where the system does not tell."""
    return None if getrusage is None else getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def size(count: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
