"""Elementary functions without branches or calls, which LLVM turns into vector instructions where a library's own would stay scalar.

For double precision on the CPU. On CUDA, and in single precision, kernels call the library's functions.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

LOG_2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
"""The leading 33 bits of log 2: its product with an exponent of at most 11 bits is exact."""
LOG_2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
PER_LOG_2 = 1 / math.log(2)
LOWEST, HIGHEST = -708.0, 709.0
"""Between these an exponential is a normal number; below the lowest it stays what it is there, 3e-308."""
INTEGER_BITS = 6755399441055744.0  # 1.5 · 2^52: a double of this size has an integer in its lowest bits
SERIES = tuple(1 / math.factorial(n) for n in range(13, -1, -1))
"""exp on |x| <= log(2)/2, highest power first; the rest is below 1e-17."""

inlined = njit(forceinline=True, error_model="numpy", fastmath={"contract"})


@inlined
def exp(x):
    """exp(x) to 2 units in the last place, for float64; infinite above HIGHEST."""
    bounded = min(max(x, LOWEST), HIGHEST)
    halvings = math.floor(bounded * PER_LOG_2 + 0.5)
    rest = bounded - halvings * LOG_2_HIGH - halvings * LOG_2_LOW
    series = SERIES[0]
    for coefficient in SERIES[1:]:
        series = series * rest + coefficient
    exponent = np.float64(halvings + INTEGER_BITS).view(np.int64) + 1023
    value = series * np.int64(exponent << 52).view(np.float64)
    return value if x <= HIGHEST else x * np.inf


@inlined
def tanh(x):
    """tanh(x) with an absolute error of 2e-16, for float64."""
    decay = exp(-2.0 * abs(x))
    size = (1.0 - decay) / (1.0 + decay)
    return -size if x < 0.0 else size
