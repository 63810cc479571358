"""Follow an ensemble until its trajectories have settled, and only a few of them to the end.

At the end of the annealing the flow is stiff and slow: nearly all of a trajectory's steps come after its outcome is
decided. By then the trajectories have come together into a few narrow cells, each of which the flow carries to one
attractor. So a few *witnesses* of each cell are followed to the end, namely members that lie far apart. The cell has
settled where its witnesses have the same outcome and, from this time to the end, only come closer to one another. The
other members of a settled cell stop there, and have the outcome of the nearest witness.

This is evidence and no proof, unlike the sets of `annealvi.collapse.trapping`, and results tell the two apart. It fails
where a boundary between outcomes passes through a cell and between its witnesses. The flow drives trajectories on both
sides of such a boundary apart, while the witnesses, which are the widest members, come together.

Scouts, the first trajectories of a company, go ahead to the end. Their paths give the times from which trajectories
with a common end only come together, the *stations*. What has not settled at one station runs to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from annealvi.collapse.outcome import Outcomes
from annealvi.runs.costs import Pace, Part
from annealvi.runs.paths import chunks_of

if TYPE_CHECKING:
    from kernels.integrate.kernel import Kernel

COMPANY = 2**15
"""Most trajectories that share scouts and witnesses. It is a fixed number, so that results depend on the seed alone."""
SCOUTS = 64
INTERVALS = 24
"""Number of equal parts of a path, at whose ends trajectories are compared."""
NEAR = 0.02
"""Half the width of a cell, relative to the range of each state over the scouts' paths."""
WITNESSES = 5
FEWEST_IN_CELL = 2 * WITNESSES
"""A cell with fewer members runs on: witnesses would spare too little."""
ENOUGH_INHERITED = 2 * WITNESSES
"""A cell in which earlier companies have followed as many needs no witnesses of its own."""
MOST_CELLS = 256
"""Most cells at a station. Members outside of them run on."""
TOGETHER = 1e-4
"""Relative distance within which trajectories count as one. It is a hundred times the tolerance of a step, for the
errors of many steps add up.
"""
DRAWN = 0.1
"""Witnesses end at this fraction of their first distance or nearer, unless they end together."""


@dataclass(frozen=True)
class Task:
    """What all trajectories of an ensemble have in common.

    Attributes
    ----------
    kernel : Kernel
        The compiled system.
    readings : ndarray
        Shape (readings,). The increasing times at which outcomes are read; the last one is the end.
    judge : callable
        From states (n, states) to their outcomes.
    options : Mapping[str, Any]
        Those of `Kernel.integrate`.
    """

    kernel: Kernel
    readings: np.ndarray
    judge: Callable[[np.ndarray], Outcomes]
    options: Mapping[str, Any]

    @cached_property
    def grid(self) -> np.ndarray:
        """The times at which trajectories are compared, from 0 to the end, the readings among them."""
        return np.union1d(np.linspace(0.0, self.readings[-1], INTERVALS + 1), self.readings)


@dataclass(frozen=True)
class Scouts:
    """The first trajectories of a company, followed to the end.

    Attributes
    ----------
    paths : ndarray
        Shape (scouts, grid, states).
    method : str
        How they were integrated.
    seconds : float
        How long this took.
    """

    paths: np.ndarray
    method: str
    seconds: float

    @classmethod
    def of(cls, task: Task, states: np.ndarray) -> Scouts:
        """Follow the first of the states (n, states)."""
        begun = time.perf_counter()
        run = task.kernel.integrate(states[:SCOUTS], task.grid, **task.options)
        return cls(run.y, run.method, time.perf_counter() - begun)

    @cached_property
    def scale(self) -> np.ndarray:
        """The range of each state over the paths, shape (states,)."""
        return np.maximum(np.ptp(self.paths, axis=(0, 1)), np.finfo(float).tiny)

    @cached_property
    def stations(self) -> np.ndarray:
        """Places on the grid, after the start, from which scouts with a common end only come closer, and are near.

        They are the first such place and some later ones at distances that double: what has not settled at a station
        seldom does so soon after, and each stop costs a few steps.
        """
        ends, count = _cells(self.paths[:, -1] / self.scale, TOGETHER)
        widths = np.max([_widths(self.paths[ends == cell], self.scale) for cell in range(count)], axis=0)
        widest_after = np.maximum.accumulate(widths[::-1])[::-1]
        narrow = (widest_after <= np.maximum(widths, TOGETHER)) & (widest_after <= NEAR)
        alone = count > len(self.paths) / 2  # too many ends for so few paths to show anything
        found = 1 + np.flatnonzero(narrow[1:-1] & (not alone))
        return found[2 ** np.arange(len(found).bit_length()) - 1]

    def pace(self, task: Task, pace: Pace) -> Pace:
        """Return the pace of an ensemble, most of whose trajectories settle at the first station.

        pace: that of a trajectory that is followed to the end.
        """
        if len(self.stations) == 0:
            return pace
        to_station = [0.0, float(task.grid[self.stations[0]])]
        crew = np.resize(self.paths[:, 0], (pace.side_by_side, self.paths.shape[2]))
        begun = time.perf_counter()
        run = task.kernel.integrate(crew, to_station, **task.options)
        part = Part(float(run.steps.mean()), 0.0, time.perf_counter() - begun)
        # Witnesses cost about as much as the scouts.
        return replace(pace, parts=(part,), least=False, beforehand=2 * self.seconds)


