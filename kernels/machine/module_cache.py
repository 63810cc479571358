"""The cache directory, and generated source as modules with files in it.

A file's name contains a hash of all that decides its content: a generated text, this package's own source, and the
versions of the libraries that compile it. So a stale file is never found. What cannot be read is made anew, and what
cannot be written is not kept. Nothing from a directory that others could write to is used, as reading compiled code
means to run it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import stat
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

VARIABLE = "ANNEALVI_CACHE_DIR"


def cache_directory() -> Path | None:
    """$ANNEALVI_CACHE_DIR, else the user's cache folder; None, which standard error is told once, if neither is a
    folder to trust."""
    try:
        wanted = _wanted_directory()
        if wanted is None:
            return _not_kept("no home directory is known")
        wanted.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = wanted.stat()
    except OSError as error:
        return _not_kept(_reason(error, error.filename))
    # Windows tells neither an owner nor such rights; there the user's own folders are closed to others.
    if hasattr(os, "geteuid") and (found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        return _not_kept(f"others can write to {_shown(wanted)}")
    return wanted


def read_kept(name: str) -> bytes | None:
    """The content of a file of the cache directory, None where it cannot be had."""
    directory = cache_directory()
    with suppress(OSError):
        return None if directory is None else (directory / name).read_bytes()
    return None


def keep(name: str, content: bytes) -> None:
    """Write a file of the cache directory: whole, or not at all, which standard error is told once."""
    directory = cache_directory()
    if directory is None:
        return
    beside = directory / f".{secrets.token_hex(8)}.tmp"
    try:
        try:  # from before the file is there, so that no interrupt finds it unguarded
            with open(beside, "xb", opener=_for_the_owner) as stream:
                stream.write(content)
            os.replace(beside, directory / name)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
    except OSError as error:
        _not_kept(_reason(error, directory))  # of the folder, so that a full disk is told of once


def load_module(source: str, stem: str) -> ModuleType:
    """The module of a generated source, which is kept as a file for people and tracebacks to look at. stem: starts its
    name.

    It is in `sys.modules` before it executes: compiled code refers to it by name.
    """
    key = hashlib.sha256(f"{environment_digest()}\n{source}".encode()).hexdigest()[:24]
    name = f"annealvi_{stem}_{key}"
    if name in sys.modules:
        return sys.modules[name]
    file, text = f"{name}.py", source.encode()
    if read_kept(file) != text:
        keep(file, text)
    module = ModuleType(name)
    module.__file__ = str((cache_directory() or Path()) / file)
    sys.modules[name] = module
    try:
        exec(
            compile(source, module.__file__, "exec", dont_inherit=True), module.__dict__
        )  # what was checked, and not the file again
    except BaseException:
        del sys.modules[name]
        raise
    return module


@cache
def environment_digest() -> str:
    """What else decides the compiled code: this package's source, the interpreter and the libraries."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for folder in (root, root.parent / "derive"):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(root.parent).as_posix().encode() + b"\0" + path.read_bytes())
    libraries = [f"{name} {version(name)}" for name in ("numba", "llvmlite", "numpy", "sympy")]
    digest.update("\n".join([sys.version, platform.machine(), *libraries]).encode())
    return digest.hexdigest()


def _wanted_directory() -> Path | None:
    """None without a home; one that is not there is not made, and a relative one is none."""
    if named := os.environ.get(VARIABLE):
        return Path(named).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():
        return base / "annealvi"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / ".cache" / "annealvi" if home.is_absolute() and home.is_dir() else None


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _reason(error: OSError, place: object) -> str:
    return f"{_shown(place)}: {error.strerror or error}"


def _shown(place: object) -> str:
    """On one line, whatever bytes the name has."""
    return ascii(str(place))[:200]


@cache
def _not_kept(reason: str) -> None:
    sys.stderr.write(
        f"annealvi: compiled kernels are not kept ({reason}); set {VARIABLE} to a folder that you alone can write to\n"
    )
