"""The text of the shooting method: bisection for the place on a segment of initial states where the outcome changes.

`codegen` copies this text after the integrator. Each segment is searched by a slot of
`places` lanes, which try different places on the segment at the same time. No kernel runs the functions from this
module.
"""

from typing import Any

import numpy as np

from kernels.generate.templates.integrator import Group, Path

begin: Any = None
all_set_out: Any = None
attempt: Any = None
move_on: Any = None
halted: Any = None
real: Any = None
LANES: Any = None
RUNNING: Any = None
NOBODY: Any = None
STATUS: Any = None
TRAJECTORY: Any = None
TIME: Any = None
"""Stand-ins: the integrator's text defines these names."""


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
# The rows of `search`. The rows INNER, OUTER, PENDING and RUNS are those of a slot and stand in its first lane.
INNER, OUTER, PENDING, RUNS, TRIED, FOUND, SEARCH_ROWS = 0, 1, 2, 3, 4, 5, 6


@device
def outcome(lane: int, y: np.ndarray) -> int:
    """The outcome of a lane: 1, 2, 4 or 8 for the signs (− −), (+ −), (− +) or (+ +) of the first two states."""
    return 1 << ((1 if y[lane] > 0.0 else 0) + (2 if y[LANES + lane] > 0.0 else 0))


@device
def candidate(c: int, places: int, inner: float, outer: float, first: float, second: float) -> float:
    """The c-th of `places` places to try at once.

    inner: the last place known to be inside, or −1. outer: the first place known to be outside, or 2. first, second:
    the bracket in which the change is expected.
    """
    if inner >= 0.0 and outer <= 1.0:
        return inner + (outer - inner) * (real(c + 1) / real(places + 1))
    if inner < 0.0 and outer > 1.0:
        place = first if c % 2 == 0 else second
        for _ in range(c // 2):
            place = 0.5 * place if c % 2 == 0 else 2.0 * place
    elif inner < 0.0:
        place = 0.5 * outer
        for _ in range(c):
            place *= 0.5
    else:
        place = second if inner < second else 2.0 * inner
        for _ in range(c):
            place *= 2.0
    return 0.0 if place < 0.01 and place < first else min(1.0, place)


@device
def try_places(
    slot: int,
    places: int,
    n: int,
    low: np.ndarray,
    high: np.ndarray,
    bracket: np.ndarray,
    path: Path,
    group: Group,
    search: np.ndarray,
) -> None:
    """Start one trajectory in each lane of a slot, from the next places to try on segment n."""
    y, clock, place = group.y, group.clock, group.place
    head = slot * places
    for c in range(places):
        lane = head + c
        tried = candidate(
            c, places, search[INNER * LANES + head], search[OUTER * LANES + head], bracket[n, 0], bracket[n, 1]
        )
        search[TRIED * LANES + lane] = tried
        for i in range(low.shape[1]):
            y[i * LANES + lane] = low[n, i] + tried * (high[n, i] - low[n, i])
        begin(lane, n, path.times[0], clock, place)
    search[PENDING * LANES + head] = real(places)
    search[RUNS * LANES + head] += real(places)


@device
def open_segment(
    slot: int,
    places: int,
    n: int,
    low: np.ndarray,
    high: np.ndarray,
    bracket: np.ndarray,
    path: Path,
    group: Group,
    search: np.ndarray,
) -> int:
    """Begin the search on segment n and return 1; let the slot idle and return 0 where no segment n exists."""
    head = slot * places
    search[INNER * LANES + head] = -1.0
    search[OUTER * LANES + head] = 2.0
    search[RUNS * LANES + head] = 0.0
    if n < low.shape[0]:
        try_places(slot, places, n, low, high, bracket, path, group, search)
        return 1
    for c in range(places):
        begin(head + c, NOBODY, path.times[0], group.clock, group.place)
    return 0


@device
def narrow(slot: int, places: int, width: float, search: np.ndarray) -> bool:
    """Update a segment's bracket with the outcomes of its lanes. True where the bracket is narrow enough."""
    head = slot * places
    inner, outer = search[INNER * LANES + head], search[OUTER * LANES + head]
    for c in range(places):
        if search[FOUND * LANES + head + c] == 0.0:
            outer = min(outer, search[TRIED * LANES + head + c])
    for c in range(places):
        tried = search[TRIED * LANES + head + c]
        if search[FOUND * LANES + head + c] == 1.0 and tried < outer:
            inner = max(inner, tried)
    if outer == 0.0:
        inner = 0.0
    if inner == 1.0:
        outer = 1.0
    search[INNER * LANES + head] = inner
    search[OUTER * LANES + head] = outer
    return inner >= 0.0 and outer <= 1.0 and outer - inner <= width * outer


@device
def bisect_some(
    first: int,
    stride: int,
    low: np.ndarray,
    high: np.ndarray,
    inside: np.ndarray,
    width: np.ndarray,
    places: int,
    path: Path,
    group: Group,
    search: np.ndarray,
    out: np.ndarray,
    bracket: np.ndarray,
    runs: np.ndarray,
    failed: np.ndarray,
) -> None:
    """Find, on the segments first, first + stride, …, the place at which the outcome stops to be `inside`.

    A place is a number in [0, 1] between the initial states low (0) and high (1), both (N, states). inside: (N,) the
    sum of the outcomes that count as inside. width: (N,) the width of the bracket at the end, relative to its place.
    places: how many lanes a segment has, at most LANES. bracket: (N, 2) at the start the expected place of the change,
    which the search checks and widens; at the end the last place known to be inside and the first known to be outside,
    (1, 1) where the whole segment is inside and (0, 0) where none of it is. runs: (N,) receives the number of
    trajectories, with a minus sign where one failed; failed (N, 1 + states) then holds that trajectory's time and
    state. The path keeps no outputs, so the integrator never writes to `out`.
    """
    y, clock, place = group.y, group.clock, group.place
    following = first
    running = 0
    for lane in range(LANES):
        for i in range(low.shape[1]):
            y[i * LANES + lane] = low[0, i]
        begin(lane, NOBODY, path.times[0], clock, place)
    for slot in range(LANES // places):
        running += open_segment(slot, places, following, low, high, bracket, path, group, search)
        following += stride
    while running > 0 and not halted(group.flag):
        if all_set_out(path, group, out):
            attempt(path, group)
            move_on(path, group, out)
        for lane in range(LANES):
            ended = place[STATUS * LANES + lane]
            n = place[TRAJECTORY * LANES + lane]
            if ended == RUNNING or n == NOBODY:
                continue
            slot = lane // places
            head = slot * places
            begin(lane, NOBODY, path.times[0], clock, place)
            search[PENDING * LANES + head] -= 1.0
            search[FOUND * LANES + lane] = 1.0 if outcome(lane, y) & inside[n] != 0 else 0.0
            if ended != 0:
                search[RUNS * LANES + head] = -abs(search[RUNS * LANES + head])
                failed[n, 0] = clock[TIME * LANES + lane]
                for i in range(low.shape[1]):
                    failed[n, 1 + i] = y[i * LANES + lane]
            if search[PENDING * LANES + head] > 0.0:
                continue
            runs[n] = int(search[RUNS * LANES + head])
            if runs[n] > 0 and not narrow(slot, places, width[n], search):
                try_places(slot, places, n, low, high, bracket, path, group, search)
            else:
                bracket[n, 0] = search[INNER * LANES + head]
                bracket[n, 1] = search[OUTER * LANES + head]
                running += open_segment(slot, places, following, low, high, bracket, path, group, search) - 1
                following += stride
