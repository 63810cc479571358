"""The interface of a sweep: independent units, and the layout and labels of their results."""

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
    """One result of each unit, in double precision.

    `dims` and `shape` are those of a single unit's result; `attributes` are its labels in the file.
    """

    dims: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


class Sweep(ABC):
    """A frozen value that can be sent to another process, and that computes numbered units.

    The units are numbered in the order of `shape`, the last index fastest. The numbers of a unit depend on the sweep
    and the unit's number alone, not on what was computed before, elsewhere or beside it. So any chunks, on any number
    of workers, make the same result.
    """

    libraries: tuple[str, ...] = ("numpy", "scipy", "sympy", "numba", "llvmlite")
    """Libraries whose versions decide the last digits."""
    workers: int = 1
    """Default number of processes: one for kernels that use all cores by threads, more where threads gain little."""
    on_gpu: bool = False

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of the grid of units."""

    @property
    @abstractmethod
    def dims(self) -> tuple[str, ...]:
        """The names of the grid's directions."""

    @property
    @abstractmethod
    def variables(self) -> Mapping[str, Variable]:
        """What each unit computes."""

    @property
    @abstractmethod
    def coordinates(self) -> Mapping[str, tuple[tuple[str, ...], np.ndarray]]:
        """The file's coordinates: name -> (dims, values)."""

    @property
    @abstractmethod
    def request(self) -> Mapping[str, Any]:
        """Everything that decides the numbers, besides the versions of what computes them, as plain values."""

    @property
    def attributes(self) -> Mapping[str, str]:
        """Further labels of the file."""
        return {}

    @property
    def remarks(self) -> tuple[str, ...]:
        """What people should know of any run, one line each."""
        return ()

    @abstractmethod
    def check(self) -> None:
        """Raise BadInput for what a unit would refuse, as far as a quick look can tell."""

    @abstractmethod
    def compute(self, unit: int, tell: Callable[[str], None] | None = None) -> Mapping[str, Any]:
        """Compute the unit's variables. `tell` takes lines for people."""

    @abstractmethod
    def seconds_per_unit(self) -> float:
        """Estimate the seconds that one worker takes for an average unit, within a factor of about two.

        The estimate may time a run.
        """

    @property
    def units(self) -> int:
        """The number of units."""
        return math.prod(self.shape)

    @property
    def points_per_unit(self) -> int:
        """Number of points of the map or grid that one unit computes."""
        return 1

    @property
    def bytes_per_unit(self) -> int:
        """Bytes of one unit's results."""
        return 8 * sum(math.prod(v.shape) for v in self.variables.values())


def compute_chunk(sweep: Sweep, first: int, stop: int, tell: Callable[[str], None] | None = None) -> Arrays:
    """Compute the variables of the units first, …, stop − 1, each of shape (stop − first, …)."""
    found = [sweep.compute(unit, tell) for unit in range(first, stop)]
    return {
        name: np.array([unit[name] for unit in found], dtype=float).reshape(stop - first, *variable.shape)
        for name, variable in sweep.variables.items()
    }
