"""The text of Clenshaw's recurrence, by which a system's averages are read from their Chebyshev tables, lane by lane.

`codegen` copies this text beside the averages. No kernel runs the function from this module.
"""

from typing import Any

import numpy as np

LANES: Any = None
"""A stand-in: every generated module defines this name itself."""


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
UNROLLED = 8


@device
def clenshaw(
    tables: np.ndarray,
    start: int,
    count: int,
    low: float,
    high: float,
    x: np.ndarray,
    mean: np.ndarray,
    work: np.ndarray,
) -> None:
    """Write Σ c_n T_n at x (LANES,) into mean (LANES,) by Clenshaw's recurrence. work: three rows of lanes.

    The loop takes UNROLLED coefficients at a time and keeps the sums in registers, so count − 1 must be a multiple of
    UNROLLED.
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
