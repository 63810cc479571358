"""Print tables and lines for people: on a terminal, within its width, and as HTML in a notebook."""

from __future__ import annotations

import html
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import Any, Protocol

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

LEAST_WORDS = 16
"""Least width of a column of words; words that do not fit continue on the next line."""


class Printer(Protocol):
    """Where a function that shows a result prints to. width: how many characters fit on a line."""

    @property
    def width(self) -> int: ...

    def print(self, what: Table | str, *, highlight: bool = True) -> None:
        """Print a table or a line."""


class Terminal:
    """Standard output. A table that is too wide is printed in blocks, each with the first column."""

    def __init__(self) -> None:
        self._console = Console()

    @property
    def width(self) -> int:
        return self._console.width

    def print(self, what: Table | str, *, highlight: bool = True) -> None:
        if not isinstance(what, Table):
            self._console.print(what, highlight=highlight)
            return
        if what.title is not None:  # printed apart, since rich breaks a table's title at the table's width
            self._console.print(what.title, style="table.title", highlight=False)
        for part in in_blocks(what, self.width):
            self._console.print(part)


class Page:
    """Collects what is printed as HTML for a notebook."""

    width = 10_000

    def __init__(self) -> None:
        self._parts: list[str] = []

    def print(self, what: Table | str, *, highlight: bool = True) -> None:
        self._parts.append(_table_as_html(what) if isinstance(what, Table) else _text_as_html(what))

    def __str__(self) -> str:
        return "\n".join(self._parts)


def as_html(show: Callable[..., None], *shown: Any) -> str:
    """The HTML of what `show(*shown, to=…)` prints."""
    page = Page()
    show(*shown, to=page)
    return str(page)


def in_blocks(table: Table, width: int) -> list[Table]:
    """Split a table that is wider than `width` into tables of some of its columns, each with the first column.

    None of them has the title.
    """
    needed = [_needed(table, n) for n in range(len(table.columns))]
    blocks: list[list[int]] = [[0]]
    for n in range(1, len(needed)):
        if len(blocks[-1]) > 1 and sum(needed[k] for k in blocks[-1]) + needed[n] + 1 > width:
            blocks.append([0])
        blocks[-1].append(n)
    return [_of_columns(table, columns) for columns in blocks]


def _needed(table: Table, n: int) -> int:
    """The width of a column with its border, where words may continue on the next line."""
    column = table.columns[n]
    widest = max(
        (cell_len(line) for cell in (column.header, *column.cells) for line in _text(cell).splitlines()), default=0
    )
    return 3 + (min(widest, LEAST_WORDS) if column.justify == "left" and not column.no_wrap else widest)


def _of_columns(table: Table, columns: list[int]) -> Table:
    part = Table(header_style=table.header_style, show_lines=table.show_lines)
    for n in columns:
        column = table.columns[n]
        part.add_column(column.header, justify=column.justify, no_wrap=column.no_wrap, overflow=column.overflow)
    for row in zip(*(table.columns[n].cells for n in columns), strict=True):
        part.add_row(*row)
    return part


def _text_as_html(text: str) -> str:
    return f"<pre>{_plain(text)}</pre>" if "\n" in text else f"<div>{_plain(text)}</div>"


def _table_as_html(table: Table) -> str:
    sides = [column.justify for column in table.columns]
    rows = zip(*(column.cells for column in table.columns), strict=True)
    lines = ["<table>", f"<caption style='text-align: left'>{_plain(table.title)}</caption>" if table.title else ""]
    lines.append(f"<tr>{''.join(f'<th>{_plain(column.header)}</th>' for column in table.columns)}</tr>")
    for row in rows:
        cells = (f"<td style='text-align: {side}'>{_plain(cell)}</td>" for side, cell in zip(sides, row, strict=True))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join(line for line in [*lines, "</table>"] if line)


def _text(cell: Any) -> str:
    return Text.from_markup(cell).plain if isinstance(cell, str) else str(cell)


def _plain(cell: Any) -> str:
    return html.escape(_text(cell))


def fitted(text: str) -> str:
    """Break lines between words to the terminal's width, and indent their continuations.

    Without a terminal the text stays as it is.
    """
    width = text_width()
    if width is None:
        return text
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())] + "    "
        if len(line) > width:
            lines += textwrap.wrap(
                line, width, subsequent_indent=indent, break_on_hyphens=False, drop_whitespace=True
            ) or [""]
        else:
            lines.append(line)
    return "\n".join(lines)


def text_width() -> int | None:
    """The width for text where standard output is a terminal or COLUMNS is set, else None."""
    if os.environ.get("COLUMNS", "").isdigit() or sys.stdout.isatty():
        return max(20, shutil.get_terminal_size().columns)
    return None
