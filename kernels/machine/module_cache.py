"""The cache directory, and the loading of generated source as modules that have files in it.

The name of each file contains a hash of everything that determines its content: the generated text, this package's own
source, and the versions of the libraries that compile it. Therefore no stale file is found. A file that cannot be read
is made again, and a file that cannot be written is not kept. A directory that other users could write to is not used,
because loading compiled code means running it.
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
    """$ANNEALVI_CACHE_DIR or, where this is not set, the user's cache folder.

    None, with one message on standard error, if that folder cannot be used or others can write to it.
    """
    try:
        wanted = _wanted_directory()
        if wanted is None:
            return _not_kept("no home directory is known")
        wanted.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = wanted.stat()
    except OSError as error:
        return _not_kept(_reason(error, error.filename))
    # Windows reports neither the owner nor these rights; its default is that others cannot write to a user's folders.
    if hasattr(os, "geteuid") and (found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        return _not_kept(f"others can write to {_shown(wanted)}")
    return wanted


def read_kept(name: str) -> bytes | None:
    """The content of a file of the cache directory, or None if it cannot be read."""
    directory = cache_directory()
    with suppress(OSError):
        return None if directory is None else (directory / name).read_bytes()
    return None


def keep(name: str, content: bytes) -> None:
    """Write a file of the cache directory completely, or not at all, with one message on standard error."""
    directory = cache_directory()
    if directory is None:
        return
    beside = directory / f".{secrets.token_hex(8)}.tmp"
    try:
        try:  # entered before the file exists, so that an interrupt at any time removes the file
            with open(beside, "xb", opener=_for_the_owner) as stream:
                stream.write(content)
            os.replace(beside, directory / name)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
    except OSError as error:
        _not_kept(_reason(error, directory))  # the message names the folder alone, so a full disk gives one


def load_module(source: str, stem: str) -> ModuleType:
    """The module of a generated source, which is also kept as a file, for people and for tracebacks.

    stem: the beginning of the module's name. The module is in `sys.modules` before it executes, because compiled code
    refers to it by name.
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
        # The module runs the given source, and not the content of the file.
        exec(compile(source, module.__file__, "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@cache
def environment_digest() -> str:
    """A digest of this package's source, the interpreter and the libraries, which also determine compiled code."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for folder in (root, root.parent / "derive"):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(root.parent).as_posix().encode() + b"\0" + path.read_bytes())
    libraries = [f"{name} {version(name)}" for name in ("numba", "llvmlite", "numpy", "sympy")]
    digest.update("\n".join([sys.version, platform.machine(), *libraries]).encode())
    return digest.hexdigest()


def _wanted_directory() -> Path | None:
    """The folder that the environment asks for, or None without a home directory.

    The function never creates a missing home directory, and a home directory with a relative path does not count.
    """
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
    """The name on one line, whatever bytes it contains."""
    return ascii(str(place))[:200]


@cache
def _not_kept(reason: str) -> None:
    sys.stderr.write(
        f"annealvi: compiled kernels are not kept ({reason}); set {VARIABLE} to a folder that you alone can write to\n"
    )
