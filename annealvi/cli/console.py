"""Code that all commands share: it reads the problem, refuses outputs that cannot be written, and speaks to people."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from derive.problem.specification import Problem

SILENCE = 2.5
"""Seconds without a word after which people are told what the command is doing."""


def problem_of(options: argparse.Namespace, *outputs: str) -> Problem:
    """Read the problem of a command, and refuse outputs that cannot be written.

    outputs: names of the files that the command writes to --out.
    """
    from annealvi.show.output import require_free, require_writable
    from derive.problem.problem_file import load_problem

    problem = load_problem(options.problem, options.set)
    require_writable(options.json, "--json")
    require_free(options.json, "--json", options.force)
    _require_outputs(options, *outputs)
    if options.device == "cuda" and options.command not in ("derive", "rhs", "flow"):
        from kernels.machine.device import resolve_device

        resolve_device("cuda")  # raises DeviceUnavailable before any work is done
    return problem


def _require_outputs(options: argparse.Namespace, *names: str) -> None:
    """Refuse files of --out that cannot be written, that exist already, or that a link leads out of the folder."""
    from annealvi.show.output import require_free, require_inside, require_writable

    if options.out is not None and any(name.endswith(".png") for name in names):
        import annealvi.show.style  # noqa: F401  # raises BadInput where Matplotlib does not start
    for name in names if options.out is not None else ():
        path = Path(options.out) / name
        require_writable(str(path), "--out")
        require_inside(path, Path(options.out), "--out")
        require_free(str(path), "--out", options.force)


def show_figure(options: argparse.Namespace, figure: Any, path: Path) -> None:
    """Say where a figure is, or raise the NoFigure that stands in its place."""
    if isinstance(figure, Exception):
        raise figure
    say(options, f"figure: {path}")


@contextmanager
def for_people(options: argparse.Namespace) -> Iterator[None]:
    """Print to standard error within the block where standard output carries JSON."""
    with redirect_stdout(sys.stderr) if options.json == "-" else nullcontext():
        yield


def say(options: argparse.Namespace, text: str) -> None:
    """Print for people, with lines broken to the terminal's width."""
    from annealvi.show.printing import fitted

    with for_people(options):
        print(fitted(text))


def live_line(text: str) -> None:
    """Show a line of progress on standard error in the place of the one before it."""
    sys.stderr.write(f"\r\x1b[K{text[:100]}")
    sys.stderr.flush()


@contextmanager
def telling_stages(command: str) -> Iterator[None]:
    """Print the stages of a slow command on standard error: each stage once, on its own line."""
    from annealvi.show.remarks import tell
    from kernels.machine.stages import is_spoken_for, now, stage

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


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar with the time left on a terminal, and nothing elsewhere.

    Yields a callable (done, total), or None where there is no terminal. Until the total is known, the bar says which
    stage the command is in.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    from kernels.machine.stages import now, spoken_for

    class Doing(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(task.description if task.total else f"{task.description}: {now()}")

    columns = Doing(""), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with spoken_for(), Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
