"""Short reprs for dataclasses whose fields hold arrays, expressions or thousands of other values."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any

ROOM = 110
"""The most characters for one field; a longer value is shown by its type and size."""
LINE = 120
DEEPEST = 4
MOST_NODES = 40
"""The most nodes of an expression that is written out; SymPy takes seconds to print a large one."""


def short_repr(self: Any) -> str:
    """A dataclass's usual repr with long values abbreviated, used in the body of a class as `__repr__ = short_repr`.

    If the class has a tuple `SHOWN` of names, the repr shows these fields and properties instead of all fields.
    """
    text = f"{type(self).__name__}({', '.join(_fields(self, 0))})"
    if len(text) <= LINE:
        return text
    return textwrap.fill(text, LINE, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def _fields(value: Any, depth: int) -> list[str]:
    names = getattr(value, "SHOWN", None) or [field.name for field in fields(value) if field.repr]
    return [f"{name}={_brief(getattr(value, name), depth + 1)}" for name in names]


def _brief(value: Any, depth: int) -> str:
    """The repr of one value in at most about ROOM characters."""
    kind = type(value).__name__
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return repr(value.item())
    if getattr(value, "ndim", 0) and hasattr(value, "dtype"):
        return f"<{kind} {tuple(value.shape)}>"
    if hasattr(value, "free_symbols") and hasattr(value, "has"):
        return _expression(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _as_many_fields_as_fit(value, depth) if depth < DEEPEST else f"<{kind}>"
    if type(value) in (tuple, list):
        return _listed(value, depth)
    if isinstance(value, Mapping):
        return f"<{kind} of {len(value)}>"
    return _cut(repr(value), kind)


def _as_many_fields_as_fit(value: Any, depth: int) -> str:
    parts = _fields(value, depth)
    text = f"{type(value).__name__}({', '.join(parts)})"
    while len(text) > ROOM and parts:
        parts.pop()
        text = f"{type(value).__name__}({''.join(f'{part}, ' for part in parts)}…)"
    return text


def _expression(value: Any) -> str:
    from sympy import preorder_traversal

    nodes = len(list(islice(preorder_traversal(value), MOST_NODES + 1)))
    kind = type(value).__name__
    return _cut(str(value), kind) if nodes <= MOST_NODES else f"<{kind}>"


def _listed(values: Any, depth: int) -> str:
    otherwise = f"{type(values).__name__} of {len(values)}"
    if len(values) > ROOM // 3 or (values and depth >= DEEPEST):  # each takes at least one character and a comma
        return f"<{otherwise}>"
    inside = ", ".join(_brief(value, depth + 1) for value in values)
    ends = "[]" if isinstance(values, list) else ("(", ",)" if len(values) == 1 else ")")
    return _cut(f"{ends[0]}{inside}{ends[1]}", otherwise)


def _cut(text: str, otherwise: str) -> str:
    return text if len(text) <= ROOM and "\n" not in text else f"<{otherwise}>"
