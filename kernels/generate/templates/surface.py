"""The text that reads a group's moments from its table, a series in at most three coordinates, lane by lane.

`codegen` copies this text beside the averages. No kernel runs the functions from this module. The tables are those of
`kernels.averages.surfaces`: along each of three axes the values φ_r = Σ_n U_rn T_n of a few functions of a coordinate,
and for each moment the coefficients of Σ c_abc φ_a φ_b φ_c. Where there are fewer coordinates, the first axes have the
function one.
"""

import math
from typing import Any

import numpy as np

LANES: Any = None
int64: Any = None
"""Stand-ins: every generated module defines these names itself."""

MOST_TERMS = {1: 256, 2: 128, 3: 64}
"""The most polynomials T_n along an axis, by the number of coordinates."""
MOST_FUNCTIONS = 40
"""The most functions along an axis."""


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
PIECE = 8


@device
def summed(tables: np.ndarray, place: int, pieces: int, work: np.ndarray, first: int) -> None:
    """Sum coefficients, in pieces of PIECE from a place of the tables on, times rows of lanes of `work`.

    From row `first` on there are blocks of a row for a sum and PIECE rows of factors. The sum goes from block to block
    and ends in the row behind the last one. No block overlaps with itself and a block has many operations, so that the
    compiler makes vector instructions of the loop over lanes.
    """
    for lane in range(LANES):
        work[first * LANES + lane] = 0.0
    for k in range(pieces):
        n = place + k * PIECE
        c_0, c_1, c_2, c_3 = tables[n], tables[n + 1], tables[n + 2], tables[n + 3]
        c_4, c_5, c_6, c_7 = tables[n + 4], tables[n + 5], tables[n + 6], tables[n + 7]
        block = work[(first + k * (PIECE + 1)) * LANES : (first + (k + 2) * (PIECE + 1)) * LANES]
        for lane in range(LANES):
            low = block[lane] + c_0 * block[LANES + lane]
            high = c_4 * block[5 * LANES + lane]
            low = low + c_1 * block[2 * LANES + lane]
            high = high + c_5 * block[6 * LANES + lane]
            low = low + c_2 * block[3 * LANES + lane]
            high = high + c_6 * block[7 * LANES + lane]
            low = low + c_3 * block[4 * LANES + lane]
            high = high + c_7 * block[8 * LANES + lane]
            block[9 * LANES + lane] = low + high


@device
def surface(
    tables: np.ndarray, start: int, coordinates: int, moments: int, found: np.ndarray, work: np.ndarray
) -> None:
    """Write each moment of the table that begins at `start` into a row of lanes of `found`.

    work: rows of lanes, of which the first are the coordinates. The table holds the ends of each coordinate's interval;
    for each axis its numbers of functions and of pieces of PIECE polynomials, and the coefficients of each function;
    and for each moment the number of pieces of each row of coefficients, and the rows. Rounding and the steps of an
    integrator may take a coordinate out of its interval by half a hundredth of its length; further outside the moments
    are not numbers.
    """
    for k in range(coordinates):
        low, high = tables[start + 2 * k], tables[start + 2 * k + 1]
        scale = 2.0 / (high - low)
        for lane in range(LANES):
            u = (work[k * LANES + lane] - low) * scale - 1.0
            work[k * LANES + lane] = u if abs(u) <= 1.01 else math.nan
    place = start + 2 * coordinates
    n_0, n_1, n_2 = int64(tables[place]), int64(tables[place + 2]), int64(tables[place + 4])
    of_0 = 4
    of_1 = of_0 + n_0
    of_2 = of_1 + n_1
    polynomials = of_2 + (n_2 + PIECE - 1) // PIECE * (PIECE + 1) + 1
    following = place + 6
    for axis in range(3):
        functions, pieces = int64(tables[place + 2 * axis]), int64(tables[place + 2 * axis + 1])
        argument = axis - 3 + coordinates
        for lane in range(LANES):
            u = work[max(argument, 0) * LANES + lane]
            last, current = u, 1.0
            for n in range(pieces * PIECE):
                work[(polynomials + n // PIECE * (PIECE + 1) + n % PIECE + 1) * LANES + lane] = current
                last, current = current, 2.0 * u * current - last
        for n in range(functions):
            summed(tables, following, pieces, work, polynomials)
            following += pieces * PIECE
            row = of_0 + n
            if axis == 1:
                row = of_1 + n
            if axis == 2:
                row = of_2 + n // PIECE * (PIECE + 1) + n % PIECE + 1
            for lane in range(LANES):
                work[row * LANES + lane] = work[(polynomials + pieces * (PIECE + 1)) * LANES + lane]
    for n in range(n_2, (n_2 + PIECE - 1) // PIECE * PIECE):
        for lane in range(LANES):
            work[(of_2 + n // PIECE * (PIECE + 1) + n % PIECE + 1) * LANES + lane] = 0.0
    plane = work[3 * LANES : 4 * LANES]
    for m in range(moments):
        lengths = following
        following += n_0 * n_1
        mean = found[m * LANES : (m + 1) * LANES]
        for lane in range(LANES):
            mean[lane] = 0.0
        for i in range(n_0):
            for lane in range(LANES):
                plane[lane] = 0.0
            for j in range(n_1):
                pieces = int64(tables[lengths + i * n_1 + j])
                if pieces > 0:
                    summed(tables, following, pieces, work, of_2)
                    following += pieces * PIECE
                    total = work[(of_2 + pieces * (PIECE + 1)) * LANES : (of_2 + pieces * (PIECE + 1) + 1) * LANES]
                    factor = work[(of_1 + j) * LANES : (of_1 + j + 1) * LANES]
                    for lane in range(LANES):
                        plane[lane] += total[lane] * factor[lane]
            factor = work[(of_0 + i) * LANES : (of_0 + i + 1) * LANES]
            for lane in range(LANES):
                mean[lane] += plane[lane] * factor[lane]
