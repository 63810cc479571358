"""A counter-based stream of standard normals: Philox4x32-10 words, turned into normals by Box and Muller's transform.

A draw is a pure function of (seed, replica, step, component, particle, coordinate). Therefore the particle simulation
gives the same numbers for every number of threads, and to rounding on every device. Philox is by Salmon, Moraes, Dror
and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).

In single and in double precision each pair of normals uses 64 random bits, 32 for the radius and 32 for the angle. The
radius takes 2^32 values. The largest is sqrt(64 log 2) = 6.66, which cuts off a probability of 2.7e-11 per normal. In
single precision the squared radius also has an absolute resolution of 1.2e-7.

The functions compile for the CPU and for CUDA. The logarithm, sine and cosine are short series without branches or
library calls, so that LLVM can draw a vector register full of normals at once, and so that devices agree to rounding.
The functions hold each 32-bit word in a uint64: products stay exact, and neither Numba nor NumPy promotes the word to a
float.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

WORD = np.uint64(0xFFFFFFFF)
WORD_BITS = np.uint64(32)
MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)

COMPONENT_BITS = np.uint64(8)
MAX_COMPONENTS = 2**8
MAX_REPLICAS = 2**24
MAX_STEPS = 2**32
MAX_PARTICLES = 2**32 - 2
INITIAL_STATE, ORTHOGONAL_NOISE = 2**32 - 1, 2**32 - 2
"""Particle numbers that no particle has. The draws of initial states, and of the noise outside the centres' span, have
these numbers instead."""

LANES = 32
"""How many particles the CPU draws at once. So many particles fill several vector registers, so that instructions wait
less for each other's results."""
LOG_2, QUARTER_TURN = math.log(2), math.pi / 2
SQRT_HALF_BITS = {32: 0x3F3504F3, 64: 0x3FE6A09E667F3BCD}
"""The bits of √½ as a floating-point number of 32 and of 64 bits."""
ARCTANH_SERIES = {32: tuple(1 / n for n in range(9, 0, -2)), 64: tuple(1 / n for n in range(19, 0, -2))}
SIN_SERIES = {
    bits: tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(last, -1, -1)) for bits, last in ((32, 4), (64, 7))
}
COS_SERIES = {
    bits: tuple((-1) ** n / math.factorial(2 * n) for n in range(last, -1, -1)) for bits, last in ((32, 5), (64, 8))
}
"""Coefficients, the highest power's first. On the range of arguments that occurs, each series is cut where the rest is
below 5e-9 of the sum in single precision, and below 1e-17 of it in double precision."""
LOG_32, LOG_64, SIN_32, SIN_64, COS_32, COS_64 = (
    series[bits] for series in (ARCTANH_SERIES, SIN_SERIES, COS_SERIES) for bits in (32, 64)
)
HALF_32, HALF_64 = SQRT_HALF_BITS[32], SQRT_HALF_BITS[64]

compiled = njit(forceinline=True, error_model="numpy", fastmath={"contract", "reassoc"})
"""The decorator of functions that are inlined, do not test for division by zero, and may fuse and regroup sums. LLVM
needs all of this to vectorise the callers' loops."""


