"""Estimate how long a run will take, before it begins.

A long run is announced, and a run beyond the user's limit is refused.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from derive.problem.specification import BadInput

if TYPE_CHECKING:
    from kernels.integrate.errors import StoppedError
    from kernels.integrate.kernel import Kernel

FASTER_TRAINING = "take fewer --steps or --seeds, a smaller --batch or --width, or raise --max-cost"
WORTH_SAYING = 5.0
"""A run that is expected to take more seconds than this is announced."""

PILOT_SECONDS, LONGEST_PILOT = 0.5, 10.0
"""How long the pilot run is meant to take, and how long any part of it may take, in seconds."""
FEWEST_STEPS, MOST_PILOT_STEPS = 16, 8192
"""Limits of the pilot's steps. The first steps are shorter than those that follow: four of them would suggest a hundred
times too many steps."""
SHORT_STEPS = 3
"""Steps that do not predict those that follow: the first is a guess, and each may be ten times the one before."""
OVERRUN = 2.0
"""A run is stopped once it takes this many times its limit. Estimates are right within this factor, unless steps become
more expensive on the way."""
STATIONS = 8
"""Times at which the rest of a path is sampled. The flow becomes stiffer as the temperature falls, which takes a third
of the path or more."""
WARMING, WARMED = 16, 48
"""Steps of the first and the second run at a station. Sixteen steps are enough to grow from the first guess to the size
that the flow allows."""
STABILISED_TIMES = 2
"""How many times as many steps a stabilised kernel takes at a station. Its steps go on to grow after those of DOP853
are as long as stability allows."""
MOST_TRAJECTORIES = 10**9
STAGES = 12
"""Right-hand sides per step of DOP853."""

FEWEST, MOST = 100, 10_000
"""Limits of the number of trajectories where the user gives none. The standard error of P is then at most 0.05, and at
most 0.005 with the most trajectories."""
PATIENCE = 120.0
"""Seconds that an ensemble may take where the user gives no number of trajectories."""
LADDER = (200, 500, 1000, 2000, 5000, MOST)
"""Numbers of trajectories to choose from, so few that another run on the same machine chooses the same."""

COORDINATES_PER_SECOND = {"cpu": 3e8, "cuda": 1e10}
"""Particle coordinates simulated per second by a CPU thread and by a GPU, for two modes and two components; right
within a factor of about two."""
RESPONSIBILITIES = 8
"""The time for a particle's responsibilities, in units of the time for a coordinate; it matters where few coordinates
are drawn of each particle."""


@dataclass(frozen=True)
class Cost:
    """How long a run is expected to take.

    seconds: the estimate; with `least`, a lower bound. basis: what the estimate follows from, for people. The estimate
    of an integration is right within a factor of 1.5 as long as the other work on the machine stays as it is, the
    estimate of a simulation within about two.
    """

    seconds: float
    basis: str
    least: bool = False

    def __str__(self) -> str:
        return f"{'at least' if self.least else 'about'} {duration(self.seconds)}: {self.basis}"


def require_affordable(cost: Cost, limit: float | None, remedy: str, tell: Callable[[str], None] | None = None) -> None:
    """Raise BadInput for a cost above `limit` seconds (None: no limit), and `tell` of a cost that is worth saying."""
    if limit is not None and cost.seconds > limit:
        raise BadInput("--max-cost", f"{cost}, above the limit of {duration(limit)}", remedy, "")
    if tell is not None and cost.seconds > WORTH_SAYING:
        tell(str(cost))


def duration(seconds: float) -> str:
    """Seconds in words: as seconds below two hours, then as hours, then as days, to two digits."""
    for length, unit in ((86400.0, "days"), (3600.0, "h")):
        if seconds >= 2 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def cost_of_integration(
    kernel: Kernel, states: np.ndarray, times: np.ndarray, rtol: float, side_by_side: int, count: int | None = None
) -> Cost:
    """Estimate the cost of integrating states (n, states) over times (n_out,).

    side_by_side: how many trajectories run at the same time. count: how many states there are, where only the first of
    them are given. See `pace_of_integration`.
    """
    return pace_of_integration(kernel, states, times, rtol, side_by_side).cost(len(states) if count is None else count)


@dataclass(frozen=True)
class Part:
    """A part of a trajectory. nodes: quadrature nodes that all its rates visit. seconds: with all threads at work."""

    steps: float
    nodes: float
    seconds: float


@dataclass(frozen=True)
class Pace:
    """How long one of many trajectories takes: the sum of its parts.

    bytes: the size of its result. least: whether the sum is a lower bound. beforehand: seconds that an ensemble takes
    however many trajectories it has.
    """

    parts: tuple[Part, ...]
    side_by_side: int
    bytes: float
    device: str
    least: bool
    beforehand: float = 0.0

    @property
    def steps(self) -> float:
        return sum(part.steps for part in self.parts)

    @property
    def nodes(self) -> float:
        return sum(part.nodes for part in self.parts)

    @property
    def seconds(self) -> float:
        """The time of `side_by_side` trajectories at once."""
        return sum(part.seconds for part in self.parts)

    def cost(self, count: int) -> Cost:
        """The cost of `count` trajectories."""
        rates = STAGES * self.steps
        visited = f"{self.nodes / rates:.1e} nodes per rate, " if self.nodes > 0 else ""
        sizes = f"{count} trajectories on {self.device}, {1e-6 * count * self.bytes:.1f} MB of results"
        basis = f"{visited}{rates:.1e} rates per trajectory, {sizes}"
        return Cost(self.beforehand + -(-count // self.side_by_side) * self.seconds, basis, self.least)

    def affordable(self, seconds: float) -> int:
        """How many trajectories are expected to take at most this many seconds."""
        rest = max(0.0, seconds - self.beforehand)
        return int(rest / self.seconds * self.side_by_side) if self.seconds > 0 else MOST_TRAJECTORIES


def affordable_number(pace: Pace, max_cost: float | None, tell: Callable[[str], None] | None) -> int:
    """The largest number of LADDER whose cost is within PATIENCE and max_cost, or FEWEST if none is.

    `tell` is called with a line that says the number and the reason.
    """
    seconds = PATIENCE if max_cost is None else min(PATIENCE, max_cost)
    n = max((step for step in LADDER if step <= pace.affordable(seconds) and not pace.least), default=FEWEST)
    if n < MOST and tell is not None:
        why = (
            f"as many as take about {duration(seconds)} at most"
            if n > FEWEST
            else "the fewest, since a trajectory takes long"
        )
        tell(f"{n} trajectories, {why}: P to {0.5 / np.sqrt(n):.2g} or better; --n takes another number")
    return n


def pace_of_integration(kernel: Kernel, states: np.ndarray, times: np.ndarray, rtol: float, side_by_side: int) -> Pace:
    """Measure how long a trajectory from one of the states (n, states) over times (n_out,) takes.

    side_by_side: how many trajectories run at the same time. The first measurement times one rate, or a part of it.
    The second follows `side_by_side` trajectories for about PILOT_SECONDS with the run's own tolerance, because threads
    that share a core or the memory slow one another down. Steps grow or shrink by orders of magnitude as the
    temperature falls and the flow becomes stiff, so a third measurement samples the rest of the path at STATIONS times,
    see `_at_stations`. Where one measurement takes more than LONGEST_PILOT seconds, the pace is a lower bound. It
    then has the size and the price of the step at which the measurement was stopped, or one step for each output time
    where the measurement did not come beyond the first, short steps.
    """
    from kernels.machine.stages import stage

    crew = np.resize(states, (side_by_side, states.shape[1])) if len(states) < side_by_side else states[:side_by_side]
    one_step = STAGES * kernel.seconds_per_rate(crew[:1], LONGEST_PILOT / STAGES)
    slow = one_step >= LONGEST_PILOT
    nodes = kernel.nodes_asked(crew[0]) if slow else _nodes(kernel, (times[0], crew[0]))
    parts, least = [Part(len(times), STAGES * len(times) * nodes, len(times) * one_step)], slow
    if not slow:
        with stage("estimating the cost"):
            parts, least = _Pilot(kernel, crew, times, rtol, one_step, nodes).parts()
    return Pace(tuple(parts), side_by_side, 8.0 * len(times) * states.shape[1], kernel.device, least)


@dataclass(frozen=True)
class _Pilot:
    """A crew of trajectories (side_by_side, states) that are followed for a while.

    one_step: seconds of one step at the start, where each rate visits `nodes` quadrature nodes.
    """

    kernel: Kernel
    crew: np.ndarray
    times: np.ndarray
    rtol: float
    one_step: float
    nodes: float

    def parts(self) -> tuple[list[Part], bool]:
        """The parts of the crew's trajectories, and whether they are the least that these take."""
        from kernels.integrate.errors import StoppedError
        from kernels.machine.threads import at_most

        self.kernel.integrate(self.crew[:0], self.times[:1])  # compiles
        try:
            with at_most(LONGEST_PILOT):
                begins, reached, state = self._beginning()
        except StoppedError as stopped:
            return [self._stopped(stopped, float(self.times[-1]))], True
        if reached >= self.times[-1]:
            return [begins], False
        rest, least = self._at_stations(state, reached, begins.seconds / max(begins.steps, 1))
        return [begins, *rest], least

    def _beginning(self) -> tuple[Part, float, np.ndarray]:
        """Follow the crew for about PILOT_SECONDS: that part, the time reached, and the state there."""
        most = 1
        while True:
            begun = time.perf_counter()
            steps, reached, state = _follow(self.kernel, self.crew, self.times, self.rtol, most)
            seconds = time.perf_counter() - begun
            if reached >= self.times[-1] or (
                most >= FEWEST_STEPS and (seconds > PILOT_SECONDS or most >= MOST_PILOT_STEPS)
            ):
                nodes = _nodes(self.kernel, (self.times[0], self.crew[0]), (reached, state))
                return Part(steps, STAGES * steps * nodes, seconds), reached, state
            most = max(FEWEST_STEPS, 2 * most)

    def _at_stations(self, state: np.ndarray, first: float, seconds_per_step: float) -> tuple[list[Part], bool]:
        """Split the path from the time `first` on into equal intervals, and measure the pace in the middle of each.

        At each station a trajectory starts in the middle of the interval, in the state where the station before left
        it; the state is soon where the flow takes it at that temperature. One run takes WARMING steps and another takes
        WARMED steps, or STABILISED_TIMES as many; the distance between their ends gives the number of steps in the
        interval. There are fewer stations where STATIONS of them would take more than LONGEST_PILOT seconds. Returns
        the parts, and whether they are a lower bound because one station was stopped after that time.
        """
        from kernels.integrate.errors import StoppedError
        from kernels.machine.threads import at_most

        times = STABILISED_TIMES if self.kernel.request.stabilised else 1
        short, long = times * WARMING, times * WARMED
        count = max(2, min(STATIONS, int(LONGEST_PILOT / ((short + long) * seconds_per_step))))
        parts: list[Part] = []
        end = float(self.times[-1])
        length = (end - first) / count
        for n in range(count):
            middle, crew = first + (n + 0.5) * length, np.resize(state, self.crew.shape)
            due = np.concatenate([[middle], self.times[self.times > middle]])
            try:
                with at_most(LONGEST_PILOT):
                    warming, warm, _ = _follow(self.kernel, crew, due, self.rtol, short)
                    begun = time.perf_counter()
                    steps, reached, state = _follow(self.kernel, crew, due, self.rtol, long)
                    seconds = time.perf_counter() - begun
            except StoppedError as stopped:
                return [*parts, self._stopped(stopped, end + length / 2)], True
            # A path that is at its end while it is still warming has few steps anyway.
            ahead = length * (
                (steps - warming) / (reached - warm) if reached > warm else steps / max(reached - middle, length / 2)
            )
            nodes = _nodes(self.kernel, (middle, crew[0]), (reached, state))
            parts.append(Part(ahead, STAGES * ahead * nodes, ahead * seconds / max(steps, 1)))
        return parts, False

    def _stopped(self, stopped: StoppedError, end: float) -> Part:
        """The part up to the time `end`, at the pace and with the nodes at which a run was stopped."""
        many = stopped.steps > SHORT_STEPS
        steps = stopped.steps + (end - stopped.time) / stopped.step if many else float(len(self.times))
        nodes = self.kernel.nodes_asked(stopped.state)
        dearer = max(1.0, nodes / self.nodes if self.nodes > 0 else 1.0)
        return Part(steps, STAGES * steps * nodes, steps * self.one_step * dearer)


