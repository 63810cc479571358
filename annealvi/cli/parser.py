"""The parser of the command line, put together from the commands' own options."""

from __future__ import annotations

import argparse
import sys
from functools import cache
from typing import NoReturn

from annealvi import __version__
from annealvi.cli.commands import COMMANDS
from annealvi.cli.errors import BAD_INPUT, CHECK_FAILED, DONE, INTERRUPTED, MISSING_COMPONENT, TERMINATED, complain


class _Parser(argparse.ArgumentParser):
    """argparse, except that an error is one line."""

    def error(self, message: str) -> NoReturn:
        complain(f"{message}; see `{self.prog} --help`")
        sys.exit(BAD_INPUT)


@cache  # a program that calls `main` often would spend most of its time here
def parser_of_all_commands() -> argparse.ArgumentParser:
    """The parser of `annealvi`, with a subparser for each command. Options cannot be abbreviated."""
    parser = _Parser(
        prog="annealvi",
        description="Mode collapse in annealed variational inference: derive the summary-statistics "
        "equations from the objective, "
        "generate kernels from them, and check both against particles.",
        epilog="PROBLEM is a TOML file or the name of a built-in problem (default: bimodal, the study's own setting). "
        "Start with `annealvi verify`; `annealvi COMMAND --help` has an example of each command. "
        f"Exit status: {DONE} done, {CHECK_FAILED} a check failed or workers were lost, {BAD_INPUT} bad input, "
        f"{MISSING_COMPONENT} a component is missing, {INTERRUPTED} interrupted, {TERMINATED} terminated.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"annealvi {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for command in COMMANDS:
        command.add_options(
            subparsers.add_parser(
                command.NAME,
                help=command.ABOUT,
                description=command.ABOUT[0].upper() + command.ABOUT[1:] + ".",
                epilog=f"Example: annealvi {command.EXAMPLE}",
                allow_abbrev=False,
            )
        )
    return parser
