"""What a run will cost, estimated before it begins, so that a long one is announced and one beyond a limit refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from derive.problem import BadInput

if TYPE_CHECKING:
    from kernels.integrator import Kernel

WORTH_SAYING = 5.0
"""Seconds from which on a run is announced."""

PILOT_SECONDS = 0.5
LONGEST_PILOT = 8192

COORDINATES_PER_SECOND = {"cpu": 1e8, "cuda": 1e10}
"""Particle coordinates of two modes and two components, per CPU thread and per GPU; right within a factor of some two."""


@dataclass(frozen=True)
class Cost:
    """seconds: expected, right within a factor of some two. basis: what they follow from, for people."""

    seconds: float
    basis: str

    def __str__(self) -> str:
        return f"about {duration(self.seconds)}: {self.basis}"


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


def cost_of_integration(kernel: Kernel, states: np.ndarray, times: np.ndarray, rtol: float, lanes: int) -> Cost:
    """The cost of integrating all states (n, states) over times (n_out,), `lanes` trajectories side by side.

    The first state's trajectory is followed for about PILOT_SECONDS with the run's own tolerance, and its last step size extrapolated: a
    count of steps that is guessed would miss a stiff system's by orders of magnitude.
    """
    steps, seconds_per_step = _expected_steps(kernel, states[:1], times, rtol)
    rounds = -(-len(states) // lanes)
    stages = 12  # right-hand sides per step of DOP853
    nodes = float(np.mean(kernel.nodes(states[:64])))
    visited = f"{nodes:.1e} nodes per rate, " if nodes > 0 else ""
    stored = 8e-6 * len(states) * len(times) * states.shape[1]
    basis = f"{visited}{stages * steps:.1e} rates per trajectory, {len(states)} trajectories on {kernel.device}, {stored:.1f} MB of results"
    return Cost(rounds * steps * seconds_per_step, basis)


def _expected_steps(kernel: Kernel, state: np.ndarray, times: np.ndarray, rtol: float) -> tuple[float, float]:
    """The steps of one trajectory, and the seconds that one takes."""
    _follow(kernel, state, times, rtol, 1)  # compiles
    before, most = (0, float(times[0])), 16
    while True:
        begun = time.perf_counter()
        steps, reached, ended = _follow(kernel, state, times, rtol, most)
        seconds = time.perf_counter() - begun
        if ended:
            return steps, seconds / max(steps, 1)
        if seconds > PILOT_SECONDS or most >= LONGEST_PILOT:
            speed = (reached - before[1]) / (steps - before[0])
            return steps + (float(times[-1]) - reached) / speed, seconds / steps
        before, most = (steps, reached), 2 * most


def _follow(kernel: Kernel, state: np.ndarray, times: np.ndarray, rtol: float, most: int) -> tuple[int, float, bool]:
    """(steps, time reached, whether there is no more to do) of one trajectory within `most` steps."""
    from kernels.integrator import IntegrationError

    try:
        run = kernel.integrate(state, times, rtol=rtol, atol=rtol / 100, most_steps=most)
    except IntegrationError as error:
        if "too many steps" not in str(error):
            return most, error.time, True  # it fails in the run itself, which says why
        return most, error.time, False
    return int(run.steps[0]), float(times[-1]), True


def cost_of_particles(coordinates: float, device: str) -> Cost:
    """coordinates: replicas × components × dimension × particles, summed over steps. device: "auto", "cpu" or "cuda"."""
    import numba

    from kernels.device import resolve_device

    where = resolve_device(device)
    speed = COORDINATES_PER_SECOND[where.kind] * (numba.get_num_threads() if where.kind == "cpu" else 1)
    return Cost(coordinates / speed, f"{coordinates:.1e} particle coordinates over all steps on {where.name}")
