"""Generated source as real module files, kept between processes.

A file's name contains a hash of its text, of this package's own source and of the versions of the libraries that compile it, so a
stale module is never found. Files are written beside and renamed. The module is entered in `sys.modules` before it executes:
Numba's disk cache refers to it by name, and would otherwise fail in the next process.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import sys
import tempfile
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

VARIABLE = "ANNEALVI_CACHE_DIR"


def cache_directory() -> Path:
    """$ANNEALVI_CACHE_DIR, else the user's cache folder, else a private folder that this process alone uses and says so once."""
    wanted = os.environ.get(VARIABLE)
    if wanted:
        candidates = [Path(wanted)]
    else:
        base = os.environ.get("XDG_CACHE_HOME")
        with suppress(RuntimeError):  # no home directory can be found
            base = base or str(Path.home() / ".cache")
        candidates = [Path(base) / "annealvi"] if base else []
    for candidate in candidates:
        if _usable(candidate):
            return candidate
    return _private_directory(str(candidates[0]) if candidates else "no home directory")


def _usable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=directory):
            return directory.stat().st_uid == os.getuid()
    except OSError:
        return False


@cache
def _private_directory(refused: str) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="annealvi-"))
    sys.stderr.write(f"annealvi: kernels are not kept, since {refused} cannot be used; set {VARIABLE} to a folder of your own\n")
    return directory


@cache
def _environment_digest() -> str:
    """What else decides the compiled code: this package's source, the interpreter and the libraries."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent
    for folder in (root, root.parent / "derive"):
        for path in sorted(folder.glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    libraries = [f"{name} {version(name)}" for name in ("numba", "llvmlite", "numpy", "sympy")]
    digest.update("\n".join([platform.python_version(), platform.machine(), *libraries]).encode())
    return digest.hexdigest()


def load_module(source: str, stem: str) -> ModuleType:
    """The module of a generated source, imported from its file in the cache directory. stem: starts its name, for people."""
    key = hashlib.sha256(f"{_environment_digest()}\n{source}".encode()).hexdigest()[:24]
    name = f"annealvi_{stem}_{key}"
    if name in sys.modules:
        return sys.modules[name]
    path = cache_directory() / f"{name}.py"
    if not path.exists() or path.read_bytes() != source.encode():
        _write(path, source)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _write(path: Path, source: str) -> None:
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(source.encode())
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
