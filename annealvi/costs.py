"""What a run will cost, estimated before it begins, so that a long one is announced and one beyond a limit refused."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from derive.problem import BadInput

if TYPE_CHECKING:
    from kernels.integrator import Kernel

WORTH_SAYING = 5.0
"""Seconds from which on a run is announced."""

PILOT_SECONDS, LONGEST_PILOT = 0.5, 10.0
FEWEST_STEPS, MOST_PILOT_STEPS = 16, 8192
"""The first steps are shorter than those that follow: from four of them one would expect a hundred times too many."""
SHORT_STEPS = 3
"""After a first step that is a guess each may be ten times the one before it."""
OVERRUN = 2.0
"""A run that takes so many times its limit is stopped: estimates are right within that, unless steps become dearer on the way."""
STAGES = 12
"""Right-hand sides per step of DOP853."""

COORDINATES_PER_SECOND = {"cpu": 3e8, "cuda": 1e10}
"""Particle coordinates of two modes and two components, per CPU thread and per GPU; right within a factor of some two."""
RESPONSIBILITIES = 8
"""What a particle's responsibilities take, in coordinates; it matters where few are drawn of each."""


@dataclass(frozen=True)
class Cost:
    """seconds: expected, right within a factor of some two, or the least that it can be. basis: what they follow from, for people."""

    seconds: float
    basis: str
    least: bool = False

    def __str__(self) -> str:
        return f"{'at least' if self.least else 'about'} {duration(self.seconds)}: {self.basis}"


def require_affordable(cost: Cost, limit: float | None, remedy: str, tell: Callable[[str], None] | None = None) -> None:
    """Raise BadInput for a cost above `limit` seconds (None: no limit); `tell` hears of another one that is worth saying."""
    if limit is not None and cost.seconds > limit:
        raise BadInput("--max-cost", f"{cost}, above the limit of {duration(limit)}", remedy, "")
    if tell is not None and cost.seconds > WORTH_SAYING:
        tell(str(cost))


def duration(seconds: float) -> str:
    """Seconds up to some minutes, then hours, then days, to two digits."""
    for length, unit in ((86400.0, "days"), (3600.0, "h")):
        if seconds >= 2 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def cost_of_integration(
    kernel: Kernel, states: np.ndarray, times: np.ndarray, rtol: float, side_by_side: int, count: int | None = None
) -> Cost:
    """The cost of integrating all states (n, states) over times (n_out,), with so many trajectories side by side.

    count: of all states, where only the first of them are given.
    One rate is timed first, or a part of it. The first state's trajectory is then followed for about PILOT_SECONDS with the run's own
    tolerance, and its last step size extrapolated: a count of steps that is guessed would miss a stiff system's by orders of magnitude.
    Where that takes more than LONGEST_PILOT seconds, the cost is the least that it can be: steps of the size and the price at which the
    pilot was stopped, or one step for each output where it had not come through the first short ones.
    """
    from kernels.integrator import StoppedError
    from kernels.stages import stage
    from kernels.threads import at_most

    first = states[:1]
    one_step = STAGES * kernel.seconds_per_rate(first, LONGEST_PILOT / STAGES)
    nodes = float(kernel.nodes(first)[0]) if one_step < LONGEST_PILOT else kernel.nodes_asked(first[0])
    steps, seconds_per_step, expected = float(len(times)), one_step, None
    try:
        with stage("estimating the cost"), at_most(LONGEST_PILOT):
            expected = _expected_steps(kernel, first, times, rtol) if one_step < LONGEST_PILOT else None
    except StoppedError as stopped:
        if stopped.steps > SHORT_STEPS:
            steps = stopped.steps + (float(times[-1]) - stopped.time) / stopped.step
        seconds_per_step *= max(1.0, kernel.nodes_asked(stopped.state) / nodes if nodes > 0 else 1.0)
    steps, seconds_per_step = expected or (steps, seconds_per_step)
    count = len(states) if count is None else count
    rounds = -(-count // side_by_side)
    visited = f"{nodes:.1e} nodes per rate, " if nodes > 0 else ""
    stored = 8e-6 * count * len(times) * states.shape[1]
    rates = f"{STAGES * steps:.1e} rates per trajectory"
    basis = f"{visited}{rates}, {count} trajectories on {kernel.device}, {stored:.1f} MB of results"
    return Cost(rounds * steps * seconds_per_step, basis, expected is None)


def _expected_steps(kernel: Kernel, state: np.ndarray, times: np.ndarray, rtol: float) -> tuple[float, float]:
    """The steps of one trajectory, and the seconds that one takes."""
    kernel.integrate(state[:0], times[:1])  # compiles
    before, most = (0, float(times[0])), 1
    while True:
        begun = time.perf_counter()
        steps, reached, ended = _follow(kernel, state, times, rtol, most)
        seconds = time.perf_counter() - begun
        if ended:
            return steps, seconds / max(steps, 1)
        if most >= FEWEST_STEPS and (seconds > PILOT_SECONDS or most >= MOST_PILOT_STEPS):
            speed = (reached - before[1]) / (steps - before[0])
            return steps + (float(times[-1]) - reached) / speed, seconds / steps
        before, most = (steps, reached), max(FEWEST_STEPS, 2 * most)


def _follow(kernel: Kernel, state: np.ndarray, times: np.ndarray, rtol: float, most: int) -> tuple[int, float, bool]:
    """(steps, time reached, whether there is no more to do) of one trajectory within `most` steps."""
    from kernels.integrator import IntegrationError, TooManyStepsError

    try:
        run = kernel.integrate(state, times, rtol=rtol, atol=rtol / 100, most_steps=most)
    except TooManyStepsError as error:
        return most, error.time, False
    except IntegrationError as error:
        return most, error.time, True  # it fails in the run itself, which says why
    return int(run.steps[0]), float(times[-1]), True


@contextmanager
def stopped_in_time(limit: float | None, remedy: str) -> Iterator[None]:
    """Raise BadInput once compiled code has run for OVERRUN times `limit` seconds within (None: no limit), the pilot of a cost included."""
    from kernels.threads import TimeLimitError, at_most

    try:
        with at_most(math.inf if limit is None else OVERRUN * limit):
            yield
    except TimeLimitError as error:
        assert limit is not None
        found = f"the run has taken {duration(OVERRUN * limit)}, {OVERRUN:g} times the limit, and is stopped"
        raise BadInput("--max-cost", found, remedy, "") from error


def cost_of_particles(coordinates: float, particles: float, device: str) -> Cost:
    """coordinates: drawn, and particles: of all replicas and components, both summed over steps. device: "auto", "cpu" or "cuda"."""
    import numba

    from kernels.device import resolve_device

    where = resolve_device(device)
    speed = COORDINATES_PER_SECOND[where.kind] * (numba.get_num_threads() if where.kind == "cpu" else 1)
    seconds = (coordinates + RESPONSIBILITIES * particles) / speed
    return Cost(seconds, f"{coordinates:.1e} particle coordinates over all steps on {where.name}")
