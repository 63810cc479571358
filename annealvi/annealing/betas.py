"""The inverse temperature of each optimiser step, for training loops of one's own: a plain callable, or one that JAX
can trace."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp
from sympy.printing.numpy import JaxPrinter

from annealvi.components import require
from derive.objects.short_repr import short_repr
from derive.objects.system import TIME
from derive.problem.arguments import checked, require_choice, require_fields
from derive.problem.kinds import KINDS, names_of_kinds
from derive.problem.scaled_form import Largest, Smallest
from derive.problem.schedules import Schedule, make_schedule, settling_time
from derive.problem.specification import BadInput, ScheduleSpec

TIMED_KINDS = names_of_kinds(lambda kind: kind.timed)
"""The kinds with a formula, an initial temperature T0 and a time scale t0, for the user to choose."""

ANNEALED = 0.05
"""A schedule has ended once T <= 1.05 for good; one that only tends to T = 1 would have no duration otherwise."""


_PRINTING = {"fully_qualified_modules": False, "inline": True, "allow_unknown_functions": True}


class _TracedPrinter(JaxPrinter):
    """JAX code with every literal to the last bit, and with functions that take numbers beside arrays."""

    def _print_Float(self, literal: sp.Float) -> str:
        return repr(float(literal))

    def _print_Max(self, node: sp.Max) -> str:
        return self._print(Largest(*node.args))

    def _print_Min(self, node: sp.Min) -> str:
        return self._print(Smallest(*node.args))

    def _print_erf(self, node: sp.erf) -> str:
        return f"{self._module_format('jax.scipy.special.erf')}({self._print(node.args[0])})"


@dataclass(frozen=True)
class BetaSchedule:
    """β(step) of a schedule whose time is the number of steps times `time_per_step`. The loss to descend is E_q[log q −
    β log p*].

    Warning: "KL warm-up", which multiplies KL(q‖prior) by a factor below one, goes the opposite way.
    Raises BadInput for an adaptive kind, whose β depends on the samples.
    """

    spec: ScheduleSpec
    time_per_step: float = 1.0

    __repr__ = short_repr

    def _repr_latex_(self) -> str:
        return self._schedule._repr_latex_()

    def __post_init__(self) -> None:
        require_fields(self)
        if KINDS[self.spec.kind].adaptive:
            raise BadInput(
                "schedule.kind",
                f"the β of {self.spec.kind!r} is no function of the step",
                "choose a kind with a formula",
                "",
            )
        if not 0 < self.time_per_step < math.inf:
            raise BadInput("time_per_step", f"{self.time_per_step} is no length of time", "give a positive number", "")

    def __call__(self, step: int) -> float:
        """β at step 0, 1, …: 1/T, a float that is not negative."""
        return self._schedule.beta_at(step * self.time_per_step)

    def values(self, steps: int) -> np.ndarray:
        """β of the steps 0 … steps − 1, (steps,), in double precision."""
        return np.array([self(n) for n in range(steps)])

    @property
    def steps(self) -> int:
        """How many steps come before T <= 1.05 for good. Raises BadInput for a constant T0 > 1.05."""
        return math.ceil(settling_time(self._schedule, ANNEALED) / self.time_per_step)

    def optax(self) -> Callable[[Any], Any]:
        """The same as an optax schedule, count ↦ β, which JAX can trace, differentiate and map; in JAX's own precision.

        Raises MissingComponent without JAX.
        """
        require("an optax schedule", "jax")
        import jax.numpy as jnp

        schedule = self._schedule
        formula = sp.lambdify((TIME, *schedule.parameters), schedule.beta, "jax", printer=_TracedPrinter(_PRINTING))

        def beta(count: Any) -> Any:
            time = jnp.asarray(count, float) * self.time_per_step
            return jnp.broadcast_to(jnp.asarray(formula(time, *schedule.values), float), time.shape)

        return beta

    @cached_property
    def _schedule(self) -> Schedule:
        return make_schedule(self.spec)


@checked
def beta_schedule(kind: str, T0: float, steps: int) -> BetaSchedule:
    """The schedule of a kind that begins at temperature T0 and comes to T = 1.05 after `steps`, or jumps to T = 1 there
    ("hold").

    kind: one of TIMED_KINDS, which have a T0, a t0 and a formula (see `derive.problem.schedules`). Raises BadInput for
    another one, for T0 <= 1.05, and for steps below 1.
    """
    if steps < 1:
        raise BadInput("steps", f"{steps} leaves no step to anneal in", "give a whole number of at least 1", "")
    return BetaSchedule(schedule_within(kind, T0, float(steps)))


@checked
def schedule_within(kind: str, T0: float, duration: float) -> ScheduleSpec:
    """The schedule of a kind that takes `duration`, in its own time, from T0 to T = 1.05. Raises BadInput for T0 <=
    1.05.

    kind: one of TIMED_KINDS.
    """
    require_choice("kind", [kind], TIMED_KINDS)
    unit = settling_time(make_schedule(ScheduleSpec(kind, T0, 1.0)), ANNEALED)
    if not unit > 0:
        raise BadInput("T0", f"T0 = {T0:g} leaves nothing to anneal", f"begin above {1 + ANNEALED:g}", "")
    return ScheduleSpec(kind, T0, duration / unit)
