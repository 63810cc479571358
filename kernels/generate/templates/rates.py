"""The text that evaluates the right-hand side at given states, LANES at a time, for the generated modules. Nothing here
runs from it."""

from typing import Any

rates: Any = None
halted: Any = None
STATES: Any = None
LANES: Any = None
"""The generated module defines them; here they only stand for names."""


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
@device
def rates_some(first, stride, all_betas, states, p, tables, layout, ranges, dy, counts, arrays, flag):
    """The rates at LANES states, then at those `stride` such groups further, …; into dy (N, states). counts: (N,) of
    visited nodes."""
    y, slopes, betas, means, scratch = arrays[0], arrays[1], arrays[2], arrays[3], arrays[4]
    total = states.shape[0]
    for group in range(first, (total + LANES - 1) // LANES, stride):
        for lane in range(LANES):
            n = min(group * LANES + lane, total - 1)
            betas[lane] = all_betas[n]
            for i in range(STATES):
                y[i * LANES + lane] = states[n, i]
        scratch[0] = 0.0
        rates(betas, y, p, tables, layout, ranges, slopes, means, scratch, flag)
        for lane in range(LANES):
            n = group * LANES + lane
            if n < total:
                counts[n] = scratch[0]
                for i in range(STATES):
                    dy[n, i] = slopes[i * LANES + lane]
        if halted(flag):
            return
