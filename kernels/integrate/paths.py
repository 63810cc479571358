"""The arrays that tell the integrator everything besides the initial states: targets, constants, traps and options."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernels.generate.templates.chebyshev import LEAST_RTOL
from kernels.generate.templates.integrator import Control, Path
from kernels.integrate.compiled import CompiledSystem

NO_TRAPS = np.empty((0, 5))
UNREACHABLE = np.array([[1.0, 1.0, np.inf, np.inf, 0.0]])
"""A trap that contains no state."""
SMALLEST_RTOL = {"float64": 1e-14, "float32": 1e-6}
"""Some ten roundings of the working precision. Below this value the error estimate is noise, and steps would shrink
without end."""


def checked_times(times: Sequence[float] | np.ndarray) -> np.ndarray:
    """The times as an array. Raises ValueError unless they are finite, increasing and not negative."""
    wanted = np.asarray(times, float)
    if (
        wanted.ndim != 1
        or len(wanted) < 1
        or not np.isfinite(wanted).all()
        or (np.diff(wanted) <= 0).any()
        or wanted[0] < 0
    ):
        raise ValueError("times must be finite, increasing and not negative")
    return wanted


def paths_of(
    kernels: Sequence[CompiledSystem], wanted: Sequence[np.ndarray], control: Control, traps: Sequence[np.ndarray]
) -> Path:
    """The arrays of a `Path` with one row per kernel, where an entry expects such a row.

    wanted: the output times of each kernel. traps: for all kernels, or one array for each.
    """
    precision = kernels[0].precision
    least = SMALLEST_RTOL[precision]
    if not least <= control.rtol < 1 or not control.atol > 0 or control.fixed_steps < 0:
        raise ValueError(
            f"rtol must lie in [{least:g}, 1) in {precision}, atol must be positive, fixed_steps not negative"
        )
    landings = [_landings(t, k.breakpoints, np.dtype(precision)) for k, t in zip(kernels, wanted, strict=True)]
    longest = max(len(times) for times, _, _ in landings)
    # Shorter rows repeat their last target, which the integrator passes at once.
    times, ends = (np.array([_extended(row[n], longest, row[n][-1]) for row in landings]) for n in (0, 1))
    most = max(len(t) for t in traps)
    of_each = list(traps) if len(traps) == len(kernels) else list(traps) * len(kernels)
    offsets = np.cumsum([0, *(len(k.tables.values) for k in kernels[:-1])])
    return Path(
        times,
        ends,
        kept=np.array([_extended(row[2], longest, 0) for row in landings]),
        p=np.array([k.values for k in kernels]),
        tables=np.concatenate([k.tables.values for k in kernels]),
        layout=np.array([k.tables.layout + np.array([at, 0]) for k, at in zip(kernels, offsets, strict=True)]),
        ranges=np.array([k.tables.ranges for k in kernels]),
        limits=np.array([k.limits for k in kernels]),
        traps=np.array([np.concatenate([t, np.tile(UNREACHABLE, (most - len(t), 1))]) for t in of_each]),
        control=np.array(control),
    )


def method_text(control: Control, precision: str, stabilised: bool) -> str:
    """The method of integration in words. stabilised: whether the kernel has RKC as a second method."""
    rtol, atol, fixed = control.rtol, control.atol, control.fixed_steps
    steps = f"{fixed} equal steps per interval" if fixed else f"rtol = {rtol:g}, atol = {atol:g}"
    second = ", RKC where stability bounds its steps" if stabilised and not fixed and rtol >= LEAST_RTOL else ""
    return f"DOP853{second}, {steps}, {precision}"


def _extended(values: np.ndarray, length: int, last: float) -> np.ndarray:
    return np.concatenate([values, np.full(length - len(values), last, values.dtype)])


def _landings(
    wanted: np.ndarray, breakpoints: tuple[float, ...], real: np.dtype
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The targets, which are the output times and the breakpoints, as three arrays.

    The arrays hold the time of each target, the latest time at which a stage before the target may look at beta, and
    whether the target is an output.
    """
    wanted = wanted.astype(real)
    if (np.diff(wanted) <= 0).any():
        raise ValueError(f"times must be increasing, also when rounded to {real}")
    inner = np.array([b for b in breakpoints if wanted[0] < b <= wanted[-1]], real)
    landings = np.union1d(wanted, inner)
    ends = np.where(np.isin(landings, inner), np.nextafter(landings, real.type(-np.inf)), landings)
    return landings, ends, np.isin(landings, wanted).astype(np.int64)
