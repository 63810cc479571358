"""Elementary functions without branches or calls, in double precision on the CPU.

LLVM turns loops over these functions into vector instructions, while a library's functions would stay scalar. On CUDA,
and in single precision, kernels call the library's functions.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

LOG_2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
"""The leading 33 bits of log 2. The product of this number and an exponent of at most 11 bits is exact."""
LOG_2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
PER_LOG_2 = 1 / math.log(2)
LOWEST, HIGHEST = -708.0, 709.0
"""Between these arguments `exp` is a normal number; below the lowest one it stays at its value there, 3e-308."""
INTEGER_BITS, INTEGER_PATTERN = 6755399441055744.0, 0x4338000000000000
"""1.5 · 2^52, and the bits of this number. A sum of it and an integer has the integer in the double's lowest bits."""
EXP_SERIES = tuple(1 / math.factorial(n) for n in range(13, -1, -1))
"""Coefficients of exp(x) for |x| <= log(2)/2, the highest power's first; the remainder is below 1e-17."""
ARTANH_SERIES = tuple(1 / n for n in range(21, 0, -2))
"""Coefficients of artanh(s)/s in powers of s² for |s| <= 0.172, the highest one's first; the rest is below 1e-17."""
SQRT_HALF_PATTERN = 0x3FE6A09E667F3BCD
SMALLEST_NORMAL = 2.0**-1022

inlined = njit(forceinline=True, error_model="numpy", fastmath={"contract"})


@inlined
def exp(x: float) -> float:
    """exp(x) to 2 units in the last place, for float64; infinite above HIGHEST."""
    bounded = min(max(x, LOWEST), HIGHEST)
    halvings = math.floor(bounded * PER_LOG_2 + 0.5)
    rest = bounded - halvings * LOG_2_HIGH - halvings * LOG_2_LOW
    series = EXP_SERIES[0]
    for coefficient in EXP_SERIES[1:]:
        series = series * rest + coefficient
    exponent = np.float64(halvings + INTEGER_BITS).view(np.int64) + 1023
    value = series * np.int64(exponent << 52).view(np.float64)
    return value if x <= HIGHEST else x * np.inf


@inlined
def tanh(x: float) -> float:
    """tanh(x) with an absolute error of 2e-16, for float64."""
    decay = exp(-2.0 * abs(x))
    size = (1.0 - decay) / (1.0 + decay)
    return -size if x < 0.0 else size


@inlined
def log(x: float) -> float:
    """log(x) to 2 units in the last place, for float64.

    The bits of x give k and m with x = 2^k m and m between √½ and √2; then log m = 2 artanh((m − 1)/(m + 1)).
    """
    shift = 54.0 if x < SMALLEST_NORMAL else 0.0
    bits = np.float64(x * 2.0**54 if x < SMALLEST_NORMAL else x).view(np.int64)
    k_bits = (bits - SQRT_HALF_PATTERN) >> 52
    m = np.int64(bits - (k_bits << 52)).view(np.float64)
    # INTEGER_BITS converts k to a double by its lowest bits, as in `exp`, because AVX2 has no instruction that converts
    # 64-bit integers.
    k = np.int64(k_bits + INTEGER_PATTERN).view(np.float64) - INTEGER_BITS - shift
    s = (m - 1.0) / (m + 1.0)
    square = s * s
    series = ARTANH_SERIES[0]
    for coefficient in ARTANH_SERIES[1:]:
        series = series * square + coefficient
    value = k * LOG_2_HIGH + (k * LOG_2_LOW + 2.0 * s * series)
    special = -np.inf if x == 0.0 else (x if x > 0.0 else np.nan)
    return value if 0.0 < x < np.inf else special
