"""The common part of all sweeps that run this package's own kernels."""

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
    """A sweep over the keys of a problem.

    Subclasses that are frozen dataclasses call `settle_device` at the end of `__post_init__`.
    """

    problem: Problem
    device: str

    def settle_device(self) -> None:
        """Decide once where kernels run, rather than again in each process that computes."""
        object.__setattr__(self, "device", resolve_device(self.device).kind)

    @property
    def attributes(self) -> Mapping[str, str]:
        known = {"problem": problem_to_toml(self.problem), "device": self.processor}
        return {**known, "warnings": "\n".join(self.warnings)} if self.warnings else known

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the target's modes at the sweep's points, see `annealvi.session.resolution`."""
        return warnings_over(self.problem, self.varied)

    @property
    @abstractmethod
    def varied(self) -> tuple[Axis | Choices, ...]:
        """The axes of all keys that the sweep varies."""

    @property
    def processor(self) -> str:
        """The name of the processor, without the number of its threads."""
        where = resolve_device(self.device)
        return where.name if where.kind == "cuda" else "cpu"

    @property
    def on_gpu(self) -> bool:  # type: ignore[override]
        return self.device == "cuda"
