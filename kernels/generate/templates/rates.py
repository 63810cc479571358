"""The text that evaluates the right-hand side at given states, and the schedule at given times, LANES at a time.

`codegen` copies this text after the integrator. No kernel runs the functions from this module.
"""

from typing import Any, NamedTuple

import numpy as np

rates: Any = None
set_betas: Any = None
halted: Any = None
LANES: Any = None
"""Stand-ins: every generated module defines these names itself."""


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
class RateArrays(NamedTuple):
    """The arrays that a group of lanes needs for its rates; see `Group`. slopes: the rates of the lanes."""

    y: Any
    slopes: Any
    betas: Any
    means: Any
    scratch: Any


@device
def rates_some(
    first: int,
    stride: int,
    system: Any,
    all_betas: np.ndarray,
    states: np.ndarray,
    p: np.ndarray,
    tables: np.ndarray,
    layout: np.ndarray,
    ranges: np.ndarray,
    dy: np.ndarray,
    counts: np.ndarray,
    arrays: RateArrays,
    flag: np.ndarray,
) -> None:
    """Write the rates at the states of the groups first, first + stride, … of LANES states each into dy (N, states).

    counts: (N,) receives how many nodes of averages over several variables each right-hand side visited.
    """
    y, slopes, betas, means, scratch = arrays.y, arrays.slopes, arrays.betas, arrays.means, arrays.scratch
    total, width = states.shape
    for group in range(first, (total + LANES - 1) // LANES, stride):
        for lane in range(LANES):
            n = min(group * LANES + lane, total - 1)
            betas[lane] = all_betas[n]
            for i in range(width):
                y[i * LANES + lane] = states[n, i]
        scratch[0] = 0.0
        rates(system, betas, y, p, tables, layout, ranges, slopes, means, scratch, flag)
        for lane in range(LANES):
            n = group * LANES + lane
            if n < total:
                counts[n] = scratch[0]
                for i in range(width):
                    dy[n, i] = slopes[i * LANES + lane]
        if halted(flag):
            return


@device
def betas_some(
    first: int, stride: int, system: Any, times: np.ndarray, p: np.ndarray, found: np.ndarray, betas: np.ndarray
) -> None:
    """Write beta at the times (N,) of the groups first, first + stride, … of LANES each into found (N,)."""
    total = times.shape[0]
    for group in range(first, (total + LANES - 1) // LANES, stride):
        for lane in range(LANES):
            betas[lane] = times[min(group * LANES + lane, total - 1)]
        set_betas(system, betas, p)
        for lane in range(LANES):
            n = group * LANES + lane
            if n < total:
                found[n] = betas[lane]
