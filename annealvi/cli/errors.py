"""How a command ends: the exit statuses, and the one line that tells people why a command failed.

An exception that the user can mend carries its status as the class attribute `exit_status`, wherever its class is
defined: this module imports none of these classes. Two further class attributes word the line. `explained` is a
sentence with {} for the message. `option` and `remedy` are for an error that is bad input to that option, in the
commands that have the option. An exception without `exit_status` is a defect of the program and keeps its traceback,
unless it is one of Python's own that `told` knows.
"""

from __future__ import annotations

import argparse
import sys
from typing import IO

DONE, CHECK_FAILED, BAD_INPUT, MISSING_COMPONENT = 0, 1, 2, 3
INTERRUPTED, TERMINATED = 130, 143  # 128 + the number of SIGINT, of SIGTERM


def told(error: Exception, options: argparse.Namespace) -> tuple[int, str] | None:
    """Return the exit status and the line for an error that the user can mend; None for a defect of the program."""
    status, option = getattr(error, "exit_status", None), getattr(error, "option", None)
    if option is not None and hasattr(options, option.removeprefix("--")):
        return BAD_INPUT, f"{option}: {error}; {error.remedy}"  # type: ignore[attr-defined]
    if status is not None:
        return status, _line(error, options)
    if isinstance(error, MemoryError):
        return BAD_INPUT, "not enough memory; ask for fewer paths, replicas, points or dimensions"
    if isinstance(error, OSError):
        place = error.filename or ("standard output" if _fails(sys.stdout) else "standard output, or what has no name")
        return (
            BAD_INPUT,
            f"{place}: cannot be written or read ({error.strerror or error}); free space or choose another place",
        )
    if type(error) is ArithmeticError:  # a rule or an average has checked its own result and refused it
        return CHECK_FAILED, str(error)
    return None


def complain(message: str) -> None:
    """Print a message on standard error as one line that begins with the program's name."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    sys.stderr.write(f"annealvi: {line}\n")


def _line(error: Exception, options: argparse.Namespace) -> str:
    """The message of an error that carries its status.

    A BadInput that was found after the problem was read has the source "problem": the line then names the problem file,
    or `--set` where that option gave the key.
    """
    if getattr(error, "source", None) == "problem":
        changed = {text.partition("=")[0].strip() for text in options.set}
        error = error.at("--set" if error.key.split("[")[0] in changed else options.problem)  # type: ignore[attr-defined]
    return getattr(error, "explained", "{}").format(error)


def _fails(stream: IO[str]) -> bool:
    """Whether a stream still holds output that it cannot write."""
    try:
        stream.flush()
    except (OSError, ValueError):
        return True
    return False