@dataclass(frozen=True)
class Followed:
    """Trajectories at the times of reading.

    Attributes
    ----------
    y : ndarray
        Shape (n, readings, states). For a settled trajectory, the states of its nearest witness after it has settled.
    t : ndarray
        Shape (n,). The time to which each trajectory was followed.
    settled : ndarray
        Shape (n,), boolean. Whether the trajectory stopped in a settled cell.
    method : str
        How the trajectories were integrated.
    """

    y: np.ndarray
    t: np.ndarray
    settled: np.ndarray
    method: str


def follow(
    task: Task, companies: Iterable[np.ndarray], progress: Callable[[int], None], scouts: Scouts | None = None
) -> Iterator[Followed]:
    """Follow company after company.

    Parameters
    ----------
    task : Task
        What trajectories are followed for.
    companies : iterable of ndarray
        Each of shape (n, states). The states at time 0.
    progress : callable
        Called with the number of trajectories that are done.
    scouts : Scouts, optional
        The first company's scouts, if they have been sent already.

    Yields
    ------
    Followed
        The trajectories of each company.

    Raises
    ------
    IntegrationError
        For a trajectory that fails.
    """
    number, paths = 0, None
    for states in companies:
        if scouts is None or (number == 0 and len(scouts.paths) > len(states)):
            scouts = Scouts.of(task, states)
        company = _Company(task, scouts, states, number, paths)
        yield company.follow(progress)
        number, paths = number + len(states), company.paths


