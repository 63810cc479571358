"""The outcome of one check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from derive.objects.short_repr import short_repr

KINDS = ("symbolic", "numeric", "monte-carlo")


@dataclass(frozen=True)
class Check:
    """The outcome of one check, which passes if its statistic is at most its bound.

    Attributes
    ----------
    name : str
        What was compared.
    kind : {"symbolic", "numeric", "monte-carlo"}
        How the two sides were compared.
    statistic : float
        The measured difference.
    bound : float
        The largest statistic that passes.
    note : str
        The argument for the bound, or what ran.
    """

    name: str
    kind: str
    statistic: float
    bound: float
    note: str = ""

    SHOWN: ClassVar = ("name", "passed", "statistic", "bound")
    __repr__ = short_repr

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is not a kind of check")

    @property
    def passed(self) -> bool:
        """Whether the statistic is at most the bound; false for a NaN."""
        return bool(self.statistic <= self.bound)
