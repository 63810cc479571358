"""The finished chunks of a sweep, in a folder beside its result, so that whatever ends the run costs at most what was
under way.

Each chunk is one netCDF file. Its name holds the numbers of its units and the digest of its bytes, and it appears
whole: written beside, brought to the disk, renamed. A zarr store keeps a chunk's variables in as many files, so a chunk
of it could be there in part. These files are netCDF 3, which SciPy reads in plain Python: a damaged one cannot bring
down the process.
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
RESULT = "result.nc"
"""The whole result while it is being written."""
MARK = "written"
"""The digest of the result, once it is there."""
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
    """The chunks of one sweep. Holds the folder for this process until `close`; changes nothing in it before
    `begin`."""

    def __init__(self, folder: Path, sweep: Sweep, *, anew: bool = False) -> None:
        """Open the sweep's folder, or make it. anew: take it, empty, where it is another sweep's.

        Raises BadInput for a folder with chunks of another sweep or another version, and for one that another process
        works on.
        """
        self.folder, self.sweep = folder, sweep
        self._made, self._begun = [place for place in (folder, *folder.parents) if not place.exists()], False
        self._chunks: list[Chunk] = []
        self._damaged: list[Path] = []
        _make(folder)
        self._lock = _locked(folder)
        try:
            # What is there without a statement is left of a run that was complete.
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
        """Remove what is no use: left-overs, other sweeps' chunks, damaged ones, of which `tell` hears since they are
        computed again."""
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
        """How many units have been computed."""
        return units_in(self._chunks, self.sweep.units)

    def missing(self) -> Iterator[tuple[int, int]]:
        """The stretches (first, stop) of units that no chunk holds."""
        return _gaps(self._chunks, self.sweep.units)

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
            with named(chunk.path):
                data = xr.load_dataset(io.BytesIO(chunk.path.read_bytes()), engine="scipy")
            yield chunk.first, {name: data[name].to_numpy() for name in self.sweep.variables}

    def processors(self) -> list[str]:
        """The kinds of CPU that computed the chunks."""
        found = set()
        for chunk in self._chunks:
            with named(chunk.path), xr.open_dataset(chunk.path, engine="scipy") as data:
                found.add(str(data.attrs["processor"]))
        return sorted(found)

    def publish(self, path: Path) -> None:
        """Give the whole result, which is at RESULT in the folder, its own name. A mark lets the next run know it for
        this one's."""
        whole = self.folder / RESULT
        write_file(self.folder / MARK, _digest_of(whole).encode())
        os.replace(whole, path)
        synchronise(path.parent)

    def close(self) -> None:
        """Let other processes have the folder. One without a chunk is removed, with those that were made for it."""
        if self._begun and not self._chunks:
            self._empty()
        for place in dict.fromkeys([*([self.folder] if self._begun else []), *self._made]):
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
        (self.folder / MARK).unlink(missing_ok=True)

    def _remove(self, pattern: re.Pattern[str]) -> None:
        for path in self.folder.iterdir():
            if pattern.fullmatch(path.name) and not path.is_dir():
                path.unlink(missing_ok=True)


def survey(folder: Path, sweep: Sweep) -> tuple[list[Chunk], list[Path]]:
    """The whole chunks in a folder, in order, and the damaged ones. Raises BadInput for a folder in the place of a
    file."""
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
    """How many of so many units the chunks hold."""
    return units - sum(stop - first for first, stop in _gaps(chunks, units))


def is_own_result(folder: Path, sweep: Sweep, path: Path) -> bool:
    """Whether the file at `path` is what the interrupted run, whose chunks are in the folder, has made of them."""
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
    """A lock that goes with this process, however it ends; None where the system or the file system has none."""
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