class _Company:
    """The trajectories of one company: those that are under way, all at one time, and those that have been followed."""

    def __init__(
        self, task: Task, scouts: Scouts, states: np.ndarray, number: int, paths: np.ndarray | None = None
    ) -> None:
        """Prepare to follow states (n, states).

        paths: those that earlier companies have followed to the end. The first company has none, and begins with the
        scouts.
        """
        n, ahead = len(states), len(scouts.paths) if paths is None else 0
        self.task, self.number = task, number
        self.stations, self.scale, self.method = scouts.stations, scouts.scale, scouts.method
        self.time, self.states = 0.0, np.array(states, float)
        self.y = np.empty((n, len(task.readings), states.shape[1]))
        self.t, self.settled = np.full(n, task.readings[-1]), np.zeros(n, bool)
        self.under_way = np.arange(ahead, n)
        # Each path begins at the station from which its trajectory was followed to the end, and is NaN before.
        self.paths, self.inherited = (scouts.paths, 0) if paths is None else (paths, len(paths))
        self.y[:ahead] = scouts.paths[:ahead, np.searchsorted(task.grid, task.readings)]

    def follow(self, progress: Callable[[int], None]) -> Followed:
        """Follow all, from station to station and to the end."""
        for station in self.stations:
            if len(self.under_way) <= SCOUTS / 2:
                break
            self.advance(int(station), progress)
            self.settle(int(station))
        self.run_to_end(self.under_way)
        progress(self.number + len(self.states))
        return Followed(self.y, self.t, self.settled, self.method)

    def advance(self, station: int, progress: Callable[[int], None]) -> None:
        """Bring all that are under way to a station."""
        until = self.task.grid[station]
        due = self.task.readings[(self.task.readings > self.time) & (self.task.readings <= until)]
        times = np.unique([self.time, *due, until])
        first = self.time == 0.0
        for part in chunks_of(self.task.kernel, len(self.under_way)):
            members = self.under_way[part]
            y = self._integrate(members, times)
            for t in due:
                self.y[members, self.task.readings == t] = y[:, times == t][:, 0]
            self.states[members] = y[:, -1]
            if first:
                progress(self.number + len(self.states) - len(self.under_way) + part.stop)
        self.time = float(until)

    def settle(self, station: int) -> None:
        """Find cells of those under way, follow their witnesses, and let the members of settled cells stop."""
        known = np.flatnonzero(np.isfinite(self.paths[:, station, 0]))
        places = np.concatenate([self.paths[known, station], self.states[self.under_way]]) / self.scale
        labels, count = _cells(places, NEAR)
        under_way, first = self.under_way, len(self.paths)
        cells: list[tuple[np.ndarray, np.ndarray]] = []
        witnesses: list[int] = []
        for cell in range(count):
            rows, mates = known[labels[: len(known)] == cell], np.flatnonzero(labels[len(known) :] == cell)
            if np.count_nonzero(rows < self.inherited) < ENOUGH_INHERITED:
                if len(mates) < FEWEST_IN_CELL:
                    continue
                chosen = mates[_far_apart(places[len(known) + mates], WITNESSES)]
                rows = np.append(rows, first + len(witnesses) + np.arange(WITNESSES))
                mates = np.setdiff1d(mates, chosen)
                witnesses.extend(chosen)
            cells.append((rows, under_way[mates]))
        self.run_to_end(under_way[witnesses])
        read = np.searchsorted(self.task.grid, self.task.readings)
        later = self.task.readings > self.time
        for rows, members in cells:
            if self._agree(self.paths[rows, station:], station):
                there = self.states[members, None] / self.scale
                nearest = rows[np.abs(self.paths[rows, station] / self.scale - there).max(axis=2).argmin(axis=1)]
                self.y[np.ix_(members, later)] = self.paths[np.ix_(nearest, read[later])]
                self.t[members], self.settled[members] = self.time, True
        self.under_way = self.under_way[~self.settled[self.under_way]]

    def run_to_end(self, members: np.ndarray) -> None:
        """Follow members from where they are to the end."""
        grid, readings = self.task.grid, self.task.readings
        times = np.array([self.time, *grid[grid > self.time]])
        later = readings > self.time
        for part in chunks_of(self.task.kernel, len(members)):
            some = members[part]
            paths = np.full((len(some), len(grid), self.paths.shape[2]), np.nan)
            paths[:, len(grid) - len(times) :] = self._integrate(some, times)
            self.paths = np.concatenate([self.paths, paths])
            self.y[np.ix_(some, later)] = paths[:, np.searchsorted(grid, readings[later])]
        self.under_way = np.setdiff1d(self.under_way, members, assume_unique=True)

    def _agree(self, paths: np.ndarray, station: int) -> bool:
        """Whether paths from a station to the end only come closer, and have the same outcome at all readings."""
        widths = _widths(paths, self.scale)
        if widths.max() > max(widths[0], TOGETHER) or widths[-1] > max(DRAWN * widths[0], TOGETHER):
            return False
        read = np.isin(self.task.grid[station:], self.task.readings)
        return all(_all_equal(self.task.judge(states)) for states in paths[:, read].swapaxes(0, 1))

    def _integrate(self, members: np.ndarray, times: np.ndarray) -> np.ndarray:
        options = {**self.task.options, "number": self.number + members}
        return self.task.kernel.integrate(self.states[members], times, **options).y


def _widths(paths: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The largest distance in any state, relative to its scale, between paths (n, times, states), by time."""
    return np.asarray((np.ptp(paths, axis=0) / scale).max(axis=1))


def _cells(points: np.ndarray, half_width: float) -> tuple[np.ndarray, int]:
    """Sort points (n, coordinates) into cubes around some of them: their labels (n,), and how many cubes there are.

    Points outside the first MOST_CELLS cubes have the label −1.
    """
    labels, count = np.full(len(points), -1), 0
    while count < MOST_CELLS and len(free := np.flatnonzero(labels < 0)):
        near = np.abs(points[free] - points[free[0]]).max(axis=1) <= half_width
        labels[free[near]] = count
        count += 1
    return labels, count


def _far_apart(points: np.ndarray, count: int) -> np.ndarray:
    """Choose points (n, coordinates): the one farthest from the mean, then each as far from the others as possible."""
    distances = np.abs(points - points.mean(axis=0)).max(axis=1)
    chosen = [int(distances.argmax())]
    distances[:] = np.inf
    while len(chosen) < count:
        distances = np.minimum(distances, np.abs(points - points[chosen[-1]]).max(axis=1))
        distances[chosen] = -1.0
        chosen.append(int(distances.argmax()))
    return np.array(chosen)


def _all_equal(outcomes: Outcomes) -> bool:
    seen = [outcomes.covered, *([] if outcomes.approached is None else [outcomes.approached])]
    return all(bool((rows == rows[0]).all()) for rows in seen)