@compiled
def philox4x32(
    counter_0: np.uint64,
    counter_1: np.uint64,
    counter_2: np.uint64,
    counter_3: np.uint64,
    key_0: np.uint64,
    key_1: np.uint64,
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """The four words of the Philox4x32-10 block with the given counter of 128 bits and key of 64 bits.

    Arguments and results are 32-bit words in uint64.
    """
    for _ in range(10):
        product_0 = counter_0 * MULTIPLIER_0
        product_1 = counter_2 * MULTIPLIER_1
        counter_0 = (product_1 >> WORD_BITS) ^ counter_1 ^ key_0
        counter_2 = (product_0 >> WORD_BITS) ^ counter_3 ^ key_1
        counter_1 = product_1 & WORD
        counter_3 = product_0 & WORD
        key_0 = (key_0 + WEYL_0) & WORD
        key_1 = (key_1 + WEYL_1) & WORD
    return counter_0, counter_1, counter_2, counter_3


@compiled
def polynomial(coefficients: tuple[float, ...], x: Any, real: Any) -> Any:
    """The value at x of a polynomial, the highest power's coefficient first, in the precision `real`."""
    value = real(coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + real(coefficient)
    return value


@compiled
def is_single(real: Any) -> bool:
    """Whether `real` is float32.

    The compiler knows the answer when it compiles a caller, and drops the branch that is not needed.
    """
    return real(1e-12) + real(1) == real(1)


@compiled
def log_of_unit(u: Any, real: Any) -> Any:
    """log(u) for 2^-32 <= u <= 1.

    The bits of u give k and m with u = 2^k m and m between √½ and √2; then log m = 2 artanh((m − 1)/(m + 1)).
    """
    if is_single(real):
        bits = np.float32(u).view(np.int32)
        k = np.int32((bits - HALF_32) >> 23)
        m = real(np.int32(bits - (k << 23)).view(np.float32))
    else:
        long_bits = np.float64(u).view(np.int64)
        long_k = (long_bits - HALF_64) >> 52
        m = real(np.int64(long_bits - (long_k << 52)).view(np.float64))
        k = np.int32(long_k)
    s = (m - real(1)) / (m + real(1))
    series = polynomial(LOG_32, s * s, real) if is_single(real) else polynomial(LOG_64, s * s, real)
    return real(2) * s * series + real(k) * real(LOG_2)


@compiled
def normal_pair(radius_word: np.uint64, angle_word: np.uint64, real: Any) -> tuple[Any, Any]:
    """Two independent standard normals from two random words.

    The two highest bits of the angle word choose one of four arcs of a quarter turn, the other bits the place in it.
    """
    u = (real(radius_word) + real(1)) * real(2.0**-32)
    radius = real(math.sqrt(real(-2) * log_of_unit(u, real)))
    angle = (real(angle_word & np.uint64(0x3FFFFFFF)) * real(2.0**-30) - real(0.5 - 2.0**-31)) * real(QUARTER_TURN)
    squared = angle * angle
    if is_single(real):
        cosine, sine = polynomial(COS_32, squared, real), angle * polynomial(SIN_32, squared, real)
    else:
        cosine, sine = polynomial(COS_64, squared, real), angle * polynomial(SIN_64, squared, real)
    along, across = radius * cosine, radius * sine
    if angle_word & np.uint64(0x80000000):
        along = -along
    if angle_word & np.uint64(0x40000000):
        return across, along
    return along, across


@compiled
def four_normals(
    seed: np.uint64, replica: int, step: int, component: int, particle: int, block: int, real: Any
) -> tuple[Any, Any, Any, Any]:
    """The standard normals of coordinates 4 block .. 4 block + 3, in the precision `real`.

    seed: uint64; the others: any non-negative integers below this module's limits.
    """
    chain = (np.uint64(replica) << COMPONENT_BITS) | np.uint64(component)
    word_0, word_1, word_2, word_3 = philox4x32(
        np.uint64(block) & WORD,
        np.uint64(particle) & WORD,
        np.uint64(step) & WORD,
        chain & WORD,
        np.uint64(seed) & WORD,
        np.uint64(seed) >> WORD_BITS,
    )
    first, second = normal_pair(word_0, word_1, real)
    third, fourth = normal_pair(word_2, word_3, real)
    return first, second, third, fourth


@compiled
def draw_block(
    normals: np.ndarray,
    words: np.ndarray,
    seed: np.uint64,
    replica: int,
    step: int,
    component: int,
    first_particle: int,
    block: int,
) -> None:
    """Draws coordinates 4 block .. 4 block + 3 of the particles first_particle .. first_particle + LANES − 1.

    The function writes the normals to the rows 4 block .. 4 block + 3 of `normals`, (4 blocks, LANES) of float32 or
    float64. words: work space, (4, LANES) of uint32. The work space separates the integers of Philox, which are twice
    as wide as numbers of single precision, from the normals; a loop over both would leave half of each vector register
    empty.
    """
    real = normals.dtype.type
    chain = (np.uint64(replica) << COMPONENT_BITS) | np.uint64(component)
    for lane in range(LANES):
        word_0, word_1, word_2, word_3 = philox4x32(
            np.uint64(block) & WORD,
            np.uint64(first_particle + lane) & WORD,
            np.uint64(step) & WORD,
            chain & WORD,
            np.uint64(seed) & WORD,
            np.uint64(seed) >> WORD_BITS,
        )
        words[0, lane] = word_0
        words[1, lane] = word_1
        words[2, lane] = word_2
        words[3, lane] = word_3
    for half in range(2):
        radius_words, angle_words = words[2 * half], words[2 * half + 1]
        first_row, second_row = normals[4 * block + 2 * half], normals[4 * block + 2 * half + 1]
        for lane in range(LANES):
            first, second = normal_pair(radius_words[lane], angle_words[lane], real)
            first_row[lane] = first
            second_row[lane] = second


@compiled
def fill_normals(out: np.ndarray, seed: np.uint64, replica: int, step: int, component: int, particle: int) -> None:
    """Fills `out`, (4 blocks,) of float32 or float64, with the normals of one particle in the precision of `out`."""
    for block in range(out.size // 4):
        first, second, third, fourth = four_normals(seed, replica, step, component, particle, block, out.dtype.type)
        out[4 * block] = first
        out[4 * block + 1] = second
        out[4 * block + 2] = third
        out[4 * block + 3] = fourth


def blocks_of(dimension: int) -> int:
    """How many blocks of four normals cover `dimension` coordinates."""
    return (dimension + 3) // 4
