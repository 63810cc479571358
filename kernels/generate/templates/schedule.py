"""The text of the search in a schedule's points, which `codegen` copies into every generated module; see `integrator`
beside it."""

from typing import Any


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
@device
def interpolated(t, p, times, levels, count):
    """The value at t, linear between the points (p[times + n], p[levels + n]), n < count; see
    `derive.problem.interpolation.Interpolated`.
    """
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        if p[times + middle] <= t:
            low = middle
        else:
            high = middle
    if high == count:
        return p[levels + low]
    fraction = (t - p[times + low]) / (p[times + high] - p[times + low])
    return p[levels + low] + (p[levels + high] - p[levels + low]) * fraction
