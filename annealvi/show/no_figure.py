"""Draw a figure without losing its numbers where it cannot be drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from derive.problem.specification import BadInput

T = TypeVar("T")


class NoFigure(RuntimeError):  # noqa: N818
    """A figure could not be drawn; its numbers are kept."""

    exit_status: ClassVar[int] = 1


def drawn(draw: Callable[..., T], *arguments: Any) -> T | NoFigure:
    """The result of `draw(*arguments)`, or a NoFigure that says why it failed, to be raised once all else is written.

    BadInput, OSError and MemoryError are raised at once.
    """
    try:
        return draw(*arguments)
    except (BadInput, OSError, MemoryError):
        raise
    except Exception as error:
        found = NoFigure(
            f"the figure cannot be drawn ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); its numbers are kept"
        )
        return found.with_traceback(error.__traceback__)
