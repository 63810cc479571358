"""The text of a second method, RKC, for lanes whose steps DOP853's stability bounds.

`codegen` copies this text after the integrator's, whose `attempt` it replaces, into kernels that are compiled with
`stabilised`. Far from rest a flow is smooth and yet steps of DOP853 cannot be longer than some 6 / radius, where
`radius` is the largest of the flow's eigenvalues, all near the negative real axis. RKC is a Runge–Kutta–Chebyshev
method of order 2: with s stages, its steps may be as long as 0.65 s² / radius.

All lanes of a group march in one loop, whichever method each has. A step of RKC takes one or several parts, and a part
evaluates the rates as often as a step of DOP853. Between its parts a lane is to `move_on` like one that repeats a step
of the same length. The first evaluation of a step measures the radius by one power iteration; the others are those at
the stages. The last stage is the end of the step, whose slope the next step begins with.

No kernel runs the functions from this module.
"""

import math
from typing import Any

import numpy as np

from kernels.generate.templates.integrator import Group, Path

combine: Any = None
find_errors: Any = None
rates: Any = None
set_betas: Any = None
real: Any = None
STATES: Any = None
LANES: Any = None
WIDTH: Any = None
STAGES: Any = None
FRACTIONS: Any = None
COEFFICIENTS: Any = None
CLOCK_SIZE: Any = None
TRIAL_SIZE: Any = None
MOST_PARTS: Any = None
BOUNDS: Any = None
CHEBYSHEV: Any = None
NOBODY: Any = None
TRAJECTORY: Any = None
TARGET: Any = None
GROWN: Any = None
LAST: Any = None
TIME: Any = None
STEP: Any = None
NOW: Any = None
LATEST: Any = None
TAKEN: Any = None
ATTEMPTS: Any = None
FIFTH: Any = None
THIRD: Any = None
FLAW: Any = None
FACTOR: Any = None
ACCEPTED: Any = None
SUM: Any = None
CLOCK_ROWS: Any = None
"""Stand-ins: the integrator's text and the constants before it define these names."""


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
# More rows of `clock`. PARTS is the number of parts of a step of RKC, and zero in a lane that DOP853 advances.
PARTS, PART, RADIUS, BOUND, WANTED, MAY_GROW = 13, 14, 15, 16, 17, 18
CLOCK_SIZE = CLOCK_SIZE + 6 * LANES
# Behind the states that a stage tries, `trial` holds the present and the former stage of RKC, and a small displacement
# along the eigenvector of the largest eigenvalue.
STAGE, FORMER, ALONG = WIDTH, 2 * WIDTH, 3 * WIDTH
TRIAL_SIZE = TRIAL_SIZE + 3 * WIDTH
# The columns of CHEBYSHEV.
FRACTION, OF_Y, OF_STAGE, OF_FORMER, OF_SLOPE, OF_FIRST = 0, 1, 2, 3, 4, 5
LEAST_RTOL = 1.0e-7
"""RKC is of order 2, which pays at coarse tolerances only."""
REACH = 6.0
"""The longest stable step of DOP853, times the radius."""
BOUND_FROM = 3.0
STEPS_BOUND = 2.0
SAFETY = 1.2
DISPLACEMENT = 1.0e-6


@device
def begin_steps(path: Path, group: Group) -> None:
    """Choose the step of each lane that is not in the midst of one, and the number of its parts."""
    times, fixed = path.times, path.control.fixed_steps
    clock, place = group.clock, group.place
    for lane in range(LANES):
        if place[TRAJECTORY * LANES + lane] == NOBODY:
            clock[NOW * LANES + lane] = 0.0
            clock[PARTS * LANES + lane] = 0.0
            continue
        if clock[ATTEMPTS * LANES + lane] == 0.0:
            clock[PARTS * LANES + lane] = 0.0
            clock[PART * LANES + lane] = 0.0
            clock[BOUND * LANES + lane] = 0.0
        if clock[PART * LANES + lane] > 0.0:
            continue
        t, h, end = clock[TIME * LANES + lane], clock[STEP * LANES + lane], times[place[TARGET * LANES + lane]]
        if clock[PARTS * LANES + lane] > 0.0:
            clock[WANTED * LANES + lane] = h
            clock[MAY_GROW * LANES + lane] = real(place[GROWN * LANES + lane])
            fastest, longest = 0.0, h
            for parts in range(1, MOST_PARTS + 1):
                stable = BOUNDS[parts] / clock[RADIUS * LANES + lane]
                pace = min(h, end - t, stable) / real(parts)
                if pace > fastest:
                    fastest, longest = pace, min(h, stable)
                    clock[PARTS * LANES + lane] = real(parts)
            h = longest
        last = clock[TAKEN * LANES + lane] == fixed - 1.0 if fixed > 0.0 else t + 1.0000001 * h >= end
        place[LAST * LANES + lane] = 1 if last else 0
        clock[NOW * LANES + lane] = end - t if last else h


