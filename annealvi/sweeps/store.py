"""The finished chunks of a sweep, in a folder beside its result, so that whatever ends the run costs at most what was under way.

Each chunk is one netCDF file. Its name holds the numbers of its units and the digest of its bytes, and it appears whole: written
beside, brought to the disk, renamed. A zarr store keeps a chunk's variables in as many files, so a chunk of it could be there in part.
These files are netCDF 3, which SciPy reads in plain Python: a damaged one cannot bring down the process.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from annealvi.output import as_plain, read_json, write_file
from annealvi.sweeps.provenance import processor, versions
from annealvi.sweeps.sweep import Arrays, Sweep
from derive.problem import BadInput

STATED = "sweep.json"
RESULT = "result.nc"
"""The whole result while it is being written."""
_CHUNK = re.compile(r"([0-9]{9})-([0-9]{9})-([0-9a-f]{16})\.nc")
_LEFT_OVER = re.compile(rf"\.[0-9a-f]{{16}}\.tmp|{re.escape(RESULT)}")
_REMEDY = "give --force to begin anew, or choose another --out"


@dataclass(frozen=True)
class Chunk:
    """Units first, …, stop − 1, in a file that has been found whole."""

    first: int
    stop: int
    path: Path


class Store:
    """The chunks of one sweep. Holds the folder for this process until `close`."""

    def __init__(self, folder: Path, sweep: Sweep, *, anew: bool = False, tell: Callable[[str], None] | None = None) -> None:
        """Open the sweep's folder, or make it. anew: empty it where it is not this sweep's.

        A damaged chunk is removed, and `tell` says so: it will be computed again. Raises BadInput for a folder with another sweep's chunks,
        or with those of another version, and for one that another process works on.
        """
        self.folder, self.sweep = folder, sweep
        self._made, self._ours = [place for place in (folder, *folder.parents) if not place.exists()], False
        self._chunks: list[Chunk] = []
        _make(folder)
        self._lock = _locked(folder)
        try:
            self.resumed = os.path.lexists(folder / STATED)
            if self.resumed and (difference := _difference(folder / STATED, statement(sweep))):
                if not anew:
                    raise BadInput("", difference, _REMEDY, str(folder))
                self.resumed = False
            self._ours = True
            if not self.resumed:  # what is there without a statement is left of a run that was complete
                self._empty()
            self._remove(_LEFT_OVER)
            self._chunks = sorted(_found(folder, sweep.units, tell), key=lambda chunk: chunk.first)
            if not self.resumed:
                write_file(folder / STATED, json.dumps(statement(sweep), indent=1, sort_keys=True).encode())
        except BaseException:
            self.close()
            raise

    @property
    def finished(self) -> int:
        """How many units have been computed."""
        return self.sweep.units - sum(stop - first for first, stop in self.missing())

    def missing(self) -> Iterator[tuple[int, int]]:
        """The stretches (first, stop) of units that no chunk holds."""
        reached = 0
        for first, stop in [*((c.first, c.stop) for c in self._chunks), (self.sweep.units, self.sweep.units)]:
            if first > reached:
                yield reached, first
            reached = max(reached, stop)

    def keep(self, first: int, arrays: Arrays) -> None:
        """Keep the variables of units first, first + 1, …"""
        stop = first + len(next(iter(arrays.values())))
        content = _as_netcdf(self.sweep, arrays)
        path = self.folder / f"{first:09d}-{stop:09d}-{_digest(content)}.nc"
        write_file(path, content)
        self._chunks.append(Chunk(first, stop, path))
        self._chunks.sort(key=lambda chunk: chunk.first)

    def chunks(self) -> Iterator[tuple[int, Arrays]]:
        """(first unit, variables) of every chunk in order, one in memory at a time."""
        for chunk in self._chunks:
            data = xr.load_dataset(io.BytesIO(chunk.path.read_bytes()), engine="scipy")
            yield chunk.first, {name: data[name].to_numpy() for name in self.sweep.variables}

    def processors(self) -> list[str]:
        """The kinds of CPU that computed the chunks."""
        found = set()
        for chunk in self._chunks:
            with xr.open_dataset(chunk.path, engine="scipy") as data:
                found.add(str(data.attrs["processor"]))
        return sorted(found)

    def close(self) -> None:
        """Let other processes have the folder. One without a chunk is removed, with those that were made for it."""
        if self._ours and not self._chunks:
            self._empty()
        for place in dict.fromkeys([*([self.folder] if self._ours else []), *self._made]):
            with suppress(OSError):  # there is something in it
                place.rmdir()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remove(self) -> None:
        """Remove the chunks of a result that is complete."""
        self._empty()
        self._chunks = []

    def _empty(self) -> None:
        (self.folder / STATED).unlink(missing_ok=True)  # first: without it the rest means nothing
        self._remove(_LEFT_OVER)
        self._remove(_CHUNK)

    def _remove(self, pattern: re.Pattern[str]) -> None:
        for path in self.folder.iterdir():
            if pattern.fullmatch(path.name) and not path.is_dir():
                path.unlink(missing_ok=True)


def statement(sweep: Sweep) -> dict[str, Any]:
    """What a store says it is of: equal statements, equal numbers."""
    return json.loads(json.dumps({"versions": versions(sweep.libraries), "sweep": as_plain(dict(sweep.request))}))


def matches(folder: Path, sweep: Sweep) -> bool:
    """Whether a folder holds chunks of this very sweep."""
    return os.path.lexists(folder / STATED) and not _difference(folder / STATED, statement(sweep))


def _difference(path: Path, wanted: Mapping[str, Any]) -> str:
    """What tells the stated sweep from the wanted one, in words; empty where nothing does."""
    try:
        if path.is_symlink() or not path.is_file():  # a pipe would be waited for
            raise ValueError(path)
        found = read_json(str(path))
        parts = [(name, found[name], wanted[name]) for name in ("versions", "sweep")]
        changed = [
            (name, key, old.get(key), new.get(key))
            for name, old, new in parts
            for key in (*new, *(old.keys() - new.keys()))
            if old.get(key) != new.get(key)
        ]
    except (BadInput, OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return f"its {STATED} cannot be read"
    if not changed:
        return ""
    for name, key, old, new in changed:
        if name == "versions":
            return "its chunks were computed by other source" if key == "source" else f"its chunks were computed by {key} {old}, not {new}"
    return f"its chunks are those of another sweep: {', '.join(key for _, key, _, _ in changed)} differs"


def _found(folder: Path, units: int, tell: Callable[[str], None] | None) -> Iterator[Chunk]:
    for path in sorted(folder.iterdir()):
        if not (match := _CHUNK.fullmatch(path.name)):
            continue
        first, stop = int(match[1]), int(match[2])
        whole = path.is_file() and not path.is_symlink() and _digest(path.read_bytes()) == match[3]
        if whole and first < stop <= units:
            yield Chunk(first, stop, path)
            continue
        if tell is not None:
            tell(f"{path} is damaged: its units are computed again")
        path.unlink()


def _as_netcdf(sweep: Sweep, arrays: Arrays) -> bytes:
    data = {name: (("unit", *variable.dims), arrays[name]) for name, variable in sweep.variables.items()}
    return bytes(xr.Dataset(data, attrs={"processor": processor()}).to_netcdf(engine="scipy"))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(str(folder), f"cannot be made ({error.strerror})", "choose another --out", "") from None


def _locked(folder: Path) -> int | None:
    """A lock that goes with this process, however it ends; None where the file system has none."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BadInput(str(folder), "another process is working on it", "wait for it, or choose another --out", "") from None
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
