"""A sweep's result: an xarray dataset in memory, or a netCDF file that is filled chunk by chunk."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import xarray as xr

from annealvi.show.output import as_plain, named, synchronise, temporary
from annealvi.sweeps.provenance import versions
from annealvi.sweeps.sweep import Arrays, Sweep
from derive.problem.specification import BadInput

MARGIN = 2**14
"""Bytes that HDF5 may take for a variable besides its numbers."""
UNLOCKED = {"locking": False}
"""HDF5's own lock fails on file systems without locks. Where locks exist, the lock of the chunks' folder keeps other
runs away.
"""
HAVE_NO_FALLOCATE = errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS
"""Error numbers of file systems without posix_fallocate."""


def as_dataset(sweep: Sweep, chunks: Iterable[tuple[int, Arrays]], processors: list[str]) -> xr.Dataset:
    """Assemble the whole result in memory."""
    found = {name: np.empty((*sweep.shape, *variable.shape)) for name, variable in sweep.variables.items()}
    _fill(found, sweep, chunks)
    labelled = {name: ((*sweep.dims, *v.dims), found[name], dict(v.attributes)) for name, v in sweep.variables.items()}
    return xr.Dataset(labelled, dict(sweep.coordinates), attributes(sweep, processors))


def write_netcdf(path: Path, sweep: Sweep, chunks: Iterable[tuple[int, Arrays]], processors: list[str]) -> None:
    """Write the result as netCDF 4, with at most one chunk in memory.

    Equal results give equal files. Raises BadInput where there is no room.
    """
    _require_room(path, sweep, "free space: what is computed is kept, and the same command goes on")
    with named(path):
        with h5netcdf.File(path, "w", track_order=True, **UNLOCKED) as file:
            _write(file, sweep, chunks, processors)
        with path.open("r+b") as stream:  # some systems refuse fsync on a file that is open for reading only
            os.fsync(stream.fileno())
    synchronise(path.parent)


def open_netcdf(path: Path) -> xr.Dataset:
    """Open a file of `write_netcdf` without loading its numbers."""
    with named(path):
        return xr.open_dataset(path, engine="h5netcdf", driver_kwds=UNLOCKED)


def require_place(folder: Path, sweep: Sweep, finished: int) -> None:
    """Refuse a folder that will not take the result, before anything is computed; HDF5 tries to write there.

    `finished` is the number of units in chunks that are there already.
    """
    remedy = "free space, or choose another --out"
    needed = _size_of(sweep) + (sweep.units - finished) * sweep.bytes_per_unit
    if (free := shutil.disk_usage(folder).free) < needed:
        raise BadInput(str(folder), f"chunks and result take {needed} bytes, and {free} are free", remedy, "")
    with temporary(folder) as trial:
        _require_room(trial, sweep, remedy)
        try:
            with h5netcdf.File(trial, "w", track_order=True, **UNLOCKED) as file:
                file.dimensions = {"trial": 1}
            open_netcdf(trial).close()
        except OSError as error:
            raise BadInput(
                str(folder), f"HDF5 cannot write there ({error.strerror or error})", "choose another --out", ""
            ) from None


def _write(file: Any, sweep: Sweep, chunks: Iterable[tuple[int, Arrays]], processors: list[str]) -> None:
    sizes = dict(zip(sweep.dims, sweep.shape, strict=True))
    for variable in sweep.variables.values():
        sizes.update(zip(variable.dims, variable.shape, strict=True))
    for dims, values in sweep.coordinates.values():
        sizes.update(zip(dims, np.shape(values), strict=True))
    file.dimensions = sizes
    for name, (dims, values) in sweep.coordinates.items():
        text = values.dtype.kind in "OU"
        made = file.create_variable(name, dims, h5netcdf.core.h5py.string_dtype() if text else values.dtype)
        made[...] = values.astype(object) if text else values
    found = {}
    for name, variable in sweep.variables.items():
        found[name] = file.create_variable(name, (*sweep.dims, *variable.dims), "f8", fillvalue=np.nan)
        found[name].attrs.update(variable.attributes)
        if extra := [
            c for c, (dims, _) in sweep.coordinates.items() if c not in sizes and set(dims) <= set(sweep.dims)
        ]:
            found[name].attrs["coordinates"] = " ".join(extra)
    file.attrs.update(attributes(sweep, processors))
    _fill(found, sweep, chunks)


def attributes(sweep: Sweep, processors: list[str]) -> dict[str, str]:
    """Return the labels of what made the result.

    They leave out the time and the number of workers, which do not change the numbers.
    """
    made = {
        "annealvi": versions(())["annealvi"],
        "versions": json.dumps(versions(sweep.libraries)),
        "processor": ", ".join(processors),
    }
    return {**sweep.attributes, **made, "request": json.dumps(as_plain(dict(sweep.request)))}


def _size_of(sweep: Sweep) -> int:
    """Return the most bytes that the result takes."""
    coordinates = sum(8 * values.size for _, values in sweep.coordinates.values())
    labels = 2 * len(json.dumps(attributes(sweep, [])))
    return sweep.units * sweep.bytes_per_unit + coordinates + labels + MARGIN * (1 + len(sweep.variables))


def _require_room(path: Path, sweep: Sweep, remedy: str) -> None:
    """Reserve the result's bytes, or raise BadInput.

    HDF5 that runs out of room prints an error for every object that it cannot close, so it must not begin without room.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    needed = _size_of(sweep)
    try:
        with path.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, needed)
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno in HAVE_NO_FALLOCATE:
            return
        raise BadInput(
            str(path.parent), f"a result of {needed} bytes cannot be written ({error.strerror})", remedy, ""
        ) from None


def _fill(found: Any, sweep: Sweep, chunks: Iterable[tuple[int, Arrays]]) -> None:
    for first, arrays in chunks:
        stop = first + len(next(iter(arrays.values())))
        for start, end, place in _stretches(sweep.shape, first, stop):
            for name, values in arrays.items():
                found[name][place] = values[start - first : end - first]


def _stretches(shape: tuple[int, ...], first: int, stop: int) -> Iterator[tuple[int, int, tuple[int | slice, ...]]]:
    """Split the units first, …, stop − 1 into stretches along the last direction.

    Yields (start, end, place) of each stretch.
    """
    width = shape[-1]
    while first < stop:
        *outer, column = np.unravel_index(first, shape)
        end = min(stop, first + width - int(column))
        yield first, end, (*map(int, outer), slice(int(column), int(column) + end - first))
        first = end
