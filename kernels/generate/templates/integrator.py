"""The text of the adaptive Runge–Kutta integrator, which advances LANES trajectories together, one per lane.

`codegen` copies this text into a generated module, beside the tableau's constants and the functions `rates`, `gram` and
`set_betas`, by which it calls the system's own functions; see `kernels.generate.system_calls`. The functions use
scalars, loops and preallocated arrays only, which both targets can compile. Tests run the functions from this module as
plain Python; kernels never do. For single precision `codegen` casts every float literal, and `real` casts each integer
that meets a float.

Every array of a group of lanes is flat: row r of lane l stands at r · LANES + l. The compiler then knows all distances
and turns each loop over the lanes into vector instructions. Each lane has its own time and step, and a lane takes the
next trajectory as soon as its own trajectory ends, so no lane waits for another. A trajectory's numbers do not depend
on the lane that computes them. On CUDA a thread is a group of one lane.
"""

import math
from typing import Any, NamedTuple

import numpy as np

rates: Any = None
gram: Any = None
set_betas: Any = None
halted: Any = None
real: Any = None
LANES: Any = None
STAGES: Any = None
FRACTIONS: Any = None
COEFFICIENTS: Any = None
ERRORS: Any = None
"""Stand-ins: every generated module defines these names, and `device`, itself."""


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
# The values of row STATUS.
DONE, TOO_MANY_STEPS, NOT_FINITE, OUTSIDE_GRAM, OUTSIDE_BOUNDS, STEP_TOO_SMALL, HALTED = 0, 1, 2, 3, 4, 5, 6
RUNNING = -1
# The rows of `clock`, whose entries are real numbers.
TIME, STEP, NOW, LATEST, TAKEN, ATTEMPTS = 0, 1, 2, 3, 4, 5
FIFTH, THIRD, FLAW, FACTOR, ACCEPTED, TRAPPED, SUM, CLOCK_ROWS = 6, 7, 8, 9, 10, 11, 12, 13
TRIAL_PARTS = 1
"""How many times as long as `y` `trial` is."""
# The rows of `place`, whose entries are integers.
TRAJECTORY, TARGET, ROW, GROWN, FRESH, LAST, STATUS, PLACE_ROWS = 0, 1, 2, 3, 4, 5, 6, 7
NOBODY = -1
"""The trajectory of an idle lane."""
# The columns of `reached`.
STEPS_REACHED, TIME_REACHED, STEP_REACHED = 0, 1, 2


class Control(NamedTuple):
    """The options of one integration.

    rtol, atol: tolerances of the local error per step. fixed_steps: the number of equal steps between two targets, or 0
    for adaptive steps. most_steps: the number of attempted steps after which a trajectory fails. domain_tolerance: how
    far a state may leave its domain.
    """

    rtol: Any
    atol: Any
    fixed_steps: Any
    most_steps: Any
    domain_tolerance: Any


class Path(NamedTuple):
    """Everything that a trajectory needs besides its initial state, for one set of parameters.

    times: (n,) targets, which are the outputs and the schedule's breakpoints. ends: (n,) the latest time at which a
    stage before each target may look at beta: one rounding below a breakpoint, so that the integrator sees a jump from
    the left. kept: (n,) 1 where a target is an output. p: parameter values. tables, layout, ranges: the averages, see
    `kernels.averages.tables.Tables`. limits: (states, 2) the states' intervals. traps: (n, 5) sets that no trajectory
    leaves once beta has reached its least value; each row (sign_1, sign_2, level, least beta, together) is {sign_i y_i
    >= level, i = 1, 2}, or {sign_1 y_1 + sign_2 y_2 >= level} where together is 1. control: a `Control`; the entries'
    arguments hold it as an array, and every array of an entry but `tables` and `control` has one row per set.
    """

    times: Any
    ends: Any
    kept: Any
    p: Any
    tables: Any
    layout: Any
    ranges: Any
    limits: Any
    traps: Any
    control: Any


