"""Remarks for people, on standard error: a line each, beside the result on standard output."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def tell(line: str) -> None:
    """Print a remark."""
    print(line, file=sys.stderr, flush=True)


def noted(warnings: Sequence[str]) -> list[str]:
    """Print the warnings that a result must be read with, a line each, and return them for the JSON."""
    for line in warnings:
        tell(f"note: {line}")
    return list(warnings)
