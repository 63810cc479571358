"""Finished parts of a long result, kept in a folder so that an interrupted run goes on after them."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np

from annealvi.output import write_file
from derive.problem import BadInput

REMEDY = "remove that folder or choose another one"


class Rows:
    """Arrays, each a file of its own that appears whole; none are kept without a folder."""

    def __init__(self, folder: Path | None, request: str) -> None:
        """request: all that decides the rows. Raises BadInput for a folder with the rows of another one."""
        self.folder, mark = folder, hashlib.sha256(request.encode()).hexdigest()
        if folder is None:
            return
        stated = folder / "request.json"
        if not stated.exists():
            write_file(stated, json.dumps({"request": mark}).encode())
            return
        try:
            found = json.loads(stated.read_text(encoding="utf-8"))["request"]
        except (ValueError, TypeError, KeyError, OSError):
            raise self._unreadable(stated) from None
        if found != mark:
            raise BadInput("--out", f"{folder} holds the rows of another map", REMEDY, "")

    def read(self, j: int) -> np.ndarray | None:
        """Row j, None where it is not there."""
        if self.folder is None or not (path := self._path(j)).exists():
            return None
        try:
            return np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError):
            raise self._unreadable(path) from None

    def write(self, j: int, row: np.ndarray) -> None:
        """Keep row j."""
        if self.folder is not None:
            buffer = io.BytesIO()
            np.save(buffer, row)
            write_file(self._path(j), buffer.getvalue())

    def _unreadable(self, path: Path) -> BadInput:
        return BadInput("--out", f"{path} cannot be read", REMEDY, "")

    def _path(self, j: int) -> Path:
        assert self.folder is not None
        return self.folder / f"row-{j:06d}.npy"


def forget_rows(folder: Path) -> None:
    """Remove the rows of a result that is complete."""
    shutil.rmtree(folder, ignore_errors=True)
