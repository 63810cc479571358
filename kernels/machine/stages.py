"""The stage of a long computation in words, for a progress display."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

SPOKEN_FOR = ""

_open: list[str] = []
"""The stages that the main thread is in, the innermost last; other threads report nothing."""


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Declare the stage of the block of code, such as "compiling the kernels"."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _open.append(what)
    try:
        yield
    finally:
        _open.pop()


@contextmanager
def spoken_for() -> Iterator[None]:
    """Declare that the block of code reports its progress itself."""
    with stage(SPOKEN_FOR):
        yield


def now() -> str:
    """The innermost stage, or "" outside all stages."""
    return next((what for what in reversed(_open) if what != SPOKEN_FOR), "")


def is_spoken_for() -> bool:
    """Whether the present computation reports its progress itself."""
    return SPOKEN_FOR in _open
