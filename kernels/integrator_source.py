"""The text of the adaptive Runge–Kutta integrator, one trajectory at a time.

`codegen` copies these functions into every generated module, after the system's own `rates` and `gram`, so that one file holds all
that Numba compiles, on the CPU and on CUDA. They are plain Python: scalars, loops and preallocated arrays only. Nothing here runs
from this module. For single precision `codegen` casts every float literal; `real` casts the integers that meet a float.
"""

import math
from typing import Any

rates: Any = None
gram: Any = None
beta_at: Any = None
real: Any = None
"""The generated module defines these four, and `device`, its own way; here they only stand for names."""


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
DONE, TOO_MANY_STEPS, NOT_FINITE, OUTSIDE_GRAM, OUTSIDE_BOUNDS, STEP_TOO_SMALL = 0, 1, 2, 3, 4, 5


@device
def clenshaw(tables, start, count, low, high, x):
    """Σ c_n T_n at x, by Clenshaw's recurrence."""
    u = (2.0 * x - low - high) / (high - low)
    later = 0.0
    last = 0.0
    for n in range(count - 1, 0, -1):
        now = tables[start + n] + 2.0 * u * last - later
        later = last
        last = now
    return tables[start] + u * last - later


@device
def outside_domain(y, p, limits, tolerance, matrix):
    """DONE inside; OUTSIDE_BOUNDS where a state leaves its interval; OUTSIDE_GRAM where gram + tolerance · trace · I has no Cholesky
    factor."""
    states = limits.shape[0]
    for i in range(states):
        slack = tolerance * max(1.0, abs(limits[i, 1]))
        if y[i] < limits[i, 0] - slack or y[i] > limits[i, 1] + slack:
            return OUTSIDE_BOUNDS
    size = gram(y, p, matrix)
    trace = 0.0
    for i in range(size):
        trace += matrix[i * size + i]
    for i in range(size):
        matrix[i * size + i] += tolerance * trace
    for i in range(size):
        for j in range(i + 1):
            value = matrix[i * size + j]
            for k in range(j):
                value -= matrix[i * size + k] * matrix[j * size + k]
            if i == j:
                if not value > 0.0:
                    return OUTSIDE_GRAM
                matrix[i * size + i] = math.sqrt(value)
            else:
                matrix[i * size + j] = value / matrix[j * size + j]
    return DONE


@device
def is_trapped(beta, y, traps):
    """Whether the first two states lie in a set that the flow is known not to leave, see `integrate_one`."""
    for n in range(traps.shape[0]):
        first = traps[n, 0] * y[0]
        second = traps[n, 1] * y[1]
        least = first + second if traps[n, 4] == 1.0 else min(first, second)
        if least >= traps[n, 2] and beta >= traps[n, 3]:
            return True
    return False


