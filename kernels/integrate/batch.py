"""Integration of batches of initial states, for one or several sets of parameters in one launch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from derive.objects.short_repr import short_repr
from kernels.generate.templates.integrator import HALTED, STEPS_REACHED, TIME_REACHED, Control
from kernels.integrate.compiled import CompiledSystem
from kernels.integrate.domain import domain_tolerance as usual_domain_tolerance
from kernels.integrate.errors import IntegrationError, StoppedError
from kernels.integrate.failures import raise_for_failure
from kernels.integrate.paths import NO_TRAPS, checked_times, method_text, paths_of
from kernels.machine.threads import TimeLimitError

MOST_STEPS = 1_000_000


@dataclass(frozen=True)
class Trajectories:
    """The trajectories of a batch.

    Attributes
    ----------
    t
        (n_out,) the times of the outputs.
    beta
        (n_out,) the inverse temperatures at these times.
    y
        (N, n_out, states) the states at these times.
    steps
        (N,) how many steps each trajectory attempted. A step of RKC counts as often as it evaluates the rates as many
        times as a step of DOP853 does.
    reached
        (N,) the time to which each trajectory was integrated: the last time, or the time at which a trap stopped it.
    device, method
        The device and the method that ran.
    """

    t: np.ndarray
    beta: np.ndarray
    y: np.ndarray
    steps: np.ndarray
    reached: np.ndarray
    device: str
    method: str

    __repr__ = short_repr


def integrate_sets(
    kernels: Sequence[CompiledSystem],
    initial: np.ndarray,
    times: Sequence[float] | np.ndarray | Sequence[np.ndarray],
    *,
    rtol: float = 1e-9,
    atol: float = 1e-11,
    fixed_steps: int = 0,
    most_steps: int = MOST_STEPS,
    domain_tolerance: float | None = None,
    traps: Sequence[np.ndarray] = (NO_TRAPS,),
    number: int | np.ndarray = 0,
) -> list[Trajectories]:
    """Integrate several sets of parameters in one launch, and return the trajectories of each set in the same order.

    One launch fills a GPU where one set alone would not. kernels: one per set, all of one system on one device, as
    `with_parameters` makes them. initial: (N, states) for all sets, or (sets, N, states). times: (n_out,) for all sets,
    or (sets, n_out). traps: one array for all sets, or one for each set. The other arguments and the errors are those
    of `Kernel.integrate`. The trajectory of an error counts within its set, and the message names the set where there
    are several.
    """
    one, count = kernels[0], len(kernels)
    if any(k.executable != one.executable for k in kernels):
        raise ValueError("the kernels of a batch must be those of one system on one device, made by `with_parameters`")
    given = np.asarray(initial, float)
    batches = np.array([one.checked_states(b) for b in (given if given.ndim == 3 else [given])])
    table = np.asarray(times, float)
    wanted = [checked_times(t) for t in (table if table.ndim == 2 else [table] * count)]
    if len(batches) not in (1, count) or len(wanted) != count or len(traps) not in (1, count):
        raise ValueError(
            f"{len(batches)} batches of states, {len(wanted)} of times and {len(traps)} of "
            f"traps do not fit {count} sets"
        )
    if domain_tolerance is None:
        states = batches.reshape(-1, batches.shape[2])
        domain_tolerance = max(usual_domain_tolerance(k, states, rtol) for k in kernels)
    control = Control(rtol, atol, fixed_steps, most_steps, domain_tolerance)
    path = paths_of(kernels, wanted, control, traps)
    out, reached, status = _run(one, batches, path, (count, len(wanted[0])), float(wanted[0][0]))
    for n, kernel in enumerate(kernels):
        try:
            raise_for_failure(kernel, status[n], reached[n], out[n, :, -1], number)
        except IntegrationError as error:
            if count > 1:
                error.args = (f"set {n}: {error}",)
            raise
    method = method_text(control, one.precision, one.request.stabilised) + one.tables.way_with_groups
    return [
        Trajectories(
            wanted[n],
            k.beta_at(wanted[n]),
            out[n],
            reached[n, :, STEPS_REACHED].astype(np.int64),
            reached[n, :, TIME_REACHED].copy(),
            k.device,
            method,
        )
        for n, k in enumerate(kernels)
    ]


def _run(
    one: CompiledSystem, batches: np.ndarray, path: Sequence[np.ndarray], shape: tuple[int, int], start: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The outputs of `integrate_some` for all sets. shape: the numbers of sets and of output times.

    Raises StoppedError where the time limit of `at_most` stops the integration.
    """
    sets, n_out = shape
    trajectories, width = batches.shape[1:]
    out = np.empty((sets, trajectories, n_out, width), one.precision)
    reached = np.zeros((sets, trajectories, 3), one.precision)
    status = np.zeros((sets, trajectories), np.int64)
    parts = one.executable.parts(trajectories, sets)
    try:
        one.executable.launch("integrate_all", sets * parts, [parts], [batches, *path], [out, reached, status])
    except TimeLimitError as error:
        begun = np.argwhere(status == HALTED)
        if len(begun) == 0:
            raise StoppedError(0, start, 0.0, batches[0, 0]) from error
        at = tuple(begun[0])
        steps, time, step = reached[at].astype(float)
        raise StoppedError(int(steps), float(time), float(step), out[at][-1].astype(float)) from error
    return out, reached, status
