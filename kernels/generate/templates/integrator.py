"""The text of the adaptive Runge–Kutta integrator: LANES trajectories at a time, one each of a vector register's
places.

`codegen` copies these functions into every generated module, beside the system's own `rates`, `gram` and `beta_at` and
the tableau's constants, so that one file holds all that Numba compiles, on the CPU and on CUDA. They are plain Python:
scalars, loops and preallocated arrays only. Nothing here runs from this module. For single precision `codegen` casts
every float literal; `real` casts the integers that meet a float.

Every array of a group of lanes is flat, with row r of lane l at r · LANES + l: the compiler then knows all distances
and turns each loop over the lanes into vector instructions. Each lane has its own time and step and takes the next
trajectory as soon as its own ends, so none waits for another; what a trajectory becomes does not depend on its lane. On
CUDA a thread is a group of one lane.
"""

import math
from typing import Any

rates: Any = None
gram: Any = None
beta_at: Any = None
halted: Any = None
real: Any = None
STATES: Any = None
LANES: Any = None
WIDTH: Any = None
STAGES: Any = None
FRACTIONS: Any = None
COEFFICIENTS: Any = None
ERRORS: Any = None
"""The generated module defines these, and `device`, its own way; here they only stand for names."""


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
DONE, TOO_MANY_STEPS, NOT_FINITE, OUTSIDE_GRAM, OUTSIDE_BOUNDS, STEP_TOO_SMALL, HALTED = 0, 1, 2, 3, 4, 5, 6
RUNNING = -1
# The rows of `clock`, of real numbers.
TIME, STEP, NOW, LATEST, TAKEN, ATTEMPTS = 0, 1, 2, 3, 4, 5
FIFTH, THIRD, FLAW, FACTOR, ACCEPTED, TRAPPED, SUM, CLOCK_ROWS = 6, 7, 8, 9, 10, 11, 12, 13
# The rows of `place`, of integers.
TRAJECTORY, TARGET, ROW, GROWN, FRESH, LAST, STATUS, PLACE_ROWS = 0, 1, 2, 3, 4, 5, 6, 7
NOBODY = -1
UNROLLED = 8


@device
def clenshaw(tables, start, count, low, high, x, mean, work):
    """Σ c_n T_n at x (LANES,), into mean (LANES,), by Clenshaw's recurrence. work: three rows of lanes.

    count − 1 is a multiple of UNROLLED: so many coefficients are taken at a time, with the sums in registers.
    """
    scale = 2.0 / (high - low)
    for lane in range(LANES):
        work[lane] = 2.0 * ((x[lane] - low) * scale - 1.0)
        work[LANES + lane] = 0.0
        work[2 * LANES + lane] = 0.0
    n = start + count - 1
    while n > start:
        c_0, c_1, c_2, c_3 = tables[n], tables[n - 1], tables[n - 2], tables[n - 3]
        c_4, c_5, c_6, c_7 = tables[n - 4], tables[n - 5], tables[n - 6], tables[n - 7]
        for lane in range(LANES):
            u = work[lane]
            last = work[LANES + lane]
            later = work[2 * LANES + lane]
            later = (c_0 - later) + u * last
            last = (c_1 - last) + u * later
            later = (c_2 - later) + u * last
            last = (c_3 - last) + u * later
            later = (c_4 - later) + u * last
            last = (c_5 - last) + u * later
            later = (c_6 - later) + u * last
            last = (c_7 - last) + u * later
            work[LANES + lane] = last
            work[2 * LANES + lane] = later
        n -= UNROLLED
    constant = tables[start]
    for lane in range(LANES):
        mean[lane] = constant + 0.5 * work[lane] * work[LANES + lane] - work[2 * LANES + lane]