class Group(NamedTuple):
    """The arrays of a group of lanes, the flag by which another thread stops the group, and the system.

    y, trial: the states, and the states that a step or stage tries. K: the slopes of all stages. clock, place: the rows
    named above. betas: the lanes' inverse temperatures. means: values of averages, and their working rows. matrix: the
    Gram matrices. scratch: what averages over several variables work in. flag: (1,), zero until the group must stop.
    system: how to call the system's own functions, see `kernels.generate.system_calls`.
    """

    y: Any
    trial: Any
    K: Any
    clock: Any
    place: Any
    betas: Any
    means: Any
    matrix: Any
    scratch: Any
    flag: Any
    system: Any


@device
def find_outside(path: Path, group: Group) -> None:
    """Set the status of each lane by whether its state lies in the domain.

    DONE: inside. OUTSIDE_BOUNDS: a state leaves its interval. OUTSIDE_GRAM: gram + tolerance · trace · I has no
    Cholesky factor.
    """
    y, matrix, place, limits, tolerance = group.y, group.matrix, group.place, path.limits, path.control.domain_tolerance
    states = y.shape[0] // LANES
    for lane in range(LANES):
        place[STATUS * LANES + lane] = DONE
    size = gram(group.system, y, path.p, matrix)
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
    for i in range(states):
        slack = tolerance * max(1.0, abs(limits[i, 1]))
        lowest, highest = limits[i, 0] - slack, limits[i, 1] + slack
        for lane in range(LANES):
            if y[i * LANES + lane] < lowest or y[i * LANES + lane] > highest:
                place[STATUS * LANES + lane] = OUTSIDE_BOUNDS


@device
def find_trapped(y: np.ndarray, betas: np.ndarray, traps: np.ndarray, clock: np.ndarray) -> None:
    """Set row TRAPPED to one in the lanes whose first two states lie in a trap, and to zero in the others."""
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
def find_betas(fraction: float, system: Any, p: np.ndarray, clock: np.ndarray, betas: np.ndarray) -> None:
    """Write each lane's inverse temperature after the given fraction of its present step."""
    for lane in range(LANES):
        t = clock[TIME * LANES + lane] + fraction * clock[NOW * LANES + lane]
        betas[lane] = min(t, clock[LATEST * LANES + lane])
    set_betas(system, betas, p)


@device
def begin(lane: int, n: int, t: float, clock: np.ndarray, place: np.ndarray) -> None:
    """Start trajectory n, whose state stands in the lane already, at time t. The lane idles where n is NOBODY."""
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
def land(lane: int, t: float, path: Path, group: Group, out: np.ndarray) -> bool:
    """Keep the outputs that are due at time t and aim at the next target. True where no target is left."""
    times, ends, kept, fixed = path.times, path.ends, path.kept, path.control.fixed_steps
    y, clock, place = group.y, group.clock, group.place
    states = y.shape[0] // LANES
    target = place[TARGET * LANES + lane]
    n = place[TRAJECTORY * LANES + lane]
    while target < times.shape[0] and times[target] <= t:
        if kept[target] == 1:
            row = place[ROW * LANES + lane]
            for i in range(states):
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
    if fixed > 0.0:
        clock[STEP * LANES + lane] = (times[target] - t) / fixed
    return False


@device
def all_set_out(path: Path, group: Group, out: np.ndarray) -> bool:
    """Compute the slopes of the lanes that begin a trajectory or have met a breakpoint.

    A lane that begins also gets its first step. False where a trajectory ends at once; row STATUS of `place` then says
    why.
    """
    times = path.times
    y, K, clock, place, betas = group.y, group.K, group.clock, group.place, group.betas
    width, states = y.shape[0], y.shape[0] // LANES
    rtol, atol = path.control.rtol, path.control.atol
    fresh_lanes = 0
    for lane in range(LANES):
        fresh_lanes += place[FRESH * LANES + lane]
    if fresh_lanes == 0:
        return True
    find_outside(path, group)
    for lane in range(LANES):
        fresh = place[FRESH * LANES + lane] == 1
        if place[STATUS * LANES + lane] == DONE or not fresh:
            place[STATUS * LANES + lane] = RUNNING
        begins = fresh and place[STATUS * LANES + lane] == RUNNING and place[TARGET * LANES + lane] == 0
        if begins and land(lane, clock[TIME * LANES + lane], path, group, out):
            place[STATUS * LANES + lane] = DONE
    find_betas(0.0, group.system, path.p, clock, betas)
    slopes = K[STAGES * width : (STAGES + 1) * width]
    p, tables, layout, ranges = path.p, path.tables, path.layout, path.ranges
    rates(group.system, betas, y, p, tables, layout, ranges, slopes, group.means, group.scratch, group.flag)
    for lane in range(LANES):
        if place[FRESH * LANES + lane] == 1:
            place[FRESH * LANES + lane] = 0
            slope = 0.0
            for i in range(states):
                K[i * LANES + lane] = K[STAGES * width + i * LANES + lane]
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
def combine(s: int, y: np.ndarray, K: np.ndarray, clock: np.ndarray, trial: np.ndarray) -> None:
    """Write the state at which stage s evaluates the rates into `trial`."""
    width, states = y.shape[0], y.shape[0] // LANES
    for n in range(width):
        trial[n] = 0.0
    for r in range(s):
        coefficient = COEFFICIENTS[s, r]
        if coefficient != 0.0:
            for n in range(width):
                trial[n] += coefficient * K[r * width + n]
    for i in range(states):
        for lane in range(LANES):
            n = i * LANES + lane
            trial[n] = y[n] + clock[NOW * LANES + lane] * trial[n]


