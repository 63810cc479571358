"""Chunks on a Dask cluster: one of this machine's own, or one whose scheduler has an address.

Scheduling, the detection of workers that die, and giving their chunks to others are Dask's. Finished chunks are kept by
the process that started the sweep, so nothing but that needs a file system in common.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from tempfile import TemporaryDirectory
from typing import Any

from annealvi.components import require
from annealvi.sweeps.engines import AHEAD, Results, Tell, WorkersLost, environment_of, pass_on
from annealvi.sweeps.provenance import versions
from annealvi.sweeps.sweep import Arrays, Sweep, compute_chunk
from derive.problem.specification import BadInput

LOOPBACK = "127.0.0.1"
PATIENCE = 30.0
"""Seconds in which a scheduler has to answer."""
DEATHS = 20
"""Of workers under one chunk, before that chunk is held to be what kills them. Dask's own default is 3."""


@dataclass(frozen=True)
class OnDask:
    """scheduler: its address, or None for a cluster of this machine's own with so many workers. gpus: for one worker
    each."""

    scheduler: str | None
    workers: int
    gpus: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return (
            f"{self.workers} Dask workers of this machine"
            if self.scheduler is None
            else f"the Dask cluster at {self.scheduler}"
        )

    def run(self, sweep: Sweep, chunks: Iterator[tuple[int, int]], tell: Tell) -> Results:
        require("a sweep on Dask", "distributed", extra="cluster")
        import dask
        from distributed import Client, as_completed
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker

        made_by = versions(sweep.libraries)
        with ExitStack() as open_now:
            open_now.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": DEATHS}))
            open_now.enter_context(_quiet())
            address = self.scheduler or open_now.enter_context(_own_cluster(self.workers, self.gpus))
            try:
                client = open_now.enter_context(Client(address, timeout=PATIENCE, set_as_default=False))
            except (OSError, ValueError) as error:
                remedy = "start `dask scheduler` there, or leave --scheduler out"
                raise BadInput(
                    "--scheduler", f"{address} does not answer ({type(error).__name__})", remedy, ""
                ) from None
            under_way = as_completed(with_results=True, loop=client.loop)

            gone = WorkersLost(
                f"the scheduler at {address} is gone; what is finished is kept: the same command goes on"
            )

            def fill() -> None:
                try:
                    threads = sum(client.nthreads().values())  # workers come and go
                except OSError:
                    raise gone from None
                for chunk in islice(chunks, max(0, AHEAD * max(1, threads) - under_way.count())):
                    under_way.add(client.submit(_compute, sweep, *chunk, made_by, pure=False))

            fill()
            try:
                for _, (first, arrays, told) in under_way:
                    pass_on(told, tell)
                    yield first, arrays
                    fill()
            except KilledWorker:
                found = "workers died one after the other under the same chunk, perhaps for want of memory"
                raise WorkersLost(f"{found}; what is finished is kept: give them more, or a smaller --chunk") from None
            except FutureCancelledError:
                raise gone from None


@contextmanager
def _own_cluster(workers: int, gpus: tuple[str, ...]) -> Iterator[Any]:
    """Workers of one task each on the loopback interface. Dask starts them again when they die."""
    from distributed import Nanny, Scheduler, SpecCluster

    with TemporaryDirectory(prefix="annealvi-") as scratch:
        common = {"nthreads": 1, "host": LOOPBACK, "local_directory": scratch, "silence_logs": logging.CRITICAL}
        common["memory_limit"] = 0  # none: a worker that is ended for its size would be given the same chunk again
        each = [
            {"cls": Nanny, "options": {**common, "env": dict(environment_of(n, workers, gpus))}} for n in range(workers)
        ]
        scheduler = {"cls": Scheduler, "options": {"host": LOOPBACK, "dashboard": False}}
        specification = {"workers": dict(enumerate(each))} if gpus else {"worker": each[0]}
        with SpecCluster(**specification, scheduler=scheduler, silence_logs=logging.CRITICAL) as cluster:
            if not gpus:  # a worker that dies while it starts takes its nanny with it, and is then made anew
                cluster.adapt(minimum=workers, maximum=workers, interval="500 ms")
            yield cluster


def _compute(sweep: Sweep, first: int, stop: int, made_by: dict[str, str]) -> tuple[int, Arrays, list[str]]:
    """What a worker does. It refuses where it would compute other digits than those that started the sweep."""
    here = versions(sweep.libraries)
    if different := [name for name, found in here.items() if found != made_by[name]]:
        name = different[0]
        found = f"a worker has {name} {here[name]}, and this process {made_by[name]}"
        raise BadInput("--scheduler", found, "install the same versions on both", "")
    told: list[str] = []
    return first, compute_chunk(sweep, first, stop, told.append), told


class _quiet(ExitStack):  # noqa: N801
    """No words of Dask's own between the progress bar's."""

    def __enter__(self) -> _quiet:
        for name in (
            "distributed",
            "distributed.nanny",
            "distributed.scheduler",
            "distributed.worker",
            "distributed.core",
            "tornado",
        ):
            logger = logging.getLogger(name)
            self.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
        return self