@device
def find_outside(y, p, limits, tolerance, matrix, place):
    """Sets the status of each lane: DONE inside the domain; OUTSIDE_BOUNDS where a state leaves its interval;
    OUTSIDE_GRAM where gram + tolerance · trace · I has no Cholesky factor."""
    for lane in range(LANES):
        place[STATUS * LANES + lane] = DONE
    size = gram(y, p, matrix)
    for lane in range(LANES):
        trace = 0.0
        for i in range(size):
            trace += matrix[(i * size + i) * LANES + lane]
        for i in range(size):
            matrix[(i * size + i) * LANES + lane] += tolerance * trace
    for i in range(size):
        for j in range(i):
            for k in range(j):
                for lane in range(LANES):
                    product = matrix[(i * size + k) * LANES + lane] * matrix[(j * size + k) * LANES + lane]
                    matrix[(i * size + j) * LANES + lane] -= product
            for lane in range(LANES):
                matrix[(i * size + j) * LANES + lane] /= matrix[(j * size + j) * LANES + lane]
                square = matrix[(i * size + j) * LANES + lane] * matrix[(i * size + j) * LANES + lane]
                matrix[(i * size + i) * LANES + lane] -= square
        for lane in range(LANES):
            pivot = matrix[(i * size + i) * LANES + lane]
            if not pivot > 0.0:
                place[STATUS * LANES + lane] = OUTSIDE_GRAM
            matrix[(i * size + i) * LANES + lane] = math.sqrt(pivot) if pivot > 0.0 else 1.0
    for i in range(STATES):
        slack = tolerance * max(1.0, abs(limits[i, 1]))
        lowest, highest = limits[i, 0] - slack, limits[i, 1] + slack
        for lane in range(LANES):
            if y[i * LANES + lane] < lowest or y[i * LANES + lane] > highest:
                place[STATUS * LANES + lane] = OUTSIDE_BOUNDS


@device
def find_trapped(y, betas, traps, clock):
    """Sets row TRAPPED to one in the lanes whose first two states lie in a set that the flow is known not to leave."""
    for lane in range(LANES):
        clock[TRAPPED * LANES + lane] = 0.0
    for n in range(traps.shape[0]):
        sign_1, sign_2, level, least_beta, together = traps[n, 0], traps[n, 1], traps[n, 2], traps[n, 3], traps[n, 4]
        for lane in range(LANES):
            first = sign_1 * y[lane]
            second = sign_2 * y[LANES + lane]
            least = first + second if together == 1.0 else min(first, second)
            if least >= level and betas[lane] >= least_beta:
                clock[TRAPPED * LANES + lane] = 1.0


@device
def find_betas(fraction, p, clock, betas):
    """The inverse temperature of each lane, such a fraction of its present step after its time."""
    for lane in range(LANES):
        t = clock[TIME * LANES + lane] + fraction * clock[NOW * LANES + lane]
        betas[lane] = beta_at(min(t, clock[LATEST * LANES + lane]), p)


@device
def begin(lane, n, t, clock, place):
    """Puts trajectory n, whose state is in the lane already, at the start of its path; or NOBODY, and then the lane
    idles."""
    clock[TIME * LANES + lane] = t
    clock[STEP * LANES + lane] = 0.0
    clock[NOW * LANES + lane] = 0.0
    clock[LATEST * LANES + lane] = t
    clock[TAKEN * LANES + lane] = 0.0
    clock[ATTEMPTS * LANES + lane] = 0.0
    place[TRAJECTORY * LANES + lane] = n
    place[TARGET * LANES + lane] = 0
    place[ROW * LANES + lane] = 0
    place[GROWN * LANES + lane] = 1
    place[FRESH * LANES + lane] = 1 if n != NOBODY else 0
    place[STATUS * LANES + lane] = RUNNING


@device
def land(lane, t, path, group, out):
    """Keeps the outputs due by the time t and looks ahead to the next target; true where there is none."""
    times, ends, kept, control = path[0], path[1], path[2], path[9]
    y, clock, place = group[0], group[3], group[4]
    target = place[TARGET * LANES + lane]
    n = place[TRAJECTORY * LANES + lane]
    while target < times.shape[0] and times[target] <= t:
        if kept[target] == 1:
            row = place[ROW * LANES + lane]
            for i in range(STATES):
                out[n, row, i] = y[i * LANES + lane]
            place[ROW * LANES + lane] = row + 1
        if ends[target] < times[target]:
            place[FRESH * LANES + lane] = 1
        target += 1
    place[TARGET * LANES + lane] = target
    if target == times.shape[0]:
        return True
    clock[LATEST * LANES + lane] = ends[target]
    clock[TAKEN * LANES + lane] = 0.0
    if control[2] > 0.0:
        clock[STEP * LANES + lane] = (times[target] - t) / control[2]
    return False


