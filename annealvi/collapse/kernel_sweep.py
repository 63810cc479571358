"""What sweeps of this package's own kernels have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property

from annealvi.session.resolution import warnings_over
from annealvi.sweeps.axis import Axis, Choices
from annealvi.sweeps.sweep import Sweep
from derive.problem.problem_file import problem_to_toml
from derive.problem.specification import Problem
from kernels.machine.device import resolve_device


class KernelSweep(Sweep):
    """A sweep over a problem. Those that are frozen dataclasses call `settle_device` in the end."""

    problem: Problem
    device: str

    def settle_device(self) -> None:
        """Decide here where kernels run, and not in each of the processes that compute."""
        object.__setattr__(self, "device", resolve_device(self.device).kind)

    @property
    def attributes(self) -> Mapping[str, str]:
        known = {"problem": problem_to_toml(self.problem), "device": self.processor}
        return {**known, "warnings": "\n".join(self.warnings)} if self.warnings else known

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What is to be said of the target's modes at its points, see `annealvi.session.resolution`."""
        return warnings_over(self.problem, self.varied)

    @property
    @abstractmethod
    def varied(self) -> tuple[Axis | Choices, ...]:
        """The axes of all keys that the sweep varies."""

    @property
    def processor(self) -> str:
        """What computes, without the number of its threads."""
        where = resolve_device(self.device)
        return where.name if where.kind == "cuda" else "cpu"

    @property
    def on_gpu(self) -> bool:  # type: ignore[override]
        return self.device == "cuda"
