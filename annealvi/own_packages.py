"""Check that Python imports this distribution's own packages `derive` and `kernels`.

Both names are common: another distribution has a package `kernels`, and a user's own file derive.py may come first on
the path.
"""

from __future__ import annotations

import os
import site
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

PACKAGES = ("derive", "kernels")


class ForeignPackage(ImportError):  # noqa: N818
    """Python finds another module in the place of one of this distribution's packages.

    The message names the module's file and a remedy.
    """

    exit_status: ClassVar[int] = 2


@cache
def require_own_packages() -> None:
    """Raise ForeignPackage unless Python finds both packages beside this one, each with the mark IS_ANNEALVI."""
    for name in PACKAGES:
        own = Path(__file__).resolve().parents[1] / name / "__init__.py"
        found = _file_of(name)
        if found is None or not found.samefile(own) or not getattr(import_module(name), "IS_ANNEALVI", False):
            raise ForeignPackage(f"{name}: {_what_is_wrong(name, found, own)}")


def _file_of(name: str) -> Path | None:
    """The file from which Python imports a package or has imported it; None for a package without a file."""
    try:
        spec = find_spec(name)
    except ValueError:  # the package is loaded and does not say from where
        return None
    return (
        None if spec is None or spec.origin is None or not os.path.isfile(spec.origin) else Path(spec.origin).absolute()
    )


def _what_is_wrong(name: str, found: Path | None, own: Path) -> str:
    if found is None or not own.exists():
        return f"{own} is not found; install annealvi anew"
    folder = found.parents[1] if found.name == "__init__.py" else found.parent
    taken = f"{found} is imported in place of annealvi's own"
    if found.samefile(own) or str(folder) in (*site.getsitepackages(), site.getusersitepackages()):
        return (
            f"another distribution's package is imported from {found}; uninstall it: the two "
            f"cannot share one environment"
        )
    if folder in [Path(place).absolute() for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]:
        return f"{taken}; rename it, or take {folder} out of PYTHONPATH"
    command = (
        ""
        if sys.flags.safe_path
        else "; the command `annealvi` and `python -P -m annealvi` do not look in the working folder"
    )
    return f"{taken}; rename it, or work in another folder{command}"
