"""The text of a second method, RKC, for lanes whose steps DOP853's stability bounds.

`codegen` copies this text behind the integrator's, whose `attempt` it replaces, into kernels that are asked to be
`stabilised`. Where a flow is smooth and its rates differ widely, steps of DOP853 cannot be much longer than 6 / radius,
where the radius is that of the largest eigenvalue of the rates' Jacobian, which lies near the negative real axis. RKC
is a Runge–Kutta–Chebyshev method of order 2: with s stages its steps may be as long as 0.65 s² / radius.

All lanes of a group march in one loop, whichever method advances them. A step of RKC takes one or several parts, and a
part evaluates the rates as often as a step of DOP853 does. Until its last part a lane looks to `move_on` like one whose
step has to be repeated with the same length. The first two evaluations of a step measure the radius at the step's end,
by one power iteration, and the others are at the stages, of which the last is the end of the step.

A lane chooses its method by its own steps alone, so results do not depend on its neighbours. No kernel runs the
functions from this module.
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
FRACTIONS: Any = None
COEFFICIENTS: Any = None
MOST_PARTS: Any = None
LONGEST: Any = None
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
LANES: Any = 0
STAGES: Any = 0
CLOCK_ROWS: Any = 0
"""Stand-ins: the integrator's module defines these names before this text."""


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
# More rows of `clock`. PARTS is the number of parts of a step of RKC, and zero in a lane that DOP853 advances. PART is
# how many of them are done. COUNT is the number of steps in a row that speak for the other method; below zero, DOP853
# still has so many steps to take. PAUSE is how many it takes when it takes over again. WANTED and MAY_GROW keep the
# rows STEP and GROWN until a step ends.
PARTS, PART, RADIUS = CLOCK_ROWS, CLOCK_ROWS + 1, CLOCK_ROWS + 2
COUNT, WANTED, MAY_GROW, PAUSE = CLOCK_ROWS + 3, CLOCK_ROWS + 4, CLOCK_ROWS + 5, CLOCK_ROWS + 6
CLOCK_ROWS = CLOCK_ROWS + 7
# More parts of `trial`: the present and the former stage of RKC, and a small displacement along the eigenvector of the
# largest eigenvalue.
STAGE, FORMER, DISPLACEMENT, TRIAL_PARTS = 1, 2, 3, 4
# The columns of CHEBYSHEV.
FRACTION, OF_Y, OF_STAGE, OF_FORMER, OF_SLOPE, OF_FIRST = 0, 1, 2, 3, 4, 5
LEAST_RTOL = 1.0e-7
"""A method of order 2 pays at coarse tolerances only."""
REACH = 6.0
"""About the longest stable step of DOP853, times the radius."""
BOUND_FROM = 4.0
"""A step of DOP853 is bound by stability from this length on, times the radius; such steps vary around REACH."""
DAMPING = 2.5
"""The length of the steps by which DOP853 damps its error, times the radius."""
STEPS_BOUND = 2.0
STEPS_DAMPED = 2.0
STEPS_SHORT = 2.0
"""The numbers of steps in a row, bound by stability, damping or within DOP853's reach, before the other method takes
over."""
SHORTEST_PAUSE = 8.0
LONGEST_PAUSE = 64.0
"""The numbers of steps that DOP853 takes before RKC may take over again. They double while RKC gains nothing."""
SAFETY = 1.2
"""The radius is that of a power iteration, which comes from below, times this factor."""
SMALL = 1.0e-6
"""The length of the displacement."""


