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

FASTER_TRAINING = "take fewer --steps or --seeds, a smaller --batch or --width, or raise --max-cost"
WORTH_SAYING = 5.0
"""Seconds from which on a run is announced."""

PILOT_SECONDS, LONGEST_PILOT = 0.5, 10.0
FEWEST_STEPS, MOST_PILOT_STEPS = 16, 8192
"""The first steps are shorter than those that follow: from four of them one would expect a hundred times too many."""
STATIONS = 8
"""Times at which the rest of a path is sampled. The stiffness rises where the temperature falls: over a third of the path or more."""
WARMING, WARMED = 16, 48
"""Steps of a station's first run and of its second. Sixteen are enough to grow from the first guess to the size that the flow allows."""
MOST_TRAJECTORIES = 10**9
STAGES = 12
"""Right-hand sides per step of DOP853."""

COORDINATES_PER_SECOND = {"cpu": 3e8, "cuda": 1e10}
"""Particle coordinates of two modes and two components, per CPU thread and per GPU; right within a factor of some two."""
RESPONSIBILITIES = 8
"""What a particle's responsibilities take, in coordinates; it matters where few are drawn of each."""


@dataclass(frozen=True)
class Cost:
    """seconds: expected, or the least that it can be. basis: what they follow from, for people.

    Of integrations right within a factor of 1.5, as long as other work on the machine stays as it is; of the others of some two.
    """

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

    count: of all states, where only the first of them are given. See `pace_of_integration`.
    """
    return pace_of_integration(kernel, states, times, rtol, side_by_side).cost(len(states) if count is None else count)


@dataclass(frozen=True)
class Part:
    """A part of a trajectory. nodes: visited by all its rates. seconds: with all threads at work."""

    steps: float
    nodes: float
    seconds: float


@dataclass(frozen=True)
class Pace:
    """What one trajectory of many takes: the sum of its parts. bytes: of its result. least: whether it takes that much at least."""

    parts: tuple[Part, ...]
    side_by_side: int
    bytes: float
    device: str
    least: bool

    @property
    def steps(self) -> float:
        return sum(part.steps for part in self.parts)

    @property
    def nodes(self) -> float:
        return sum(part.nodes for part in self.parts)

    @property
    def seconds(self) -> float:
        """Of a round of `side_by_side` trajectories."""
        return sum(part.seconds for part in self.parts)

    def cost(self, count: int) -> Cost:
        """Of so many trajectories."""
        rates = STAGES * self.steps
        visited = f"{self.nodes / rates:.1e} nodes per rate, " if self.nodes > 0 else ""
        sizes = f"{count} trajectories on {self.device}, {1e-6 * count * self.bytes:.1f} MB of results"
        basis = f"{visited}{rates:.1e} rates per trajectory, {sizes}"
        return Cost(-(-count // self.side_by_side) * self.seconds, basis, self.least)

    def affordable(self, seconds: float) -> int:
        """How many trajectories are expected to take no more than so many seconds."""
        return int(seconds / self.seconds * self.side_by_side) if self.seconds > 0 else MOST_TRAJECTORIES


def pace_of_integration(kernel: Kernel, states: np.ndarray, times: np.ndarray, rtol: float, side_by_side: int) -> Pace:
    """What a trajectory from one of the states (n, states) over times (n_out,) takes, with so many side by side.

    One rate is timed first. As many trajectories as run side by side are then followed for about PILOT_SECONDS with the run's own
    tolerance, since threads that share a core or the memory slow one another down. Their steps grow or shrink by orders of magnitude as
    the temperature falls and the flow becomes stiff, so the rest of the path is sampled at STATIONS times, see `_at_stations`. Where that
    would take more than LONGEST_PILOT seconds, the pace is one step for each output, which is the least.
    """
    crew = np.resize(states, (side_by_side, states.shape[1])) if len(states) < side_by_side else states[:side_by_side]
    nodes = _nodes(kernel, (times[0], crew[0]))  # compiles
    begun = time.perf_counter()
    kernel.rhs_at_beta(1.0, crew[:1])
    one_step = STAGES * (time.perf_counter() - begun)
    parts = _expected_parts(kernel, crew, times, rtol) if FEWEST_STEPS * one_step <= LONGEST_PILOT else None
    least = parts is None
    if parts is None:
        parts = [Part(len(times), STAGES * len(times) * nodes, len(times) * one_step)]
    return Pace(tuple(parts), side_by_side, 8.0 * len(times) * states.shape[1], kernel.device, least)


def _expected_parts(kernel: Kernel, crew: np.ndarray, times: np.ndarray, rtol: float) -> list[Part] | None:
    """The parts of the crew's trajectories; None where the first step is already too slow for more."""
    kernel.integrate(crew, times[:1])  # compiles, and takes no step
    most = 1
    while True:
        begun = time.perf_counter()
        steps, reached, state = _follow(kernel, crew, times, rtol, most)
        seconds = time.perf_counter() - begun
        begins = Part(steps, STAGES * steps * _nodes(kernel, (times[0], crew[0]), (reached, state)), seconds)
        if reached >= times[-1]:
            return [begins]
        if most >= FEWEST_STEPS and (seconds > PILOT_SECONDS or most >= MOST_PILOT_STEPS):
            rest = _at_stations(kernel, np.resize(state, crew.shape), times, reached, rtol, seconds / steps)
            return None if rest is None else [begins, *rest]
        if FEWEST_STEPS * seconds / max(steps, 1) > LONGEST_PILOT:
            return None
        most = max(FEWEST_STEPS, 2 * most)