@device
def find_errors(y: np.ndarray, trial: np.ndarray, K: np.ndarray, rtol: float, atol: float, clock: np.ndarray) -> None:
    """Write the squared norms of both error estimates, relative to the tolerance, to rows FIFTH and THIRD of `clock`.

    The norms are not divided by the number of states. Row FLAW becomes zero where the new state is finite.
    """
    width, states = y.shape[0], y.shape[0] // LANES
    for row in range(FIFTH, FLAW + 1):
        for lane in range(LANES):
            clock[row * LANES + lane] = 0.0
    for i in range(states):
        for estimate in range(2):
            for lane in range(LANES):
                clock[SUM * LANES + lane] = 0.0
            for r in range(STAGES + 1):
                coefficient = ERRORS[estimate, r]
                if coefficient != 0.0:
                    for lane in range(LANES):
                        clock[SUM * LANES + lane] += coefficient * K[r * width + i * LANES + lane]
            for lane in range(LANES):
                n = i * LANES + lane
                error = clock[SUM * LANES + lane] / (atol + rtol * max(abs(y[n]), abs(trial[n])))
                clock[(FIFTH + estimate) * LANES + lane] += error * error
        for lane in range(LANES):
            clock[FLAW * LANES + lane] += 0.0 * trial[i * LANES + lane]


@device
def attempt(path: Path, group: Group) -> None:
    """Try one step of every lane, from y into `trial`.

    Row FIFTH receives the step's error relative to the tolerance, row FACTOR the ratio of the next step to this one,
    and row ACCEPTED one where the error is small enough.
    """
    # Numba counts references at every access to an array of a tuple, so the loop over the stages takes local names.
    times, p, tables, layout, ranges, control = path.times, path.p, path.tables, path.layout, path.ranges, path.control
    y, trial, K, clock, place, betas = group.y, group.trial, group.K, group.clock, group.place, group.betas
    means, scratch, flag, system = group.means, group.scratch, group.flag, group.system
    width, states = y.shape[0], y.shape[0] // LANES
    fixed = control.fixed_steps
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
        find_betas(FRACTIONS[s], system, p, clock, betas)
        rates(system, betas, trial, p, tables, layout, ranges, K[s * width : (s + 1) * width], means, scratch, flag)
    find_errors(y, trial, K, control.rtol, control.atol, clock)
    for lane in range(LANES):
        fifth = clock[FIFTH * LANES + lane]
        norm = (fifth + 0.01 * clock[THIRD * LANES + lane]) * real(states)
        error = clock[NOW * LANES + lane] * fifth / math.sqrt(norm if norm > 0.0 else 1.0)
        finite = clock[FLAW * LANES + lane] == 0.0 and error < 1.0e30
        error = error if finite else 1.0e10
        clock[FLAW * LANES + lane] = 0.0 if finite else 1.0
        clock[FIFTH * LANES + lane] = error
        clock[FACTOR * LANES + lane] = 0.9 / math.sqrt(math.sqrt(math.sqrt(max(error, 1.0e-30))))
        clock[ACCEPTED * LANES + lane] = 1.0 if error < 1.0 or (fixed > 0.0 and finite) else 0.0


