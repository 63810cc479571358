"""Where the states of a system may be: the tolerance of the domain, and the intervals that the tables cover."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import sympy as sp

from kernels.integrate.compiled import CompiledSystem

STRAY = 1e-9
"""How far beyond its interval, relative to the interval's length, an initial state may lie. Initial states come from
other computations, and the allowance covers the rounding of these."""
MOST_FOR_PARALLEL = 1e-3
"""The largest tolerance that nearly parallel vectors alone can bring; see `domain_tolerance`."""


def domain_tolerance(compiled: CompiledSystem, states: np.ndarray, rtol: float) -> float:
    """The default domain tolerance of an integration from the states (N, states).

    The tolerance is 1000 rtol, kept between 1e-9 and 1e-2. Where 10 rtol/ε is larger, with ε the smallest sin² of an
    angle whose overlap is a state, the tolerance is 10 rtol/ε, but at most MOST_FOR_PARALLEL. A local error rtol of an
    overlap is an error rtol/ε of the small squared distance ε between nearly parallel vectors. The flow drives such a
    pair apart and keeps the relative error, so that the Gram matrix ends wrong by about rtol/ε. Such an error puts a
    state outside the domain where the Gram matrix is singular, as all Gram matrices are in the plane. A loss of
    accuracy beyond MOST_FOR_PARALLEL must not go unnoticed; a smaller rtol avoids it.
    """
    gram, symbols = compiled.system.gram, compiled.system.states
    size = gram.shape[0]
    if size == 0:
        return _usual_tolerance(rtol)
    own = {s: x for s, x in compiled.known_values().items() if s in gram.free_symbols}
    entries = _numpy_function(tuple(gram), (*symbols, *own))(*states.T, *own.values())
    matrices = np.stack([np.broadcast_to(np.asarray(e, float), len(states)) for e in entries], -1).reshape(
        -1, size, size
    )
    squared = np.einsum("nii->ni", matrices)
    lengths = squared[:, :, None] * squared[:, None, :]
    moving = np.array([[i != j and gram[i, j].has(*symbols) for j in range(size)] for i in range(size)])
    pairs = moving & (lengths > 0)
    sines = 1 - matrices**2 / np.where(pairs, lengths, 1.0)
    closest = max(float(sines.min(where=pairs, initial=1.0)), 1e-300)
    return max(_usual_tolerance(rtol), min(MOST_FOR_PARALLEL, 10 * rtol / closest))


def widest_tolerance(rtol: float) -> float:
    """The largest value of `domain_tolerance`, for vectors however nearly parallel."""
    return max(_usual_tolerance(rtol), MOST_FOR_PARALLEL)


def first_stray(compiled: CompiledSystem, y: np.ndarray) -> str | None:
    """The first of the states y (N, states) that lies outside its interval, in words, or None."""
    strays = np.argwhere((excess(compiled, y) > STRAY) | ~np.isfinite(y))
    if len(strays) == 0:
        return None
    row, n = strays[0]
    name = compiled.system.states[n].name
    return f"states[{row}].{name} = {y[row, n]:.6g} is outside its interval {interval_text(compiled, n)}"


def excess(compiled: CompiledSystem, y: np.ndarray) -> np.ndarray:
    """How far each of the states y (N, states) lies beyond its interval, relative to the interval's length.

    The value is negative inside the interval.
    """
    low, high = compiled.limits.T
    return np.maximum(low - y, y - high) / (high - low)


def interval_text(compiled: CompiledSystem, n: int) -> str:
    """The interval of state n in words."""
    low, high = compiled.limits[n]
    return f"[{low:.6g}, {high:.6g}]"


def _usual_tolerance(rtol: float) -> float:
    return max(1e-9, min(1e-2, 1e3 * rtol))


@cache
def _numpy_function(
    expressions: tuple[sp.Expr, ...], symbols: tuple[sp.Symbol, ...]
) -> Callable[..., list[np.ndarray]]:
    return sp.lambdify(symbols, list(expressions), "numpy")