def _at_stations(
    kernel: Kernel, crew: np.ndarray, times: np.ndarray, first: float, rtol: float, seconds_per_step: float
) -> list[Part] | None:
    """The parts of the path from the time `first` on: as many intervals of equal length, each with the pace of its middle.

    A trajectory that is put into the middle of an interval, in the state where the last station left it, is soon where the flow takes it
    at that temperature. How far it comes in its last steps of two runs, of WARMING and of WARMED steps, gives the steps of the interval.
    None where fewer than two stations are to be had in LONGEST_PILOT seconds.
    """
    count = min(STATIONS, int(LONGEST_PILOT / ((WARMING + WARMED) * seconds_per_step)))
    if count < 2:
        return None
    parts, length = [], (float(times[-1]) - first) / count
    for n in range(count):
        middle = first + (n + 0.5) * length
        due = np.concatenate([[middle], times[times > middle]])
        warming, warm, _ = _follow(kernel, crew, due, rtol, WARMING)
        begun = time.perf_counter()
        steps, reached, state = _follow(kernel, crew, due, rtol, WARMED)
        seconds = time.perf_counter() - begun
        # A path that is at its end while it is still warming has few steps anyway.
        ahead = length * ((steps - warming) / (reached - warm) if reached > warm else steps / max(reached - middle, length / 2))
        nodes = _nodes(kernel, (middle, crew[0]), (reached, state))
        parts.append(Part(ahead, STAGES * ahead * nodes, ahead * seconds / max(steps, 1)))
        crew = np.resize(state, crew.shape)
    return parts


def _nodes(kernel: Kernel, *places: tuple[float, np.ndarray]) -> float:
    """Visited by one rate, in the mean of some (time, state)."""
    return float(np.mean([kernel.nodes(state[None], kernel.beta_at(t))[0] for t, state in places]))


def _follow(kernel: Kernel, crew: np.ndarray, times: np.ndarray, rtol: float, most: int) -> tuple[float, float, np.ndarray]:
    """(steps, time reached, state there) of the crew's first trajectory within `most` steps; of all of them, if they end, the mean steps.

    One that fails has come to the end: the run itself will say why.
    """
    from kernels.integrator import IntegrationError, TooManyStepsError

    try:
        run = kernel.integrate(crew, times, rtol=rtol, atol=rtol / 100, most_steps=most)
    except TooManyStepsError as error:
        return most, error.time, error.state
    except IntegrationError as error:
        return most, float(times[-1]), error.state
    return float(run.steps.mean()), float(times[-1]), run.y[0, -1]


def cost_of_particles(coordinates: float, particles: float, device: str) -> Cost:
    """coordinates: drawn, and particles: of all replicas and components, both summed over steps. device: "auto", "cpu" or "cuda"."""
    import numba

    from kernels.device import resolve_device

    where = resolve_device(device)
    speed = COORDINATES_PER_SECOND[where.kind] * (numba.get_num_threads() if where.kind == "cpu" else 1)
    seconds = (coordinates + RESPONSIBILITIES * particles) / speed
    return Cost(seconds, f"{coordinates:.1e} particle coordinates over all steps on {where.name}")