@device
def all_set_out(path, group, out):
    """Gives the lanes that begin or have met a breakpoint their slopes, and those that begin their first step. False
    where one of their trajectories ends at once, as row STATUS of `place` then tells."""
    times, p, tables, layout, ranges, limits, control = path[0], path[3], path[4], path[5], path[6], path[7], path[9]
    y, K, clock, place, betas, means, matrix, scratch = (
        group[0],
        group[2],
        group[3],
        group[4],
        group[5],
        group[6],
        group[7],
        group[8],
    )
    rtol, atol = control[0], control[1]
    fresh_lanes = 0
    for lane in range(LANES):
        fresh_lanes += place[FRESH * LANES + lane]
    if fresh_lanes == 0:
        return True
    find_outside(y, p, limits, control[4], matrix, place)
    for lane in range(LANES):
        fresh = place[FRESH * LANES + lane] == 1
        if place[STATUS * LANES + lane] == DONE or not fresh:
            place[STATUS * LANES + lane] = RUNNING
        begins = fresh and place[STATUS * LANES + lane] == RUNNING and place[TARGET * LANES + lane] == 0
        if begins and land(lane, clock[TIME * LANES + lane], path, group, out):
            place[STATUS * LANES + lane] = DONE
    find_betas(0.0, p, clock, betas)
    rates(betas, y, p, tables, layout, ranges, K[STAGES * WIDTH : (STAGES + 1) * WIDTH], means, scratch, path[10])
    for lane in range(LANES):
        if place[FRESH * LANES + lane] == 1:
            place[FRESH * LANES + lane] = 0
            slope = 0.0
            for i in range(STATES):
                K[i * LANES + lane] = K[STAGES * WIDTH + i * LANES + lane]
                slope = max(slope, abs(K[i * LANES + lane]) / (atol + rtol * abs(y[i * LANES + lane])))
            if clock[STEP * LANES + lane] == 0.0 and place[STATUS * LANES + lane] == RUNNING:
                span = times[place[TARGET * LANES + lane]] - clock[TIME * LANES + lane]
                first = span if slope == 0.0 else min(span, 0.1 / math.sqrt(math.sqrt(math.sqrt(slope))))
                clock[STEP * LANES + lane] = first
    running = 0
    for lane in range(LANES):
        running += 1 if place[STATUS * LANES + lane] == RUNNING else 0
    return running == LANES


@device
def combine(s, y, K, clock, trial):
    """The state at which stage s looks at the rates, into `trial`."""
    for n in range(WIDTH):
        trial[n] = 0.0
    for r in range(s):
        coefficient = COEFFICIENTS[s, r]
        if coefficient != 0.0:
            for n in range(WIDTH):
                trial[n] += coefficient * K[r * WIDTH + n]
    for i in range(STATES):
        for lane in range(LANES):
            n = i * LANES + lane
            trial[n] = y[n] + clock[NOW * LANES + lane] * trial[n]


@device
def find_errors(y, trial, K, rtol, atol, clock):
    """The squared norms of the two error estimates relative to the tolerance, before division by the number of states,
    into rows FIFTH and THIRD of `clock`; row FLAW becomes zero where the new state is finite."""
    for row in range(FIFTH, FLAW + 1):
        for lane in range(LANES):
            clock[row * LANES + lane] = 0.0
    for i in range(STATES):
        for estimate in range(2):
            for lane in range(LANES):
                clock[SUM * LANES + lane] = 0.0
            for r in range(STAGES + 1):
                coefficient = ERRORS[estimate, r]
                if coefficient != 0.0:
                    for lane in range(LANES):
                        clock[SUM * LANES + lane] += coefficient * K[r * WIDTH + i * LANES + lane]
            for lane in range(LANES):
                n = i * LANES + lane
                error = clock[SUM * LANES + lane] / (atol + rtol * max(abs(y[n]), abs(trial[n])))
                clock[(FIFTH + estimate) * LANES + lane] += error * error
        for lane in range(LANES):
            clock[FLAW * LANES + lane] += 0.0 * trial[i * LANES + lane]


