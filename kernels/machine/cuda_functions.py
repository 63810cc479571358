"""Functions that are written once and compiled for the CPU, compiled for CUDA as well.

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
    """A compiled function, and all compiled functions that it calls, as device functions under CUDA's own, strict
    arithmetic.

    Numba would carry the CPU's options over, and on CUDA the leave to regroup sums brings approximate division and
    roots with it. The simulator runs the CPU's functions as they are.
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
    """A function that only CUDA kernels call, compiled into each place that calls it; the simulator has no inlining."""
    inlining = {} if numba.config.ENABLE_CUDASIM else {"forceinline": True}
    return cuda.jit(device=True, **inlining)(function)


@cuda.jit(device=True)
def halted(flag: np.ndarray) -> bool:
    """`kernels.machine.halting.halted`: an ordinary load, which is made anew after every write to memory, so in every
    step."""
    return flag[0] != 0