@device
def integrate_one(
    initial, times, ends, kept, p, tables, layout, ranges, A, B, C, E3, E5, limits, traps, control, work, scratch, out, failure
):
    """Advance one trajectory through `times`, writing the kept ones to out (n_out, states); returns its status.

    times: (n,) targets, outputs and breakpoints. ends: (n,) the latest time at which a stage may look at beta before each target
    (one rounding below a breakpoint, so that a jump is met from the left). kept: (n,) 1 for outputs.
    traps: (n, 5), each row (sign_1, sign_2, level, least beta, together) a set that no trajectory leaves once beta has reached its least
    value: {sign_i y[i] >= level, i = 1, 2}, or of their sum where together is 1. In one of them the trajectory stops: what remains of
    `out` is its state there, and failure[1] the time.
    control: rtol, atol, fixed steps per interval (0: adaptive), most steps, domain tolerance. work: (size,) the integrator's scratch.
    scratch: (size,) that of `rates`. failure: (2,) receives the number of steps and the time reached; work[:states] then holds the
    state there.
    """
    states = initial.shape[0]
    stages = B.shape[0]
    rtol, atol, fixed, most, domain_tolerance = control[0], control[1], control[2], control[3], control[4]
    y = work[0:states]
    trial = work[states : 2 * states]
    K = work[2 * states : (stages + 3) * states]
    matrix = work[(stages + 3) * states :]
    for i in range(states):
        y[i] = initial[i]
    t = times[0]
    steps = 0.0
    row = 0
    status = outside_domain(y, p, limits, domain_tolerance, matrix)
    if status != DONE:
        failure[1] = t
        return status
    if kept[0] == 1:
        for i in range(states):
            out[row, i] = y[i]
        row += 1
    h = 0.0
    for target in range(1, times.shape[0]):
        end = times[target]
        latest = ends[target]
        span = end - t
        rates(beta_at(min(t, latest), p), y, p, tables, layout, ranges, K[0:states], scratch)
        if fixed > 0.0:
            h = span / fixed
        elif h == 0.0:
            slope = 0.0
            for i in range(states):
                slope = max(slope, abs(K[i]) / (atol + rtol * abs(y[i])))
            h = span if slope == 0.0 else min(span, 1.0 / slope**0.125 / 100.0)
        done_steps = 0.0
        grown = True
        while t < end:
            last = done_steps == fixed - 1.0 if fixed > 0.0 else t + 1.0000001 * h >= end
            now = end - t if last else h
            for s in range(1, stages):
                for i in range(states):
                    move = 0.0
                    for r in range(s):
                        move += A[s, r] * K[r * states + i]
                    trial[i] = y[i] + now * move
                rates(beta_at(min(t + C[s] * now, latest), p), trial, p, tables, layout, ranges, K[s * states : (s + 1) * states], scratch)
            for i in range(states):
                move = 0.0
                for r in range(stages):
                    move += B[r] * K[r * states + i]
                trial[i] = y[i] + now * move
            rates(beta_at(min(t + now, latest), p), trial, p, tables, layout, ranges, K[stages * states : (stages + 1) * states], scratch)
            steps += 1.0
            failure[0] = steps
            failure[1] = t
            fifth = 0.0
            third = 0.0
            finite = True
            for i in range(states):
                e5 = 0.0
                e3 = 0.0
                for r in range(stages + 1):
                    e5 += E5[r] * K[r * states + i]
                    e3 += E3[r] * K[r * states + i]
                scale = atol + rtol * max(abs(y[i]), abs(trial[i]))
                fifth += (e5 / scale) * (e5 / scale)
                third += (e3 / scale) * (e3 / scale)
                finite = finite and math.isfinite(trial[i])
            if not finite and fixed > 0.0:
                return NOT_FINITE
            denominator = fifth + 0.01 * third
            error = 0.0 if denominator == 0.0 else now * fifth / math.sqrt(denominator * real(states))
            if not math.isfinite(error) or not finite:
                error = 1.0e10
            if fixed > 0.0 or error < 1.0:
                t = end if last else t + now
                done_steps += 1.0
                for i in range(states):
                    y[i] = trial[i]
                    K[i] = K[stages * states + i]
                status = outside_domain(y, p, limits, domain_tolerance, matrix)
                if status != DONE:
                    failure[1] = t
                    return status
                if traps.shape[0] > 0 and is_trapped(beta_at(min(t, latest), p), y, traps):
                    for rest in range(row, out.shape[0]):
                        for i in range(states):
                            out[rest, i] = y[i]
                    failure[1] = t
                    return DONE
                if fixed == 0.0:
                    factor = 10.0 if error == 0.0 else min(10.0, 0.9 / error**0.125)
                    if not grown:
                        factor = min(1.0, factor)
                    grown = True
                    # A step cut short to land on a target says nothing against the longer one before it.
                    h = max(h, now * factor) if last else now * factor
            else:
                h = now * max(0.2, 0.9 / error**0.125)
                grown = False
                if t + 0.1 * h == t:
                    return STEP_TOO_SMALL if finite else NOT_FINITE
            if steps >= most:
                return TOO_MANY_STEPS
        if kept[target] == 1:
            for i in range(states):
                out[row, i] = y[i]
            row += 1
    failure[1] = t
    return DONE
