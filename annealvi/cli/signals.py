"""Ctrl-C, SIGTERM and a closed terminal end a command at any moment, with one line and the status 128 + the signal."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from annealvi.cli.errors import INTERRUPTED, complain

SOON = 0.5
"""Seconds after an interrupt during which a further one raises nothing."""


@contextmanager
def insisting_on_interrupts(
    signals: list[signal.Signals], guarded: Callable[..., Any], own_process: bool
) -> Iterator[None]:
    """Treat SIGTERM and a closed terminal as Ctrl-C, and repeat the interrupt until the command has ended.

    Every signal is noted, and raised again each second, because the compiler drops some KeyboardInterrupts. Two kinds
    of signals are noted only: one that comes soon after another, so that files are removed undisturbed, and one that
    arrives outside `guarded`, so that the code of this context manager is not interrupted. A signal that the caller
    handles or ignores keeps its handler, and so do all signals outside the main thread.

    After a signal destructors fail unheard: an object whose constructor was interrupted lacks what they look for.

    signals: the list to which the signals are appended. guarded: the function that runs the command. own_process:
    whether the process ends with the command; then Ctrl-C is ignored once the context has ended, and destructors that
    run at exit are unheard, too.
    """
    usual: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if hasattr(signal, "SIGHUP"):  # not on Windows
        usual[signal.SIGHUP] = signal.SIG_DFL
    in_main = threading.current_thread() is threading.main_thread()
    ours = [number for number, handler in usual.items() if in_main and signal.getsignal(number) == handler]
    ended, raised = threading.Event(), -SOON

    def insist() -> None:
        while not ended.wait(1.0):
            _thread.interrupt_main(signals[0])

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        if not signals:
            _thread.start_new_thread(insist, ())  # threading.Thread could wait for a lock that this thread holds
        signals.append(signal.Signals(number))
        if _is_within(guarded, frame) and time.monotonic() - raised >= SOON:
            raised = time.monotonic()
            raise KeyboardInterrupt

    def unraisable(found: Any) -> None:
        if not signals:  # an interrupt that a destructor drops is noted, and raised again later
            before(found)

    before = sys.unraisablehook
    try:
        sys.unraisablehook = unraisable
        for number in ours:
            signal.signal(number, note)
        yield
    finally:
        ended.set()
        usual[signal.SIGINT] = signal.SIG_IGN if own_process else usual[signal.SIGINT]
        for number in ours:
            signal.signal(number, usual[number])
        if not own_process:
            sys.unraisablehook = before


def interrupted(signals: list[signal.Signals]) -> int:
    """Say that the command was interrupted; returns the exit status."""
    # A KeyboardInterrupt that has passed through an exec would end Python by the signal, whatever status is returned.
    exec("")
    if sys.stderr.isatty():
        sys.stderr.write("\n")  # after the terminal's ^C
    complain("interrupted")
    return 128 + signals[0] if signals else INTERRUPTED


def _is_within(function: Callable[..., Any], frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code is not function.__code__:
        frame = frame.f_back
    return frame is not None
