"""What all commands share: reading the problem, refusing outputs in time, and speaking to people."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TypeVar

from annealvi.show.output import require_free, require_inside, require_writable
from derive.problem.problem_file import load_problem
from derive.problem.specification import BadInput, Problem
from kernels.machine.stages import is_spoken_for, now, spoken_for, stage

T = TypeVar("T")


def problem_of(options: argparse.Namespace, *outputs: str) -> Problem:
    """The problem of a command, once it is known that its results can be written. outputs: names of the files that it
    puts into --out."""
    problem = load_problem(options.problem, options.set)
    require_writable(options.json, "--json")
    require_free(options.json, "--json", options.force)
    require_outputs(options, *outputs)
    if options.device == "cuda" and options.command not in ("derive", "rhs", "flow"):
        from kernels.machine.device import resolve_device

        resolve_device("cuda")  # say now what is missing
    return problem


def require_outputs(options: argparse.Namespace, *names: str) -> None:
    """Refuse files of --out that cannot be written, that are there already, or that would lead out of it."""
    if options.out is not None and any(name.endswith(".png") for name in names):
        import annealvi.show.style  # noqa: F401  # say now why it cannot draw
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
        found = NoFigure(
            f"the figure cannot be drawn ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); its numbers are kept"
        )
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
    from annealvi.show.printing import fitted

    with for_people(options):
        print(fitted(text))


def tell(line: str) -> None:
    """Print a remark."""
    print(line, file=sys.stderr, flush=True)


SILENCE = 2.5
"""Seconds without a word after which people are told what is done just now."""


@contextmanager
def telling_stages(command: str) -> Iterator[None]:
    """Tell, on standard error, what a command is doing where that takes long: each stage once, in a line of its own."""
    ended = threading.Event()

    def watch() -> None:
        told = {""}
        while not ended.wait(SILENCE):
            what = now()
            if what not in told and not is_spoken_for():
                told.add(what)
                with suppress(OSError, ValueError):  # standard error is closed, so nobody listens
                    tell(f"{command}: {what} …")

    with stage("computing"):
        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            ended.set()


def noted(warnings: Sequence[str]) -> list[str]:
    """Print what a result is to be read with, a line each, and return it for the JSON."""
    for line in warnings:
        tell(f"note: {line}")
    return list(warnings)


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar with the time left on a terminal, which says what is done until that is known; nothing elsewhere. Yields a
    callable (done, total)."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Doing(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(task.description if task.total else f"{task.description}: {now()}")

    columns = Doing(""), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with spoken_for(), Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
