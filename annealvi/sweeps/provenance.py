"""The origin of a result: the versions and the source that decide its digits, and the processor."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

from annealvi import __version__

PACKAGES = ("annealvi", "derive", "kernels")


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Return the versions of this package, its source, Python and the libraries.

    Where these are equal, so are the numbers on one kind of processor.
    """
    found = {"annealvi": __version__, "source": _source_digest(), "python": platform.python_version()}
    return found | {name: version(name) for name in libraries}


def processor() -> str:
    """Return the kind of CPU. Another kind may have other vector instructions, which change the last digits."""
    from llvmlite.binding import get_host_cpu_name

    return f"{platform.machine()} {get_host_cpu_name()}"


@cache
def _source_digest() -> str:
    root, digest = Path(__file__).resolve().parents[2], hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
