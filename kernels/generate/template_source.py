"""The texts of templates/, as they are copied into generated modules."""

from __future__ import annotations

import io
import tokenize
from pathlib import Path

import sympy as sp

from kernels.generate.printer import ScalarPrinter

TEMPLATES = Path(__file__).parent / "templates"
BEGIN = "# The copied text begins below this line.\n"


def copied_text(name: str) -> str:
    """The part of a template that generated modules contain."""
    return (TEMPLATES / f"{name}.py").read_text(encoding="utf-8").split(BEGIN, 1)[1]


def text_in_precision(name: str, printer: ScalarPrinter) -> str:
    """The text of `copied_text` with every float literal in the printer's precision."""
    text = copied_text(name)
    lines = text.splitlines(keepends=True)
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(text).readline))):
        if token.type == tokenize.NUMBER and not token.string.isdigit():
            (row, first), (_, last) = token.start, token.end
            line = lines[row - 1]
            lines[row - 1] = line[:first] + printer.literal(sp.Float(token.string, 17)) + line[last:]
    return "".join(lines)
