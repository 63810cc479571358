"""What a sweep will take, said before it begins."""

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
"""What may be lost: short beside any patience, long beside the milliseconds that keeping a chunk takes."""
CHUNK_BYTES = 2**24
CHUNKS_PER_WORKER = 4
"""At least, so that none waits long for the others in the end."""


@dataclass(frozen=True)
class Plan:
    """points: of the whole map. units: of work, of which `finished` are done. chunk: units in each chunk. seconds: for
    what is left.

    memory, result: in bytes; the memory None where the system does not tell what a process has.
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
        """For what has a limit, and for people."""
        left = self.units - self.finished
        kept = f", {self.points * self.finished // self.units} of them finished" if self.finished else ""
        work = f"{math.ceil(left / self.chunk)} chunks on {self.where}"
        memory = "" if self.memory is None else f"{size(self.memory)} of memory, "
        sizes = f"{memory}a result of {size(self.result)}"
        return Cost(self.seconds, f"{self.points} points{kept}, {work}, {sizes}")


def make_plan(sweep: Sweep, finished: int, engine: Engine, chunk: int | None) -> Plan:
    """Time what can be timed, and size the chunks. chunk: its size, where one is asked for."""
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
    """The most memory that this process has had, in bytes."""
    return None if getrusage is None else getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def size(count: float) -> str:
    """Bytes, for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