@device
def move_on(path: Path, group: Group, out: np.ndarray) -> None:
    """Take the steps whose error is small enough, and choose the next steps.

    The status of a lane says how its trajectory has ended, or RUNNING.
    """
    times, traps = path.times, path.traps
    y, trial, K, clock, place, betas = group.y, group.trial, group.K, group.clock, group.place, group.betas
    fixed, most = path.control.fixed_steps, path.control.most_steps
    width, states = y.shape[0], y.shape[0] // LANES
    for i in range(states):
        for lane in range(LANES):
            n = i * LANES + lane
            accepted = clock[ACCEPTED * LANES + lane] == 1.0
            y[n] = trial[n] if accepted else y[n]
            K[n] = K[STAGES * width + n] if accepted else K[n]
    find_outside(path, group)
    if traps.shape[0] > 0:
        find_betas(1.0, group.system, path.p, clock, betas)
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
                # The first step is a guess and may grow by more; a step after a rejection does not grow.
                limit = 10.0 if attempts > 1.0 else 100.0
                limit = limit if place[GROWN * LANES + lane] == 1 else 1.0
                place[GROWN * LANES + lane] = 1
                h = now * min(limit, factor)
                # A step that was cut short to land on a target is no reason to shorten the next one.
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
def fill(lane: int, n: int, initial: np.ndarray, path: Path, group: Group) -> int:
    """Start trajectory n of `initial` (N, states) in a lane and return 1; let the lane idle and return 0 if n ≥ N."""
    y, clock, place = group.y, group.clock, group.place
    if n < initial.shape[0]:
        for i in range(initial.shape[1]):
            y[i * LANES + lane] = initial[n, i]
        begin(lane, n, path.times[0], clock, place)
        return 1
    begin(lane, NOBODY, path.times[0], clock, place)
    return 0


@device
def integrate_some(
    first: int,
    stride: int,
    initial: np.ndarray,
    path: Path,
    group: Group,
    out: np.ndarray,
    reached: np.ndarray,
    status: np.ndarray,
) -> None:
    """Integrate the trajectories first, first + stride, first + 2 stride, … of `initial` (N, states).

    out: (N, n_out, states) the states at the outputs. A trajectory stops in a trap, and its state there fills the rest
    of its rows; where a trajectory fails or is HALTED, its last row is the state there. reached: (N, 3) the number of
    attempted steps, the time reached and, where HALTED, the next step. status: (N,) how each trajectory ended. When
    another thread sets the flag, the trajectories that have begun and not ended become HALTED.
    """
    y, clock, place = group.y, group.clock, group.place
    states = initial.shape[1]
    following = first
    running = 0
    for lane in range(LANES):
        for i in range(states):
            y[i * LANES + lane] = initial[0, i]
        running += fill(lane, following, initial, path, group)
        following += stride
    while running > 0:
        underway = all_set_out(path, group, out)
        if underway:
            attempt(path, group)
        if halted(group.flag):  # before taking a step, whose rates may be incomplete
            break
        if underway:
            move_on(path, group, out)
        for lane in range(LANES):
            ended = place[STATUS * LANES + lane]
            if ended != RUNNING and place[TRAJECTORY * LANES + lane] != NOBODY:
                n = place[TRAJECTORY * LANES + lane]
                status[n] = ended
                reached[n, STEPS_REACHED] = clock[ATTEMPTS * LANES + lane]
                reached[n, TIME_REACHED] = clock[TIME * LANES + lane]
                row = place[ROW * LANES + lane]
                for rest in range(row if ended == DONE else out.shape[1] - 1, out.shape[1]):
                    for i in range(states):
                        out[n, rest, i] = y[i * LANES + lane]
                running += fill(lane, following, initial, path, group) - 1
                following += stride
    for lane in range(LANES):
        n = place[TRAJECTORY * LANES + lane]
        if n != NOBODY:
            status[n] = HALTED
            reached[n, STEPS_REACHED] = clock[ATTEMPTS * LANES + lane]
            reached[n, TIME_REACHED] = clock[TIME * LANES + lane]
            reached[n, STEP_REACHED] = clock[STEP * LANES + lane]
            for i in range(states):
                out[n, out.shape[1] - 1, i] = y[i * LANES + lane]