@device
def begin_steps(path: Path, group: Group) -> None:
    """Choose the length of the next step of each lane that is not in the midst of one, and the number of its parts."""
    times, fixed = path.times, path.control.fixed_steps
    clock, place = group.clock, group.place
    for lane in range(LANES):
        if place[TRAJECTORY * LANES + lane] == NOBODY or clock[ATTEMPTS * LANES + lane] == 0.0:
            for row in (PARTS, PART, COUNT, NOW):
                clock[row * LANES + lane] = 0.0
            clock[PAUSE * LANES + lane] = SHORTEST_PAUSE
        if place[TRAJECTORY * LANES + lane] == NOBODY or clock[PART * LANES + lane] > 0.0:
            continue
        t, h, end = clock[TIME * LANES + lane], clock[STEP * LANES + lane], times[place[TARGET * LANES + lane]]
        clock[WANTED * LANES + lane] = h
        clock[MAY_GROW * LANES + lane] = real(place[GROWN * LANES + lane])
        if clock[PARTS * LANES + lane] > 0.0:
            fastest, longest = 0.0, h
            for parts in range(1, MOST_PARTS + 1):
                stable = min(h, LONGEST[parts] / clock[RADIUS * LANES + lane])
                pace = min(end - t, stable) / real(parts)
                if pace > fastest:
                    fastest, longest = pace, stable
                    clock[PARTS * LANES + lane] = real(parts)
            h = longest
        last = clock[TAKEN * LANES + lane] == fixed - 1.0 if fixed > 0.0 else t + 1.0000001 * h >= end
        place[LAST * LANES + lane] = 1 if last else 0
        clock[NOW * LANES + lane] = end - t if last else h


