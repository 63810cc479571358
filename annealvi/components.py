"""The optional libraries of this package, named where one is missing."""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar


class MissingComponent(RuntimeError):  # noqa: N818
    """An optional library is not installed; the message says how to get it."""

    exit_status: ClassVar[int] = 3


def require(purpose: str, *libraries: str, extra: str = "flows") -> None:
    """Raises MissingComponent where one of the libraries of an extra is missing."""
    missing = [name for name in libraries if find_spec(name) is None]
    if missing:
        raise MissingComponent(f"{purpose} needs {', '.join(missing)}: {how_to_install(extra)}")


def how_to_install(extra: str) -> str:
    """An installed package takes its extra by name; a clone, which nothing need have published, from where it is."""
    in_a_clone = f'`pip install ".[{extra}]"` or `uv run --extra {extra}`'
    return f'install the extra with `pip install "annealvi[{extra}]"`, in a clone with {in_a_clone}'
