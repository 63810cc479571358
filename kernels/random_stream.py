"""A counter-based stream of standard normals: Philox4x32-10 words, turned into normals by Box and Muller's transform.

A draw is a pure function of (seed, replica, step, component, particle, coordinate), so that the particle simulation gives the same
numbers for every number of threads and on every device. Philox is by Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy
as 1, 2, 3" (SC 2011).

Resolution, in single and in double precision alike: each pair of normals uses 64 random bits, 32 for the radius and 32 for the angle.
The radius takes 2^32 values, the largest sqrt(64 log 2) = 6.66, which cuts off a probability of 2.7e-11 per normal. In single
precision the squared radius also has an absolute resolution of 1.2e-7.

The functions compile for the CPU and for CUDA. The logarithm, sine and cosine are short series without branches or library calls,
because LLVM then draws 8 or 16 normals at once in one vector register; they also agree between devices to rounding. A 32-bit word is
held in a uint64: products stay exact, and neither Numba nor NumPy promotes it to a float.
"""

from __future__ import annotations

import math

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
"""Particle numbers that no particle has: the streams of initial states, and of what particles have in common outside the centres' span."""

LOG_2, SQRT_HALF, QUARTER_TURN = math.log(2), math.sqrt(0.5), math.pi / 2
ARCTANH_SERIES = tuple(1 / n for n in range(19, 0, -2))
SIN_SERIES = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(7, -1, -1))
COS_SERIES = tuple((-1) ** n / math.factorial(2 * n) for n in range(8, -1, -1))
"""Highest power first; each is cut where the rest is below 1e-17 of the sum on the range that the callers reach."""

compiled = njit(forceinline=True, error_model="numpy", fastmath={"contract", "reassoc"})
"""Inlined, without a test for division by zero, and free to fuse and regroup sums: what LLVM needs to vectorise the callers' loops."""


@compiled
def philox4x32(counter_0, counter_1, counter_2, counter_3, key_0, key_1):
    """The four words of the Philox4x32-10 block of a 128-bit counter and a 64-bit key, all as 32-bit words in uint64."""
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
def polynomial(coefficients, x, real):
    """Horner's rule, in the precision `real` (np.float32 or np.float64)."""
    value = real(coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + real(coefficient)
    return value


@compiled
def log_of_unit(u, real):
    """log(u) for 2^-32 <= u <= 1."""
    halvings = real(0)
    if u < real(2.0**-16):
        u *= real(2.0**16)
        halvings += real(16)
    if u < real(2.0**-8):
        u *= real(2.0**8)
        halvings += real(8)
    if u < real(2.0**-4):
        u *= real(2.0**4)
        halvings += real(4)
    if u < real(2.0**-2):
        u *= real(2.0**2)
        halvings += real(2)
    if u < real(2.0**-1):
        u *= real(2)
        halvings += real(1)
    if u < real(SQRT_HALF):
        u *= real(2)
        halvings += real(1)
    s = (u - real(1)) / (u + real(1))
    return real(2) * s * polynomial(ARCTANH_SERIES, s * s, real) - halvings * real(LOG_2)


@compiled
def normal_pair(radius_word, angle_word, real):
    """Two independent standard normals from two random words.

    The two highest bits of the angle word choose one of four arcs of a quarter turn, the others the place in it.
    """
    u = (real(radius_word) + real(1)) * real(2.0**-32)
    radius = real(math.sqrt(real(-2) * log_of_unit(u, real)))
    angle = (real(angle_word & np.uint64(0x3FFFFFFF)) * real(2.0**-30) - real(0.5 - 2.0**-31)) * real(QUARTER_TURN)
    squared = angle * angle
    along = radius * polynomial(COS_SERIES, squared, real)
    across = radius * angle * polynomial(SIN_SERIES, squared, real)
    if angle_word & np.uint64(0x80000000):
        along = -along
    if angle_word & np.uint64(0x40000000):
        return across, along
    return along, across


@compiled
def four_normals(seed, replica, step, component, particle, block, real):
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
def fill_normals(out, seed, replica, step, component, particle):
    """Fills `out`, (4 blocks,) of float32 or float64, with the normals of one particle; its precision is that of `out`."""
    for block in range(out.size // 4):
        first, second, third, fourth = four_normals(seed, replica, step, component, particle, block, out.dtype.type)
        out[4 * block] = first
        out[4 * block + 1] = second
        out[4 * block + 2] = third
        out[4 * block + 3] = fourth


def blocks_of(dimension: int) -> int:
    """How many blocks of four normals cover `dimension` coordinates."""
    return (dimension + 3) // 4
