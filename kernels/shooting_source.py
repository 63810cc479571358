"""The text of the shooting: where on a segment of initial states the outcome of the flow changes, by bisection.

`codegen` copies these functions into every generated module, after the integrator. Each lane bisects a segment of its own, and takes the
next one when it is done. Nothing here runs from this module.
"""

from typing import Any

begin: Any = None
advance: Any = None
real: Any = None
STATES: Any = None
LANES: Any = None
RUNNING: Any = None
NOBODY: Any = None
STATUS: Any = None
TRAJECTORY: Any = None
TIME: Any = None
"""The integrator defines them; here they only stand for names."""


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
INNER, OUTER, TRIED, RUNS, SEARCH_ROWS = 0, 1, 2, 3, 4


@device
def outcome(lane, y):
    """1, 2, 4 or 8 by the signs (− −), (+ −), (− +) or (+ +) of the first two states."""
    return 1 << ((1 if y[lane] > 0.0 else 0) + (2 if y[LANES + lane] > 0.0 else 0))


@device
def next_place(lane, first, second, width, search):
    """Where to try next on a segment, or −1 when its bracket is found. first, second: where the change is expected."""
    inner, outer = search[INNER * LANES + lane], search[OUTER * LANES + lane]
    if inner < 0.0 and outer > 1.0:
        return first
    if inner < 0.0:
        if outer == 0.0:
            search[INNER * LANES + lane] = 0.0
            return -1.0
        return 0.5 * outer if outer > 0.02 else 0.0
    if outer > 1.0:
        if inner == 1.0:
            search[OUTER * LANES + lane] = 1.0
            return -1.0
        return second if inner < second else min(1.0, 2.0 * inner)
    if outer - inner <= width * outer:
        return -1.0
    return 0.5 * (inner + outer)


@device
def try_place(lane, n, tried, low, high, path, group, search):
    """Starts the trajectory from such a place on segment n."""
    y, clock, place = group[0], group[3], group[4]
    search[TRIED * LANES + lane] = tried
    search[RUNS * LANES + lane] += 1.0
    for i in range(STATES):
        y[i * LANES + lane] = low[n, i] + tried * (high[n, i] - low[n, i])
    begin(lane, n, path[0][0], clock, place)


@device
def open_segment(lane, n, low, high, width, bracket, path, group, search):
    """Begins the search on segment n, if there is such a one."""
    search[INNER * LANES + lane] = -1.0
    search[OUTER * LANES + lane] = 2.0
    search[RUNS * LANES + lane] = 0.0
    if n < low.shape[0]:
        tried = next_place(lane, bracket[n, 0], bracket[n, 1], width[n], search)
        try_place(lane, n, tried, low, high, path, group, search)
        return 1
    begin(lane, NOBODY, path[0][0], group[3], group[4])
    return 0


@device
def bisect_some(first, stride, low, high, inside, width, path, group, search, out, bracket, runs, failed):
    """For the segments first, first + stride, …: from which place in [0, 1], between the initial states low (0) and high (1), the outcome
    is no longer `inside`; into bracket (N, 2).

    inside: (N,) the sum of the outcomes meant. width: (N,) of the bracket at the end, relative to its place. bracket: at the start where
    the change is expected, which is checked and widened; at the end the last place known to be inside and the first known not to be;
    (1, 1) where all is inside, (0, 0) where nothing is. runs: (N,) receives the number of trajectories, or minus it where the last one
    failed; failed (N, 1 + states) is then its time and state. path keeps no outputs, so that `out` is not looked at.
    """
    y, clock, place = group[0], group[3], group[4]
    following = first
    running = 0
    for lane in range(LANES):
        for i in range(STATES):
            y[i * LANES + lane] = low[0, i]
        running += open_segment(lane, following, low, high, width, bracket, path, group, search)
        following += stride
    while running > 0:
        advance(path, group, out)
        for lane in range(LANES):
            ended = place[STATUS * LANES + lane]
            n = place[TRAJECTORY * LANES + lane]
            if ended == RUNNING or n == NOBODY:
                continue
            tried = search[TRIED * LANES + lane]
            count = int(search[RUNS * LANES + lane])
            if ended != 0:
                runs[n] = -count
                failed[n, 0] = clock[TIME * LANES + lane]
                for i in range(STATES):
                    failed[n, 1 + i] = y[i * LANES + lane]
                following_place = -1.0
            else:
                runs[n] = count
                search[(INNER if outcome(lane, y) & inside[n] != 0 else OUTER) * LANES + lane] = tried
                following_place = next_place(lane, bracket[n, 0], bracket[n, 1], width[n], search)
            if following_place >= 0.0:
                try_place(lane, n, following_place, low, high, path, group, search)
            else:
                bracket[n, 0] = search[INNER * LANES + lane]
                bracket[n, 1] = search[OUTER * LANES + lane]
                running += open_segment(lane, following, low, high, width, bracket, path, group, search) - 1
                following += stride
