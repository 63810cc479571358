"""A sweep from plan to result: resumed, computed by an engine, kept chunk by chunk, and written as one file."""

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

    Attributes
    ----------
    workers : int or None
        Number of processes. With 1 this process computes, with threads; None leaves the number to the engine.
    engine : {"local", "dask"}
        Processes of this machine, or a Dask cluster.
    scheduler : str or None
        Address of a Dask scheduler; None starts a cluster on this machine.
    chunk : int or None
        Units that are computed between two savings; None takes some seconds' worth.
    max_cost : float or None
        Refuse a sweep that is expected to take more seconds than this.
    force : bool
        Overwrite results, and empty a folder that holds chunks of another sweep.

    Examples
    --------
    >>> import annealvi
    >>> annealvi.Execution(workers=4, max_cost=600).engine
    'local'
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
    """Compute all units, and load the result.

    `path` names a netCDF file to write, as in `sweeping`; with None the result is in memory only.
    """
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
    """Compute all units and write them to a netCDF file; yields the file opened, not loaded.

    The file must not exist unless `how.force` is set. Until the block has ended well, finished chunks are in the folder
    NAME.parts beside the file. After an interruption of any kind the same call continues from them, to the same file
    byte for byte. `progress` is called with (units done, units in all). `tell` takes lines for people, the plan of a
    long run first. Raises BadInput, if possible before anything is written, and `WorkersLost` where the workers are
    gone.
    """
    path, how = Path(path), how or Execution()
    sweep.check()
    engine = _engine(sweep, how)
    require_writable(str(path), "")
    refuse_overwriting(sweep, path, (path,), how.force)
    store = Store(parts_of(path), sweep, anew=how.force)
    try:
        refuse_overwriting(sweep, path, (path,), how.force)  # another run may have ended before this one got the folder
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
    """Return what `sweeping` would do.

    It writes nothing, and computes only the few points whose time it measures. Raises BadInput as `sweeping` does.
    """
    sweep.check()
    engine = _engine(sweep, how)
    refuse_overwriting(sweep, path, (path,), how.force)
    chunks = survey(parts_of(path), sweep)[0] if matches(parts_of(path), sweep) else []
    return make_plan(sweep, units_in(chunks, sweep.units), engine, how.chunk)


def refuse_overwriting(sweep: Sweep, path: Path, files: Iterable[Path], force: bool) -> None:
    """Raise BadInput for files that exist already.

    A result of an interrupted run of this very sweep, at `path`, is no such file.
    """
    for file in files if not force else ():
        if os.path.lexists(file) and not is_own_result(parts_of(path), sweep, path):
            raise BadInput(str(file), "exists already", "choose another --out, or give --force to overwrite it", "")


def parts_of(path: Path) -> Path:
    """Return the folder of a result's finished chunks."""
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
