"""The command line: its parser, one module a command, and what every command shares."""

from annealvi.cli.program import main

__all__ = ["main"]
