"""The inverse temperature of each optimiser step, for the user's own training loops.

`BetaSchedule` is a plain callable, and its `optax` method gives a function that JAX can trace.
"""

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
"""A schedule counts as ended once T <= 1.05 for good, because one that only tends to T = 1 never ends exactly."""


_PRINTING = {"fully_qualified_modules": False, "inline": True, "allow_unknown_functions": True}


class _TracedPrinter(JaxPrinter):
    """Printer of JAX code: literals are exact to the last bit, and functions take numbers as well as arrays."""

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
    """The inverse temperature β as a function of the optimiser step.

    The schedule's time is the number of steps times `time_per_step`. The loss to descend is E_q[log q − β log p*].

    Attributes
    ----------
    spec : ScheduleSpec
        The schedule, of a kind with a formula.
    time_per_step : float
        The schedule's time that one step takes, positive and finite.

    Raises
    ------
    BadInput
        For an adaptive kind, whose β depends on the samples, and for another `time_per_step`.

    Notes
    -----
    "KL warm-up", which multiplies KL(q‖prior) by a factor below one, goes the opposite way: it tempers the prior
    colder, where annealing tempers the whole target hotter.

    Examples
    --------
    >>> from annealvi import BetaSchedule, ScheduleSpec
    >>> schedule = BetaSchedule(ScheduleSpec("hold", T0=4.0, t0=2.0), time_per_step=0.5)
    >>> schedule.values(6)
    array([0.25, 0.25, 0.25, 0.25, 1.  , 1.  ])
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
        """β at a step, counted from 0: 1/T, a float that is not negative."""
        return self._schedule.beta_at(step * self.time_per_step)

    def values(self, steps: int) -> np.ndarray:
        """β of the steps 0 to steps − 1.

        Parameters
        ----------
        steps : int
            The number of steps.

        Returns
        -------
        numpy.ndarray, shape (steps,)
            β of each step, in double precision.
        """
        return np.array([self(n) for n in range(steps)])

    @property
    def steps(self) -> int:
        """The number of steps before T <= 1.05 for good. Raises `BadInput` for a constant T0 > 1.05."""
        return math.ceil(settling_time(self._schedule, ANNEALED) / self.time_per_step)

    def optax(self) -> Callable[[Any], Any]:
        """The schedule as an optax schedule, which JAX can trace, differentiate and map.

        Returns
        -------
        callable
            The function count ↦ β, in JAX's own precision. β has the shape of count.

        Raises
        ------
        MissingComponent
            If JAX is not installed.
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
    """The schedule of a kind that begins at temperature T0 and comes to T = 1.05 after a number of steps.

    A schedule of kind "hold" jumps to T = 1 there.

    Parameters
    ----------
    kind : str
        A kind with a formula in T0 and t0, one of `TIMED_KINDS`.
    T0 : float
        The temperature of the first step, above 1.05.
    steps : int
        The number of steps in which the schedule anneals, at least 1.

    Returns
    -------
    BetaSchedule
        The schedule in units of one step.

    Raises
    ------
    BadInput
        For another kind, for T0 <= 1.05 and for steps below 1.

    Examples
    --------
    >>> import annealvi
    >>> schedule = annealvi.beta_schedule("linear", T0=20.0, steps=100)
    >>> schedule(0), round(schedule(100), 6), schedule(200)
    (0.05, 0.952381, 1.0)
    """
    if steps < 1:
        raise BadInput("steps", f"{steps} leaves no step to anneal in", "give a whole number of at least 1", "")
    return BetaSchedule(schedule_within(kind, T0, float(steps)))


@checked
def schedule_within(kind: str, T0: float, duration: float) -> ScheduleSpec:
    """The schedule of a kind that takes a given time from T0 to T = 1.05.

    Parameters
    ----------
    kind : str
        A kind with a formula in T0 and t0, one of `TIMED_KINDS`.
    T0 : float
        The start temperature, above 1.05.
    duration : float
        The time from T0 to T = 1.05, in the schedule's own time.

    Returns
    -------
    ScheduleSpec
        The schedule, whose t0 follows from the duration.

    Raises
    ------
    BadInput
        For another kind and for T0 <= 1.05.

    Examples
    --------
    >>> import annealvi
    >>> annealvi.schedule_within("hold", T0=20.0, duration=300.0).t0
    300.0
    """
    require_choice("kind", [kind], TIMED_KINDS)
    unit = settling_time(make_schedule(ScheduleSpec(kind, T0, 1.0)), ANNEALED)
    if not unit > 0:
        raise BadInput("T0", f"T0 = {T0:g} leaves nothing to anneal", f"begin above {1 + ANNEALED:g}", "")
    return ScheduleSpec(kind, T0, duration / unit)
