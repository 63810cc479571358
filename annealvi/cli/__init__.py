"""The command line: its parser, one module for each command, and the code that commands share."""

from annealvi.cli.program import main

__all__ = ["main"]
