"""One check's outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from derive.objects.short_repr import short_repr

KINDS = ("symbolic", "numeric", "monte-carlo")


@dataclass(frozen=True)
class Check:
    """name: what was compared. kind: symbolic, numeric or monte-carlo. statistic ≤ bound means passed.

    note: how the bound is argued, or what ran.
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
        return bool(self.statistic <= self.bound)  # False for a NaN