@device
def attempt(path, group):
    """One step of every lane, from y into `trial`, with its error relative to the tolerance in row FIFTH and the new
    step's ratio to it."""
    times, p, tables, layout, ranges, control = path[0], path[3], path[4], path[5], path[6], path[9]
    y, trial, K, clock, place, betas, means, scratch = (
        group[0],
        group[1],
        group[2],
        group[3],
        group[4],
        group[5],
        group[6],
        group[8],
    )
    fixed = control[2]
    for lane in range(LANES):
        if place[TRAJECTORY * LANES + lane] == NOBODY:
            clock[NOW * LANES + lane] = 0.0
            continue
        t, h, end = clock[TIME * LANES + lane], clock[STEP * LANES + lane], times[place[TARGET * LANES + lane]]
        last = clock[TAKEN * LANES + lane] == fixed - 1.0 if fixed > 0.0 else t + 1.0000001 * h >= end
        place[LAST * LANES + lane] = 1 if last else 0
        clock[NOW * LANES + lane] = end - t if last else h
    for s in range(1, STAGES + 1):
        combine(s, y, K, clock, trial)
        find_betas(FRACTIONS[s], p, clock, betas)
        rates(betas, trial, p, tables, layout, ranges, K[s * WIDTH : (s + 1) * WIDTH], means, scratch, path[10])
    find_errors(y, trial, K, control[0], control[1], clock)
    for lane in range(LANES):
        fifth = clock[FIFTH * LANES + lane]
        norm = (fifth + 0.01 * clock[THIRD * LANES + lane]) * real(STATES)
        error = clock[NOW * LANES + lane] * fifth / math.sqrt(norm if norm > 0.0 else 1.0)
        finite = clock[FLAW * LANES + lane] == 0.0 and error < 1.0e30
        error = error if finite else 1.0e10
        clock[FLAW * LANES + lane] = 0.0 if finite else 1.0
        clock[FIFTH * LANES + lane] = error
        clock[FACTOR * LANES + lane] = 0.9 / math.sqrt(math.sqrt(math.sqrt(max(error, 1.0e-30))))
        clock[ACCEPTED * LANES + lane] = 1.0 if error < 1.0 or (fixed > 0.0 and finite) else 0.0


@device
def move_on(path, group, out):
    """Takes the steps whose error is small enough. A lane whose trajectory has ended gets its status, the others
    RUNNING."""
    times, p, limits, traps, control = path[0], path[3], path[7], path[8], path[9]
    y, trial, K, clock, place, betas, matrix = group[0], group[1], group[2], group[3], group[4], group[5], group[7]
    fixed, most = control[2], control[3]
    for i in range(STATES):
        for lane in range(LANES):
            n = i * LANES + lane
            accepted = clock[ACCEPTED * LANES + lane] == 1.0
            y[n] = trial[n] if accepted else y[n]
            K[n] = K[STAGES * WIDTH + n] if accepted else K[n]
    find_outside(y, p, limits, control[4], matrix, place)
    if traps.shape[0] > 0:
        find_betas(1.0, p, clock, betas)
        find_trapped(y, betas, traps, clock)
    for lane in range(LANES):
        status = place[STATUS * LANES + lane]
        place[STATUS * LANES + lane] = RUNNING
        if place[TRAJECTORY * LANES + lane] == NOBODY:
            continue
        t, now, factor = clock[TIME * LANES + lane], clock[NOW * LANES + lane], clock[FACTOR * LANES + lane]
        attempts = clock[ATTEMPTS * LANES + lane] + 1.0
        clock[ATTEMPTS * LANES + lane] = attempts
        if clock[ACCEPTED * LANES + lane] == 1.0:
            last = place[LAST * LANES + lane] == 1
            t = times[place[TARGET * LANES + lane]] if last else t + now
            clock[TIME * LANES + lane] = t
            clock[TAKEN * LANES + lane] += 1.0
            if status != DONE:
                place[STATUS * LANES + lane] = status
                continue
            if traps.shape[0] > 0 and clock[TRAPPED * LANES + lane] == 1.0:
                place[STATUS * LANES + lane] = DONE
                continue
            if fixed == 0.0:
                # The first step is a guess; after a rejection a step does not grow.
                limit = 10.0 if attempts > 1.0 else 100.0
                limit = limit if place[GROWN * LANES + lane] == 1 else 1.0
                place[GROWN * LANES + lane] = 1
                h = now * min(limit, factor)
                # A step cut short to land on a target says nothing against the longer one before it.
                clock[STEP * LANES + lane] = max(clock[STEP * LANES + lane], h) if last else h
            if last and land(lane, t, path, group, out):
                place[STATUS * LANES + lane] = DONE
                continue
        else:
            h = now * max(0.2, factor)
            clock[STEP * LANES + lane] = h
            place[GROWN * LANES + lane] = 0
            finite = clock[FLAW * LANES + lane] == 0.0
            if t + 0.1 * h == t or fixed > 0.0:
                place[STATUS * LANES + lane] = STEP_TOO_SMALL if finite else NOT_FINITE
                continue
        if attempts >= most:
            place[STATUS * LANES + lane] = TOO_MANY_STEPS


