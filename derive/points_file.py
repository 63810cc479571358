"""Points of a table from a file of two columns, time and temperature: untrusted text, so bounded and read by nothing but `float`."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from derive.problem import MOST_POINTS, BadInput, one_line

MOST_BYTES = 2**20
_SEPARATOR = re.compile(r"[ \t]*[,;\t][ \t]*")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_REMEDY = "write a time and a temperature on each line, such as 1000,300, under a line of headings if you like"


def read_points(path: str | os.PathLike[str], key: str) -> tuple[list[tuple[float, float]], list[str]]:
    """The points of a file, and where each stands, for messages. Columns are separated by commas, semicolons or tabs.

    Blank lines, and those that begin with #, are passed over. Raises BadInput with the file's name and the line. What stands there is not
    quoted: a problem file of somebody else's may name any file.
    """
    name = one_line(os.fsdecode(path))
    points: list[tuple[float, float]] = []
    places: list[str] = []
    for number, line in enumerate(_text(Path(path), name, key).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cells = _SEPARATOR.split(line.strip())
        if not points and number == 1 and not any(map(_NUMBER.fullmatch, cells)):
            continue
        if len(cells) != 2 or not all(map(_NUMBER.fullmatch, cells)):
            raise BadInput(key, f"{name}, line {number}: not two finite numbers", _REMEDY)
        if len(points) == MOST_POINTS:
            raise BadInput(key, f"{name}: over {MOST_POINTS} points", "leave out every other one, say")
        points.append((float(cells[0]), float(cells[1])))
        places.append(f"{name}, line {number}")
    if not points:
        raise BadInput(key, f"{name}: no points", _REMEDY)
    return points, places


def _text(path: Path, name: str, key: str) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe or a device may never end
            raise BadInput(key, f"{name}: not a file", "give the name of a file of two columns")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        remedy = "give a file beside the problem file (of --set and of Python: in the working folder)"
        raise BadInput(key, f"{name}: no such file", remedy) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(key, f"{name}: cannot be read ({reason})", "give a readable file") from None
    if len(content) > MOST_BYTES:
        raise BadInput(key, f"{name}: larger than 1 MiB", f"give at most {MOST_POINTS} points")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadInput(key, f"{name}, line {line}: not UTF-8", "save it as plain text") from None
