"""Where chunks are computed: in this process, in other processes of this machine, or on a cluster (see `on_dask`).

An engine takes the wanted chunks and yields each one as it is finished, in any order.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, ClassVar, Protocol

from annealvi.sweeps.sweep import Arrays, Sweep, compute_chunk

Tell = Callable[[str], None] | None
Results = Generator[tuple[int, Arrays], None, None]
PATIENCE = 3.0
"""Seconds that workers have to end by themselves."""
KILLED = (
    "a worker was killed, perhaps for want of memory; what is finished is kept, and the same "
    "command goes on, with fewer --workers"
)
NOT_BEGUN = (
    "worker processes ended before they had computed anything; a script has to begin them "
    'under `if __name__ == "__main__":`'
)
AHEAD = 2
"""Chunks that each worker is given before it needs them. More chunks would wait in memory when they come back."""


class WorkersLost(RuntimeError):  # noqa: N818
    """The workers are gone; what is finished is kept."""

    exit_status: ClassVar[int] = 1


class Engine(Protocol):
    """Something that computes chunks."""

    @property
    def workers(self) -> int:
        """How many chunks are computed side by side."""

    @property
    def where(self) -> str:
        """The place of computation, in words."""

    def run(self, sweep: Sweep, chunks: Iterator[tuple[int, int]], tell: Tell) -> Results:
        """Yield (first unit, variables) of each chunk (first, stop), as it is finished."""


@dataclass(frozen=True)
class InProcess:
    """One chunk after the other in this process; the kernels use the threads."""

    workers: int = 1
    where: str = "this process"

    def run(self, sweep: Sweep, chunks: Iterator[tuple[int, int]], tell: Tell) -> Results:
        for first, stop in chunks:
            yield first, compute_chunk(sweep, first, stop, tell)


@dataclass(frozen=True)
class Processes:
    """Workers of this machine, which share its cores.

    `gpus` names the GPUs; each worker then sees one of them only.
    """

    workers: int
    gpus: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return f"{self.workers} processes"

    def run(self, sweep: Sweep, chunks: Iterator[tuple[int, int]], tell: Tell) -> Results:
        context = multiprocessing.get_context("spawn")  # a fork would inherit threads' locks and a GPU's context
        leash, held = context.Pipe(duplex=False)
        share = (context.Value("i", 0), self.workers, self.gpus, leash)
        pool = ProcessPoolExecutor(self.workers, context, _begin_worker, share)
        waiting: set[Future[Any]] = set()
        begun = False
        try:
            while True:
                while len(waiting) < AHEAD * self.workers and (chunk := next(chunks, None)) is not None:
                    waiting.add(pool.submit(_compute, sweep, *chunk))
                if not waiting:
                    return
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    first, arrays, told = future.result()
                    begun = True
                    pass_on(told, tell)
                    yield first, arrays
        except BrokenProcessPool:
            raise WorkersLost(KILLED if begun else NOT_BEGUN) from None
        finally:
            if waiting:
                held.close()
            pool.shutdown(cancel_futures=True)
            held.close()
            leash.close()


def environment_of(number: int, workers: int, gpus: tuple[str, ...]) -> Mapping[str, str]:
    """Return the environment of one of several workers on a machine: its share of the cores, and its own GPU."""
    environment = {"NUMBA_NUM_THREADS": str(max(1, cores() // workers))}
    return environment | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {})


def cores_of(number: int, workers: int) -> set[int]:
    """Return one worker's share of the cores, for libraries that start a thread on each core they see.

    The set is empty where the system does not let a process choose its cores.
    """
    if not hasattr(os, "sched_setaffinity"):
        return set()
    every = sorted(os.sched_getaffinity(0))
    return set(every[number % len(every) :: workers])


def gpus_of_machine() -> tuple[str, ...]:
    """Return the numbers by which a process chooses among the GPUs that this one sees."""
    from numba import cuda

    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(seen.split(",")) if seen else tuple(map(str, range(len(cuda.gpus))))


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin_worker(count: Any, workers: int, gpus: tuple[str, ...], leash: Connection) -> None:
    # Ctrl-C goes to every process of a terminal; the process that started these workers ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    with count.get_lock():
        number, count.value = count.value, count.value + 1
    os.environ.update(environment_of(number, workers, gpus))
    if own := cores_of(number, workers):
        os.sched_setaffinity(0, own)
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()


def _end_with(leash: Connection) -> None:
    """End this worker when the other end of the pipe is closed, by its parent or by its parent's death."""
    with suppress(EOFError, OSError):
        leash.recv_bytes()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)  # a running kernel does not handle signals


class _Ended(BaseException):
    """Raised in a worker that is to end while it computes, so that no file is left half-written."""


_computing = False


def _leave(*_: Any) -> None:
    if _computing:
        raise _Ended
    os._exit(1)


def pass_on(told: list[str], tell: Tell) -> None:
    """Repeat here the lines that a worker had for people."""
    for line in told:
        if tell is not None:
            tell(line)


def _compute(sweep: Sweep, first: int, stop: int) -> tuple[int, Arrays, list[str]]:
    global _computing
    told: list[str] = []
    try:
        _computing = True
        return first, compute_chunk(sweep, first, stop, told.append), told
    except _Ended:
        os._exit(1)
    finally:
        _computing = False
