"""A sweep's result: an xarray dataset in memory, or a netCDF file that is filled chunk by chunk."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import xarray as xr

from annealvi.output import as_plain, synchronise
from annealvi.sweeps.provenance import versions
from annealvi.sweeps.sweep import Arrays, Sweep
from derive.problem import BadInput

MARGIN = 2**14
"""Bytes that HDF5 may take for a variable besides its numbers."""


def as_dataset(sweep: Sweep, chunks: Iterable[tuple[int, Arrays]], processors: list[str]) -> xr.Dataset:
    """The whole result in memory."""
    found = {name: np.empty((*sweep.shape, *variable.shape)) for name, variable in sweep.variables.items()}
    _fill(found, sweep, chunks)
    labelled = {name: ((*sweep.dims, *v.dims), found[name], dict(v.attributes)) for name, v in sweep.variables.items()}
    return xr.Dataset(labelled, dict(sweep.coordinates), attributes(sweep, processors))


def write_netcdf(path: Path, sweep: Sweep, chunks: Iterable[tuple[int, Arrays]], processors: list[str]) -> None:
    """The same as netCDF 4, with no more than a chunk in memory. Equal results are equal files. BadInput where there is no room."""
    _require_room(path, sweep)
    with h5netcdf.File(path, "w", track_order=True) as file:
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
            if extra := [c for c, (dims, _) in sweep.coordinates.items() if c not in sizes and set(dims) <= set(sweep.dims)]:
                found[name].attrs["coordinates"] = " ".join(extra)
        file.attrs.update(attributes(sweep, processors))
        _fill(found, sweep, chunks)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    synchronise(path.parent)


def attributes(sweep: Sweep, processors: list[str]) -> dict[str, str]:
    """What made the result. There is nothing in it of when, or by how many workers: that does not change the numbers."""
    made = {"annealvi": versions(())["annealvi"], "versions": json.dumps(versions(sweep.libraries)), "processor": ", ".join(processors)}
    return {**sweep.attributes, **made, "request": json.dumps(as_plain(dict(sweep.request)))}


def _require_room(path: Path, sweep: Sweep) -> None:
    """HDF5 that runs out of room says so on every object that it then cannot close, so it is not begun."""
    if not hasattr(os, "posix_fallocate"):
        return
    coordinates = sum(8 * values.size for _, values in sweep.coordinates.values())
    labels = 2 * len(json.dumps(attributes(sweep, [])))
    needed = sweep.units * sweep.bytes_per_unit + coordinates + labels + MARGIN * (1 + len(sweep.variables))
    try:
        with path.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, needed)
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno == errno.EOPNOTSUPP:
            return
        found = f"a result of {needed} bytes cannot be written ({error.strerror})"
        raise BadInput(str(path.parent), found, "free space: what is computed is kept, and the same command goes on", "") from None


def _fill(found: Any, sweep: Sweep, chunks: Iterable[tuple[int, Arrays]]) -> None:
    for first, arrays in chunks:
        stop = first + len(next(iter(arrays.values())))
        for start, end, place in _stretches(sweep.shape, first, stop):
            for name, values in arrays.items():
                found[name][place] = values[start - first : end - first]


def _stretches(shape: tuple[int, ...], first: int, stop: int) -> Iterator[tuple[int, int, tuple[int | slice, ...]]]:
    """The units first, …, stop − 1 in stretches (start, end) that follow one another along the last direction, and their places."""
    width = shape[-1]
    while first < stop:
        *outer, column = np.unravel_index(first, shape)
        end = min(stop, first + width - int(column))
        yield first, end, (*map(int, outer), slice(int(column), int(column) + end - first))
        first = end
