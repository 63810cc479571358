"""The program `annealvi`: parse the arguments, run the command, and turn its end into an exit status.

Importing this module is quick: the parser waits until `main` handles interrupts, and the libraries that compute wait
until a command needs them.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress

from annealvi.cli.errors import DONE, INTERRUPTED, complain, told
from annealvi.cli.signals import insisting_on_interrupts, interrupted
from annealvi.own_packages import require_own_packages


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status, one of those that `annealvi.cli.errors` names.

    Without arguments the process is taken to be the command's own: the arguments are those of the process, and Ctrl-C
    is ignored once the command has ended.
    """
    signals: list[signal.Signals] = []
    try:
        with insisting_on_interrupts(signals, _guarded, own_process=arguments is None):
            status = _guarded(arguments, signals)
    except KeyboardInterrupt:
        return interrupted(signals)
    return interrupted(signals) if signals else status


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from annealvi.cli.parser import parser_of_all_commands

    return parser_of_all_commands()


def _guarded(arguments: Sequence[str] | None, signals: list[signal.Signals]) -> int:
    """Run one command; an interrupt that arrives meanwhile raises KeyboardInterrupt."""
    sys.stdout = sys.stdout or io.StringIO()  # None where the caller has closed it
    sys.stderr = sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a β must not end a run whose terminal is not UTF-8
    options = argparse.Namespace(problem="problem", set=[])
    try:
        status = _run(list(sys.argv[1:] if arguments is None else arguments), options, arguments is None)
        sys.stdout.flush()  # at exit it would be too late for a message
        return status
    except BrokenPipeError:
        _abandon_standard_output()  # the reader has left: nobody is told
        return DONE
    except Exception as error:
        found = told(error, options)
        # The compiler drops a KeyboardInterrupt and then fails in its own way; so can the removal of files on the way
        # out.
        if signals:
            line = found[1] if found else f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
            complain(f"on the way out: {line}")
            return INTERRUPTED
        if found is None:
            raise
        if isinstance(error, OSError):
            _abandon_standard_output()
        status, line = found
        complain(line)
        if excerpt := getattr(error, "excerpt", ""):  # the place in a user's formula, with a caret
            sys.stderr.write(f"{excerpt}\n")
        return status


def _run(given: list[str], options: argparse.Namespace, own_process: bool) -> int:
    try:
        build_parser().parse_args(given, options)
    except SystemExit as stop:
        return int(stop.code or 0)
    require_own_packages()
    import logging

    # Matplotlib warns where it has no folder for its fonts, which changes no figure.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from annealvi.cli.commands import command_named
    from annealvi.cli.console import telling_stages

    quiet = not own_process or getattr(options, "quiet", False)
    with nullcontext() if quiet else telling_stages(options.command):
        return command_named(options.command).run(options)


def _abandon_standard_output() -> None:
    """Point standard output to nowhere, so that the text that it still holds raises nothing at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
