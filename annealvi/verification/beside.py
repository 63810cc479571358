"""A program of this folder in a process of its own, which works while this process does something else."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any


class Beside:
    """A running program of this folder; leaving the `with` block ends the program, also after an interrupt.

    Parameters
    ----------
    program : str
        Module of `annealvi.verification` to run as a program.
    given : Any
        What the program reads from its standard input, pickled.
    environment : mapping from str to str, or None
        Environment variables that differ from those of this process.
    """

    def __init__(self, program: str, given: Any, environment: Mapping[str, str] | None = None) -> None:
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(environment or {})}
        # With -P the program imports from the working folder only if this process does.
        command = [sys.executable, "-P", "-m", f"annealvi.verification.{program}"]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self._content = pickle.dumps(given)
        self._said = b"", b""
        self._process = subprocess.Popen(command, env=variables, **pipes)  # type: ignore[call-overload]
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        self._said = self._process.communicate(self._content)

    def answer(self, timeout: float = math.inf) -> subprocess.CompletedProcess[bytes]:
        """Wait for the program's end, `timeout` seconds at most, and return its exit status and output.

        Raises
        ------
        subprocess.TimeoutExpired
            The program is still running after `timeout` seconds of waiting.
        """
        end = time.monotonic() + timeout
        while self._listener.is_alive():
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self._process.args, timeout)
            self._listener.join(0.1)  # short waits, so that an interrupt is heard on every platform
        return subprocess.CompletedProcess(self._process.args, self._process.returncode, *self._said)

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._listener.join()


def last_words(done: subprocess.CompletedProcess[bytes]) -> str:
    """The last line that a failed program wrote to standard error, or its exit status."""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return (lines or [f"exit status {done.returncode}"])[-1][:120]
