"""Chunks on a Dask cluster: one that this process starts on its own machine, or one whose scheduler has an address.

Dask does the scheduling, detects workers that die and gives their chunks to others. The process that started the sweep
keeps finished chunks, so the workers need no common file system.
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
"""Number of workers that may die under one chunk before Dask blames the chunk. Dask's own default is 3."""


@dataclass(frozen=True)
class OnDask:
    """An engine on a Dask cluster.

    `scheduler` is the cluster's address, or None for a cluster of `workers` workers on this machine. `gpus` names the
    GPUs, one for each worker.
    """

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
                    threads = sum(client.nthreads().values())  # asked each time, because workers come and go
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
    """Start workers of one task each on the loopback interface. Dask restarts workers that die."""
    from distributed import Nanny, Scheduler, SpecCluster

    with TemporaryDirectory(prefix="annealvi-") as scratch:
        common = {"nthreads": 1, "host": LOOPBACK, "local_directory": scratch, "silence_logs": logging.CRITICAL}
        common["memory_limit"] = 0  # no limit: a worker ended for its size would be given the same chunk again
        each = [
            {"cls": Nanny, "options": {**common, "env": dict(environment_of(n, workers, gpus))}} for n in range(workers)
        ]
        scheduler = {"cls": Scheduler, "options": {"host": LOOPBACK, "dashboard": False}}
        specification = {"workers": dict(enumerate(each))} if gpus else {"worker": each[0]}
        with SpecCluster(**specification, scheduler=scheduler, silence_logs=logging.CRITICAL) as cluster:
            if not gpus:  # replaces a worker that dies while it starts, and its nanny with it
                cluster.adapt(minimum=workers, maximum=workers, interval="500 ms")
            yield cluster


def _compute(sweep: Sweep, first: int, stop: int, made_by: dict[str, str]) -> tuple[int, Arrays, list[str]]:
    """Compute a chunk in a worker.

    The worker refuses where its versions differ from those of the process that started the sweep, because its digits
    would differ too.
    """
    here = versions(sweep.libraries)
    if different := [name for name, found in here.items() if found != made_by[name]]:
        name = different[0]
        found = f"a worker has {name} {here[name]}, and this process {made_by[name]}"
        raise BadInput("--scheduler", found, "install the same versions on both", "")
    told: list[str] = []
    return first, compute_chunk(sweep, first, stop, told.append), told


class _quiet(ExitStack):  # noqa: N801
    """Silence Dask's own log lines, which would break the progress bar."""

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
