"""What all commands share: reading the problem, refusing outputs in time, and speaking to people."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path

from annealvi.output import require_free, require_inside, require_writable
from derive.problem import Problem
from derive.problem_file import load_problem


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
    for name in names if options.out is not None else ():
        path = Path(options.out) / name
        require_writable(str(path), "--out")
        require_inside(path, Path(options.out), "--out")
        require_free(str(path), "--out", options.force)


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


def noted(warnings: Sequence[str]) -> list[str]:
    """Print what a result is to be read with, a line each, and return it for the JSON."""
    for line in warnings:
        tell(f"note: {line}")
    return list(warnings)


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