@device
def place_stages(s: int, y: np.ndarray, clock: np.ndarray, trial: np.ndarray, betas: np.ndarray) -> None:
    """Write the states and the times of evaluation s of each lane to `trial` and `betas`.

    `trial` holds those of DOP853's stage s.
    """
    for lane in range(LANES):
        fraction = FRACTIONS[s]
        parts, part = int(clock[PARTS * LANES + lane]), int(clock[PART * LANES + lane])
        if parts > 0:
            row = STAGES * (parts * (parts - 1) // 2 + part) + s - 1
            fraction = CHEBYSHEV[row, FRACTION]
            for i in range(STATES):
                n = i * LANES + lane
                if part == 0 and s <= 2:
                    trial[n] = y[n] + trial[ALONG + n] if s == 2 else y[n]
                else:
                    trial[n] = trial[STAGE + n]
        t = clock[TIME * LANES + lane] + fraction * clock[NOW * LANES + lane]
        betas[lane] = min(t, clock[LATEST * LANES + lane])


@device
def measure_radius(lane: int, slope: np.ndarray, first: np.ndarray, clock: np.ndarray, place: np.ndarray, trial: np.ndarray) -> None:
    """One step of the power iteration, from the slopes at the displaced state and at the state itself.

    A step that proves too long for its stages is shortened.
    """
    before, after = 0.0, 0.0
    for i in range(STATES):
        n = i * LANES + lane
        before += trial[ALONG + n] * trial[ALONG + n]
        after += (slope[n] - first[n]) * (slope[n] - first[n])
    radius = SAFETY * math.sqrt(after / before)
    stretch = DISPLACEMENT / math.sqrt(after)
    for i in range(STATES):
        n = i * LANES + lane
        trial[ALONG + n] = (slope[n] - first[n]) * stretch
    clock[RADIUS * LANES + lane] = radius
    longest = BOUNDS[int(clock[PARTS * LANES + lane])] / radius
    if clock[NOW * LANES + lane] > longest:
        clock[NOW * LANES + lane] = longest
        place[LAST * LANES + lane] = 0


@device
def next_stages(s: int, y: np.ndarray, K: np.ndarray, clock: np.ndarray, place: np.ndarray, trial: np.ndarray) -> None:
    """Find the stages of RKC that follow evaluation s."""
    slope = K[s * WIDTH : (s + 1) * WIDTH]
    for lane in range(LANES):
        parts, part = int(clock[PARTS * LANES + lane]), int(clock[PART * LANES + lane])
        if parts == 0:
            continue
        if part == 0 and s <= 2:
            if s == 1:
                continue
            measure_radius(lane, slope, K[WIDTH : 2 * WIDTH], clock, place, trial)
            for i in range(STATES):
                n = i * LANES + lane
                trial[STAGE + n] = y[n]
                trial[FORMER + n] = y[n]
        h = clock[NOW * LANES + lane]
        row = STAGES * (parts * (parts - 1) // 2 + part) + s - 1
        of_y, of_stage, of_former = CHEBYSHEV[row, OF_Y], CHEBYSHEV[row, OF_STAGE], CHEBYSHEV[row, OF_FORMER]
        of_slope, of_first = h * CHEBYSHEV[row, OF_SLOPE], h * CHEBYSHEV[row, OF_FIRST]
        for i in range(STATES):
            n = i * LANES + lane
            stage = trial[STAGE + n]
            following = of_y * y[n] + of_stage * stage + of_former * trial[FORMER + n]
            trial[FORMER + n] = stage
            trial[STAGE + n] = following + of_slope * slope[n] + of_first * K[n]


@device
def judge_dop853(lane: int, K: np.ndarray, clock: np.ndarray, trial: np.ndarray) -> None:
    """Count the steps in a row that stability bounds, and let RKC take over after some of them.

    The last two stages differ in their states alone, by about an eigenvector of the largest eigenvalue.
    """
    if clock[ACCEPTED * LANES + lane] == 0.0:
        return
    before, after = 0.0, 0.0
    for i in range(STATES):
        n = i * LANES + lane
        moved = 0.0
        for r in range(STAGES):
            moved += (COEFFICIENTS[STAGES, r] - COEFFICIENTS[STAGES - 1, r]) * K[r * WIDTH + n]
        moved *= clock[NOW * LANES + lane]
        turned = K[STAGES * WIDTH + n] - K[(STAGES - 1) * WIDTH + n]
        trial[ALONG + n] = turned
        before += moved * moved
        after += turned * turned
    radius = math.sqrt(after / before) if before > 0.0 else 0.0
    bound = clock[NOW * LANES + lane] * radius > BOUND_FROM
    count = clock[BOUND * LANES + lane] + 1.0 if bound else 0.0
    clock[BOUND * LANES + lane] = count
    if count >= STEPS_BOUND:
        for i in range(STATES):
            trial[ALONG + i * LANES + lane] *= DISPLACEMENT / math.sqrt(after)
        clock[RADIUS * LANES + lane] = SAFETY * radius
        clock[PARTS * LANES + lane] = 1.0
        clock[BOUND * LANES + lane] = 0.0


@device
def judge_rkc(lane: int, y: np.ndarray, K: np.ndarray, rtol: float, atol: float, clock: np.ndarray, place: np.ndarray, trial: np.ndarray) -> None:
    """The judgement of a step of RKC, or of one of its parts."""
    part = clock[PART * LANES + lane] + 1.0
    if part < clock[PARTS * LANES + lane]:
        clock[PART * LANES + lane] = part
        clock[ACCEPTED * LANES + lane] = 0.0
        clock[FACTOR * LANES + lane] = 1.0
        return
    clock[PART * LANES + lane] = 0.0
    clock[STEP * LANES + lane] = clock[WANTED * LANES + lane]
    place[GROWN * LANES + lane] = int(clock[MAY_GROW * LANES + lane])
    h = clock[NOW * LANES + lane]
    squares = 0.0
    for i in range(STATES):
        n = i * LANES + lane
        error = 0.8 * (y[n] - trial[n]) + 0.4 * h * (K[n] + K[STAGES * WIDTH + n])
        error /= atol + rtol * max(abs(y[n]), abs(trial[n]))
        squares += error * error
    error = math.sqrt(squares / real(STATES))
    finite = error < 1.0e30
    error = error if finite else 1.0e10
    factor = 0.8 / max(error, 1.0e-30) ** (1.0 / 3.0)
    clock[FLAW * LANES + lane] = 0.0 if finite else 1.0
    clock[FIFTH * LANES + lane] = error
    clock[FACTOR * LANES + lane] = factor
    clock[ACCEPTED * LANES + lane] = 1.0 if error < 1.0 else 0.0
    if h * min(factor, 10.0) * clock[RADIUS * LANES + lane] < REACH * SAFETY and place[LAST * LANES + lane] == 0:
        clock[PARTS * LANES + lane] = 0.0


@device
def attempt(path: Path, group: Group) -> None:
    """Try one step of every lane that DOP853 advances, from y into `trial`, and one part of a step of every other lane.

    Row FIFTH receives the step's error relative to the tolerance, row FACTOR the ratio of the next step to this one,
    and row ACCEPTED one where a step ends and its error is small enough.
    """
    p, tables, layout, ranges, control = path.p, path.tables, path.layout, path.ranges, path.control
    y, trial, K, clock, place, betas = group.y, group.trial, group.K, group.clock, group.place, group.betas
    means, scratch, flag, system = group.means, group.scratch, group.flag, group.system
    fixed = control.fixed_steps
    begin_steps(path, group)
    for s in range(1, STAGES + 1):
        combine(s, y, K, clock, trial)
        place_stages(s, y, clock, trial, betas)
        set_betas(system, betas, p)
        rates(system, betas, trial, p, tables, layout, ranges, K[s * WIDTH : (s + 1) * WIDTH], means, scratch, flag)
        next_stages(s, y, K, clock, place, trial)
    find_errors(y, trial, K, control.rtol, control.atol, clock)
    for lane in range(LANES):
        if clock[PARTS * LANES + lane] > 0.0:
            judge_rkc(lane, y, K, control.rtol, control.atol, clock, place, trial)
            continue
        fifth = clock[FIFTH * LANES + lane]
        norm = (fifth + 0.01 * clock[THIRD * LANES + lane]) * real(STATES)
        error = clock[NOW * LANES + lane] * fifth / math.sqrt(norm if norm > 0.0 else 1.0)
        finite = clock[FLAW * LANES + lane] == 0.0 and error < 1.0e30
        error = error if finite else 1.0e10
        clock[FLAW * LANES + lane] = 0.0 if finite else 1.0
        clock[FIFTH * LANES + lane] = error
        clock[FACTOR * LANES + lane] = 0.9 / math.sqrt(math.sqrt(math.sqrt(max(error, 1.0e-30))))
        clock[ACCEPTED * LANES + lane] = 1.0 if error < 1.0 or (fixed > 0.0 and finite) else 0.0
        if control.rtol >= LEAST_RTOL and fixed == 0.0:
            judge_dop853(lane, K, clock, trial)
