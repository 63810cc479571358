"""The text of the shooting: where on a segment of initial states the outcome of the flow changes, by bisection.

`codegen` copies these functions into every generated module, after `integrate_one`. Nothing here runs from this module.
"""

from typing import Any

integrate_one: Any = None
"""The generated module defines it, and `device`, its own way; here it only stands for a name."""


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
@device
def outcome(y):
    """1, 2, 4 or 8 by the signs (− −), (+ −), (− +) or (+ +) of the first two states."""
    return 1 << ((1 if y[0] > 0.0 else 0) + (2 if y[1] > 0.0 else 0))


@device
def bisect_one(
    low, high, inside, width, bracket, start, times, ends, kept, p, tables, layout, ranges,
    A, B, C, E3, E5, limits, traps, control, work, scratch, out, failure,
):  # fmt: skip
    """From which place in [0, 1], between the initial states low (0) and high (1), the outcome is no longer `inside`; into bracket (2,).

    inside: the sum of the outcomes meant. width: of the bracket at the end, relative to its place. bracket: at the start where the change
    is expected, which is checked and widened; at the end the last place known to be inside and the first known not to be; (1, 1) where
    all is inside, (0, 0) where nothing is. Returns the number of trajectories, or minus it where the last one failed.
    """
    first, second = bracket[0], bracket[1]
    inner = -1.0
    outer = 2.0
    runs = 0
    while True:
        if inner < 0.0 and outer > 1.0:
            place = first
        elif inner < 0.0:
            if outer == 0.0:
                inner = 0.0
                break
            place = 0.5 * outer if outer > 0.02 else 0.0
        elif outer > 1.0:
            if inner == 1.0:
                outer = 1.0
                break
            place = second if inner < second else min(1.0, 2.0 * inner)
        elif outer - inner <= width * outer:
            break
        else:
            place = 0.5 * (inner + outer)
        for i in range(low.shape[0]):
            start[i] = low[i] + place * (high[i] - low[i])
        status = integrate_one(
            start, times, ends, kept, p, tables, layout, ranges, A, B, C, E3, E5, limits, traps, control, work, scratch, out, failure
        )
        runs += 1
        if status != 0:
            return -runs
        if outcome(out[0]) & inside != 0:
            inner = place
        else:
            outer = place
    bracket[0] = inner
    bracket[1] = outer
    return runs
