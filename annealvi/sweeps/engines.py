"""Where chunks are computed: in this process, in others of this machine, or (see `on_dask`) on a cluster.

An engine takes the chunks that are wanted and gives back each as it is finished, in any order.
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
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from annealvi.sweeps.sweep import Arrays, Sweep, compute_chunk

Tell = Callable[[str], None] | None
Results = Generator[tuple[int, Arrays], None, None]
PATIENCE = 3.0
"""Seconds that workers have to end by themselves."""
AHEAD = 2
"""Chunks for each worker that are handed out before they are needed. More would wait in memory when they come back."""


class WorkersLost(RuntimeError):  # noqa: N818
    """Those that computed are gone; what is finished is kept."""


class Engine(Protocol):
    """Computes chunks."""

    @property
    def workers(self) -> int:
        """How many are computed side by side."""

    @property
    def where(self) -> str:
        """In words."""

    def run(self, sweep: Sweep, chunks: Iterator[tuple[int, int]], tell: Tell) -> Results:
        """(first unit, variables) of each chunk (first, stop), as it is finished."""


@dataclass(frozen=True)
class InProcess:
    """One chunk after the other, here; the kernels use the threads."""

    workers: int = 1
    where: str = "this process"

    def run(self, sweep: Sweep, chunks: Iterator[tuple[int, int]], tell: Tell) -> Results:
        for first, stop in chunks:
            yield first, compute_chunk(sweep, first, stop, tell)


@dataclass(frozen=True)
class Processes:
    """Workers of this machine, which share its cores. gpus: names of the GPUs, of which each worker then sees its own alone."""

    workers: int
    gpus: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return f"{self.workers} processes"

    def run(self, sweep: Sweep, chunks: Iterator[tuple[int, int]], tell: Tell) -> Results:
        context = multiprocessing.get_context("spawn")  # a fork would take over threads' locks and a GPU's context
        numbers = context.SimpleQueue()
        for number in range(self.workers):
            numbers.put((environment_of(number, self.workers, self.gpus), cores_of(number, self.workers)))
        pool = ProcessPoolExecutor(self.workers, context, _begin_worker, (numbers,))
        waiting: set[Future[Any]] = set()
        try:
            while True:
                while len(waiting) < AHEAD * self.workers and (chunk := next(chunks, None)) is not None:
                    waiting.add(pool.submit(_compute, sweep, *chunk))
                if not waiting:
                    return
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    first, arrays, told = future.result()
                    pass_on(told, tell)
                    yield first, arrays
        except BrokenProcessPool:
            raise WorkersLost(
                "a worker was killed, perhaps for want of memory; what is finished is kept: the same command goes on, with fewer --workers"
            ) from None
        finally:
            pool.shutdown(wait=not waiting, cancel_futures=True)
            _end(multiprocessing.active_children())


def environment_of(number: int, workers: int, gpus: tuple[str, ...]) -> Mapping[str, str]:
    """The environment of one of several workers on a machine: its share of the cores, and its own GPU."""
    environment = {"NUMBA_NUM_THREADS": str(max(1, cores() // workers))}
    return environment | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {})


def cores_of(number: int, workers: int) -> set[int]:
    """One worker's share of the cores, for libraries that start a thread on each that they see; empty where cores cannot be chosen."""
    if not hasattr(os, "sched_getaffinity"):
        return set()
    every = sorted(os.sched_getaffinity(0))
    return set(every[number % len(every) :: workers])


def gpus_of_machine() -> tuple[str, ...]:
    """The numbers by which a process chooses among the GPUs that this one sees."""
    from numba import cuda

    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(seen.split(",")) if seen else tuple(map(str, range(len(cuda.gpus))))


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin_worker(numbers: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to every process of a terminal: the one that started these ends them
    signal.signal(signal.SIGTERM, _leave)
    environment, own = numbers.get()
    os.environ.update(environment)
    if own:
        os.sched_setaffinity(0, own)
    threading.Thread(target=_end_with_parent, daemon=True).start()


class _Ended(BaseException):
    """Raised where a worker that is to end computes, so that it does not leave what it writes half-written."""


_computing = False


def _leave(*_: Any) -> None:
    if _computing:
        raise _Ended
    os._exit(1)


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers, and a worker that waits for the next chunk would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _end(workers: list[BaseProcess]) -> None:
    for worker in workers:
        worker.terminate()
    until = time.monotonic() + PATIENCE
    for worker in workers:
        worker.join(max(0.0, until - time.monotonic()))
        if worker.is_alive():  # within a kernel
            worker.kill()


def pass_on(told: list[str], tell: Tell) -> None:
    """Say here what a worker had to say."""
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
