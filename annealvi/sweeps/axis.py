"""One direction of a grid: a key of the problem and the values that it takes."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from annealvi.sweeps.keys import numbers_of, require_key, require_numbers, vary
from derive.objects.short_repr import short_repr
from derive.problem.arguments import require_fields
from derive.problem.specification import BadInput, Problem

MOST_POINTS = 10**7
REMEDY = "write KEY=LO:HI:N or KEY=LO:HI:N:log, such as schedule.T0=10:1000:50:log, or KEY=VALUE,VALUE,…"


@dataclass(frozen=True)
class Axis:
    """A key of the problem and a range of numbers.

    Attributes
    ----------
    key : str
        A key of the problem file, or R, w_star or w_1; see `annealvi.sweeps.keys`.
    low, high : float
        The ends of the range.
    count : int
        Number of points, at least 2.
    log : bool
        Whether the points have equal ratios rather than equal differences.

    Raises
    ------
    BadInput
        For an unknown key, an empty range, and a number of points below 2 or above MOST_POINTS.

    Examples
    --------
    >>> import annealvi
    >>> annealvi.Axis("schedule.T0", 10, 1000, 3, log=True).values
    array([  10.,  100., 1000.])
    """

    key: str
    low: float
    high: float
    count: int
    log: bool = False

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_key(self.key, "axis")
        finite = all(isinstance(x, Real) and np.isfinite(x) for x in (self.low, self.high))
        if not (isinstance(self.count, Integral) and 2 <= self.count <= MOST_POINTS):
            raise BadInput(
                "axis", f"{self.count} is no number of points", f"give a whole number from 2 to {MOST_POINTS:.0e}", ""
            )
        if not (finite and self.low < self.high) or (self.log and self.low <= 0):
            found = f"the range {self.low}:{self.high}:{self.count} is empty"
            raise BadInput("axis", found, "let LO < HI be finite, and LO > 0 with :log", "")
        if self.key == "space.dimension" and (parts := [x for x in (self.low, self.high) if not float(x).is_integer()]):
            raise BadInput(
                "axis",
                f"{self.key} = {parts[0]:g} is not an integer",
                "let LO and HI be whole numbers, such as 8:128",
                "",
            )

    @property
    def values(self) -> np.ndarray:
        """The points, shape (count,). The dimension takes whole numbers, each once, which may be fewer than `count`."""
        spread = np.geomspace if self.log else np.linspace
        values = spread(self.low, self.high, self.count)
        return np.unique(values.round()) if self.key == "space.dimension" else values

    @property
    def settings(self) -> list[Any]:
        """The value that the key is set to at each point."""
        return self.values.tolist()

    @property
    def stated(self) -> dict[str, Any]:
        """The axis in plain values."""
        return vars(self)

    @property
    def ends(self) -> list[Any]:
        """The settings that are tried before a run: if both ends are valid, so is what lies between."""
        return [self.settings[0], self.settings[-1]]


@dataclass(frozen=True)
class Choices:
    """A key of the problem and a list of values.

    Attributes
    ----------
    key : str
        A key of the problem file, or R, w_star or w_1; see `annealvi.sweeps.keys`.
    settings : sequence
        The values as a problem file has them: numbers, words or lists.

    Raises
    ------
    BadInput
        For an unknown key, for no value, and for a value given twice.

    Examples
    --------
    >>> import annealvi
    >>> annealvi.Choices("schedule.kind", ["linear", "cosine"]).values
    array(['linear', 'cosine'], dtype=object)
    """

    key: str
    settings: Sequence[Any]

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_fields(self)
        require_key(self.key, "axis")
        object.__setattr__(self, "settings", tuple(map(_frozen, self.settings)))
        if not self.settings:
            raise BadInput("axis", f"{self.key} has no value", "give at least one", "")
        if len(set(self.values.tolist())) < len(self.settings):
            raise BadInput("axis", f"{self.key} has a value twice", "give each once", "")

    @property
    def values(self) -> np.ndarray:
        """The values as a coordinate, shape (count,): numbers where all of them are numbers, else their text."""
        numbers = all(isinstance(x, Real) and not isinstance(x, bool) for x in self.settings)
        return np.array(self.settings, float) if numbers else np.array([_text(x) for x in self.settings], object)

    @property
    def stated(self) -> dict[str, Any]:
        """The axis in plain values."""
        return vars(self)

    @property
    def ends(self) -> list[Any]:
        """The settings that are tried before a run: all of them."""
        return list(self.settings)


def at_ends(axes: Sequence[Axis | Choices]) -> list[dict[str, Any]]:
    """Return the settings that are tried before a run: each axis at its ends, the other axes at their first values."""
    first = {axis.key: axis.ends[0] for axis in axes}
    return [{**first, axis.key: value} for axis in axes for value in axis.ends]


def require_ends(problem: Problem, axes: Sequence[Axis | Choices]) -> list[Problem]:
    """Check the problems at the axes' ends before anything is derived, and return them.

    Raises BadInput for values that the problem refuses, and for a number that its schedule does not have.
    """
    tried = [vary(problem, settings) for settings in at_ends(axes)]
    keys = [axis.key for axis in axes]
    for spec in (
        dict.fromkeys(one.schedule for one in tried) if not {"schedule.T0", "schedule.t0"}.isdisjoint(keys) else ()
    ):
        require_numbers(spec.kind, numbers_of(spec), keys)
    return tried


def parse_axis(text: str, option: str) -> Axis | Choices:
    """Read an axis from KEY=LO:HI:N, KEY=LO:HI:N:log, KEY=VALUE,VALUE,… or KEY=[…] in TOML. Raises BadInput."""
    key, equals, rest = text.partition("=")
    wrong = BadInput(option, f"{text[:60]!r} is not an axis", REMEDY, "")
    try:
        require_key(key, option)
    except BadInput as unknown:
        raise (unknown if equals and rest else wrong) from None
    try:
        if rest.startswith("["):
            return Choices(key, tomllib.loads(f"x = {rest}")["x"])
        if ":" not in rest:
            return Choices(key, [_value(word) for word in rest.split(",")])
        low, high, count, *scale = rest.split(":")
        if scale not in ([], ["log"]):
            raise wrong
        return Axis(key, float(low), float(high), int(count), log=bool(scale))
    except BadInput as mistake:
        raise BadInput(option, mistake.found, mistake.remedy, "") from None
    except (ValueError, RecursionError):
        raise wrong from None


def _value(word: str) -> Any:
    """Read a number or a word."""
    word = word.strip()
    for read in (int, float):
        try:
            return read(word)
        except ValueError:
            continue
    if not word:
        raise ValueError(word)
    return word


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _text(value: Any) -> str:
    return f"[{', '.join(map(_text, value))}]" if isinstance(value, tuple) else str(value)
