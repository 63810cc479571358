"""The points of a table from a file of two columns, time and temperature.

The file is untrusted text, so its size is bounded and its numbers are read by `float` alone.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

MOST_POINTS = 10_000
MOST_BYTES = 2**20
_SEPARATOR = re.compile(r"[ \t]*[,;\t][ \t]*")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)


class BadPointsError(ValueError):
    """A mistake in a file of points. `found` names the file and the line; `remedy` says what to do."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found, remedy)
        self.found, self.remedy = found, remedy


_REMEDY = (
    "write a time and a temperature on each line, such as 1000,300 with decimal points, under "
    "a line of headings if you like"
)


def read_points(path: str | os.PathLike[str]) -> tuple[list[tuple[float, float]], list[str]]:
    """The points of a file, and the place of each point for messages.

    Commas, semicolons or tabs separate the columns. Blank lines, lines that begin with # and a first line of headings
    are skipped. Raises BadPointsError, which never quotes the file: a problem file from somebody else may name any file
    of the reader's.
    """
    name = os.fsdecode(path)
    points: list[tuple[float, float]] = []
    places: list[str] = []
    headings = 1
    for number, line in enumerate(_text(Path(path), name).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cells = _SEPARATOR.split(line.strip())
        if not points and headings and not any(map(_NUMBER.fullmatch, cells)):
            headings -= 1
            continue
        if len(cells) != 2 or not all(map(_NUMBER.fullmatch, cells)):
            raise BadPointsError(f"{name}, line {number}: not two finite numbers", _REMEDY)
        if len(points) == MOST_POINTS:
            raise BadPointsError(f"{name}: over {MOST_POINTS} points", "leave out every other one, say")
        points.append((float(cells[0]), float(cells[1])))
        places.append(f"{name}, line {number}")
    if not points:
        raise BadPointsError(f"{name}: no points", _REMEDY)
    return points, places


def _text(path: Path, name: str) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe or a device may never end
            raise BadPointsError(f"{name}: not a file", "give the name of a file of two columns")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except BadPointsError:
        raise
    except FileNotFoundError:
        remedy = "give a file beside the problem file (of --set and of Python: in the working folder)"
        raise BadPointsError(f"{name}: no such file", remedy) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadPointsError(f"{name}: cannot be read ({reason})", "give a readable file") from None
    if len(content) > MOST_BYTES:
        raise BadPointsError(f"{name}: larger than 1 MiB", f"give at most {MOST_POINTS} points")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadPointsError(f"{name}, line {line}: not UTF-8", "save it as plain text") from None
