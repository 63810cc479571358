"""The text of a schedule's linear interpolation between points, which `codegen` copies beside the schedule."""

from typing import Any

import numpy as np


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
@device
def interpolated(t: float, p: np.ndarray, times: int, levels: int, count: int) -> float:
    """The value at t of the function that is linear between the points (p[times + n], p[levels + n]), n < count.

    See `derive.problem.interpolation.Interpolated`.
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
