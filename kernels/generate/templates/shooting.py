"""The text of the shooting: where on a segment of initial states the outcome of the flow changes, by bisection.

`codegen` copies these functions into every generated module, after the integrator. A segment has as many lanes as there
are to spare, each of which tries another place on it at the same time. Nothing here runs from this module.
"""

from typing import Any

begin: Any = None
all_set_out: Any = None
attempt: Any = None
move_on: Any = None
halted: Any = None
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
INNER, OUTER, PENDING, RUNS, TRIED, FOUND, SEARCH_ROWS = 0, 1, 2, 3, 4, 5, 6


@device
def outcome(lane, y):
    """1, 2, 4 or 8 by the signs (− −), (+ −), (− +) or (+ +) of the first two states."""
    return 1 << ((1 if y[lane] > 0.0 else 0) + (2 if y[LANES + lane] > 0.0 else 0))


@device
def candidate(c, places, inner, outer, first, second):
    """The c-th of so many places to try at once. inner: the last known to be inside, −1 if none; outer: the first known
    not to be, 2 if none; first, second: where the change is expected."""
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
def try_places(slot, places, n, low, high, bracket, path, group, search):
    """Starts one trajectory in each lane of a slot, from the next places to try on segment n."""
    y, clock, place = group[0], group[3], group[4]
    head = slot * places
    for c in range(places):
        lane = head + c
        tried = candidate(
            c, places, search[INNER * LANES + head], search[OUTER * LANES + head], bracket[n, 0], bracket[n, 1]
        )
        search[TRIED * LANES + lane] = tried
        for i in range(STATES):
            y[i * LANES + lane] = low[n, i] + tried * (high[n, i] - low[n, i])
        begin(lane, n, path[0][0], clock, place)
    search[PENDING * LANES + head] = real(places)
    search[RUNS * LANES + head] += real(places)


@device
def open_segment(slot, places, n, low, high, bracket, path, group, search):
    """Begins the search on segment n, if there is such a one."""
    head = slot * places
    search[INNER * LANES + head] = -1.0
    search[OUTER * LANES + head] = 2.0
    search[RUNS * LANES + head] = 0.0
    if n < low.shape[0]:
        try_places(slot, places, n, low, high, bracket, path, group, search)
        return 1
    for c in range(places):
        begin(head + c, NOBODY, path[0][0], group[3], group[4])
    return 0


@device
def narrow(slot, places, width, search):
    """Updates a segment's bracket by what its lanes have found; true where it is narrow enough."""
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
def bisect_some(first, stride, low, high, inside, width, places, path, group, search, out, bracket, runs, failed):
    """For the segments first, first + stride, …: from which place in [0, 1], between the initial states low (0) and
    high (1), the outcome is no longer `inside`; into bracket (N, 2).

    inside: (N,) the sum of the outcomes meant. width: (N,) of the bracket at the end, relative to its place. places:
    how many lanes a segment has, at most LANES. bracket: at the start where the change is expected, which is checked
    and widened; at the end the last place known to be inside and the first known not to be; (1, 1) where all is inside,
    (0, 0) where nothing is. runs: (N,) receives the number of trajectories, or minus it where one failed; failed (N, 1
    + states) is then its time and state. path keeps no outputs, so that `out` is not looked at.
    """
    y, clock, place = group[0], group[3], group[4]
    following = first
    running = 0
    for lane in range(LANES):
        for i in range(STATES):
            y[i * LANES + lane] = low[0, i]
        begin(lane, NOBODY, path[0][0], clock, place)
    for slot in range(LANES // places):
        running += open_segment(slot, places, following, low, high, bracket, path, group, search)
        following += stride
    while running > 0 and not halted(path[10]):
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
            begin(lane, NOBODY, path[0][0], clock, place)
            search[PENDING * LANES + head] -= 1.0
            search[FOUND * LANES + lane] = 1.0 if outcome(lane, y) & inside[n] != 0 else 0.0
            if ended != 0:
                search[RUNS * LANES + head] = -abs(search[RUNS * LANES + head])
                failed[n, 0] = clock[TIME * LANES + lane]
                for i in range(STATES):
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