@device
def fill(lane, n, initial, path, group):
    """Puts trajectory n of `initial` (N, states) into a lane, if there is such a one."""
    y, clock, place = group[0], group[3], group[4]
    if n < initial.shape[0]:
        for i in range(STATES):
            y[i * LANES + lane] = initial[n, i]
        begin(lane, n, path[0][0], clock, place)
        return 1
    begin(lane, NOBODY, path[0][0], clock, place)
    return 0


@device
def integrate_some(first, stride, initial, path, group, out, ends, status):
    """Integrates the trajectories first, first + stride, first + 2 stride, … of `initial` (N, states).

    path: (times, ends, kept, p, tables, layout, ranges, limits, traps, control, flag). times: (n,) targets, outputs and
    breakpoints. ends: (n,) the latest time at which a stage may look at beta before each target (one rounding below a
    breakpoint, so that a jump is met from the left). kept: (n,) 1 for outputs. limits: (states, 2) the states'
    intervals. traps: (n, 5), each row (sign_1, sign_2, level, least beta, together) a set that no trajectory leaves
    once beta has reached its least value: {sign_i y_i >= level, i = 1, 2}, or of their sum where together is 1. In one
    of them the trajectory stops: what remains of `out` is its state there. control: rtol, atol, fixed steps per
    interval (0: adaptive), most steps, domain tolerance. flag: (1,), by which another thread stops this; trajectories
    that have begun and not ended are then HALTED. group: (y, trial, K, clock, place, betas, means, matrix, scratch),
    the lanes' arrays. out: (N, n_out, states); ends: (N, 3) attempted steps, the time reached and, where HALTED, the
    next step; status: (N,). Where a trajectory fails or is HALTED, the last row of `out` is its state there.
    """
    y, clock, place = group[0], group[3], group[4]
    following = first
    running = 0
    for lane in range(LANES):
        for i in range(STATES):
            y[i * LANES + lane] = initial[0, i]
        running += fill(lane, following, initial, path, group)
        following += stride
    while running > 0:
        underway = all_set_out(path, group, out)
        if underway:
            attempt(path, group)
        if halted(path[10]):  # before a step is taken whose rates may not be whole
            break
        if underway:
            move_on(path, group, out)
        for lane in range(LANES):
            ended = place[STATUS * LANES + lane]
            if ended != RUNNING and place[TRAJECTORY * LANES + lane] != NOBODY:
                n = place[TRAJECTORY * LANES + lane]
                status[n] = ended
                ends[n, 0] = clock[ATTEMPTS * LANES + lane]
                ends[n, 1] = clock[TIME * LANES + lane]
                row = place[ROW * LANES + lane]
                for rest in range(row if ended == DONE else out.shape[1] - 1, out.shape[1]):
                    for i in range(STATES):
                        out[n, rest, i] = y[i * LANES + lane]
                running += fill(lane, following, initial, path, group) - 1
                following += stride
    for lane in range(LANES):
        n = place[TRAJECTORY * LANES + lane]
        if n != NOBODY:
            status[n] = HALTED
            ends[n, 0] = clock[ATTEMPTS * LANES + lane]
            ends[n, 1] = clock[TIME * LANES + lane]
            ends[n, 2] = clock[STEP * LANES + lane]
            for i in range(STATES):
                out[n, out.shape[1] - 1, i] = y[i * LANES + lane]
