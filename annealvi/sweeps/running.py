"""A sweep from plan to result: resumed where it stopped, computed by an engine, kept chunk by chunk, and written as one
file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from annealvi.runs.costs import require_affordable
from annealvi.show.output import PathLike, require_writable
from annealvi.sweeps.engines import Engine, InProcess, Processes, Tell, cores, gpus_of_machine
from annealvi.sweeps.plan import Plan, make_plan
from annealvi.sweeps.provenance import processor
from annealvi.sweeps.result_file import as_dataset, open_netcdf, require_place, write_netcdf
from annealvi.sweeps.store import RESULT, Store, is_own_result, matches, survey, units_in
from annealvi.sweeps.sweep import Arrays, Sweep
from derive.problem.arguments import require_fields
from derive.problem.specification import BadInput

ENGINES = ("local", "dask")
FASTER = "take fewer points, more --workers, or raise --max-cost"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Execution:
    """How a sweep is run; its numbers do not depend on it.

    workers: processes; 1 computes in this one, with threads; None for the engine's own choice. engine: "local" or
    "dask". scheduler: the address of a Dask scheduler; None for a cluster of this machine's own. chunk: units computed
    between two savings; None for some seconds' worth. max_cost: refuse what is expected to take more seconds. force:
    overwrite results, and empty a folder of another sweep's chunks.
    """

    workers: int | None = None
    engine: str = "local"
    scheduler: str | None = None
    chunk: int | None = None
    max_cost: float | None = None
    force: bool = False

    def __post_init__(self) -> None:
        require_fields(self)


def run_sweep(
    sweep: Sweep,
    path: PathLike | None = None,
    how: Execution | None = None,
    *,
    progress: Progress | None = None,
    tell: Tell = None,
) -> xr.Dataset:
    """Compute all units, and load the result. path: a netCDF file to write, as `sweeping` does; None for a result in
    memory alone."""
    if path is not None:
        with sweeping(sweep, path, how, progress=progress, tell=tell) as data:
            return data.load()
    how = how or Execution()
    sweep.check()
    engine, chunk = _engine(sweep, how), how.chunk or 1
    if how.max_cost is not None:
        require_affordable(make_plan(sweep, 0, engine, chunk).cost, how.max_cost, FASTER, tell)
    return as_dataset(sweep, _computed(sweep, engine, [(0, sweep.units)], chunk, 0, progress, tell), [processor()])


@contextmanager
def sweeping(
    sweep: Sweep, path: PathLike, how: Execution | None = None, *, progress: Progress | None = None, tell: Tell = None
) -> Iterator[xr.Dataset]:
    """Compute all units and write them to a netCDF file, which must not exist unless forced; yields it opened, not
    loaded.

    Finished chunks are in the folder NAME.parts beside it until the block has ended well, so that a run that was ended
    in any way goes on after them, to the same file byte for byte. progress: hears (units done, of all). tell: takes
    lines for people, the plan of a long run first. Raises BadInput, before anything is written where it can, and
    `WorkersLost` where those that compute are gone.
    """
    path, how = Path(path), how or Execution()
    sweep.check()
    engine = _engine(sweep, how)
    require_writable(str(path), "")
    refuse_overwriting(sweep, path, (path,), how.force)
    store = Store(parts_of(path), sweep, anew=how.force)
    try:
        refuse_overwriting(sweep, path, (path,), how.force)  # another run may have ended before this one had the folder
        require_place(store.folder, sweep, store.finished)
        plan = make_plan(sweep, store.finished, engine, how.chunk)
        require_affordable(plan.cost, how.max_cost, FASTER, tell)
        store.begin(tell)
        for first, arrays in _computed(sweep, engine, store.missing(), plan.chunk, store.finished, progress, tell):
            store.keep(first, arrays)
        write_netcdf(store.folder / RESULT, sweep, store.chunks(), store.processors())
        store.publish(path)
        with open_netcdf(path) as data:
            yield data
        store.remove()
    finally:
        store.close()


def plan_sweep(sweep: Sweep, path: Path, how: Execution) -> Plan:
    """What `sweeping` would do, with nothing written, and nothing computed but what is timed. Raises BadInput as it
    does."""
    sweep.check()
    engine = _engine(sweep, how)
    refuse_overwriting(sweep, path, (path,), how.force)
    chunks = survey(parts_of(path), sweep)[0] if matches(parts_of(path), sweep) else []
    return make_plan(sweep, units_in(chunks, sweep.units), engine, how.chunk)


def refuse_overwriting(sweep: Sweep, path: Path, files: Iterable[Path], force: bool) -> None:
    """Raise BadInput for files that are there already, unless `path` is what an interrupted run of this very sweep has
    made."""
    for file in files if not force else ():
        if os.path.lexists(file) and not is_own_result(parts_of(path), sweep, path):
            raise BadInput(str(file), "exists already", "choose another --out, or give --force to overwrite it", "")


def parts_of(path: Path) -> Path:
    """The folder of a result's finished chunks."""
    return path.with_name(f"{path.stem}.parts")


def _engine(sweep: Sweep, how: Execution) -> Engine:
    if how.engine not in ENGINES:
        raise BadInput("--engine", f"{how.engine[:40]!r} is unknown", f"choose from {', '.join(ENGINES)}", "")
    if how.scheduler is not None and how.engine != "dask":
        raise BadInput("--scheduler", "it is Dask's", "add --engine dask", "")
    gpus = gpus_of_machine() if sweep.on_gpu else ()
    if how.engine == "dask":
        from annealvi.sweeps.on_dask import OnDask

        return OnDask(how.scheduler, how.workers or len(gpus) or cores(), gpus)
    workers = how.workers or (len(gpus) if len(gpus) > 1 else sweep.workers)
    return Processes(workers, gpus) if workers > 1 else InProcess()


def _computed(
    sweep: Sweep,
    engine: Engine,
    missing: Iterable[tuple[int, int]],
    chunk: int,
    done: int,
    progress: Progress | None,
    tell: Tell,
) -> Iterator[tuple[int, Arrays]]:
    if progress is not None:
        progress(done, sweep.units)
    missing = list(missing)
    if missing and tell is not None:
        for line in sweep.remarks:
            tell(line)
    wanted = ((start, min(start + chunk, stop)) for first, stop in missing for start in range(first, stop, chunk))
    with closing(engine.run(sweep, wanted, tell)) as results:
        for first, arrays in results:
            yield first, arrays
            done += len(next(iter(arrays.values())))
            if progress is not None:
                progress(done, sweep.units)
