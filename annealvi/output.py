"""What leaves the program: JSON, files written whole or not at all, and tables for people."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from derive.problem import BadInput


def as_plain(value: Any) -> Any:
    """Arrays and NumPy scalars as lists and numbers; numbers that JSON cannot hold as null."""
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
    text = json.dumps(as_plain(result), indent=2, ensure_ascii=False) + "\n"
    if path == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_file(Path(path), text.encode())


def write_file(path: Path, content: bytes) -> None:
    """Write a file beside its destination, then rename: readers see the old file or the whole new one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(beside, 0o666 & ~_umask())
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(beside)
            raise
    except OSError as error:
        raise BadInput(str(path), f"cannot be written ({error.strerror})", "give a path in a folder that exists and can be written", "") from None


def require_writable(path: str | None) -> None:
    """Refuse an output path before any computation if its folder cannot take it."""
    if path in (None, "-"):
        return
    target = Path(str(path))
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    if target.is_dir():
        raise BadInput(str(path), "is a folder", "give a file's path", "")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise BadInput(str(path), f"{folder} cannot be written", "give a path in a folder that can be written", "")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
