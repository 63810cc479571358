"""What a long computation does just now, in words, for whoever tells people of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

SPOKEN_FOR = ""

_open: list[str] = []
"""Of the main thread, which alone speaks to people."""


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Say what is done within, such as "compiling the kernels"."""
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
    """Say that what runs within tells people itself how far it is."""
    with stage(SPOKEN_FOR):
        yield


def now() -> str:
    """The innermost stage, "" outside of all."""
    return next((what for what in reversed(_open) if what != SPOKEN_FOR), "")


def is_spoken_for() -> bool:
    return SPOKEN_FOR in _open
