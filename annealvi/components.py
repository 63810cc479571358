"""Optional libraries: say which one is missing, and how to install it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar


class MissingComponent(RuntimeError):  # noqa: N818
    """An optional library is not installed; the message says how to get it."""

    exit_status: ClassVar[int] = 3


def require(purpose: str, *libraries: str, extra: str = "flows") -> None:
    """Raise MissingComponent unless all these libraries are installed.

    purpose: what needs them, for the message. extra: the extra of this distribution that has them.
    """
    missing = [name for name in libraries if find_spec(name) is None]
    if missing:
        raise MissingComponent(f"{purpose} needs {', '.join(missing)}: {how_to_install(extra)}")


def how_to_install(extra: str) -> str:
    """Say how to install an extra: of the published distribution, and in a clone of the repository."""
    in_a_clone = f'`pip install ".[{extra}]"` or `uv run --extra {extra}`'
    return f'install the extra with `pip install "annealvi[{extra}]"`, in a clone with {in_a_clone}'