def _nodes(kernel: Kernel, *places: tuple[float, np.ndarray]) -> float:
    """Quadrature nodes that one rate visits, averaged over some places (time, state)."""
    return float(np.mean([kernel.nodes(state[None], kernel.beta_at(t))[0] for t, state in places]))


def _follow(
    kernel: Kernel, crew: np.ndarray, times: np.ndarray, rtol: float, most: int
) -> tuple[float, float, np.ndarray]:
    """Follow the crew for at most `most` steps; returns the steps, the time reached and the state there.

    The three belong to the crew's first trajectory, except that the steps are the mean over the crew where all come to
    the end. A trajectory that fails counts as one that came to the end: the run itself will say why it fails.
    """
    from kernels.integrate.errors import IntegrationError, TooManyStepsError

    try:
        run = kernel.integrate(crew, times, rtol=rtol, atol=rtol / 100, most_steps=most)
    except TooManyStepsError as error:
        return most, error.time, error.state
    except IntegrationError as error:
        return most, float(times[-1]), error.state
    return float(run.steps.mean()), float(times[-1]), run.y[0, -1]


@contextmanager
def stopped_in_time(limit: float | None, remedy: str) -> Iterator[None]:
    """Raise BadInput once compiled code within the block has run for OVERRUN times `limit` seconds (None: no limit).

    The time includes the measurements of the cost.
    """
    from kernels.machine.threads import TimeLimitError, at_most

    try:
        with at_most(math.inf if limit is None else OVERRUN * limit):
            yield
    except TimeLimitError as error:
        assert limit is not None
        found = f"the run has taken {duration(OVERRUN * limit)}, {OVERRUN:g} times the limit, and is stopped"
        raise BadInput("--max-cost", found, remedy, "") from error


def cost_of_particles(coordinates: float, particles: float, device: str) -> Cost:
    """Estimate the cost of a particle simulation.

    coordinates, particles: how many are drawn, over all replicas, components and steps. device: "auto", "cpu" or
    "cuda".
    """
    import numba

    from kernels.machine.device import resolve_device

    where = resolve_device(device)
    speed = COORDINATES_PER_SECOND[where.kind] * (numba.get_num_threads() if where.kind == "cpu" else 1)
    seconds = (coordinates + RESPONSIBILITIES * particles) / speed
    return Cost(seconds, f"{coordinates:.1e} particle coordinates over all steps on {where.name}")
