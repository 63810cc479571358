"""Readers of problem files, each with one fault, that replace `load_problem`; the fuzzer must find every fault."""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from derive.problem.problem_file import load_problem
from derive.problem.specification import BadInput


def evaluating(path, overrides=()):
    eval("1 + 1")
    return load_problem(path, overrides)


def importing(path, overrides=()):
    sys.modules.pop("colorsys", None)
    importlib.import_module("colorsys")
    return load_problem(path, overrides)


def running(path, overrides=()):
    os.system("true")
    return load_problem(path, overrides)


def spawning(path, overrides=()):
    subprocess.run(["true"], check=True)
    return load_problem(path, overrides)


def calling(path, overrides=()):
    socket.socket().close()
    return load_problem(path, overrides)


def native(path, overrides=()):
    ctypes.string_at(b"x")
    return load_problem(path, overrides)


def writing(path, overrides=()):
    Path("owned").write_text("here")
    return load_problem(path, overrides)


def peeping(path, overrides=()):
    Path(__file__).read_text(encoding="utf-8")
    return load_problem(path, overrides)


def failing(path, overrides=()):
    raise ZeroDivisionError


def hanging(path, overrides=()):
    while True:
        pass


def sleeping(path, overrides=()):
    time.sleep(60)


def hanging_in_c(path, overrides=()):
    re.match(r"(a+)+b", "a" * 60)


def crashing(path, overrides=()):
    os.abort()


def chatting(path, overrides=()):
    print("reading")
    return load_problem(path, overrides)


def wordy(path, overrides=()):
    print("what is this?", file=sys.stderr)
    raise BadInput("", "bad", "mend it", path)


def endless(path, overrides=()):
    raise BadInput("", "bad" * 1000, "mend it", path)


def vague(path, overrides=()):
    raise BadInput("", "bad", "mend it", "a file")


def helpless(path, overrides=()):
    raise Helpless("", "bad", "mend it", path)


class Helpless(BadInput):
    def __str__(self):
        return f"{self.source}: {self.found}"
