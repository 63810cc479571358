"""From the status of a failed trajectory to an error that names the cause and the remedy."""

from __future__ import annotations

import numpy as np

from kernels.averages.tables import most_nodes
from kernels.generate.lattice_code import MOST_NODES
from kernels.generate.templates.integrator import (
    DONE,
    NOT_FINITE,
    OUTSIDE_BOUNDS,
    OUTSIDE_GRAM,
    STEP_TOO_SMALL,
    TIME_REACHED,
    TOO_MANY_STEPS,
)
from kernels.integrate.compiled import CompiledSystem
from kernels.integrate.domain import excess, interval_text
from kernels.integrate.errors import DomainError, IntegrationError, TooManyStepsError

NEARLY = 0.99
"""A step that leads to averages of too many nodes shrinks until the state before the step asks for at least this
fraction of the largest number of nodes."""

REASONS = {
    TOO_MANY_STEPS: "too many steps; use a larger rtol or a shorter time",
    STEP_TOO_SMALL: "the step falls below the time's rounding; use a larger rtol",
    OUTSIDE_GRAM: "the overlaps' Gram matrix is no longer positive semidefinite; use a smaller rtol",
}
KINDS = {TOO_MANY_STEPS: TooManyStepsError, OUTSIDE_GRAM: DomainError, OUTSIDE_BOUNDS: DomainError}


def raise_for_failure(
    compiled: CompiledSystem, status: np.ndarray, reached: np.ndarray, states: np.ndarray, number: int | np.ndarray
) -> None:
    """Raise an IntegrationError for the first trajectory that failed, if one did.

    status: (N,) how each trajectory ended. reached: (N, 3), see `integrate_some`. states: (N, states) the state at
    which each trajectory stopped. number: the number of the first trajectory in a larger batch, or those of all, (N,).
    """
    failed = np.flatnonzero(status != DONE)
    if len(failed) == 0:
        return
    n = int(failed[0])
    time, state, code = float(reached[n, TIME_REACHED]), states[n].astype(float), int(status[n])
    of_state = {NOT_FINITE: why_not_finite, OUTSIDE_BOUNDS: _why_outside}
    why = of_state[code](compiled, state) if code in of_state else REASONS[code]
    others = f" (the first of {len(failed)} that fail)" if len(failed) > 1 else ""
    name = int(number[n]) if isinstance(number, np.ndarray) else number + n
    place = f"trajectory {name}{others} at t = {time:.6g}, state {np.array2string(state, precision=6)}"
    raise KINDS.get(code, IntegrationError)(f"{place}: {why}", name, time, state)


def why_not_finite(compiled: CompiledSystem, state: np.ndarray) -> str:
    """Why the rates are not finite one step after a state (states,), in words.

    One step after the state, an average may ask for too many nodes even if it does not do so at the state itself.
    """
    asked = most_nodes(compiled.averages, compiled.known_values(), compiled.tables, state)
    limit = f"and {MOST_NODES:.0e} are the most; bring lengths and scales closer to one another, or end the run before"
    if asked > NEARLY * MOST_NODES:
        return f"the rates are not finite: an average asks for {asked:.1e} nodes, {limit}"
    if asked > 0:
        return (
            f"the rates are not finite, or an average asks for more nodes than the {asked:.1e} at this state, {limit}"
        )
    return "the rates are not finite"


def _why_outside(compiled: CompiledSystem, state: np.ndarray) -> str:
    """Why a state (states,) leaves its interval, in words.

    The cause is an error of the integration where geometry sets the end of the interval. Otherwise the flow itself may
    lead beyond the end.
    """
    n = int(excess(compiled, state[None])[0].argmax())
    end = int(state[n] > compiled.limits[n, 1])
    bound = compiled.system.variables[n].interval[end].xreplace(compiled.known_values())
    name = compiled.system.states[n].name
    beyond = f"{name} = {state[n]:.6g} leaves its interval {interval_text(compiled, n)}"
    if bound.is_finite and float(bound) == compiled.limits[n, end]:
        return f"{beyond}; use a smaller rtol"
    return (
        f"{beyond}, for which the averages' tables are made and which follows from the problem's own lengths and "
        "scales; end the run before, or keep the temperatures lower"
    )
