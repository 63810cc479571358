"""Device functions of CUDA kernels: functions that the CPU's kernels share, and functions for CUDA alone.

Importing this module imports numba.cuda, which is slow to load and optional.
"""

from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import Any

import numba
import numpy as np
from numba import cuda
from numba.core.dispatcher import Dispatcher


@cache
def for_cuda(function: Any) -> Any:
    """The CUDA device function of a function compiled for the CPU; compiled functions that it calls are converted too.

    The device functions use CUDA's strict arithmetic. Numba would carry the CPU's options over; but on CUDA the
    permission to regroup sums also brings approximate division and roots. The simulator runs the CPU's functions.
    """
    if numba.config.ENABLE_CUDASIM:
        return function
    python = function.py_func
    known = dict(python.__globals__)
    known |= {
        name: for_cuda(known[name]) for name in python.__code__.co_names if isinstance(known.get(name), Dispatcher)
    }
    there = FunctionType(python.__code__, known, python.__name__, python.__defaults__, python.__closure__)
    return cuda.jit(device=True, forceinline=True)(there)


def device_function(function: Any) -> Any:
    """A device function that the compiler inlines wherever a kernel calls it; the simulator has no inlining."""
    inlining = {} if numba.config.ENABLE_CUDASIM else {"forceinline": True}
    return cuda.jit(device=True, **inlining)(function)


@cuda.jit(device=True)
def halted(flag: np.ndarray) -> bool:
    """The same as `kernels.machine.halting.halted`.

    An ordinary load suffices, because the device repeats it after every write to memory, and so in every step.
    """
    return flag[0] != 0
