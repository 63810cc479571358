"""What a sweep is to those that run it: units that do not depend on one another, and how their results are laid out and
labelled."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Variable:
    """One result of each unit, in double precision. dims, shape: of a single unit's. attributes: its labels in the
    file."""

    dims: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


class Sweep(ABC):
    """A frozen value that can be sent to another process. Its units are numbered in the order of `shape`, the last
    index fastest.

    A unit's numbers depend on the sweep and the unit's number alone: not on what was computed before it, where, or
    beside what. So any chunks, on any number of workers, make the same result.
    """

    libraries: tuple[str, ...] = ("numpy", "scipy", "sympy", "numba", "llvmlite")
    """Those whose versions decide the last digits."""
    workers: int = 1
    """Processes that share this machine's cores best, where none are asked for: a single one whose kernels use threads,
    or more."""
    on_gpu: bool = False

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of the grid of units."""

    @property
    @abstractmethod
    def dims(self) -> tuple[str, ...]:
        """The names of the grid's directions."""

    @property
    @abstractmethod
    def variables(self) -> Mapping[str, Variable]:
        """What each unit gives."""

    @property
    @abstractmethod
    def coordinates(self) -> Mapping[str, tuple[tuple[str, ...], np.ndarray]]:
        """The file's coordinates: name -> (dims, values)."""

    @property
    @abstractmethod
    def request(self) -> Mapping[str, Any]:
        """All that decides the numbers besides the versions of what computes them, as plain values."""

    @property
    def attributes(self) -> Mapping[str, str]:
        """Further labels of the file."""
        return {}

    @property
    def remarks(self) -> tuple[str, ...]:
        """What people should know of any run, a line each."""
        return ()

    @abstractmethod
    def check(self) -> None:
        """Raise BadInput for what a unit would refuse, as far as that can be known in a moment."""

    @abstractmethod
    def compute(self, unit: int, tell: Callable[[str], None] | None = None) -> Mapping[str, Any]:
        """The unit's variables. tell: takes what people should know."""

    @abstractmethod
    def seconds_per_unit(self) -> float:
        """What a mean unit is expected to take one worker, right within a factor of some two; it may be timed."""

    @property
    def units(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    @property
    def points_per_unit(self) -> int:
        """Points of the map or grid that one unit computes."""
        return 1

    @property
    def bytes_per_unit(self) -> int:
        """Of its results."""
        return 8 * sum(math.prod(v.shape) for v in self.variables.values())


def compute_chunk(sweep: Sweep, first: int, stop: int, tell: Callable[[str], None] | None = None) -> Arrays:
    """The variables of the units first, …, stop − 1, each (stop − first, …)."""
    found = [sweep.compute(unit, tell) for unit in range(first, stop)]
    return {
        name: np.array([unit[name] for unit in found], dtype=float).reshape(stop - first, *variable.shape)
        for name, variable in sweep.variables.items()
    }
