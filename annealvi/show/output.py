"""Files and JSON: written whole or not at all, refused before any computation where they cannot be written."""

from __future__ import annotations

import json
import math
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from derive.problem.field_checks import BadInput, one_line

LARGEST_FILE = 1 << 26
"""Bytes of the largest JSON file that is read."""

PathLike = str | os.PathLike[str]
"""The type of every path that a public function takes."""

_WITH_ROOM = "give a path in a folder that can be written and has room"


def as_plain(value: Any) -> Any:
    """Convert arrays and NumPy scalars to lists and numbers, and numbers that are not finite to None."""
    if isinstance(value, dict):
        return {str(k): as_plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return as_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [as_plain(v) for v in value]
    if isinstance(value, np.generic):
        return as_plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: str | None, result: dict[str, Any]) -> None:
    """Write a result to a path, or to standard output for "-"; nothing for None."""
    if path is None:
        return
    text = json.dumps(as_plain(result), indent=2, ensure_ascii=path == "-") + "\n"  # standard output may not be UTF-8
    if path == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_file(Path(path), text.encode())


def write_file(path: Path, content: bytes) -> None:
    """Write a file beside its destination and rename it, so that readers see the old file or the whole new one.

    A device or a pipe is written to, not replaced; a link stays a link. Raises BadInput where the file cannot be
    written.
    """
    given = path
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as stream:
                stream.write(content)
            return
        path = Path(os.path.realpath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary(path.parent) as beside:
            with open(beside, "xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(beside, path)
            synchronise(path.parent)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise BadInput(str(given), f"cannot be written ({error.strerror})", _WITH_ROOM, "") from None


@contextmanager
def temporary(folder: Path) -> Iterator[Path]:
    """Yield a name for a file that the block makes in a folder.

    The file is removed afterwards unless the block has renamed it.
    """
    beside = folder / f".{secrets.token_hex(8)}.tmp"
    try:  # begins before the file exists, so that no interrupt leaves it behind
        yield beside
        beside.unlink(missing_ok=True)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


@contextmanager
def named(path: PathLike) -> Iterator[None]:
    """Give an OSError within the block the file's name where it has none, as errors of open files and of HDF5 have."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def synchronise(folder: Path) -> None:
    """Write the names of a folder's files to the disk, so that a renamed file is still there after a power cut."""
    with suppress(OSError):  # some file systems cannot do this
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def require_writable(path: str | None, option: str) -> None:
    """Raise BadInput for an output path that cannot be written. option: the option that gave it, for the message."""
    if path is None or (path == "-" and option == "--json"):
        return
    target, remedy = Path(path), "give a path in a folder that can be written"
    try:
        if target.is_dir():
            raise BadInput(path, "is a folder", "give a file's path", option)
        if target.exists() and not os.access(target, os.W_OK):
            raise BadInput(path, "cannot be written", remedy, option)
        with suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(target)  # fails for a name that the file system does not take
        folder = target.parent
        while not folder.exists():
            folder = folder.parent
    except OSError as error:
        raise BadInput(one_line(path)[:60], f"cannot be written ({error.strerror})", remedy, option) from None
    if not folder.is_dir():
        raise BadInput(path, f"{folder} is a file, not a folder", remedy, option)
    if target.exists() and not target.is_file():
        return
    try:
        with tempfile.TemporaryFile(dir=folder) as nameless:
            # Permissions alone do not tell of a full disk, a quota or a read-only file system.
            nameless.write(b"\0")
    except OSError as error:
        raise BadInput(path, f"{folder} cannot be written ({error.strerror})", _WITH_ROOM, option) from None


def require_free(path: str | None, option: str, force: bool) -> None:
    """Raise BadInput for a file that exists, unless forced. option: the option that gave it, for the message."""
    if path is not None and not force and Path(path).is_file():
        raise BadInput(path, "exists already", "give another path, or --force to overwrite it", option)


def require_inside(path: Path, folder: Path, option: str) -> None:
    """Raise BadInput for a path in a folder where a link leads out of that folder. option: for the message."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise BadInput(str(path), f"leads out of {folder}", "remove that link, or give another folder", option)


def read_json(path: str) -> Any:
    """Read a user's JSON file.

    Raises OSError, ValueError or RecursionError as `open` and `json` do, and BadInput for a file that is too large.
    """
    with open(path, "rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise BadInput("", "larger than 64 MiB", "give fewer numbers", path)
    return json.loads(content.decode("utf-8-sig"))