@device
def row_of(s: int, lane: int, clock: np.ndarray) -> int:
    """The row of CHEBYSHEV for evaluation s of the present part."""
    parts, part = int(clock[PARTS * LANES + lane]), int(clock[PART * LANES + lane])
    return STAGES * (parts * (parts - 1) // 2 + part) + s - 1


@device
def place_stages(s: int, y: np.ndarray, clock: np.ndarray, trial: np.ndarray, betas: np.ndarray) -> None:
    """Write the states and times of evaluation s; those states of DOP853 are in `trial` already."""
    width, states = y.shape[0], y.shape[0] // LANES
    for lane in range(LANES):
        fraction = FRACTIONS[s]
        if clock[PARTS * LANES + lane] > 0.0:
            fraction = CHEBYSHEV[row_of(s, lane, clock), FRACTION]
            measuring = s <= 2 and clock[PART * LANES + lane] == 0.0
            for i in range(states):
                n = i * LANES + lane
                if not measuring:
                    trial[n] = trial[STAGE * width + n]
                else:
                    trial[n] = y[n] if s == 1 else y[n] + trial[DISPLACEMENT * width + n]
        t = clock[TIME * LANES + lane] + fraction * clock[NOW * LANES + lane]
        betas[lane] = min(t, clock[LATEST * LANES + lane])


@device
def measure_radius(
    lane: int, y: np.ndarray, K: np.ndarray, clock: np.ndarray, place: np.ndarray, trial: np.ndarray
) -> None:
    """Find the radius from the slopes with and without the displacement, and make y the first stage.

    A step that proves too long for its number of stages becomes shorter.
    """
    width, states = y.shape[0], y.shape[0] // LANES
    before, after = 0.0, 0.0
    for i in range(states):
        n = i * LANES + lane
        trial[STAGE * width + n] = y[n]
        trial[FORMER * width + n] = y[n]
        turned = K[2 * width + n] - K[width + n]
        before += trial[DISPLACEMENT * width + n] * trial[DISPLACEMENT * width + n]
        after += turned * turned
    if after > 0.0 and after < 1.0e30:
        clock[RADIUS * LANES + lane] = SAFETY * math.sqrt(after / before)
        for i in range(states):
            n = i * LANES + lane
            trial[DISPLACEMENT * width + n] = (K[2 * width + n] - K[width + n]) * (SMALL / math.sqrt(after))
    longest = LONGEST[int(clock[PARTS * LANES + lane])] / clock[RADIUS * LANES + lane]
    if clock[NOW * LANES + lane] > longest:
        clock[NOW * LANES + lane] = longest
        place[LAST * LANES + lane] = 0


@device
def find_stages(s: int, y: np.ndarray, K: np.ndarray, clock: np.ndarray, place: np.ndarray, trial: np.ndarray) -> None:
    """Find the stages of RKC that follow evaluation s."""
    width, states = y.shape[0], y.shape[0] // LANES
    for lane in range(LANES):
        measuring = s <= 2 and clock[PART * LANES + lane] == 0.0
        if clock[PARTS * LANES + lane] == 0.0 or (measuring and s == 1):
            continue
        if measuring:
            measure_radius(lane, y, K, clock, place, trial)
        h, row = clock[NOW * LANES + lane], row_of(s, lane, clock)
        for i in range(states):
            n = i * LANES + lane
            slopes = CHEBYSHEV[row, OF_SLOPE] * K[s * width + n] + CHEBYSHEV[row, OF_FIRST] * K[n]
            present, former = trial[STAGE * width + n], trial[FORMER * width + n]
            stages = CHEBYSHEV[row, OF_STAGE] * present + CHEBYSHEV[row, OF_FORMER] * former
            trial[FORMER * width + n] = present
            trial[STAGE * width + n] = CHEBYSHEV[row, OF_Y] * y[n] + stages + h * slopes


@device
def notice_bound(lane: int, K: np.ndarray, clock: np.ndarray, trial: np.ndarray) -> None:
    """Count the accepted steps of DOP853 in a row that stability bounds, and let RKC take over after some of them.

    The last two stages of DOP853 are at the same time, and where stability bounds the step, they differ by about an
    eigenvector of the largest eigenvalue. Such steps leave an error along that eigenvector, which RKC would see as its
    own. So DOP853 takes a few shorter steps before, which damp it.
    """
    count, h = clock[COUNT * LANES + lane], clock[NOW * LANES + lane]
    if count < 0.0:
        clock[COUNT * LANES + lane] = count + 1.0
        return
    if count < STEPS_BOUND:
        width = trial.shape[0] // TRIAL_PARTS
        states = width // LANES
        before, after = 0.0, 0.0
        for i in range(states):
            n = i * LANES + lane
            moved = 0.0
            for r in range(STAGES):
                moved += (COEFFICIENTS[STAGES, r] - COEFFICIENTS[STAGES - 1, r]) * K[r * width + n]
            turned = K[STAGES * width + n] - K[(STAGES - 1) * width + n]
            trial[DISPLACEMENT * width + n] = turned
            before += h * h * moved * moved
            after += turned * turned
        radius = math.sqrt(after / before) if before > 0.0 else 0.0
        if h * radius <= BOUND_FROM:
            clock[COUNT * LANES + lane] = 0.0
            return
        for i in range(states):
            trial[DISPLACEMENT * width + i * LANES + lane] *= SMALL / math.sqrt(after)
        clock[RADIUS * LANES + lane] = SAFETY * radius
    count += 1.0
    if count >= STEPS_BOUND:
        clock[FACTOR * LANES + lane] = DAMPING * SAFETY / (clock[RADIUS * LANES + lane] * h)
    if count == STEPS_BOUND + STEPS_DAMPED:
        clock[FACTOR * LANES + lane] = REACH / DAMPING
        clock[PARTS * LANES + lane] = 1.0
        count = 0.0
    clock[COUNT * LANES + lane] = count


@device
def judge(lane: int, error: float, factor: float, clock: np.ndarray) -> None:
    """Write what `move_on` reads of a step: its error, relative to the tolerance, and the ratio of the next step."""
    finite = clock[FLAW * LANES + lane] == 0.0 and error < 1.0e30
    clock[FLAW * LANES + lane] = 0.0 if finite else 1.0
    clock[FIFTH * LANES + lane] = error if finite else 1.0e10
    clock[FACTOR * LANES + lane] = factor if finite else 0.0
    clock[ACCEPTED * LANES + lane] = 1.0 if finite and error < 1.0 else 0.0


@device
def judge_part(
    lane: int, y: np.ndarray, K: np.ndarray, path: Path, clock: np.ndarray, place: np.ndarray, trial: np.ndarray
) -> None:
    """Judge a step of RKC after its last part. DOP853 takes over after some accepted steps that are short."""
    rtol, atol = path.control.rtol, path.control.atol
    part = clock[PART * LANES + lane] + 1.0
    if part < clock[PARTS * LANES + lane]:
        clock[PART * LANES + lane] = part
        clock[FLAW * LANES + lane] = 0.0
        clock[ACCEPTED * LANES + lane] = 0.0
        clock[FACTOR * LANES + lane] = 1.0
        return
    clock[PART * LANES + lane] = 0.0
    clock[STEP * LANES + lane] = clock[WANTED * LANES + lane]
    place[GROWN * LANES + lane] = int(clock[MAY_GROW * LANES + lane])
    h, squares = clock[NOW * LANES + lane], 0.0
    width, states = y.shape[0], y.shape[0] // LANES
    for i in range(states):
        n = i * LANES + lane
        error = 0.8 * (y[n] - trial[n]) + 0.4 * h * (K[n] + K[STAGES * width + n])
        error /= atol + rtol * max(abs(y[n]), abs(trial[n]))
        squares += error * error
    error = math.sqrt(squares / real(states))
    factor = 0.8 / max(error, 1.0e-30) ** (1.0 / 3.0)
    judge(lane, error, factor, clock)
    if clock[ACCEPTED * LANES + lane] == 1.0 and place[LAST * LANES + lane] == 0:
        short = h * min(factor, 10.0) * clock[RADIUS * LANES + lane] < SAFETY * REACH
        clock[COUNT * LANES + lane] = clock[COUNT * LANES + lane] + 1.0 if short else 0.0
        if not short:
            clock[PAUSE * LANES + lane] = SHORTEST_PAUSE
        if clock[COUNT * LANES + lane] >= STEPS_SHORT:
            clock[PARTS * LANES + lane] = 0.0
            clock[COUNT * LANES + lane] = -clock[PAUSE * LANES + lane]
            clock[PAUSE * LANES + lane] = min(2.0 * clock[PAUSE * LANES + lane], LONGEST_PAUSE)


@device
def attempt(path: Path, group: Group) -> None:
    """Try one step of every lane that DOP853 advances, from y into `trial`, and one part of a step of the other lanes.

    Row FIFTH receives a step's error relative to the tolerance, row FACTOR the ratio of the next step to this one, and
    row ACCEPTED one where a step has come to its end and its error is small enough.
    """
    p, tables, layout, ranges, control = path.p, path.tables, path.layout, path.ranges, path.control
    y, trial, K, clock, place, betas = group.y, group.trial, group.K, group.clock, group.place, group.betas
    means, scratch, flag, system = group.means, group.scratch, group.flag, group.system
    width, states = y.shape[0], y.shape[0] // LANES
    begin_steps(path, group)
    for s in range(1, STAGES + 1):
        combine(s, y, K, clock, trial)
        place_stages(s, y, clock, trial, betas)
        set_betas(system, betas, p)
        rates(system, betas, trial, p, tables, layout, ranges, K[s * width : (s + 1) * width], means, scratch, flag)
        find_stages(s, y, K, clock, place, trial)
    find_errors(y, trial, K, control.rtol, control.atol, clock)
    for lane in range(LANES):
        if clock[PARTS * LANES + lane] > 0.0:
            judge_part(lane, y, K, path, clock, place, trial)
            continue
        fifth = clock[FIFTH * LANES + lane]
        norm = (fifth + 0.01 * clock[THIRD * LANES + lane]) * real(states)
        error = clock[NOW * LANES + lane] * fifth / math.sqrt(norm if norm > 0.0 else 1.0)
        judge(lane, error, 0.9 / math.sqrt(math.sqrt(math.sqrt(max(error, 1.0e-30)))), clock)
        if control.fixed_steps > 0.0:
            clock[ACCEPTED * LANES + lane] = 1.0 - clock[FLAW * LANES + lane]
        elif control.rtol >= LEAST_RTOL and clock[ACCEPTED * LANES + lane] == 1.0:
            notice_bound(lane, K, clock, trial)
