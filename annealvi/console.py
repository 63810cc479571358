"""What all commands share: reading the problem, refusing outputs in time, and speaking to people."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

from annealvi.output import require_free, require_inside, require_writable
from derive.problem import BadInput, Problem
from derive.problem_file import load_problem

T = TypeVar("T")


def problem_of(options: argparse.Namespace, *outputs: str) -> Problem:
    """The problem of a command, once it is known that its results can be written. outputs: names of the files that it puts into --out."""
    problem = load_problem(options.problem, options.set)
    require_writable(options.json, "--json")
    require_free(options.json, "--json", options.force)
    require_outputs(options, *outputs)
    if options.device == "cuda" and options.command not in ("derive", "rhs", "flow"):
        from kernels.device import resolve_device

        resolve_device("cuda")  # say now what is missing
    return problem


def require_outputs(options: argparse.Namespace, *names: str) -> None:
    """Refuse files of --out that cannot be written, that are there already, or that would lead out of it."""
    if options.out is not None and any(name.endswith(".png") for name in names):
        import annealvi.style  # noqa: F401  # say now why it cannot draw
    for name in names if options.out is not None else ():
        path = Path(options.out) / name
        require_writable(str(path), "--out")
        require_inside(path, Path(options.out), "--out")
        require_free(str(path), "--out", options.force)


class NoFigure(RuntimeError):  # noqa: N818
    """A figure that could not be drawn. Its numbers are kept."""


def drawn(draw: Callable[..., T], *arguments: Any) -> T | NoFigure:
    """What draw(*arguments) gives, or, for `show_figure` to raise once all else is written, why it cannot."""
    try:
        return draw(*arguments)
    except (BadInput, OSError, MemoryError):
        raise
    except Exception as error:
        found = NoFigure(f"the figure cannot be drawn ({type(error).__name__}: {' '.join(str(error).split())[:200]}); its numbers are kept")
        return found.with_traceback(error.__traceback__)


def show_figure(options: argparse.Namespace, figure: Any, path: Path) -> None:
    """Say where a figure is. Raises a NoFigure."""
    if isinstance(figure, NoFigure):
        raise figure
    say(options, f"figure: {path}")


@contextmanager
def for_people(options: argparse.Namespace) -> Iterator[None]:
    """What is printed within moves to standard error when standard output carries JSON."""
    with redirect_stdout(sys.stderr) if options.json == "-" else nullcontext():
        yield


def say(options: argparse.Namespace, text: str) -> None:
    """Print for people."""
    with for_people(options):
        print(text)


def tell(line: str) -> None:
    """Print a remark."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar with the time left on a terminal, nothing elsewhere; yields a callable (done, total)."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
