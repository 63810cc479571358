"""The finished chunks of a sweep, in a folder beside its result.

Whatever ends a run, it costs at most the chunks under way.

Each chunk is one netCDF file, whose name holds the numbers of its units and the digest of its bytes. The file appears
whole: it is written under another name, brought to the disk and renamed. A zarr store keeps the variables of a chunk in
as many files, so a chunk could be there in part. The files are netCDF 3, which SciPy reads in plain Python, so a
damaged file cannot crash the process.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from annealvi.show.output import as_plain, named, read_json, synchronise, write_file
from annealvi.sweeps.provenance import processor, versions
from annealvi.sweeps.sweep import Arrays, Sweep
from derive.problem.specification import BadInput

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ModuleNotFoundError:  # Windows
    flock = None  # type: ignore[assignment]

STATED = "sweep.json"
"""The file that states which sweep the chunks belong to."""
RESULT = "result.nc"
"""The whole result while it is being written."""
MARK = "written"
"""The file with the digest of the result, once the result is complete."""
_CHUNK = re.compile(r"([0-9]{9})-([0-9]{9})-([0-9a-f]{16})\.nc")
_LEFT_OVER = re.compile(rf"\.[0-9a-f]{{16}}\.tmp|{re.escape(RESULT)}")
_REMEDY = "give --force to begin anew, or choose another --out"


@dataclass(frozen=True)
class Chunk:
    """Units first, …, stop − 1, in a file that was found whole."""

    first: int
    stop: int
    path: Path


class Store:
    """The chunks of one sweep.

    A store holds the folder for this process until `close`, and changes nothing in it before `begin`.
    """

    def __init__(self, folder: Path, sweep: Sweep, *, anew: bool = False) -> None:
        """Open the sweep's folder, or make it.

        With `anew`, a folder of another sweep is taken and emptied. Raises BadInput for a folder with chunks of another
        sweep or another version, and for a folder on which another process works.
        """
        self.folder, self.sweep = folder, sweep
        self._made, self._begun = [place for place in (folder, *folder.parents) if not place.exists()], False
        self._chunks: list[Chunk] = []
        self._damaged: list[Path] = []
        _make(folder)
        self._lock = _locked(folder)
        try:
            # Files without a statement are left over from a complete run.
            self.resumed = os.path.lexists(folder / STATED)
            if self.resumed and (difference := _difference(folder / STATED, statement(sweep))):
                if not anew:
                    raise BadInput("", difference, _REMEDY, str(folder))
                self.resumed = False
            if self.resumed:
                self._chunks, self._damaged = survey(folder, sweep)
        except BaseException:
            self.close()
            raise

    def begin(self, tell: Callable[[str], None] | None = None) -> None:
        """Remove left-overs, chunks of other sweeps and damaged chunks.

        `tell` hears of the damaged ones, whose units are computed again.
        """
        self._begun = True
        if self._lock is None and tell is not None:
            tell(f"{self.folder} cannot be locked: see to it that no other run works on it")
        for path in self._damaged:
            if tell is not None:
                tell(f"{path} is damaged: its units are computed again")
            path.unlink()
        if self.resumed:
            self._remove(_LEFT_OVER)
        else:
            self._empty()
            write_file(self.folder / STATED, json.dumps(statement(self.sweep), indent=1, sort_keys=True).encode())

    @property
    def finished(self) -> int:
        """The number of units that have been computed."""
        return units_in(self._chunks, self.sweep.units)

    def missing(self) -> Iterator[tuple[int, int]]:
        """Yield the stretches (first, stop) of units that no chunk holds."""
        return _gaps(self._chunks, self.sweep.units)

    def keep(self, first: int, arrays: Arrays) -> None:
        """Keep the variables of a chunk: arrays whose rows are the units first, first + 1, and so on."""
        stop = first + len(next(iter(arrays.values())))
        content = _as_netcdf(self.sweep, arrays)
        path = self.folder / f"{first:09d}-{stop:09d}-{_digest(content)}.nc"
        write_file(path, content)
        self._chunks.append(Chunk(first, stop, path))
        self._chunks.sort(key=lambda chunk: chunk.first)

    def chunks(self) -> Iterator[tuple[int, Arrays]]:
        """Yield (first unit, variables) of every chunk in order, one in memory at a time."""
        for chunk in self._chunks:
            with named(chunk.path):
                data = xr.load_dataset(io.BytesIO(chunk.path.read_bytes()), engine="scipy")
            yield chunk.first, {name: data[name].to_numpy() for name in self.sweep.variables}

    def processors(self) -> list[str]:
        """Return the kinds of CPU that computed the chunks."""
        found = set()
        for chunk in self._chunks:
            with named(chunk.path), xr.open_dataset(chunk.path, engine="scipy") as data:
                found.add(str(data.attrs["processor"]))
        return sorted(found)

    def publish(self, path: Path) -> None:
        """Move the whole result from RESULT in the folder to its own name.

        A mark lets the next run recognise the result as this sweep's.
        """
        whole = self.folder / RESULT
        write_file(self.folder / MARK, _digest_of(whole).encode())
        os.replace(whole, path)
        synchronise(path.parent)

    def close(self) -> None:
        """Release the folder. A folder without a chunk is removed, with the folders that were made for it."""
        # An interrupt may fall between the writing of a chunk and its entry in the list, so the folder is asked.
        if self._begun and not any(_CHUNK.fullmatch(path.name) for path in self.folder.iterdir()):
            self._empty()
        for place in dict.fromkeys([*([self.folder] if self._begun else []), *self._made]):
            with suppress(OSError):  # it is not empty
                place.rmdir()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remove(self) -> None:
        """Remove the chunks of a result that is complete."""
        self._empty()
        self._chunks = []

    def _empty(self) -> None:
        (self.folder / STATED).unlink(missing_ok=True)  # first, because without it the rest means nothing
        self._remove(_LEFT_OVER)
        self._remove(_CHUNK)
        (self.folder / MARK).unlink(missing_ok=True)

    def _remove(self, pattern: re.Pattern[str]) -> None:
        for path in self.folder.iterdir():
            if pattern.fullmatch(path.name) and not path.is_dir():
                path.unlink(missing_ok=True)


def survey(folder: Path, sweep: Sweep) -> tuple[list[Chunk], list[Path]]:
    """Return the whole chunks in a folder, in order, and the damaged ones.

    Raises BadInput for a folder in the place of a file.
    """
    chunks, damaged = [], []
    for path in sorted(folder.iterdir()):
        if path.name == RESULT and path.is_dir():
            raise BadInput(str(path), "is a folder", "remove it", "")
        if not (match := _CHUNK.fullmatch(path.name)):
            continue
        if path.is_dir():
            raise BadInput(str(path), "is a folder", "remove it", "")
        first, stop = int(match[1]), int(match[2])
        with named(path):
            whole = path.is_file() and not path.is_symlink() and _digest(path.read_bytes()) == match[3]
        if whole and first < stop <= sweep.units:
            chunks.append(Chunk(first, stop, path))
        else:
            damaged.append(path)
    return sorted(chunks, key=lambda chunk: chunk.first), damaged


def units_in(chunks: Sequence[Chunk], units: int) -> int:
    """Return how many of the units the chunks hold."""
    return units - sum(stop - first for first, stop in _gaps(chunks, units))


def is_own_result(folder: Path, sweep: Sweep, path: Path) -> bool:
    """Return whether the file at `path` was made by the interrupted run whose chunks are in the folder."""
    if not matches(folder, sweep) or not path.is_file():
        return False
    with suppress(OSError):
        return (folder / MARK).read_text(encoding="ascii", errors="replace") == _digest_of(path)
    return False


def _gaps(chunks: Sequence[Chunk], units: int) -> Iterator[tuple[int, int]]:
    reached = 0
    for first, stop in [*((c.first, c.stop) for c in chunks), (units, units)]:
        if first > reached:
            yield reached, first
        reached = max(reached, stop)


def statement(sweep: Sweep) -> dict[str, Any]:
    """Return what a store states about its sweep: equal statements mean equal numbers."""
    return json.loads(json.dumps({"versions": versions(sweep.libraries), "sweep": as_plain(dict(sweep.request))}))


def matches(folder: Path, sweep: Sweep) -> bool:
    """Return whether a folder holds chunks of this very sweep."""
    return os.path.lexists(folder / STATED) and not _difference(folder / STATED, statement(sweep))


def _difference(path: Path, wanted: Mapping[str, Any]) -> str:
    """Describe how the stated sweep differs from the wanted one; empty where it does not."""
    try:
        if path.is_symlink() or not path.is_file():  # reading a pipe would wait
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
            return (
                "its chunks were computed by other source"
                if key == "source"
                else f"its chunks were computed by {key} {old}, not {new}"
            )
    return (
        f"its chunks are those of another sweep, with another {' and another '.join(key for _, key, _, _ in changed)}"
    )


def _as_netcdf(sweep: Sweep, arrays: Arrays) -> bytes:
    data = {name: (("unit", *variable.dims), arrays[name]) for name, variable in sweep.variables.items()}
    return bytes(xr.Dataset(data, attrs={"processor": processor()}).to_netcdf(engine="scipy"))


def _digest_of(path: Path) -> str:
    with named(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(str(folder), f"cannot be made ({error.strerror})", "choose another --out", "") from None


def _locked(folder: Path) -> int | None:
    """Lock the folder until this process ends. Returns None where the system or the file system has no locks."""
    if flock is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BadInput(
            str(folder), "another process is working on it", "wait for it, or choose another --out", ""
        ) from None
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
