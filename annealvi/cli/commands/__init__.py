"""The commands, one module each.

A module of this folder has the command's NAME, what it is ABOUT in a few words, an EXAMPLE of its arguments, its
options (`add_options`) and what it does (`run`). A new command is such a module and its entry in COMMANDS. The modules
import nothing but the standard library and `annealvi.cli` at their top, so that `annealvi --help` is quick; the
libraries that compute are imported within `run`.
"""

from __future__ import annotations

import argparse
from typing import Protocol

from annealvi.cli.commands import (
    collapse,
    compare,
    derive,
    fixed_points,
    flow,
    integrate,
    paper,
    phase,
    recommend,
    rhs,
    simulate,
    verify,
)


class Command(Protocol):
    """A module of this folder. `run` returns an exit status of `annealvi.cli.errors`."""

    NAME: str
    ABOUT: str
    EXAMPLE: str

    def add_options(self, parser: argparse.ArgumentParser) -> None: ...
    def run(self, options: argparse.Namespace) -> int: ...


COMMANDS: tuple[Command, ...] = (
    verify,
    derive,
    compare,
    rhs,
    integrate,
    simulate,
    collapse,
    fixed_points,
    phase,
    recommend,
    flow,
    paper,
)
"""In the order in which `annealvi --help` lists them."""


def command_named(name: str) -> Command:
    return next(command for command in COMMANDS if name == command.NAME)
